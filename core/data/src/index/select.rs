//! From a path and a pattern to the files meant.

use crate::error::DataError;
use crate::formats::gzip;
use crate::storage::{FileStatus, Location, Storage, StorageErrorKind, has_wildcard};

/// Names that a message lists at most.
const NAMES_SHOWN: usize = 8;

/// The files below `path` that match `pattern` (empty: all whose names start with neither `.` nor `_`), ordered
/// by path. `path` may be one file, and may have wildcards.
///
/// # Errors
/// Nothing is there, or nothing matches; says what is there instead.
pub(super) async fn files(
    storage: &Storage,
    path: &str,
    pattern: &str,
) -> Result<Vec<FileStatus>, DataError> {
    let at = storage.locate(path)?;
    let found = match storage.stat(&at).await {
        Err(error) if error.kind == StorageErrorKind::NotFound && has_wildcard(path) => {
            let below = if pattern.is_empty() { "*" } else { pattern };
            let all = format!("{}/{below}", at.path());
            match storage.glob(&root(&at), &all).await? {
                // The wildcards may name files instead of folders.
                found if found.is_empty() && pattern.is_empty() => {
                    storage.glob(&root(&at), at.path()).await?
                }
                found => found,
            }
        }
        status => match status? {
            status if !status.is_dir => {
                if !pattern.is_empty() && !matches_name(storage, &at, pattern).await? {
                    let text = format!("{at} is a file, and its name does not match \"{pattern}\"");
                    return Err(DataError::Input(text));
                }
                vec![status]
            }
            _ if pattern.is_empty() => storage.list(&at).await?,
            _ => storage.glob(&at, pattern).await?,
        },
    };
    let hidden_wanted = pattern.rsplit('/').next().unwrap_or_default().starts_with(['.', '_']);
    let visible = |file: &FileStatus| hidden_wanted || !file.location.name().starts_with(['.', '_']);
    let files: Vec<FileStatus> = found.iter().filter(|file| !file.is_dir && visible(file)).cloned().collect();
    if files.is_empty() {
        return Err(nothing(storage, &at, pattern, &found).await);
    }
    refuse_twins(&files)?;
    Ok(files)
}

fn root(at: &Location) -> Location {
    std::iter::successors(Some(at.clone()), Location::parent).last().unwrap_or_else(|| at.clone())
}

/// Whether a single file is meant by the pattern too.
async fn matches_name(storage: &Storage, file: &Location, pattern: &str) -> Result<bool, DataError> {
    let folder = file.parent().unwrap_or_else(|| file.clone());
    Ok(storage.glob(&folder, pattern).await?.iter().any(|found| found.location == *file))
}

/// `x` and `x.gz` side by side would be the same records twice.
fn refuse_twins(files: &[FileStatus]) -> Result<(), DataError> {
    for file in files.iter().filter(|file| gzip::is_compressed(file.location.name())) {
        let plain = file.location.name().trim_end_matches(".gz");
        if files.iter().any(|other| other.location == file.location.sibling(plain)) {
            return Err(DataError::Input(format!(
                "{} and {plain} beside it both match, and would be read twice; move one away or name one",
                file.location
            )));
        }
    }
    Ok(())
}

async fn nothing(storage: &Storage, at: &Location, pattern: &str, found: &[FileStatus]) -> DataError {
    let pattern = if pattern.is_empty() { "*" } else { pattern };
    let listed = if found.is_empty() { storage.list(at).await.unwrap_or_default() } else { found.to_vec() };
    let names: Vec<String> = listed
        .iter()
        .take(NAMES_SHOWN)
        .map(|file| format!("{}{}", file.location.name(), if file.is_dir { "/" } else { "" }))
        .collect();
    let there = match (names.is_empty(), listed.len() > NAMES_SHOWN) {
        (true, _) => "the folder is empty".to_string(),
        (false, more) => format!("there is {}{}", names.join(", "), if more { ", …" } else { "" }),
    };
    DataError::Input(format!("no file matches {pattern} in {at}; {there}"))
}
