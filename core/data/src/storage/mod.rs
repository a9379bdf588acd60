//! One door to files, wherever they are: `file://`, `hdfs://`, HA name services and `viewfs://`.
//!
//! [`Storage`] decides how often and how long a call is tried and what a repeated one means; [`local`] and
//! [`hdfs`] make single attempts with a deadline each. What it refuses: appending, and handing out half-written
//! files. A file is written whole under a temporary name and then renamed, so that a reader sees all of it or
//! nothing, and a lost writer costs a retry.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod glob;
mod hdfs;
mod hdfs_error;
mod local;
mod location;
mod namenode;
mod read_ahead;
mod retry;
mod viewfs;

pub use error::{StorageError, StorageErrorKind};
pub(crate) use glob::has_wildcard;
pub use hdfs::HdfsOptions;
pub use location::{Location, Scheme};
pub use read_ahead::ReadAhead;
pub use retry::RetryPolicy;

use bytes::Bytes;
use hdfs::HdfsFiles;
use local::LocalFiles;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

type Result<T> = std::result::Result<T, StorageError>;

/// What a file system says of a file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Where it is, as it was asked for (a `viewfs://` location stays one).
    pub location: Location,
    /// Bytes; 0 for a folder.
    pub length: u64,
    /// Whether it is a folder.
    pub is_dir: bool,
    /// Time of the last change, milliseconds since 1970.
    pub modified_ms: u64,
    /// Unix permission bits.
    pub permission: u16,
    /// Owner: a name in HDFS, a number here.
    pub owner: String,
    /// Group: a name in HDFS, a number here.
    pub group: String,
    /// Size of an HDFS block, where there are blocks.
    pub block_bytes: Option<u64>,
}

/// A block of a file and the hosts that have a replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockHosts {
    /// First byte within the file.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Names of hosts, as DataNodes give them; on a well-kept cluster those of the NodeManagers.
    pub hosts: Vec<String>,
    /// The rack of each of them.
    pub racks: Vec<String>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteOptions {
    /// Replace an existing file; otherwise one that is there is an error.
    pub overwrite: bool,
    /// Unix permission bits.
    pub permission: u32,
    /// HDFS replication; none: the cluster's default.
    pub replication: Option<u32>,
    /// Create missing folders; otherwise a missing folder is an error, which fences writers of a folder that
    /// somebody took away.
    pub create_parents: bool,
}

impl Default for WriteOptions {
    fn default() -> Self {
        WriteOptions { overwrite: false, permission: 0o644, replication: None, create_parents: true }
    }
}

/// What a single attempt to create a file needs to know.
#[derive(Clone, Copy)]
struct CreateOptions {
    permission: u32,
    replication: Option<u32>,
    create_parents: bool,
}

/// Everything a [`Storage`] is told from outside.
#[derive(Clone, Debug)]
pub struct StorageOptions {
    /// Folder that paths without scheme or without a leading slash belong to.
    pub base: Location,
    /// Cluster and user; none: only local files.
    pub hdfs: Option<HdfsOptions>,
    /// Deadlines and patience.
    pub policy: RetryPolicy,
    /// Name of this process, unique among those that write: a part of temporary names.
    pub writer: String,
}

/// The door. Cheap to clone; all clones share connections.
#[derive(Clone)]
pub struct Storage(Arc<Inner>);

struct Inner {
    options: StorageOptions,
    local: LocalFiles,
    hdfs: Option<HdfsFiles>,
    next_temporary: AtomicU64,
}

/// Sends one call to the file system that `$at` belongs to.
macro_rules! dispatch {
    ($self:ident, $action:literal, $at:expr, $call:ident($($argument:expr),*)) => {
        match ($at.scheme(), &$self.0.hdfs) {
            (Scheme::File, _) => $self.0.local.$call($($argument),*).await,
            (_, Some(hdfs)) => hdfs.$call($($argument),*).await,
            (_, None) => Err(no_hadoop($action, $at)),
        }
    };
}

