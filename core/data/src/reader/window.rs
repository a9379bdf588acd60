//! A window whose chunks are in memory or on their way.

use crate::dataset::{ChunkCell, Dataset};
use crate::error::DataError;
use crate::plan::Window;
use futures_util::StreamExt;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Chunks of a window that are asked for at the same time.
const PARALLEL_CHUNKS: usize = 4;

/// Holds the chunks of one window, and a task that reads them in the order of their first use.
pub(super) struct OpenWindow {
    pub(super) window: Window,
    /// One for each piece of the window.
    pub(super) cells: Vec<Arc<ChunkCell>>,
    reading: JoinHandle<()>,
    read: watch::Receiver<()>,
}

impl OpenWindow {
    /// Starts to read the window, after `before` has been read: what is needed first comes first.
    pub(super) fn open(dataset: &Arc<Dataset>, window: Window, before: Option<&OpenWindow>) -> OpenWindow {
        let cells: Vec<_> = window.pieces.iter().map(|piece| dataset.cell(piece.chunk)).collect();
        let order: Vec<_> = window
            .by_first_use()
            .into_iter()
            .map(|piece| (window.pieces[piece].chunk, cells[piece].clone()))
            .collect();
        let (end, read) = watch::channel(());
        let mut before = before.map(|window| window.read.clone());
        let dataset = dataset.clone();
        let reading = tokio::spawn(async move {
            // The sender of the window before goes away when that is read or given up.
            while let Some(before) = &mut before
                && before.changed().await.is_ok()
            {}
            let loads = futures_util::stream::iter(order).map(|(chunk, cell)| {
                let dataset = dataset.clone();
                async move { dataset.load(chunk, &cell).await.is_ok() }
            });
            // Errors are met again, and told, by whoever needs the chunk.
            let mut loads = loads.buffer_unordered(PARALLEL_CHUNKS);
            while loads.next().await == Some(true) {}
            drop(end);
        });
        OpenWindow { window, cells, reading, read }
    }

    /// Waits until the chunk of a piece is there.
    pub(super) async fn wait(&self, dataset: &Dataset, piece: usize) -> Result<(), DataError> {
        dataset.load(self.window.pieces[piece].chunk, &self.cells[piece]).await.map(|_| ())
    }
}

impl Drop for OpenWindow {
    fn drop(&mut self) {
        self.reading.abort();
    }
}
