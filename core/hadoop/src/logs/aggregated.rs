//! What is in an aggregated log file: the owner, and for each container its log files.
//!
//! Keys and names are Java's `writeUTF` strings; a container's value is a sequence of (name, length in decimal,
//! bytes). Source: `AggregatedLogFormat`. Log files are streamed to the caller, of any size. ACLs in the file are
//! not enforced: whoever may read it in the file system may read it.

use super::LogError;
use super::tfile::{ReadAt, TFile};
use std::io::{self, Read, Write};

/// Keys that are no containers.
const OWNER: &str = "APPLICATION_OWNER";
const VERSION: &str = "VERSION";
const ACL: &str = "APPLICATION_ACL";
/// Longest string of Java's `writeUTF`.
const MAX_UTF_BYTES: usize = u16::MAX as usize;
/// Bytes copied at once.
const COPY_BYTES: usize = 64 << 10;

/// One log file of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The container, as `container_...`.
    pub container: String,
    /// Name, such as `stderr`.
    pub name: String,
    /// Bytes.
    pub length: u64,
}

/// Calls `visit` with each log file in an aggregated file of `length` bytes, and a reader of its bytes; what it
/// does not read is passed over. Returns the user whom the application belongs to, when the file says so.
///
/// # Errors
/// Those of `visit` as [`LogError::Write`], and [`LogError::Corrupt`], after everything before that place.
pub fn visit_logs<'a>(
    read_at: &'a mut ReadAt<'a>,
    length: u64,
    visit: &mut dyn FnMut(&LogFile, &mut dyn Read) -> io::Result<()>,
) -> Result<Option<String>, LogError> {
    let mut owner = None;
    TFile::open(read_at, length)?.records(&mut |key, value| {
        match &*utf(&mut &key[..])?.ok_or_else(|| LogError::Corrupt("a record without key".into()))? {
            OWNER => owner = utf(value)?,
            VERSION | ACL => {}
            container => visit_container(container, value, visit)?,
        }
        Ok(())
    })?;
    Ok(owner)
}

fn visit_container(
    container: &str,
    value: &mut dyn Read,
    visit: &mut dyn FnMut(&LogFile, &mut dyn Read) -> io::Result<()>,
) -> Result<(), LogError> {
    while let Some(name) = utf(value)? {
        let length = utf(value)?.unwrap_or_default();
        let length: u64 = length
            .parse()
            .map_err(|_| LogError::Corrupt(format!("the length of {name:?} of {container} is {length:?}")))?;
        let file = LogFile { container: container.to_owned(), name, length };
        let mut bytes = Exactly { from: &mut *value, left: length, broken: None };
        let written = visit(&file, &mut bytes);
        let passed = io::copy(&mut bytes, &mut io::sink());
        if let Some(why) = bytes.broken {
            return Err(LogError::Corrupt(format!("{:?} of {container} breaks off: {why}", file.name)));
        }
        written.map_err(LogError::Write)?;
        passed.map_err(LogError::Write)?;
    }
    Ok(())
}

/// Copies a log file, or only its last `tail` bytes.
pub fn copy_log(
    file: &LogFile,
    bytes: &mut dyn Read,
    tail: Option<u64>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let skip = tail.map_or(0, |tail| file.length.saturating_sub(tail));
    io::copy(&mut bytes.take(skip), &mut io::sink())?;
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => out.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Exactly so many bytes; that the source has fewer is noted, so that it can be told from a failing writer.
struct Exactly<'v> {
    from: &'v mut dyn Read,
    left: u64,
    broken: Option<String>,
}

impl Read for Exactly<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let outcome = self.from.read(&mut buffer[..want]);
        match &outcome {
            Ok(0) => self.broken = Some("the file ends".into()),
            Ok(n) => self.left -= *n as u64,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => self.broken = Some(error.to_string()),
        }
        if self.broken.is_some() { Err(io::ErrorKind::UnexpectedEof.into()) } else { outcome }
    }
}

/// A string of Java's `writeUTF`; `None` at a clean end. (Characters beyond the BMP and NUL, which it writes in a
/// way of its own, do not occur in names of containers and are replaced in names of files.)
fn utf(from: &mut dyn Read) -> Result<Option<String>, LogError> {
    let breaks_off = |error: io::Error| LogError::Corrupt(format!("a string breaks off: {error}"));
    let mut length = Vec::with_capacity(2);
    from.take(2).read_to_end(&mut length).map_err(breaks_off)?;
    let bytes = match length[..] {
        [] => return Ok(None),
        [high, low] => usize::from(u16::from_be_bytes([high, low])),
        _ => return Err(breaks_off(io::ErrorKind::UnexpectedEof.into())),
    };
    debug_assert!(bytes <= MAX_UTF_BYTES, "two bytes");
    let mut text = vec![0; bytes];
    from.read_exact(&mut text).map_err(breaks_off)?;
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
#[path = "aggregated_tests.rs"]
mod tests;
