//! Files on their way to the cluster: the executable, cached by its content, and the job's own folder.
//!
//! ```text
//! <staging>/cache/<SHA-256>/ringspin     one copy a version, shared by all jobs, public where folders allow it
//! <staging>/<application id>/job.json    for the owner's eyes only, removed at the end
//! <staging>/<application id>/files/...   the user's files and archives
//! ```

use crate::exit::CommandError;
use ringspin_am::bundle::{BUNDLE, Bundle, ShippedFile};
use ringspin_data::output::Output;
use ringspin_data::storage::{FileStatus, Location, Storage, StorageError, StorageErrorKind, WriteOptions};
use sha2::{Digest, Sha256};
use std::path::Path;

/// Folder for the cached executables, below the staging folder.
const CACHE: &str = "cache";
/// Longest bundle that is read back.
const BUNDLE_BYTES: u64 = 16 << 20;
/// Everybody may pass, so that NodeManagers can share what lies below.
const OPEN_FOLDER: u32 = 0o755;
/// The owner's alone.
const PRIVATE_FOLDER: u32 = 0o700;

/// The executable in HDFS, and whether it had to be uploaded.
#[derive(Clone, Debug)]
pub struct Staged {
    /// Where it is.
    pub file: ShippedFile,
    /// Bytes that were uploaded; 0 when it was there.
    pub uploaded_bytes: u64,
}

/// Puts an executable into the cache unless it is there.
///
/// # Errors
/// It can not be read here or written there.
pub async fn executable(storage: &Storage, staging: &Location, path: &Path) -> Result<Staged, CommandError> {
    let here = |error: std::io::Error| CommandError::internal(format!("{}: {error}", path.display()));
    let bytes = std::fs::read(path).map_err(here)?;
    let digest = ringspin_container::model_file::hex(&Sha256::digest(&bytes));
    let folder = staging.join(CACHE).join(&digest);
    let at = folder.join(ringspin_am::bundle::EXECUTABLE);
    let length = bytes.len() as u64;
    let mut uploaded_bytes = 0;
    let status = match found(storage, &at).await? {
        Some(status) if status.length == length => status,
        _ => {
            storage.mkdirs(&folder, OPEN_FOLDER).await.map_err(refused)?;
            let options = WriteOptions { overwrite: true, permission: 0o755, ..WriteOptions::default() };
            storage.write(&at, bytes.into(), options).await.map_err(refused)?;
            uploaded_bytes = length;
            storage.stat(&at).await.map_err(refused)?
        }
    };
    let public = is_public(storage, &status).await?;
    let file = ShippedFile { cached: true, public, ..shipped(storage, &status)? };
    Ok(Staged { file, uploaded_bytes })
}

/// Makes the job's own folder.
///
/// # Errors
/// It can not be made.
pub async fn job_folder(
    storage: &Storage,
    staging: &Location,
    application: &str,
) -> Result<Location, CommandError> {
    let folder = staging.join(application);
    storage.mkdirs(&folder, PRIVATE_FOLDER).await.map_err(refused)?;
    Ok(folder)
}

/// Writes a small file of the job.
///
/// # Errors
/// It can not be written.
pub async fn small_file(
    storage: &Storage,
    folder: &Location,
    name: &str,
    content: Vec<u8>,
) -> Result<ShippedFile, CommandError> {
    let at = folder.join(name);
    let options = WriteOptions { permission: 0o600, ..WriteOptions::default() };
    storage.write(&at, content.into(), options).await.map_err(refused)?;
    shipped(storage, &storage.stat(&at).await.map_err(refused)?)
}

/// Uploads a user's file (or takes it where it is, when it lies in the cluster already). `name#link` gives it
/// another name in the container, as in Hadoop.
///
/// # Errors
/// It does not exist or can not be uploaded.
pub async fn user_file(
    storage: &Storage,
    folder: &Location,
    text: &str,
    archive: bool,
) -> Result<(String, ShippedFile), CommandError> {
    let (path, link) = match text.split_once('#') {
        Some((path, link)) if !link.is_empty() => (path, Some(link)),
        _ => (text, None),
    };
    let file = if path.contains("://") && !path.starts_with("file://") {
        let at = storage.locate(path).map_err(refused)?;
        shipped(storage, &storage.stat(&at).await.map_err(refused)?)?
    } else {
        let local = path.strip_prefix("file://").unwrap_or(path);
        let bytes = std::fs::read(local).map_err(|error| CommandError::usage(format!("{path}: {error}")))?;
        let name = Path::new(local).file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| CommandError::usage(format!("{path}: is no file name")))?;
        small_file(storage, &folder.join("files"), name, bytes).await?
    };
    let name = file.uri.rsplit('/').next().unwrap_or_default().to_string();
    Ok((link.map_or(name, str::to_string), ShippedFile { archive, ..file }))
}

/// Removes what an application that has ended may have left: its folder, and what was written of its output. An
/// ApplicationMaster does so itself; one that was killed, or never ran, could not. Failures leave litter.
pub async fn remove_remains(storage: &Storage, folder: &Location, application: &str) {
    let output = match storage.read(&folder.join(BUNDLE), BUNDLE_BYTES).await {
        Ok(text) => serde_json::from_slice::<Bundle>(&text).ok().map(|bundle| bundle.job.output.path),
        Err(_) => None,
    };
    let sweep = async {
        if let Some(output) = output {
            Output::sweep(storage, &storage.locate(&output)?, application).await?;
        }
        storage.delete(folder, true).await
    };
    if let Err(error) = sweep.await {
        tracing::warn!("left behind: {error}");
    }
}

async fn found(storage: &Storage, at: &Location) -> Result<Option<FileStatus>, CommandError> {
    match storage.stat(at).await {
        Ok(status) => Ok(Some(status)),
        Err(StorageError { kind: StorageErrorKind::NotFound, .. }) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}

/// Whether NodeManagers may share the file among all users: readable for all, every folder above passable.
async fn is_public(storage: &Storage, file: &FileStatus) -> Result<bool, CommandError> {
    if file.permission & 0o004 == 0 {
        return Ok(false);
    }
    let mut above = file.location.parent();
    while let Some(folder) = above {
        if storage.stat(&folder).await.map_err(refused)?.permission & 0o001 == 0 {
            return Ok(false);
        }
        above = folder.parent();
    }
    Ok(true)
}

fn shipped(storage: &Storage, status: &FileStatus) -> Result<ShippedFile, CommandError> {
    let real = storage.resolve(&status.location).map_err(refused)?;
    Ok(ShippedFile {
        uri: real.to_string(),
        size: status.length,
        modified_ms: status.modified_ms,
        archive: false,
        public: false,
        cached: false,
    })
}

fn refused(error: StorageError) -> CommandError {
    CommandError::refused(error.to_string())
}
