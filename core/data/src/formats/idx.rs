//! IDX, the format of MNIST (<http://yann.lecun.com/exdb/mnist/>): two zero bytes, a type, a number of
//! dimensions, each dimension as a big-endian u32, then the values. The first dimension counts records.

use super::{BinaryCodec, Element, LabelPlace, RECORD_VALUES_LIMIT, RecordSchema, TargetKind};
use crate::error::{DataError, Place};
use std::fmt::Display;

/// Dimensions we understand: a count and up to height, width, channels.
const MAX_RANK: usize = 4;
/// The longest header.
pub(crate) const HEADER_BYTES: usize = 4 + 4 * MAX_RANK;

/// Header of a file, checked against the size of the file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct IdxHeader {
    element: Element,
    /// Number of records.
    pub(crate) records: u64,
    /// Dimensions of one record.
    dims: Vec<usize>,
    /// Where the values start.
    pub(crate) data_offset: u64,
}

impl IdxHeader {
    /// Reads the header of a file of `size` bytes that starts with `prefix` (at least [`HEADER_BYTES`] of it, or
    /// the whole file).
    ///
    /// # Errors
    /// No IDX, or not the size it says.
    pub(crate) fn parse(file: impl Display, prefix: &[u8], size: u64) -> Result<IdxHeader, DataError> {
        let bad = |offset: u64, message: String| Err(DataError::format(&file, Place::Byte(offset), message));
        let Some(magic) = prefix.first_chunk::<4>() else {
            return bad(
                size,
                format!("the file ends within the 4 bytes that start an IDX file ({size} bytes)"),
            );
        };
        if magic[..2] == [0x1f, 0x8b] {
            return bad(0, "the content is compressed; a gzip file has to be named .gz".into());
        }
        let element = match (magic[0], magic[1], magic[2]) {
            (0, 0, 0x08) => Element::U8,
            (0, 0, 0x09) => Element::I8,
            (0, 0, 0x0B) => Element::I16Be,
            (0, 0, 0x0C) => Element::I32Be,
            (0, 0, 0x0D) => Element::F32Be,
            (0, 0, 0x0E) => Element::F64Be,
            _ => {
                let [a, b, c, d] = magic;
                return bad(
                    0,
                    format!(
                        "not an IDX file: it starts with {a:02x} {b:02x} {c:02x} {d:02x}, expected 00 00, a type \
                     (08, 09, 0b to 0e) and the number of dimensions"
                    ),
                );
            }
        };
        let rank = usize::from(magic[3]);
        if rank == 0 || rank > MAX_RANK {
            return bad(3, format!("{rank} dimensions; expected 1 to {MAX_RANK}"));
        }
        let data_offset = 4 + 4 * rank;
        let Some(dims) = prefix.get(4..data_offset) else {
            return bad(size, format!("the file ends within its header of {data_offset} bytes"));
        };
        let dims: Vec<u64> =
            dims.chunks_exact(4).map(|d| u64::from(u32::from_be_bytes([d[0], d[1], d[2], d[3]]))).collect();
        let values = dims[1..].iter().try_fold(1u64, |product, dim| product.checked_mul(*dim));
        let Some(values) = values.filter(|values| (1..=RECORD_VALUES_LIMIT as u64).contains(values)) else {
            return bad(
                8,
                format!(
                    "records of {:?} values; expected at least 1 and at most {RECORD_VALUES_LIMIT}",
                    &dims[1..]
                ),
            );
        };
        let header = IdxHeader {
            element,
            records: dims[0],
            dims: dims[1..].iter().map(|dim| *dim as usize).collect(),
            data_offset: data_offset as u64,
        };
        header.check_size(file, values, size)?;
        Ok(header)
    }

    fn check_size(&self, file: impl Display, values: u64, size: u64) -> Result<(), DataError> {
        let record_bytes = values * self.element.bytes() as u64;
        // 2^32 records of 2^28 values of 8 bytes do not fit in 64 bits with the header: count in 128.
        let expected = u128::from(self.records) * u128::from(record_bytes) + u128::from(self.data_offset);
        if u128::from(size) == expected {
            return Ok(());
        }
        let (at, what) = if u128::from(size) < expected {
            (size, "the file is truncated")
        } else {
            (expected as u64, "the file goes on after its last record")
        };
        let message = format!(
            "{what}: its header announces {} records of {record_bytes} bytes, {expected} bytes in all, and it has \
             {size}",
            self.records
        );
        Err(DataError::format(file, Place::Byte(at), message))
    }

    /// Whether records of another file of the same input look alike.
    pub(crate) fn same_records(&self, other: &IdxHeader) -> bool {
        (self.element, &self.dims) == (other.element, &other.dims)
    }

    /// Words for the records, such as `u8 28x28`.
    pub(crate) fn describe(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        let dims = if dims.is_empty() { "single values".into() } else { dims.join("x") };
        format!("{:?} {dims}", self.element)
    }
}

