//! The index of a data set: which files, in which order, and where in them which records are.
//!
//! It is made in three moves, so that workers can share the one that reads files: [`Survey::take`] lists files
//! and reads headers, [`Survey::tasks`] says what is left to count (nothing for binary records, byte ranges for
//! text) and [`run_task`] counts it, [`Survey::merge`] puts the parts together. All three hand over small plain
//! values. Record numbers, and with them every later decision, depend on names and content of files alone.

mod binary;
mod content;
mod lines;
mod select;
mod text;

pub use lines::TextChunk;
pub use text::{IndexPart, IndexTask, run_task};

pub(crate) use content::{inflate, prefix};

use crate::error::DataError;
use crate::formats::{Codec, RecordSchema, TargetKind};
use crate::storage::{Location, Storage};
use futures_util::{StreamExt, TryStreamExt};
use ringspin_job::{InputFormat, InputSpec};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Bytes of a chunk: what is read, kept and dropped together. Enough that a request costs little, small enough
/// that a shuffle window has many.
const CHUNK_BYTES: u64 = 1 << 20;
/// Chunks of a large data set; beyond, chunks grow, so that an index stays some megabytes.
const CHUNKS: u64 = 65_536;
/// Size chunks do not grow beyond.
const CHUNK_BYTES_LIMIT: u64 = 256 << 20;
/// Files looked at in parallel.
const PARALLEL_FILES: usize = 16;

/// A file of records, and the file with their labels where that is another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataFile {
    /// Where it is.
    pub location: Location,
    /// Bytes, inflated where it is compressed.
    pub size: u64,
    /// Whether it is gzip.
    pub compressed: bool,
    /// Number of the first record within the data set.
    pub first_record: u64,
    /// Records in it.
    pub records: u64,
    /// The labels, where they lie apart.
    pub labels: Option<LabelsFile>,
}

/// A file of labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelsFile {
    /// Where it is.
    pub location: Location,
    /// Bytes, inflated where it is compressed.
    pub size: u64,
    /// Whether it is gzip.
    pub compressed: bool,
    /// Offset of the first label.
    pub data_offset: u64,
}

/// Consecutive records of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Number of the file.
    pub file: u32,
    /// Records in it.
    pub records: u32,
    /// Number of the first record within the data set.
    pub first_record: u64,
    /// Offset of the first byte within the (inflated) file.
    pub offset: u64,
    /// Bytes.
    pub bytes: u64,
    /// Line of the first byte, from 0; text only.
    pub first_line: u64,
}

/// Everything about a data set that plans and readers need.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatasetIndex {
    /// What a record becomes.
    pub schema: RecordSchema,
    /// How.
    pub codec: Codec,
    files: Vec<DataFile>,
    chunks: Vec<Chunk>,
}

impl DatasetIndex {
    /// All records.
    pub fn records(&self) -> u64 {
        self.files.last().map_or(0, |file| file.first_record + file.records)
    }

    /// Files with records, in the order of their records.
    pub fn files(&self) -> &[DataFile] {
        &self.files
    }

    /// Chunks, in the order of their records.
    pub fn chunks(&self) -> &[Chunk] {
        &self.chunks
    }

    /// Bytes of all records as they lie in (inflated) files.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// Number of the chunk that has a record.
    pub fn chunk_of(&self, record: u64) -> usize {
        self.chunks.partition_point(|chunk| chunk.first_record <= record).saturating_sub(1)
    }

    /// An index over one file that does not exist.
    #[cfg(test)]
    pub(crate) fn for_tests(schema: RecordSchema, codec: Codec, chunks: Vec<Chunk>) -> DatasetIndex {
        let file = DataFile {
            location: Location::local("/none".as_ref()).unwrap(),
            size: chunks.iter().map(|chunk| chunk.bytes).sum(),
            compressed: false,
            first_record: 0,
            records: chunks.iter().map(|chunk| u64::from(chunk.records)).sum(),
            labels: None,
        };
        DatasetIndex { schema, codec, files: vec![file], chunks }
    }

    /// Puts chunks of files one after the other and numbers the records.
    fn new(
        schema: RecordSchema,
        codec: Codec,
        parts: Vec<(DataFile, Vec<Chunk>)>,
        what: &str,
    ) -> Result<DatasetIndex, DataError> {
        let mut index = DatasetIndex { schema, codec, files: Vec::new(), chunks: Vec::new() };
        let mut record = 0;
        for (mut file, chunks) in parts {
            file.first_record = record;
            for chunk in chunks.into_iter().filter(|chunk| chunk.records > 0) {
                let number = index.files.len() as u32;
                index.chunks.push(Chunk { file: number, first_record: record, ..chunk });
                record += u64::from(chunk.records);
            }
            file.records = record - file.first_record;
            if file.records > 0 {
                index.files.push(file);
            }
        }
        if record == 0 {
            return Err(DataError::Input(format!("{what} has no records")));
        }
        Ok(index)
    }
}

