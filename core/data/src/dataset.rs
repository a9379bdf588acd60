//! A data set that is being read: its chunks in memory, shared by all lanes of a worker.
//!
//! A chunk is read once however many windows and lanes want it, and stays as long as one of them holds it. As
//! many as fit into `cache_bytes` stay for later epochs: the first ones, because a cache that drops its oldest
//! entry never hits when every epoch asks for everything.

use crate::error::{DataError, Place};
use crate::formats::{Decoder, LabelRule, Normalisation, RecordBytes, gzip};
use crate::index::{Chunk, DataFile, DatasetIndex, LabelsFile, inflate};
use crate::storage::{Location, Storage};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::{OnceCell, Semaphore};

/// Chunks that are read at the same time: enough to hide the latency of one request behind the others.
const PARALLEL_READS: usize = 6;

/// A chunk that is or will be in memory; who holds the cell keeps it there.
pub(crate) type ChunkCell = OnceCell<RecordBytes>;

/// Everything that reading and decoding records takes. Shared by readers of one worker.
#[derive(Debug)]
pub struct Dataset {
    storage: Storage,
    index: Arc<DatasetIndex>,
    pub(crate) decoder: Decoder,
    cache_bytes: u64,
    cache: Mutex<Cache>,
    /// Inflated label files, by the number of their data file.
    labels: Mutex<HashMap<u32, Arc<OnceCell<Bytes>>>>,
    reads: Semaphore,
}

#[derive(Debug, Default)]
struct Cache {
    entries: HashMap<u32, Entry>,
    kept_bytes: u64,
}

#[derive(Debug, Default)]
struct Entry {
    cell: Weak<ChunkCell>,
    /// The same cell, when it stays although nobody uses it.
    kept: Option<Arc<ChunkCell>>,
}

/// What a job says about reading its records.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DatasetOptions {
    /// Mean and standard deviation of inputs.
    pub normalisation: Normalisation,
    /// Classes of the model; a label beyond them is an error. None: labels are not checked.
    pub classes: Option<u32>,
    /// A label that is let through although it is no class of the model, such as -100.
    pub ignored: Option<i64>,
    /// Bytes of chunks that stay in memory although no lane uses them at the moment.
    pub cache_bytes: u64,
}

impl Dataset {
    /// # Errors
    /// Mean or standard deviation do not fit the channels.
    pub fn new(
        storage: Storage,
        index: Arc<DatasetIndex>,
        options: &DatasetOptions,
    ) -> Result<Dataset, DataError> {
        let (codec, schema) = (index.codec.clone(), index.schema.clone());
        let labels = LabelRule { classes: options.classes, ignored: options.ignored };
        let decoder = Decoder::new(codec, schema, &options.normalisation, labels)?;
        Ok(Dataset {
            storage,
            index,
            decoder,
            cache_bytes: options.cache_bytes,
            cache: Mutex::default(),
            labels: Mutex::default(),
            reads: Semaphore::new(PARALLEL_READS),
        })
    }

    /// The index of the records.
    pub fn index(&self) -> &Arc<DatasetIndex> {
        &self.index
    }