/// Codec and schema of images (or vectors) and their labels.
///
/// # Errors
/// Labels that are no plain list, counts that differ, no record at all.
pub(crate) fn pair(
    (images_file, images): (&dyn Display, &IdxHeader),
    (labels_file, labels): (&dyn Display, &IdxHeader),
) -> Result<(BinaryCodec, RecordSchema), DataError> {
    if !labels.dims.is_empty() {
        let message = format!("labels have one dimension, this file has records of {}", labels.describe());
        return Err(DataError::format(labels_file, Place::Byte(3), message));
    }
    if images.records != labels.records {
        let message = format!(
            "{} images, but {} labels in {labels_file}; they have to be the same number",
            images.records, labels.records
        );
        return Err(DataError::format(images_file, Place::Byte(4), message));
    }
    let shape = match images.dims.as_slice() {
        [] => vec![1],
        [height, width] => vec![*height, *width, 1],
        dims => dims.to_vec(),
    };
    let values = shape.iter().product();
    let codec =
        BinaryCodec { element: images.element, values, planes: 0, label: LabelPlace::Apart(labels.element) };
    let target = if labels.element.is_float() { TargetKind::Value } else { TargetKind::Class };
    Ok((codec, RecordSchema { shape, target, targets: 1 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(kind: u8, dims: &[u32], data: usize) -> Vec<u8> {
        let mut bytes = vec![0, 0, kind, dims.len() as u8];
        dims.iter().for_each(|dim| bytes.extend(dim.to_be_bytes()));
        bytes.resize(bytes.len() + data, 7);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<IdxHeader, DataError> {
        let prefix = &bytes[..bytes.len().min(HEADER_BYTES)];
        IdxHeader::parse("hdfs://nn/x", prefix, bytes.len() as u64)
    }

    #[test]
    fn shapes_are_channels_last() {
        for (dims, shape) in [
            (&[2, 3, 4][..], vec![3, 4, 1]),
            (&[2, 5], vec![5]),
            (&[2], vec![1]),
            (&[2, 3, 4, 3], vec![3, 4, 3]),
        ] {
            let data = dims.iter().product::<u32>() as usize;
            let images = parse(&file(8, dims, data)).unwrap();
            let labels = parse(&file(8, &[2], 2)).unwrap();
            let (codec, schema) = pair((&"i", &images), (&"l", &labels)).unwrap();
            assert_eq!((schema.shape, schema.target), (shape, TargetKind::Class));
            assert_eq!(codec.record_bytes() * 2, data);
        }
    }

    #[test]
    fn every_truncation_is_an_error_that_names_the_file_and_the_place() {
        let whole = file(8, &[3, 2, 2], 12);
        assert_eq!(parse(&whole).unwrap().records, 3);
        for len in 0..whole.len() {
            let error = parse(&whole[..len]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("hdfs://nn/x: byte {len}: ")), "{len}: {error}");
        }
        let error = parse(&file(8, &[3, 2, 2], 13)).unwrap_err().to_string();
        assert!(error.contains("byte 28: the file goes on after its last record"), "{error}");
    }

    #[test]
    fn huge_counts_and_wrong_magic_are_refused_without_allocation() {
        for (bytes, part) in [
            (file(8, &[u32::MAX, u32::MAX, u32::MAX, u32::MAX], 9), "records of"),
            (file(0x0E, &[u32::MAX, 1 << 14, 1 << 14], 9), "the file is truncated"),
            (file(8, &[2, 0, 4], 0), "expected at least 1"),
            (file(8, &[], 0), "0 dimensions"),
            (file(8, &[1, 1, 1, 1, 1], 1), "5 dimensions"),
            (file(0x0A, &[1], 1), "not an IDX file: it starts with 00 00 0a 01"),
            (b"\x1f\x8b\x08\x00rest".to_vec(), "named .gz"),
            (b"PAR1....".to_vec(), "50 41 52 31"),
        ] {
            let error = parse(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        for first in 0..=255u8 {
            for place in 0..4 {
                let mut bytes = file(8, &[3, 2, 2], 12);
                bytes[place] = first;
                let _ = parse(&bytes);
            }
        }
    }

    #[test]
    fn images_and_labels_have_to_fit() {
        let images = parse(&file(8, &[3, 2, 2], 12)).unwrap();
        let labels = parse(&file(8, &[2], 2)).unwrap();
        let error = pair((&"images", &images), (&"labels", &labels)).unwrap_err().to_string();
        assert_eq!(
            error,
            "images: byte 4: 3 images, but 2 labels in labels; they have to be the same number"
        );
        let error = pair((&"images", &images), (&"images", &images)).unwrap_err().to_string();
        assert!(error.contains("U8 2x2"), "{error}");
    }
}
