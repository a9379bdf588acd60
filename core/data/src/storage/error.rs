//! What goes wrong with files, sorted by what a caller does about it.

use super::Location;
use std::fmt;
use std::time::Duration;

/// What kind of failure it was: the reaction hangs on this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StorageErrorKind {
    /// The file or folder, or a folder above it, does not exist.
    NotFound,
    /// The user may not do this.
    PermissionDenied,
    /// Something is already there, and replacing it was not asked for.
    AlreadyExists,
    /// Disks are full, or a quota is used up.
    NoSpace,
    /// Nobody answers: refused, reset, no route, unknown host, safe mode, standby.
    Unreachable,
    /// An answer did not come within our deadline.
    Timeout,
    /// Bytes are missing or wrong: checksum, lost blocks, file shorter than announced.
    Corrupt,
    /// Anything else; trying again does not help.
    Other,
}

impl StorageErrorKind {
    /// Whether the same call may succeed later.
    pub fn is_transient(self) -> bool {
        matches!(self, StorageErrorKind::Unreachable | StorageErrorKind::Timeout)
    }

    /// What a person can do, where it can be said without knowing more.
    fn advice(self) -> &'static str {
        match self {
            StorageErrorKind::NotFound => "check the path",
            StorageErrorKind::PermissionDenied => {
                "ask the owner for access, or run as a user who has it (see `ls -l` of the folder)"
            }
            StorageErrorKind::AlreadyExists => "choose another path, or ask for overwriting",
            StorageErrorKind::NoSpace => "free space or raise the quota",
            StorageErrorKind::Unreachable => "check that the service runs and that host and port are right",
            StorageErrorKind::Timeout => "check the network and the load of the service",
            StorageErrorKind::Corrupt => "restore the file from a good copy (`hdfs fsck` names bad blocks)",
            StorageErrorKind::Other => "",
        }
    }
}

/// A failed call: what was tried on which file, what was said, what to do.
#[derive(Debug)]
pub struct StorageError {
    /// The reaction.
    pub kind: StorageErrorKind,
    /// What was tried: `read`, `list`, `rename`.
    pub action: &'static str,
    /// Full URI of the file or folder.
    pub uri: String,
    /// What the file system said, without stack traces.
    pub detail: String,
    /// What to do about it; empty: the advice of `kind`.
    pub advice: String,
    /// How often it was tried, and for how long altogether, where more than once.
    pub tries: Option<(u32, Duration)>,
    /// How long trying again makes sense, where the kind does not tell.
    pub(super) patience: Option<Duration>,
}

impl StorageError {
    /// An error without advice of its own.
    pub(crate) fn new(
        kind: StorageErrorKind,
        action: &'static str,
        location: &Location,
        detail: impl Into<String>,
    ) -> Self {
        StorageError {
            kind,
            action,
            uri: location.to_string(),
            detail: detail.into(),
            advice: String::new(),
            tries: None,
            patience: None,
        }
    }

    /// Worth trying again for some time, although the kind is a lasting one.
    pub(super) fn may_pass_within(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Says better than the kind does what to do.
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// Our deadline passed.
    pub(crate) fn timeout(action: &'static str, location: &Location, limit: Duration) -> Self {
        let detail = format!("no answer within {:.1} s", limit.as_secs_f64());
        StorageError::new(StorageErrorKind::Timeout, action, location, detail)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "can not {} {}: {}", self.action, self.uri, self.detail)?;
        if let Some((count, time)) = self.tries.filter(|(count, _)| *count > 1) {
            write!(f, " (tried {count} times in {:.1} s)", time.as_secs_f64())?;
        }
        let advice = if self.advice.is_empty() { self.kind.advice() } else { &self.advice };
        if advice.is_empty() { Ok(()) } else { write!(f, "; {advice}") }
    }
}

impl std::error::Error for StorageError {}

/// The kind of an error of the operating system.
pub(crate) fn io_kind(error: &std::io::Error) -> StorageErrorKind {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => StorageErrorKind::NotFound,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => StorageErrorKind::PermissionDenied,
        Io::AlreadyExists | Io::DirectoryNotEmpty => StorageErrorKind::AlreadyExists,
        Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge => StorageErrorKind::NoSpace,
        Io::TimedOut => StorageErrorKind::Timeout,
        Io::ConnectionRefused
        | Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::NotConnected
        | Io::BrokenPipe
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown
        | Io::AddrNotAvailable
        | Io::StaleNetworkFileHandle => StorageErrorKind::Unreachable,
        Io::UnexpectedEof | Io::InvalidData => StorageErrorKind::Corrupt,
        _ => StorageErrorKind::Other,
    }
}
