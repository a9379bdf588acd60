//! Raw records of one length, such as CIFAR's binary files: geometry is the job's, files have no header of
//! their own that we would understand.

use super::{BinaryCodec, Element, LabelPlace, RECORD_VALUES_LIMIT, RecordSchema, TargetKind};
use crate::error::{DataError, Place};
use ringspin_job::{RawDtype, RawLayout};

/// Codec and schema of what the job describes.
///
/// # Errors
/// A shape without values or with too many, a label of 3 bytes, `chw` without three dimensions.
pub(crate) fn codec(
    label_bytes: usize,
    dtype: RawDtype,
    shape: &[usize],
    layout: RawLayout,
) -> Result<(BinaryCodec, RecordSchema), DataError> {
    let values = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
    let Some(values) =
        values.filter(|values| (1..=RECORD_VALUES_LIMIT).contains(values) && !shape.is_empty())
    else {
        let text = format!("input.raw.shape {shape:?} has no values, or more than {RECORD_VALUES_LIMIT}");
        return Err(DataError::Input(text));
    };
    let element = match dtype {
        RawDtype::U8 => Element::U8,
        RawDtype::F32 => Element::F32Le,
    };
    let (label, target) = match label_bytes {
        0 => (LabelPlace::None, TargetKind::None),
        1 => (LabelPlace::Front(Element::U8), TargetKind::Class),
        2 => (LabelPlace::Front(Element::U16Be), TargetKind::Class),
        4 => (LabelPlace::Front(Element::U32Be), TargetKind::Class),
        other => {
            return Err(DataError::Input(format!(
                "input.raw.label_bytes is {other}; it can be 0, 1, 2 or 4"
            )));
        }
    };
    let (shape, planes) = match (layout, shape) {
        (RawLayout::Hwc, shape) => (shape.to_vec(), 0),
        (RawLayout::Chw, [channels, height, width]) => (vec![*height, *width, *channels], *channels),
        (RawLayout::Chw, shape) => {
            let text = format!("input.raw.layout is chw, which takes a shape of 3 dimensions, not {shape:?}");
            return Err(DataError::Input(text));
        }
    };
    Ok((
        BinaryCodec { element, values, planes, label },
        RecordSchema { shape, target, targets: usize::from(label_bytes > 0) },
    ))
}

/// Records of a file of `size` bytes.
///
/// # Errors
/// The file ends within its header or within a record.
pub(crate) fn records(
    file: impl std::fmt::Display,
    size: u64,
    header_bytes: u64,
    codec: &BinaryCodec,
) -> Result<u64, DataError> {
    let record_bytes = codec.record_bytes() as u64;
    let Some(data) = size.checked_sub(header_bytes) else {
        let message = format!("the file ends within its header of {header_bytes} bytes");
        return Err(DataError::format(file, Place::Byte(size), message));
    };
    if data % record_bytes != 0 {
        let message = format!(
            "the file is truncated, or the job's shape is not its shape: {data} bytes are {} records of \
             {record_bytes} bytes and {} bytes more",
            data / record_bytes,
            data % record_bytes
        );
        return Err(DataError::format(file, Place::Byte(size - data % record_bytes), message));
    }
    Ok(data / record_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cifar_is_described_by_its_job() {
        let (codec, schema) = codec(1, RawDtype::U8, &[3, 32, 32], RawLayout::Chw).unwrap();
        assert_eq!(codec.record_bytes(), 3_073);
        assert_eq!(schema, RecordSchema { shape: vec![32, 32, 3], target: TargetKind::Class, targets: 1 });
        assert_eq!(records("x", 30_730_000, 0, &codec).unwrap(), 10_000);
        assert_eq!(records("x", 0, 0, &codec).unwrap(), 0);
    }

    #[test]
    fn geometry_that_can_not_be_is_refused() {
        let bad = |label, shape: &[usize], layout| {
            codec(label, RawDtype::F32, shape, layout).unwrap_err().to_string()
        };
        assert!(bad(3, &[2], RawLayout::Hwc).contains("0, 1, 2 or 4"));
        assert!(bad(0, &[2, 0], RawLayout::Hwc).contains("no values"));
        assert!(bad(0, &[], RawLayout::Hwc).contains("no values"));
        assert!(bad(0, &[usize::MAX, 2], RawLayout::Hwc).contains("more than"));
        assert!(bad(0, &[2, 2], RawLayout::Chw).contains("3 dimensions"));
        let (codec, _) = codec(0, RawDtype::F32, &[2], RawLayout::Hwc).unwrap();
        let error = records("f", 21, 4, &codec).unwrap_err().to_string();
        assert!(
            error.starts_with("f: byte 20: the file is truncated") && error.contains("2 records"),
            "{error}"
        );
        assert!(
            records("f", 3, 4, &codec)
                .unwrap_err()
                .to_string()
                .contains("byte 3: the file ends within its header")
        );
    }
}
