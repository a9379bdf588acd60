//! Binary records: counts follow from headers and sizes.

use super::{
    Chunk, DataFile, LabelsFile, Survey, SurveyedFile, chunk_bytes, in_parallel, inflate, prefix, select,
};
use crate::error::{DataError, Place};
use crate::formats::idx::{self, IdxHeader};
use crate::formats::{BinaryCodec, Codec, RecordSchema, gzip, raw};
use crate::storage::{FileStatus, Storage};

/// An IDX file with its header read and its size checked.
async fn header(storage: &Storage, file: &FileStatus) -> Result<(IdxHeader, u64), DataError> {
    let start = prefix(storage, &file.location, file.length, idx::HEADER_BYTES.max(PREFIX_BYTES)).await?;
    let size = content_size(storage, file).await?;
    Ok((IdxHeader::parse(&file.location, &start, size)?, size))
}

/// Enough of a gzip file for its own header (which may carry a file name) and the first content.
const PREFIX_BYTES: usize = 4_096;

/// Size of the content: for a compressed file it is counted, in a stream.
async fn content_size(storage: &Storage, file: &FileStatus) -> Result<u64, DataError> {
    if !gzip::is_compressed(file.location.name()) {
        return Ok(file.length);
    }
    inflate(storage, &file.location, file.length, |_| Ok(())).await
}

pub(super) async fn survey_idx(
    storage: &Storage,
    path: &str,
    (images, labels): (&str, &str),
) -> Result<Survey, DataError> {
    let images = select::files(storage, path, images).await?;
    let labels = select::files(storage, path, labels).await?;
    if images.len() != labels.len() {
        return Err(DataError::Input(format!(
            "{} image files, but {} label files in {path}; each image file needs one label file (images: {}; \
             labels: {})",
            images.len(),
            labels.len(),
            names(&images),
            names(&labels)
        )));
    }
    let total: u64 = images.iter().map(|file| file.length).sum();
    let pairs: Vec<_> = images.into_iter().zip(labels).collect();
    let surveyed = in_parallel(pairs, |(images, labels)| async move {
        let (image_header, size) = header(storage, &images).await?;
        let (label_header, label_size) = header(storage, &labels).await?;
        let described = idx::pair((&images.location, &image_header), (&labels.location, &label_header))?;
        let labels = LabelsFile {
            size: label_size,
            compressed: gzip::is_compressed(labels.location.name()),
            data_offset: label_header.data_offset,
            location: labels.location,
        };
        let file = DataFile { labels: Some(labels), ..plain(&images, size, image_header.records) };
        let file = SurveyedFile { file, data_offset: image_header.data_offset, first_line: 0 };
        Ok((file, image_header, described))
    })
    .await?;
    let mut files = Vec::new();
    let mut first: Option<(IdxHeader, (BinaryCodec, RecordSchema))> = None;
    for (file, header, described) in surveyed {
        if let Some((first, (codec, _))) = &first
            && (!first.same_records(&header) || codec.label != described.0.label)
        {
            let (this, other) = (header.describe(), first.describe());
            let message = format!("records of {this}, but the first file has {other} (or other labels)");
            return Err(DataError::format(&file.file.location, Place::Byte(4), message));
        }
        first.get_or_insert((header, described));
        files.push(file);
    }
    let (_, described) = first.ok_or_else(|| DataError::Input(format!("{path} has no image files")))?;
    Ok(survey(described, files, total, path))
}

pub(super) async fn survey_raw(
    storage: &Storage,
    path: &str,
    (pattern, header_bytes): (&str, u64),
    described: (BinaryCodec, RecordSchema),
) -> Result<Survey, DataError> {
    let found = select::files(storage, path, pattern).await?;
    let total = found.iter().map(|file| file.length).sum();
    let codec = &described.0;
    let files = in_parallel(found, |found| async move {
        let size = content_size(storage, &found).await?;
        let records = raw::records(&found.location, size, header_bytes, codec)?;
        let file = plain(&found, size, records);
        Ok(SurveyedFile { file, data_offset: header_bytes, first_line: 0 })
    })
    .await?;
    Ok(survey(described, files, total, path))
}

fn survey(
    (codec, schema): (BinaryCodec, RecordSchema),
    files: Vec<SurveyedFile>,
    total: u64,
    path: &str,
) -> Survey {
    Survey { schema, codec: Codec::Binary(codec), files, chunk_bytes: chunk_bytes(total), what: path.into() }
}

fn plain(found: &FileStatus, size: u64, records: u64) -> DataFile {
    DataFile {
        location: found.location.clone(),
        size,
        compressed: gzip::is_compressed(found.location.name()),
        first_record: 0,
        records,
        labels: None,
    }
}

fn names(files: &[FileStatus]) -> String {
    files.iter().map(|file| file.location.name()).collect::<Vec<_>>().join(", ")
}

/// Chunks of one file. A compressed file is one chunk, because it can only be read as a whole.
pub(super) fn chunks(file: &SurveyedFile, codec: &BinaryCodec, chunk_bytes: u64) -> Vec<Chunk> {
    let record_bytes = codec.record_bytes() as u64;
    let whole = u64::from(u32::MAX);
    let each = if file.file.compressed { whole } else { (chunk_bytes / record_bytes).clamp(1, whole) };
    super::split(0..file.file.records, each)
        .map(|records| Chunk {
            file: 0,
            records: (records.end - records.start) as u32,
            first_record: 0,
            offset: file.data_offset + records.start * record_bytes,
            bytes: (records.end - records.start) * record_bytes,
            first_line: 0,
        })
        .collect()
}
