//! Text files: the survey reads first lines, tasks count the others.

use super::lines::{LineScanner, TextChunk};
use super::{
    Chunk, DataFile, Survey, SurveyedFile, chunk_bytes, in_parallel, inflate, prefix, select, split,
};
use crate::error::{DataError, Place};
use crate::formats::csv::{CsvCodec, CsvSettings, LINE_BYTES_LIMIT, is_blank};
use crate::formats::{Codec, RecordSchema, gzip};
use crate::storage::{FileStatus, Location, Storage};
use ringspin_job::InputFormat;
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes a task counts: a few blocks' worth of seconds, so that tasks spread well over workers.
const TASK_BYTES: u64 = 64 << 20;
/// Bytes of a file that are looked at first for its first line.
const FIRST_BYTES: usize = 64 << 10;

/// Lines to count: a byte range of one file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexTask {
    /// Number of the task.
    pub task: usize,
    /// The file.
    pub file: Location,
    /// Bytes of the stored file.
    pub size: u64,
    /// First byte of the range.
    pub start: u64,
    /// Byte after the range.
    pub end: u64,
    /// Where the lines of the file start.
    first_line_at: u64,
    chunk_bytes: u64,
    number: usize,
}

/// What a task found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexPart {
    /// Number of the task.
    pub task: usize,
    /// Chunks in order, without gaps.
    pub chunks: Vec<TextChunk>,
    /// Size of the content, inflated.
    pub size: u64,
}

/// What the job says about its text files.
pub(super) fn settings(format: &InputFormat) -> Result<CsvSettings<'_>, DataError> {
    match format {
        InputFormat::Csv { header, delimiter, label, features, shape, classes, .. } => {
            if matches!(delimiter, b'\n' | b'\r' | b'"') {
                return Err(DataError::Input("input.csv.delimiter can be no quote or line break".into()));
            }
            let (header, delimiter, classes) = (*header, *delimiter, *classes);
            Ok(CsvSettings { header, delimiter, label, features, shape, classes })
        }
        other => Err(DataError::Broken(format!("{other:?} is no text format"))),
    }
}

/// The first line that is not blank.
struct FirstLine {
    text: Vec<u8>,
    offset: u64,
    /// Its number, from 0.
    line: u64,
    /// Where the next line starts.
    next: u64,
}

async fn first_line(storage: &Storage, file: &FileStatus) -> Result<Option<FirstLine>, DataError> {
    let mut want = FIRST_BYTES;
    loop {
        let start = prefix(storage, &file.location, file.length, want).await?;
        let (mut offset, mut line) = (0, 0);
        for text in start.split_inclusive(|byte| *byte == b'\n') {
            let next = offset + text.len();
            let ended = text.ends_with(b"\n");
            let content = text.strip_suffix(b"\n").unwrap_or(text);
            let content = content.strip_suffix(b"\r").unwrap_or(content);
            if (ended || start.len() < want) && !is_blank(content) {
                let (offset, next) = (offset as u64, next as u64);
                return Ok(Some(FirstLine { text: content.to_vec(), offset, line, next }));
            }
            (offset, line) = (next, line + 1);
        }
        if start.len() < want {
            return Ok(None);
        }
        if want > LINE_BYTES_LIMIT {
            let text = format!("no line ends within {LINE_BYTES_LIMIT} bytes; is this a text file?");
            return Err(DataError::format(&file.location, Place::Byte(0), text));
        }
        want *= 8;
    }
}

pub(super) async fn survey(
    storage: &Storage,
    path: &str,
    pattern: &str,
    settings: CsvSettings<'_>,
) -> Result<Survey, DataError> {
    let found = select::files(storage, path, pattern).await?;
    let total = found.iter().map(|file| file.length).sum();
    let looked = in_parallel(found, |found| async move {
        let first = first_line(storage, &found).await?;
        Ok((found, first))
    })
    .await?;
    let mut described: Option<(CsvCodec, RecordSchema)> = None;
    let mut files = Vec::new();
    for (found, first) in looked {
        let Some(first) = first else { continue };
        let bad = |column, message: String| {
            let place = Place::Line { line: first.line + 1, record: 0, offset: first.offset, column };
            DataError::format(&found.location, place, message)
        };
        let this = match (&described, settings.header) {
            (Some(_), false) => None,
            _ => Some(CsvCodec::new(settings, &first.text).map_err(|e| bad(e.column, e.message))?),
        };
        if let (Some((known, _)), Some((this, _))) = (&described, &this)
            && known.names != this.names
        {
            let differs = known.names.iter().zip(&this.names).position(|(a, b)| a != b);
            let column = differs.unwrap_or(known.columns.min(this.columns));
            return Err(bad(
                Some(this.column(column)),
                "the names differ from those of the first file".into(),
            ));
        }
        described = described.or(this);
        let (data_offset, first_line) = match settings.header {
            true => (first.next, first.line + 1),
            false => (0, 0),
        };
        let file = DataFile {
            size: found.length,
            compressed: gzip::is_compressed(found.location.name()),
            location: found.location,
            first_record: 0,
            records: 0,
            labels: None,
        };
        files.push(SurveyedFile { file, data_offset, first_line });
    }
    let (codec, schema) = described.ok_or_else(|| DataError::Input(format!("{path} has no records")))?;
    let chunk_bytes = chunk_bytes(total);
    Ok(Survey { schema, codec: Codec::Csv(codec), files, chunk_bytes, what: path.into() })
}