fn no_hadoop(action: &'static str, at: &Location) -> StorageError {
    StorageError::new(StorageErrorKind::Other, action, at, "no Hadoop configuration was given")
        .advise("set HADOOP_CONF_DIR to the folder with core-site.xml and hdfs-site.xml")
}

/// Why a range can not be read from a file of `length` bytes.
fn too_short(length: u64, offset: u64, len: usize) -> String {
    format!("the file ends at byte {length}, but {len} bytes at offset {offset} were expected")
}

impl Storage {
    /// Opens the door; nothing is connected before the first call.
    pub fn new(options: StorageOptions) -> Self {
        let policy = &options.policy;
        let local = LocalFiles { call_timeout: policy.call_timeout, stall_timeout: policy.stall_timeout };
        let hdfs = options.hdfs.clone().map(|hdfs| HdfsFiles::new(hdfs, policy.clone()));
        Storage(Arc::new(Inner { options, local, hdfs, next_temporary: AtomicU64::new(0) }))
    }

    /// Only files of this machine, relative to `folder`.
    ///
    /// # Errors
    /// `folder` is not an absolute UTF-8 path.
    pub fn local(folder: &std::path::Path) -> std::result::Result<Self, String> {
        Ok(Storage::new(StorageOptions {
            base: Location::local(folder)?,
            hdfs: None,
            policy: RetryPolicy::interactive(),
            writer: format!("pid{}", std::process::id()),
        }))
    }

    /// Reads a URI or path as a user wrote it. `hdfs:///x` is on `fs.defaultFS`, also where plain paths are files
    /// of this machine.
    ///
    /// # Errors
    /// Kind `Other` when the text is no location.
    pub fn locate(&self, text: &str) -> Result<Location> {
        let base = &self.0.options.base;
        let conf = self.0.options.hdfs.as_ref().map(|hdfs| &hdfs.conf);
        let default_fs = conf.and_then(|conf| conf.get("fs.defaultFS").ok().flatten());
        let default_fs = default_fs.and_then(|uri| Location::parse(&uri, base).ok());
        let by_default = default_fs.filter(|default_fs| default_fs.is_scheme_of(text));
        Location::parse(text, by_default.as_ref().unwrap_or(base)).map_err(|error| StorageError {
            uri: format!("\"{text}\""),
            ..StorageError::new(StorageErrorKind::Other, "use", base, error)
        })
    }

    /// The `hdfs://` location behind a `viewfs://` one; other locations as they are.
    ///
    /// # Errors
    /// The mount table does not know the path.
    pub fn resolve(&self, at: &Location) -> Result<Location> {
        match (&self.0.hdfs, at.scheme()) {
            (Some(hdfs), Scheme::Viewfs) => hdfs.target("look up", at),
            _ => Ok(at.clone()),
        }
    }

    /// Status of a file or folder.
    ///
    /// # Errors
    /// `NotFound` when nothing is there.
    pub async fn stat(&self, at: &Location) -> Result<FileStatus> {
        self.run(|_| async move { dispatch!(self, "look up", at, stat(at)) }).await
    }

