//! Files of this machine. Every call runs on tokio's blocking threads with a deadline, because a mounted file
//! system may hang as a remote one does.

use super::error::io_kind;
use super::{CreateOptions, FileStatus, Location, StorageError, StorageErrorKind};
use bytes::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

/// Single attempts on local files; deadlines, no retries.
#[derive(Debug)]
pub(super) struct LocalFiles {
    /// Limit for one call.
    pub(super) call_timeout: Duration,
    /// Limit for a call that moves file content.
    pub(super) stall_timeout: Duration,
}

type Result<T> = std::result::Result<T, StorageError>;

/// Runs `work` on a blocking thread; what the operating system says becomes our error.
async fn blocking<T: Send + 'static>(
    action: &'static str,
    at: &Location,
    limit: Duration,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T> {
    let path = at.path().to_string();
    let task = tokio::task::spawn_blocking(move || work(Path::new(&path)));
    match tokio::time::timeout(limit, task).await {
        Err(_) => Err(StorageError::timeout(action, at, limit)),
        Ok(Err(panic)) => Err(StorageError::new(StorageErrorKind::Other, action, at, panic.to_string())),
        Ok(Ok(result)) => {
            result.map_err(|error| StorageError::new(io_kind(&error), action, at, plain(&error)))
        }
    }
}

/// The operating system's words without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

fn status(location: Location, meta: &fs::Metadata) -> FileStatus {
    FileStatus {
        location,
        length: if meta.is_dir() { 0 } else { meta.len() },
        is_dir: meta.is_dir(),
        modified_ms: (meta.mtime() as u64).saturating_mul(1_000) + (meta.mtime_nsec() / 1_000_000) as u64,
        permission: (meta.mode() & 0o7777) as u16,
        owner: meta.uid().to_string(),
        group: meta.gid().to_string(),
        block_bytes: None,
    }
}

impl LocalFiles {
    pub(super) async fn stat(&self, at: &Location) -> Result<FileStatus> {
        let meta = blocking("look up", at, self.call_timeout, |path| fs::metadata(path)).await?;
        Ok(status(at.clone(), &meta))
    }

    pub(super) async fn list(&self, at: &Location) -> Result<Vec<FileStatus>> {
        let found = blocking("list", at, self.call_timeout, |path| {
            let mut found = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                // A file that goes away while we list was never there.
                if let (Ok(name), Ok(meta)) = (entry.file_name().into_string(), fs::metadata(entry.path())) {
                    found.push((name, meta));
                }
            }
            Ok(found)
        })
        .await?;
        Ok(found.into_iter().map(|(name, meta)| status(at.join(&name), &meta)).collect())
    }

    pub(super) async fn read(&self, at: &Location, offset: u64, len: usize) -> Result<Bytes> {
        blocking("read", at, self.stall_timeout, move |path| {
            let file = fs::File::open(path)?;
            let length = file.metadata()?.len();
            // Checked before the buffer is allocated: `len` may come from a header that lies.
            if offset.checked_add(len as u64).is_none_or(|end| end > length) {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    super::too_short(length, offset, len),
                ));
            }
            let mut buffer = vec![0; len];
            file.read_exact_at(&mut buffer, offset)?;
            Ok(Bytes::from(buffer))
        })
        .await
    }

    pub(super) async fn create(&self, at: &Location, data: Bytes, options: CreateOptions) -> Result<()> {
        blocking("write", at, self.stall_timeout, move |path| {
            if options.create_parents
                && let Some(parent) = path.parent()
            {
                fs::create_dir_all(parent)?;
            }
            let mut file =
                fs::OpenOptions::new().write(true).create_new(true).mode(options.permission).open(path)?;
            file.write_all(&data)?;
            file.sync_all()
        })
        .await
    }

    pub(super) async fn rename(&self, from: &Location, to: &Location, overwrite: bool) -> Result<()> {
        let target = to.path().to_string();
        let result = blocking("rename", from, self.call_timeout, move |path| {
            if overwrite {
                return fs::rename(path, target);
            }
            match renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
                // Some network file systems know no such flag; there the check and the rename are two steps.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                    if fs::symlink_metadata(&target).is_ok() {
                        return Err(io::ErrorKind::AlreadyExists.into());
                    }
                    fs::rename(path, target)
                }
                other => Ok(other?),
            }
        })
        .await;
        result.map_err(|error| match error.kind {
            StorageErrorKind::AlreadyExists => {
                StorageError::new(error.kind, "rename a file to", to, error.detail)
            }
            _ => StorageError { detail: format!("{} (new name {to})", error.detail), ..error },
        })
    }

    pub(super) async fn delete(&self, at: &Location, recursive: bool) -> Result<bool> {
        let result = blocking("delete", at, self.call_timeout, move |path| {
            let meta = match fs::symlink_metadata(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                meta => meta?,
            };
            match (meta.is_dir(), recursive) {
                (false, _) => fs::remove_file(path),
                (true, false) => fs::remove_dir(path),
                (true, true) => fs::remove_dir_all(path),
            }
            .map(|()| true)
        })
        .await;
        result.map_err(|error| match error.kind {
            StorageErrorKind::AlreadyExists => StorageError { kind: StorageErrorKind::Other, ..error },
            _ => error,
        })
    }

    pub(super) async fn mkdirs(&self, at: &Location, permission: u32) -> Result<()> {
        blocking("create folder", at, self.call_timeout, move |path| {
            fs::DirBuilder::new().recursive(true).mode(permission).create(path)
        })
        .await
    }

    pub(super) async fn set_permission(&self, at: &Location, permission: u32) -> Result<()> {
        blocking("set permissions of", at, self.call_timeout, move |path| {
            fs::set_permissions(path, fs::Permissions::from_mode(permission))
        })
        .await
    }
}