pub(super) fn tasks(survey: &Survey) -> Vec<IndexTask> {
    let mut tasks = Vec::new();
    for (number, surveyed) in survey.files.iter().enumerate() {
        let file = &surveyed.file;
        // A compressed file is one task and, as it can only be read as a whole, one chunk.
        let (end, task_bytes, chunk_bytes) = match file.compressed {
            true => (gzip::INFLATED_BYTES_LIMIT, gzip::INFLATED_BYTES_LIMIT, u64::MAX),
            false => (file.size, TASK_BYTES.max(survey.chunk_bytes), survey.chunk_bytes),
        };
        for range in split(surveyed.data_offset..end, task_bytes) {
            tasks.push(IndexTask {
                task: tasks.len(),
                file: file.location.clone(),
                size: file.size,
                start: range.start,
                end: range.end,
                first_line_at: surveyed.data_offset,
                chunk_bytes,
                number,
            });
        }
    }
    tasks
}

/// Counts the lines of one task.
///
/// # Errors
/// The file can not be read, or has a line without end.
pub async fn run_task(storage: &Storage, task: &IndexTask) -> Result<IndexPart, DataError> {
    let mut scanner = LineScanner::new(task.start..task.end, task.first_line_at, task.chunk_bytes);
    if gzip::is_compressed(task.file.name()) {
        return run_compressed(storage, task, scanner).await;
    }
    let bad = |(offset, text)| DataError::format(&task.file, Place::Byte(offset), text);
    let mut pieces = storage.read_ahead(&task.file, scanner.first_byte()..task.size);
    while !scanner.is_done() {
        let Some(piece) = pieces.next().await? else { break };
        scanner.push(&piece).map_err(bad)?;
    }
    Ok(IndexPart { task: task.task, chunks: scanner.finish(), size: task.size })
}

async fn run_compressed(
    storage: &Storage,
    task: &IndexTask,
    scanner: LineScanner,
) -> Result<IndexPart, DataError> {
    let mut skip = scanner.first_byte() as usize;
    let scanner = Arc::new(Mutex::new(Some(scanner)));
    let shared = scanner.clone();
    let sink = move |bytes: &[u8]| {
        let rest = &bytes[skip.min(bytes.len())..];
        skip -= bytes.len() - rest.len();
        match shared.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            Some(scanner) => scanner.push(rest).map_err(|(_, text)| text),
            None => Ok(()),
        }
    };
    let size = inflate(storage, &task.file, task.size, sink).await?;
    let scanner = scanner.lock().unwrap_or_else(PoisonError::into_inner).take();
    let chunks = scanner.map(LineScanner::finish).unwrap_or_default();
    Ok(IndexPart { task: task.task, chunks, size })
}

/// Files with their chunks, from the parts of all tasks.
pub(super) fn merge(
    survey: &Survey,
    parts: Vec<IndexPart>,
) -> Result<Vec<(DataFile, Vec<Chunk>)>, DataError> {
    let tasks = tasks(survey);
    if tasks.len() != parts.len() || parts.iter().enumerate().any(|(i, part)| part.task != i) {
        return Err(DataError::Broken(format!("{} index tasks, {} parts", tasks.len(), parts.len())));
    }
    let mut files: Vec<_> = survey.files.iter().map(|file| (file.file.clone(), Vec::new())).collect();
    let mut lines: Vec<u64> = survey.files.iter().map(|file| file.first_line).collect();
    for (task, part) in tasks.iter().zip(parts) {
        let (file, chunks) = &mut files[task.number];
        file.size = part.size;
        for chunk in part.chunks {
            chunks.push(Chunk {
                file: 0,
                records: chunk.records,
                first_record: 0,
                offset: chunk.offset,
                bytes: chunk.bytes,
                first_line: lines[task.number],
            });
            lines[task.number] += u64::from(chunk.lines);
        }
    }
    Ok(files)
}
