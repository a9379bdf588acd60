//! The content of a file whether or not it is compressed.

use crate::error::{DataError, Place};
use crate::formats::gzip::{self, Inflater};
use crate::storage::{Location, Storage};
use bytes::Bytes;

/// The first `want` bytes of the content, or all of it when there is less; `size` is that of the stored file.
pub(crate) async fn prefix(
    storage: &Storage,
    at: &Location,
    size: u64,
    want: usize,
) -> Result<Bytes, DataError> {
    let stored = storage.read_range(at, 0, size.min(want as u64) as usize).await?;
    if !gzip::is_compressed(at.name()) {
        return Ok(stored);
    }
    // The start of a gzip file holds at least as much content as it has bytes, but for its header.
    let mut content = Vec::new();
    let mut inflater = Inflater::new(|bytes: &[u8]| {
        let room = want - content.len();
        content.extend_from_slice(&bytes[..bytes.len().min(room)]);
    });
    inflater.push(&stored).map_err(|error| DataError::format(at, Place::File, error))?;
    inflater.flush().map_err(|error| DataError::format(at, Place::File, error))?;
    drop(inflater);
    Ok(content.into())
}

/// Inflates a file of `size` stored bytes in a stream; `sink` gets the content, and may refuse it. Gives back the
/// size of the content.
///
/// Works on a blocking thread, because inflating computes.
pub(crate) async fn inflate(
    storage: &Storage,
    at: &Location,
    size: u64,
    mut sink: impl FnMut(&[u8]) -> Result<(), String> + Send + 'static,
) -> Result<u64, DataError> {
    let mut pieces = storage.read_ahead(at, 0..size);
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let work = tokio::task::spawn_blocking(move || {
        let mut refused = Ok(());
        let mut inflater = Inflater::new(|bytes: &[u8]| {
            if refused.is_ok() {
                refused = sink(bytes);
            }
        });
        while let Some(piece) = receiver.blocking_recv() {
            inflater.push(&piece)?;
        }
        let total = inflater.finish()?;
        refused.map(|()| total)
    });
    while let Some(piece) = pieces.next().await? {
        if sender.send(piece).await.is_err() {
            break;
        }
    }
    drop(sender);
    let result = work.await.map_err(|error| DataError::Broken(format!("inflating {at}: {error}")))?;
    result.map_err(|error| DataError::format(at, Place::File, error))
}
