//! An input spec written back as the keys that describe it: what a trained model knows of its data, to be overridden.

use crate::Value;
use crate::spec::*;

/// Keys and their values.
pub(crate) type Written = Vec<(&'static str, Value)>;

/// An input as somebody would have written it: its format, what belongs to the format, and the rest.
pub(crate) fn described(input: &InputSpec) -> (Value, Written, Written) {
    let text = |text: &str| Value::Text(text.into());
    let bytes = |bytes: u64| Value::Text(format!("{bytes} B"));
    let count = |count: usize| Value::Int(i64::try_from(count).unwrap_or(i64::MAX));
    let counts = |counts: &[usize]| Value::List(counts.iter().map(|n| count(*n)).collect());
    let numbers =
        |numbers: &[f32]| Value::List(numbers.iter().map(|n| Value::Float(f64::from(*n))).collect());
    let (format, of_format) = match &input.format {
        InputFormat::Idx { images, labels } => {
            ("idx", vec![("input.images", text(images)), ("input.labels", text(labels))])
        }
        InputFormat::Csv { files, header, delimiter, label, features, shape, classes } => {
            let texts = |texts: &[String]| Value::List(texts.iter().map(|column| text(column)).collect());
            let keys = vec![
                ("input.files", text(files)),
                ("input.csv.header", Value::Bool(*header)),
                ("input.csv.delimiter", text(&char::from(*delimiter).to_string())),
                ("input.csv.label", texts(label)),
                ("input.csv.features", texts(features)),
                ("input.csv.shape", counts(shape)),
                ("input.csv.target", text(if *classes { "class" } else { "number" })),
            ];
            ("csv", keys)
        }
        InputFormat::Raw { files, header_bytes, label_bytes, dtype, shape, layout } => {
            let keys = vec![
                ("input.files", text(files)),
                ("input.raw.header", bytes(*header_bytes)),
                ("input.raw.label_bytes", count(*label_bytes)),
                ("input.raw.dtype", text(if *dtype == RawDtype::F32 { "f32" } else { "u8" })),
                ("input.raw.shape", counts(shape)),
                ("input.raw.layout", text(if *layout == RawLayout::Chw { "chw" } else { "hwc" })),
            ];
            ("raw", keys)
        }
    };
    let rest = vec![
        ("input.mean", numbers(&input.mean)),
        ("input.std", numbers(&input.std)),
        ("input.prefetch", count(input.prefetch)),
        ("input.cache", bytes(input.cache_bytes)),
        ("input.shuffle_window", bytes(input.shuffle_bytes)),
        ("input.reconstruct", Value::Bool(input.reconstruct)),
    ];
    let format = text(format);
    let place = vec![("input.format", format.clone()), ("input.path", text(&input.path))];
    let of_format = [place, of_format].concat();
    (format, of_format, rest)
}
