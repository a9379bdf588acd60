//! The parts of a job that say what data it reads and what it measures on it.

use super::reader::Reader;
use crate::Component;
use crate::spec::*;

pub(super) fn read_input(reader: &mut Reader<'_>) -> InputSpec {
    let path = reader.required_text("input.path", "the folder or file with the training data (--input)");
    InputSpec {
        path,
        format: read_format(reader),
        mean: reader.numbers("input.mean"),
        std: reader.numbers("input.std"),
        prefetch: reader.count("input.prefetch") as usize,
        cache_bytes: reader.bytes("input.cache"),
        shuffle_bytes: reader.bytes("input.shuffle_window"),
        reconstruct: reader.flag("input.reconstruct"),
    }
}

pub(super) fn read_format(reader: &mut Reader<'_>) -> InputFormat {
    let format = reader.text("input.format");
    let mut foreign = vec![];
    for (prefix, owner) in
        [("input.csv.", "csv"), ("input.raw.", "raw"), ("input.images", "idx"), ("input.labels", "idx")]
    {
        if owner != format {
            foreign.extend(
                crate::keys::KEYS.iter().filter(|key| key.name.starts_with(prefix)).map(|key| key.name),
            );
        }
    }
    if format == "idx" {
        foreign.push("input.files");
    }
    for key in foreign.into_iter().filter(|key| reader.settings.differs(key)) {
        let origin = reader.origin(key);
        reader.problems.add(&origin, key, format!("does not apply to input.format = \"{format}\""));
    }
    match format.as_str() {
        "csv" => {
            let delimiter = reader.text("input.csv.delimiter");
            if delimiter.len() != 1 || "\"\r\n".contains(&delimiter) {
                let origin = reader.origin("input.csv.delimiter");
                let message =
                    format!("expected one ASCII character, not a quote or line break, found \"{delimiter}\"");
                reader.problems.add(&origin, "input.csv.delimiter", message);
            }
            InputFormat::Csv {
                files: reader.text("input.files"),
                header: reader.flag("input.csv.header"),
                delimiter: delimiter.bytes().next().unwrap_or(b','),
                label: reader
                    .texts("input.csv.label")
                    .into_iter()
                    .filter(|label| !label.is_empty())
                    .collect(),
                features: reader.texts("input.csv.features"),
                shape: reader.counts("input.csv.shape"),
                classes: reader.text("input.csv.target") == "class",
            }
        }
        "raw" => {
            let label_bytes = reader.count("input.raw.label_bytes") as usize;
            if ![0, 1, 2, 4].contains(&label_bytes) {
                let origin = reader.origin("input.raw.label_bytes");
                reader.problems.add(
                    &origin,
                    "input.raw.label_bytes",
                    format!("expected 0, 1, 2 or 4, found {label_bytes}"),
                );
            }
            let shape = reader.counts("input.raw.shape");
            if shape.is_empty() {
                let origin = reader.origin("input.raw.shape");
                reader.problems.add(
                    &origin,
                    "input.raw.shape",
                    "is required for raw input: the shape of a record",
                );
            }
            let layout = match reader.text("input.raw.layout").as_str() {
                "chw" => RawLayout::Chw,
                _ => RawLayout::Hwc,
            };
            if layout == RawLayout::Chw && shape.len() != 3 {
                let origin = reader.origin("input.raw.layout");
                reader.problems.add(
                    &origin,
                    "input.raw.layout",
                    "\"chw\" needs a shape of three: channels, height, width",
                );
            }
            InputFormat::Raw {
                files: reader.text("input.files"),
                header_bytes: reader.bytes("input.raw.header"),
                label_bytes,
                dtype: match reader.text("input.raw.dtype").as_str() {
                    "f32" => RawDtype::F32,
                    _ => RawDtype::U8,
                },
                shape,
                layout,
            }
        }
        _ => InputFormat::Idx { images: reader.text("input.images"), labels: reader.text("input.labels") },
    }
}

/// Validation data has the training data's format; only its place and file names differ.
pub(super) fn read_validation(reader: &mut Reader<'_>, input: &InputSpec) -> Option<ValidationSpec> {
    let places = ["validation.path", "validation.images", "validation.labels", "validation.files"];
    if !places.iter().any(|key| reader.settings.is_set(key)) {
        for (key, what) in
            [("validation.every_epochs", "how often to validate"), ("validation.metrics", "what to measure")]
        {
            if reader.settings.differs(key) {
                let message = format!(
                    "says {what}, but no validation data is given (validation.path, .images, .files)"
                );
                reader.problems.add(&reader.origin(key), key, message);
            }
        }
        return None;
    }
    let mut validation = input.clone();
    if let Some(path) = reader.optional_text("validation.path") {
        validation.path = path;
    }
    let replace = |reader: &mut Reader<'_>, key: &str, target: Option<&mut String>| {
        if let Some(text) = reader.optional_text(key) {
            match target {
                Some(target) => *target = text,
                None => {
                    let origin = reader.origin(key);
                    reader.problems.add(&origin, key, "does not apply to the input's format");
                }
            }
        }
    };
    match &mut validation.format {
        InputFormat::Idx { images, labels } => {
            replace(reader, "validation.images", Some(images));
            replace(reader, "validation.labels", Some(labels));
            replace(reader, "validation.files", None);
        }
        InputFormat::Csv { files, .. } | InputFormat::Raw { files, .. } => {
            replace(reader, "validation.files", Some(files));
            replace(reader, "validation.images", None);
            replace(reader, "validation.labels", None);
        }
    }
    let metrics = read_metrics(reader);
    Some(ValidationSpec { input: validation, every_epochs: reader.count("validation.every_epochs"), metrics })
}

pub(super) fn read_metrics(reader: &mut Reader<'_>) -> Vec<Component> {
    let (texts, origin) = (reader.texts("validation.metrics"), reader.origin("validation.metrics"));
    let mut metrics = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let path = format!("validation.metrics[{i}]");
        match Component::from_call(&path, text, &origin) {
            Ok(metric) => metrics.push(metric),
            Err(message) => reader.problems.add(&origin, path, message),
        }
    }
    metrics
}
