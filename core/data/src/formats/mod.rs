//! What the bytes of a file mean: header and geometry, and from one record's bytes to floats and a target.
//!
//! Formats here know bytes, not files: reading belongs to `storage`, finding records to `index`. Two codecs
//! cover all formats: binary records of one length ([`idx`], [`raw`]) and lines of text ([`csv`]). Inputs leave
//! as `f32`, channels last.

mod binary;
pub(crate) mod csv;
mod element;
pub(crate) mod gzip;
pub(crate) mod idx;
mod normalise;
pub(crate) mod raw;

pub use binary::{BinaryCodec, LabelPlace};
pub use csv::CsvCodec;
pub use element::Element;
pub use normalise::Normalisation;

use crate::error::{DataError, Place};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Values of one record at most: 1 GiB of floats. A header that announces more is a lie or a mistake.
pub(crate) const RECORD_VALUES_LIMIT: usize = 1 << 28;

/// What targets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TargetKind {
    /// Records have none.
    None,
    /// Index of a class, from 0.
    Class,
    /// A number.
    Value,
    /// The record itself, as numbers.
    Record,
}

/// What a record becomes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSchema {
    /// Shape of the inputs, channels last; a flat vector has one dimension.
    pub shape: Vec<usize>,
    /// What the targets are.
    pub target: TargetKind,
    /// Targets of a record; 0 where there are none.
    pub targets: usize,
}

impl RecordSchema {
    /// Floats of one record.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Size of the last dimension: what mean and standard deviation are given for.
    pub fn channels(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }
}

/// How bytes become records; small, travels with the index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Codec {
    /// Records of one length.
    Binary(BinaryCodec),
    /// One record a line.
    Csv(CsvCodec),
}

/// Targets of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Records have none.
    None,
    /// Classes of each record, one record after the other.
    Classes(Vec<u32>),
    /// Values of each record, one record after the other.
    Values(Vec<f32>),
}

impl Targets {
    /// No targets yet, of the kind a schema has.
    pub fn new(kind: TargetKind) -> Targets {
        match kind {
            TargetKind::None => Targets::None,
            TargetKind::Class => Targets::Classes(Vec::new()),
            TargetKind::Value | TargetKind::Record => Targets::Values(Vec::new()),
        }
    }

    /// Number of targets.
    pub fn len(&self) -> usize {
        match self {
            Targets::None => 0,
            Targets::Classes(classes) => classes.len(),
            Targets::Values(values) => values.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all and keeps the memory.
    pub fn clear(&mut self) {
        match self {
            Targets::None => {}
            Targets::Classes(classes) => classes.clear(),
            Targets::Values(values) => values.clear(),
        }
    }
}

/// What is wrong with a record; who knows file and line makes a [`DataError`] of it.
#[derive(Debug, PartialEq)]
pub(crate) struct BadRecord {
    /// Column of a text record, with its name.
    pub(crate) column: Option<(usize, Option<String>)>,
    pub(crate) message: String,
}

impl BadRecord {
    fn new(message: impl Into<String>) -> Self {
        BadRecord { column: None, message: message.into() }
    }
}

/// Bytes of consecutive records of one file, ready for decoding any of them.
#[derive(Debug)]
pub(crate) struct RecordBytes {
    /// The records.
    bytes: Bytes,
    /// Labels that lie in a file of their own.
    labels: Bytes,
    /// Start of each line of text, and its line number from the first; empty for binary records.
    lines: Vec<(u32, u32)>,
}

impl RecordBytes {
    /// Memory it takes.
    pub(crate) fn memory(&self) -> u64 {
        (self.bytes.len() + self.labels.len() + self.lines.len() * size_of::<(u32, u32)>()) as u64
    }

    /// Place of a record relative to the first: byte offset and, in text, line.
    pub(crate) fn place(&self, codec: &Codec, record: u32) -> (u64, u64) {
        match codec {
            Codec::Binary(codec) => (u64::from(record) * codec.record_bytes() as u64, 0),
            Codec::Csv(_) => {
                let (offset, line) = self.lines.get(record as usize).copied().unwrap_or_default();
                (u64::from(offset), u64::from(line))
            }
        }
    }
}

/// Makes floats and targets of bytes: a codec with everything a job adds to it.
#[derive(Debug)]
pub(crate) struct Decoder {
    pub(crate) codec: Codec,
    pub(crate) schema: RecordSchema,
    normalise: normalise::Normaliser,
    labels: LabelRule,
}

/// Which labels are classes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct LabelRule {
    /// Classes the model knows; a label beyond them is an error. None: not checked.
    pub(crate) classes: Option<u32>,
    /// A label that is let through although it is none, as its two's complement where it is negative.
    pub(crate) ignored: Option<i64>,
}

impl Decoder {
    /// # Errors
    /// Mean or standard deviation do not fit the channels.
    pub(crate) fn new(
        codec: Codec,
        schema: RecordSchema,
        normalisation: &Normalisation,
        labels: LabelRule,
    ) -> Result<Decoder, DataError> {
        let normalise =
            normalise::Normaliser::new(normalisation, schema.channels()).map_err(DataError::Input)?;
        Ok(Decoder { codec, schema, normalise, labels })
    }

