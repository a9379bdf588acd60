//! Reading a file from front to back, a few pieces ahead of whoever takes them.

use super::{Location, Storage, StorageError};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes of one piece: an eighth of a block's usual readahead, large enough that a request costs nothing.
const PIECE_BYTES: u64 = 4 << 20;
/// Pieces under way or waiting: two keep one connection busy while the other is being asked for.
const PIECES_AHEAD: usize = 3;

/// A task that ends with whoever waits for it.
struct AbortOnDrop(JoinHandle<Result<Bytes, StorageError>>);

impl Future for AbortOnDrop {
    type Output = Result<Bytes, StorageError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll_unpin(context).map(|joined| match joined {
            Ok(result) => result,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        })
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Pieces of a file in order, read in the background. Dropping it ends the reading.
#[derive(Debug)]
pub struct ReadAhead {
    pieces: mpsc::Receiver<Result<Bytes, StorageError>>,
}

impl ReadAhead {
    pub(super) fn start(storage: Storage, at: Location, range: Range<u64>) -> ReadAhead {
        let (sender, pieces) = mpsc::channel(1);
        tokio::spawn(async move {
            let offsets = range.clone().step_by(PIECE_BYTES as usize);
            let mut reads = futures_util::stream::iter(offsets)
                .map(|offset| {
                    let len = PIECE_BYTES.min(range.end - offset) as usize;
                    let (storage, at) = (storage.clone(), at.clone());
                    // A task of its own, so that it goes on while a finished piece waits to be taken.
                    let read = tokio::spawn(async move { storage.read_range(&at, offset, len).await });
                    AbortOnDrop(read)
                })
                .buffered(PIECES_AHEAD);
            while let Some(piece) = reads.next().await {
                let failed = piece.is_err();
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        });
        ReadAhead { pieces }
    }

    /// The next piece; none at the end of the range.
    ///
    /// # Errors
    /// What [`Storage::read_range`] says; the reading has ended then.
    pub async fn next(&mut self) -> Result<Option<Bytes>, StorageError> {
        self.pieces.recv().await.transpose()
    }
}