    /// Whether something is there.
    ///
    /// # Errors
    /// As [`Storage::stat`], but for `NotFound`.
    pub async fn exists(&self, at: &Location) -> Result<bool> {
        match self.stat(at).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == StorageErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a folder has in it, ordered by name.
    ///
    /// # Errors
    /// `NotFound`, or `Other` when it is a file.
    pub async fn list(&self, folder: &Location) -> Result<Vec<FileStatus>> {
        let mut found = self.run(|_| async move { dispatch!(self, "list", folder, list(folder)) }).await?;
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Files and folders below `folder` that match a pattern such as `part-*` or `2024-*/{a,b}.csv`, ordered by
    /// path. A pattern without wildcards is a path, found or not.
    ///
    /// # Errors
    /// `Other` when the pattern is not well formed; no match is an empty answer.
    pub async fn glob(&self, folder: &Location, pattern: &str) -> Result<Vec<FileStatus>> {
        let mut reached = vec![folder.clone()];
        let parts = glob::components(pattern);
        let mut found = Vec::new();
        for (depth, part) in parts.iter().enumerate() {
            let last = depth + 1 == parts.len();
            let compiled = glob::Pattern::new(part)
                .map_err(|error| StorageError::new(StorageErrorKind::Other, "list", folder, error))?;
            let mut next = Vec::new();
            for at in std::mem::take(&mut reached) {
                if !has_wildcard(part) {
                    next.push(at.join(part));
                    continue;
                }
                let entries = match self.list(&at).await {
                    Err(error) if error.kind == StorageErrorKind::NotFound => continue,
                    entries => entries?,
                };
                let matching = entries.into_iter().filter(|entry| compiled.matches(entry.location.name()));
                if last {
                    found.extend(matching);
                } else {
                    next.extend(matching.filter(|entry| entry.is_dir).map(|entry| entry.location));
                }
            }
            reached = next;
        }
        for at in reached {
            match self.stat(&at).await {
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                status => found.push(status?),
            }
        }
        found.sort_by(|a, b| a.location.cmp(&b.location));
        Ok(found)
    }

    /// Exactly `len` bytes at `offset`.
    ///
    /// # Errors
    /// `Corrupt` when the file ends before; nothing is allocated then.
    pub async fn read_range(&self, at: &Location, offset: u64, len: usize) -> Result<Bytes> {
        if len == 0 {
            return Ok(Bytes::new());
        }
        self.run(|_| async move { dispatch!(self, "read", at, read(at, offset, len)) }).await
    }

    /// A whole file of at most `limit_bytes`.
    ///
    /// # Errors
    /// `Other` when the file is larger.
    pub async fn read(&self, at: &Location, limit_bytes: u64) -> Result<Bytes> {
        let status = self.stat(at).await?;
        if status.is_dir {
            return Err(StorageError::new(StorageErrorKind::Other, "read", at, "it is a folder"));
        }
        if status.length > limit_bytes {
            let detail = format!("its {} bytes are more than the {limit_bytes} allowed here", status.length);
            return Err(StorageError::new(StorageErrorKind::Other, "read", at, detail));
        }
        self.read_range(at, 0, status.length as usize).await
    }

    /// Reads a range from front to back, ahead of whoever takes the pieces.
    pub fn read_ahead(&self, at: &Location, range: std::ops::Range<u64>) -> ReadAhead {
        ReadAhead::start(self.clone(), at.clone(), range)
    }

    /// Writes a whole file: under a temporary name beside it, checked, then renamed. Failed attempts are
    /// repeated under new temporary names, because a writer that HDFS lost can not be taken up again.
    ///
    /// # Errors
    /// `AlreadyExists` unless `overwrite`; `NotFound` when the folder is missing and may not be created.
    pub async fn write(&self, to: &Location, data: Bytes, options: WriteOptions) -> Result<()> {
        if !options.overwrite && self.exists(to).await? {
            return Err(StorageError::new(StorageErrorKind::AlreadyExists, "write", to, "it exists"));
        }
        let create = CreateOptions {
            permission: options.permission,
            replication: options.replication,
            create_parents: options.create_parents,
        };
        let (data, failed) = (&data, &Mutex::new(Vec::new()));
        let written = self
            .run(|_| async move {
                let number = self.0.next_temporary.fetch_add(1, Ordering::Relaxed);
                let name = format!(".{}.{}.{number}.tmp", to.name(), self.0.options.writer);
                let temporary = to.sibling(&name);
                match self.create_checked(&temporary, data, create).await {
                    Ok(()) => Ok(temporary),
                    Err(error) => {
                        if !self.discard(&temporary).await {
                            failed.lock().unwrap_or_else(PoisonError::into_inner).push(temporary);
                        }
                        Err(StorageError { uri: to.to_string(), ..error })
                    }
                }
            })
            .await?;
        let renamed = self.rename(&written, to, options.overwrite).await;
        if renamed.is_err() {
            self.discard(&written).await;
        }
        // What could not be removed while the NameNode was away can be now.
        let failed = std::mem::take(&mut *failed.lock().unwrap_or_else(PoisonError::into_inner));
        for temporary in &failed {
            self.discard(temporary).await;
        }
        renamed
    }

    async fn create_checked(&self, at: &Location, data: &Bytes, options: CreateOptions) -> Result<()> {
        dispatch!(self, "write", at, create(at, data.clone(), options))?;
        let length = dispatch!(self, "write", at, stat(at))?.length;
        if length == data.len() as u64 {
            return Ok(());
        }
        let detail = format!("{length} of {} bytes arrived", data.len());
        Err(StorageError::new(StorageErrorKind::Unreachable, "write", at, detail))
    }

    /// One attempt to remove a temporary file; what remains is only litter.
    async fn discard(&self, at: &Location) -> bool {
        let result: Result<bool> = dispatch!(self, "delete", at, delete(at, false));
        result.inspect_err(|error| tracing::debug!("temporary file left behind: {error}")).is_ok()
    }

    /// Renames a file or folder, idempotently: when an attempt failed without a clear answer and afterwards the
    /// source is gone and the target there, it was that attempt.
    ///
    /// # Errors
    /// `AlreadyExists` when something is at `to` (and `overwrite` is off, or it is a folder that is not empty),
    /// `NotFound` when nothing is at `from` or the folder of `to` is missing.
    pub async fn rename(&self, from: &Location, to: &Location, overwrite: bool) -> Result<()> {
        if from.scheme() != to.scheme() {
            let detail = format!("{to} is on another file system");
            return Err(StorageError::new(StorageErrorKind::Other, "rename", from, detail));
        }
        self.run(|attempt| async move {
            let result: Result<()> = dispatch!(self, "rename", from, rename(from, to, overwrite));
            match result {
                Err(error)
                    if attempt > 0
                        && matches!(
                            error.kind,
                            StorageErrorKind::NotFound | StorageErrorKind::AlreadyExists
                        ) =>
                {
                    let gone = dispatch!(self, "rename", from, stat(from))
                        .is_err_and(|error| error.kind == StorageErrorKind::NotFound);
                    let there = dispatch!(self, "rename", to, stat(to)).is_ok();
                    if gone && there { Ok(()) } else { Err(error) }
                }
                result => result,
            }
        })
        .await
    }

    /// Deletes a file, or a folder with what is in it when `recursive`. Says whether something was there when
    /// it was deleted for sure by this call; after a retry the answer may be `false` for our own success.
    ///
    /// # Errors
    /// `Other` when a folder is not empty and `recursive` is off. Nothing being there is no error.
    pub async fn delete(&self, at: &Location, recursive: bool) -> Result<bool> {
        self.run(|_| async move { dispatch!(self, "delete", at, delete(at, recursive)) }).await
    }

    /// Creates a folder and those above it; one that is there is fine.
    ///
    /// # Errors
    /// `AlreadyExists` or `Other` when a file is in the way.
    pub async fn mkdirs(&self, at: &Location, permission: u32) -> Result<()> {
        self.run(|_| async move { dispatch!(self, "create folder", at, mkdirs(at, permission)) }).await
    }

    /// Blocks of files of one file system, in the order of the files; local files have none.
    ///
    /// # Errors
    /// `NotFound` when a file is gone.
    pub async fn blocks(&self, files: &[Location]) -> Result<Vec<Vec<BlockHosts>>> {
        match (&self.0.hdfs, files.first()) {
            (Some(hdfs), Some(first)) if first.scheme() != Scheme::File => {
                self.run(|_| async move { hdfs.blocks(files).await }).await
            }
            _ => Ok(vec![Vec::new(); files.len()]),
        }
    }

    /// Sets Unix permission bits.
    ///
    /// # Errors
    /// `PermissionDenied` unless the user owns the file.
    pub async fn set_permission(&self, at: &Location, permission: u32) -> Result<()> {
        self.run(|_| async move { dispatch!(self, "set permissions of", at, set_permission(at, permission)) })
            .await
    }

    async fn run<T, F>(&self, once: impl FnMut(u32) -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let options = &self.0.options;
        options.policy.run(&options.writer, once).await
    }
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage({})", self.0.options.base)
    }
}