/// What looking at names, sizes and headers tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Survey {
    /// What a record becomes.
    pub schema: RecordSchema,
    codec: Codec,
    files: Vec<SurveyedFile>,
    chunk_bytes: u64,
    /// The input in words, for messages.
    what: String,
}

/// A file and what is known of its records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SurveyedFile {
    file: DataFile,
    /// Where records start.
    data_offset: u64,
    /// Lines before that.
    first_line: u64,
}

impl Survey {
    /// Lists the files of an input and reads their headers.
    ///
    /// # Errors
    /// No such files, headers that are wrong, do not fit each other, or do not fit what the job says.
    pub async fn take(storage: &Storage, input: &InputSpec) -> Result<Survey, DataError> {
        let mut survey = match &input.format {
            InputFormat::Idx { images, labels } => {
                binary::survey_idx(storage, &input.path, (images, labels)).await?
            }
            InputFormat::Raw { files, header_bytes, label_bytes, dtype, shape, layout } => {
                let described = crate::formats::raw::codec(*label_bytes, *dtype, shape, *layout)?;
                binary::survey_raw(storage, &input.path, (files, *header_bytes), described).await?
            }
            InputFormat::Csv { files, .. } => {
                text::survey(storage, &input.path, files, text::settings(&input.format)?).await?
            }
        };
        if input.reconstruct {
            survey.schema.target = TargetKind::Record;
            survey.schema.targets = survey.schema.values();
        }
        Ok(survey)
    }

    /// The files of records, in order; not those of labels.
    pub fn locations(&self) -> Vec<Location> {
        self.files.iter().map(|file| file.file.location.clone()).collect()
    }

    /// All files that will be read, those of labels too.
    pub fn files_read(&self) -> Vec<Location> {
        let labels = self.files.iter().filter_map(|file| file.file.labels.as_ref());
        self.locations().into_iter().chain(labels.map(|labels| labels.location.clone())).collect()
    }

    /// What is left to be counted: byte ranges of text files, in order. Binary records need nothing.
    pub fn tasks(&self) -> Vec<IndexTask> {
        match &self.codec {
            Codec::Binary(_) => Vec::new(),
            Codec::Csv(_) => text::tasks(self),
        }
    }

    /// The index, given the part of every task in the order of [`Survey::tasks`].
    ///
    /// # Errors
    /// Parts are missing, or there is no record at all.
    pub fn merge(self, parts: Vec<IndexPart>) -> Result<DatasetIndex, DataError> {
        let files = match &self.codec {
            Codec::Binary(codec) => {
                let chunks = |file: &SurveyedFile| binary::chunks(file, codec, self.chunk_bytes);
                self.files.iter().map(|file| (file.file.clone(), chunks(file))).collect()
            }
            Codec::Csv(_) => text::merge(&self, parts)?,
        };
        DatasetIndex::new(self.schema, self.codec, files, &self.what)
    }
}

/// Survey, tasks and merge in this process.
///
/// # Errors
/// As [`Survey::take`] and [`run_task`].
pub async fn index(storage: &Storage, input: &InputSpec) -> Result<DatasetIndex, DataError> {
    let survey = Survey::take(storage, input).await?;
    let tasks = survey.tasks();
    let parts = in_parallel(tasks, |task| {
        let storage = storage.clone();
        async move { run_task(&storage, &task).await }
    })
    .await?;
    survey.merge(parts)
}

/// Runs `work` on every item, some at a time, and keeps the order.
async fn in_parallel<I, T, F>(items: Vec<I>, work: impl Fn(I) -> F) -> Result<Vec<T>, DataError>
where
    F: Future<Output = Result<T, DataError>>,
{
    futures_util::stream::iter(items).map(work).buffered(PARALLEL_FILES).try_collect().await
}

/// Size of the chunks of `total` bytes.
fn chunk_bytes(total: u64) -> u64 {
    total.div_ceil(CHUNKS).next_multiple_of(CHUNK_BYTES).clamp(CHUNK_BYTES, CHUNK_BYTES_LIMIT)
}

/// Bytes `range` of a file as pieces of at most `piece` bytes.
fn split(range: Range<u64>, piece: u64) -> impl Iterator<Item = Range<u64>> {
    (range.start..range.end).step_by(piece as usize).map(move |start| start..range.end.min(start + piece))
}

#[cfg(test)]
pub(crate) mod tests;