    /// Takes the bytes of `records` records, and of their labels, and finds the lines in text.
    pub(crate) fn prepare(
        &self,
        bytes: Bytes,
        labels: Bytes,
        records: u32,
    ) -> Result<RecordBytes, BadRecord> {
        let lines = match &self.codec {
            Codec::Binary(codec) => {
                codec.check(&bytes, &labels, records)?;
                Vec::new()
            }
            Codec::Csv(_) => {
                let lines = csv::line_starts(&bytes);
                if lines.len() != records as usize {
                    return Err(BadRecord::new(format!(
                        "{} records where the index counted {records}: the file changed",
                        lines.len()
                    )));
                }
                lines
            }
        };
        Ok(RecordBytes { bytes, labels, lines })
    }

    /// Decodes one record into `out` (as long as the schema says) and adds its targets to `targets`.
    pub(crate) fn decode(
        &self,
        data: &RecordBytes,
        record: u32,
        out: &mut [f32],
        targets: &mut Targets,
        scratch: &mut csv::Scratch,
    ) -> Result<(), BadRecord> {
        // Labels, where there are some, are then not looked at.
        let itself = self.schema.target == TargetKind::Record;
        let mut add = |number: usize, target: f64| {
            match targets {
                Targets::None => {}
                Targets::Classes(classes) => classes.push(self.class(number, target)?),
                Targets::Values(values) => values.push(target as f32),
            }
            Ok(())
        };
        match &self.codec {
            Codec::Binary(codec) => {
                let label = codec.decode(&data.bytes, &data.labels, record as usize, &self.normalise, out)?;
                if !itself {
                    add(0, label)?;
                }
            }
            Codec::Csv(codec) => {
                let start = data.lines.get(record as usize).map_or(0, |(start, _)| *start as usize);
                let line = csv::line_at(&data.bytes, start);
                codec.decode(line, scratch, out)?;
                self.normalise.values(out);
                if !itself {
                    (0..codec.labels.len())
                        .try_for_each(|number| add(number, codec.target(number, scratch)?))?;
                }
            }
        }
        if let (true, Targets::Values(values)) = (itself, targets) {
            values.extend_from_slice(out);
        }
        Ok(())
    }

    /// The class that target `number` of a record says.
    fn class(&self, number: usize, label: f64) -> Result<u32, BadRecord> {
        let bad = |message: String| BadRecord { column: self.label_column(number), message };
        if let Some(ignored) = self.labels.ignored
            && label == ignored as f64
        {
            return Ok(ignored as u32);
        }
        if label < 0.0 || label > f64::from(u32::MAX) || label.fract() != 0.0 {
            return Err(bad(format!("the label {label} is not a class; classes count from 0")));
        }
        match self.labels.classes {
            Some(classes) if label >= f64::from(classes) => Err(bad(format!(
                "the label {label} is out of range: the model has {classes} classes, 0 to {}",
                classes.saturating_sub(1)
            ))),
            _ => Ok(label as u32),
        }
    }

    fn label_column(&self, number: usize) -> Option<(usize, Option<String>)> {
        match &self.codec {
            Codec::Binary(_) => None,
            Codec::Csv(codec) => codec.labels.get(number).map(|label| codec.column(*label)),
        }
    }
}

/// A bad record at its place in the file.
pub(crate) fn at_record(
    bad: BadRecord,
    file: impl std::fmt::Display,
    codec: &Codec,
    (record, offset, line): (u64, u64, u64),
) -> DataError {
    let place = match codec {
        Codec::Binary(_) => Place::Record { record, offset },
        Codec::Csv(_) => Place::Line { line, record, offset, column: bad.column },
    };
    DataError::format(file, place, bad.message)
}