    /// Bytes of chunks that stay for later epochs.
    pub fn kept_bytes(&self) -> u64 {
        self.cache().kept_bytes
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell of a chunk, filled or not.
    pub(crate) fn cell(&self, chunk: u32) -> Arc<ChunkCell> {
        let mut cache = self.cache();
        let entry = cache.entries.entry(chunk).or_default();
        if let Some(cell) = entry.cell.upgrade() {
            return cell;
        }
        let cell = Arc::new(ChunkCell::new());
        entry.cell = Arc::downgrade(&cell);
        cell
    }

    /// Fills the cell of a chunk, unless it is or another task does.
    pub(crate) async fn load<'a>(
        &self,
        chunk: u32,
        cell: &'a Arc<ChunkCell>,
    ) -> Result<&'a RecordBytes, DataError> {
        let data = cell
            .get_or_try_init(|| async {
                let _permit = self.reads.acquire().await;
                let data = self.read(chunk).await?;
                self.keep(chunk, cell, data.memory());
                Ok::<_, DataError>(data)
            })
            .await?;
        Ok(data)
    }

    /// Keeps a chunk for good when there is room.
    fn keep(&self, chunk: u32, cell: &Arc<ChunkCell>, memory: u64) {
        let mut cache = self.cache();
        if cache.kept_bytes + memory > self.cache_bytes {
            return;
        }
        if let Some(entry) = cache.entries.get_mut(&chunk)
            && entry.kept.is_none()
        {
            entry.kept = Some(cell.clone());
            cache.kept_bytes += memory;
        }
    }

    /// Lets go of kept chunks that are not in `wanted`: those of lanes that moved to another worker.
    pub(crate) fn keep_only(&self, wanted: &HashSet<u32>) {
        let mut cache = self.cache();
        let mut freed = 0;
        cache.entries.retain(|chunk, entry| {
            if wanted.contains(chunk) {
                return true;
            }
            let memory = |cell: &Arc<ChunkCell>| cell.get().map_or(0, RecordBytes::memory);
            freed += entry.kept.take().as_ref().map_or(0, memory);
            entry.cell.strong_count() > 0
        });
        cache.kept_bytes -= freed;
    }

    async fn read(&self, number: u32) -> Result<RecordBytes, DataError> {
        let chunk = self.index.chunks()[number as usize];
        let file = &self.index.files()[chunk.file as usize];
        let (bytes, labels) =
            tokio::try_join!(self.read_records(file, &chunk), self.read_labels(file, &chunk))?;
        self.decoder
            .prepare(bytes, labels, chunk.records)
            .map_err(|bad| DataError::format(&file.location, Place::Byte(chunk.offset), bad.message))
    }

    async fn read_records(&self, file: &DataFile, chunk: &Chunk) -> Result<Bytes, DataError> {
        if !file.compressed {
            return Ok(self.storage.read_range(&file.location, chunk.offset, chunk.bytes as usize).await?);
        }
        let content = self.inflated(&file.location, file.size).await?;
        cut(content, &file.location, chunk.offset, chunk.bytes)
    }

    async fn read_labels(&self, file: &DataFile, chunk: &Chunk) -> Result<Bytes, DataError> {
        let Some(labels) = &file.labels else { return Ok(Bytes::new()) };
        let label_bytes = match &self.decoder.codec {
            crate::formats::Codec::Binary(codec) => codec.label_bytes() as u64,
            crate::formats::Codec::Csv(_) => 0,
        };
        let offset = labels.data_offset + (chunk.first_record - file.first_record) * label_bytes;
        let len = u64::from(chunk.records) * label_bytes;
        if !labels.compressed {
            return Ok(self.storage.read_range(&labels.location, offset, len as usize).await?);
        }
        let cell = self.labels_cell(chunk.file);
        let content = cell.get_or_try_init(|| self.inflated_labels(labels)).await?;
        cut(content.clone(), &labels.location, offset, len)
    }

    fn labels_cell(&self, file: u32) -> Arc<OnceCell<Bytes>> {
        let mut cells = self.labels.lock().unwrap_or_else(PoisonError::into_inner);
        cells.entry(file).or_default().clone()
    }

    async fn inflated_labels(&self, labels: &LabelsFile) -> Result<Bytes, DataError> {
        self.inflated(&labels.location, labels.size).await
    }

    /// The content of a compressed file, which the index found to be of `size`.
    async fn inflated(&self, at: &Location, size: u64) -> Result<Bytes, DataError> {
        let stored = self.storage.stat(at).await?.length;
        let content = Arc::new(Mutex::new(Vec::with_capacity(size.min(gzip::INFLATED_BYTES_LIMIT) as usize)));
        let filled = content.clone();
        let changed =
            move |found| format!("{found} bytes inflated where the index found {size}: the file changed");
        inflate(&self.storage, at, stored, move |bytes| {
            let mut content = filled.lock().unwrap_or_else(PoisonError::into_inner);
            if content.len() + bytes.len() > size as usize {
                return Err(changed(content.len() + bytes.len()));
            }
            content.extend_from_slice(bytes);
            Ok(())
        })
        .await?;
        let content = std::mem::take(&mut *content.lock().unwrap_or_else(PoisonError::into_inner));
        if content.len() as u64 != size {
            return Err(DataError::format(at, Place::File, changed(content.len())));
        }
        Ok(content.into())
    }
}

/// A range of inflated content.
fn cut(content: Bytes, at: &Location, offset: u64, len: u64) -> Result<Bytes, DataError> {
    let end = offset + len;
    if end > content.len() as u64 {
        let text = format!("the content ends here, but {len} bytes at {offset} were expected");
        return Err(DataError::format(at, Place::Byte(content.len() as u64), text));
    }
    Ok(content.slice(offset as usize..end as usize))
}
