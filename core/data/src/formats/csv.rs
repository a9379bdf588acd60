//! Lines of text: one record a line, fields as RFC 4180 except that a field can not hold a line break, so that
//! any part of a file can be read without the part before it. Lines end in `\n` or `\r\n`; blank lines are no
//! records. Refused: numbers that are not finite, records with more or fewer fields than the first.

use super::{BadRecord, RECORD_VALUES_LIMIT, RecordSchema, TargetKind};
use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use ringspin_job::nearest;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Longest line: a field whose quote is never closed must not make us read a whole disk.
pub(crate) const LINE_BYTES_LIMIT: usize = 64 << 20;
/// Most columns.
const COLUMNS_LIMIT: usize = 1 << 20;

/// Columns of a text record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CsvCodec {
    /// Field separator.
    pub delimiter: u8,
    /// Fields of every record.
    pub columns: usize,
    /// Names, where the first line has them.
    pub names: Vec<String>,
    /// Columns of the targets; none: records have no target.
    pub(crate) labels: Vec<usize>,
    /// Columns of the inputs, in order.
    features: Vec<usize>,
    /// Whether the target is a class.
    classes: bool,
}

/// What a job says of its text files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CsvSettings<'a> {
    pub(crate) header: bool,
    pub(crate) delimiter: u8,
    pub(crate) label: &'a [String],
    pub(crate) features: &'a [String],
    pub(crate) shape: &'a [usize],
    pub(crate) classes: bool,
}

impl CsvCodec {
    /// Finds the columns, given the first line that is not blank: names when the job says so.
    pub(crate) fn new(
        settings: CsvSettings,
        first_line: &[u8],
    ) -> Result<(CsvCodec, RecordSchema), BadRecord> {
        let mut scratch = Scratch::default();
        let fields = scratch.fields(first_line, settings.delimiter, COLUMNS_LIMIT)?;
        let columns = fields.len();
        let names: Vec<String> = match settings.header {
            true => fields.map(|field| String::from_utf8_lossy(field).trim().to_string()).collect(),
            false => Vec::new(),
        };
        let mut labels = Vec::new();
        for label in settings.label {
            labels.push(find(label, "input.csv.label", &names, columns)?);
        }
        let mut features = Vec::new();
        for feature in settings.features {
            features.push(find(feature, "input.csv.features", &names, columns)?);
        }
        if settings.features.is_empty() {
            features = (0..columns).filter(|column| !labels.contains(column)).collect();
        }
        if let Some(both) = labels.iter().position(|label| features.contains(label)) {
            return Err(BadRecord::new(format!("column {} is both label and feature", settings.label[both])));
        }
        let shape = if settings.shape.is_empty() { vec![features.len()] } else { settings.shape.to_vec() };
        let values = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        if features.is_empty() || values != Some(features.len()) || features.len() > RECORD_VALUES_LIMIT {
            return Err(BadRecord::new(format!(
                "{} feature columns do not make records of shape {shape:?}",
                features.len()
            )));
        }
        let target = match (labels.is_empty(), settings.classes) {
            (true, _) => TargetKind::None,
            (false, true) => TargetKind::Class,
            (false, false) => TargetKind::Value,
        };
        let targets = labels.len();
        let codec = CsvCodec {
            delimiter: settings.delimiter,
            columns,
            names,
            labels,
            features,
            classes: settings.classes,
        };
        Ok((codec, RecordSchema { shape, target, targets }))
    }

    /// Number and name of a column.
    pub(crate) fn column(&self, number: usize) -> (usize, Option<String>) {
        (number, self.names.get(number).cloned())
    }

    /// Splits a line and writes its inputs to `out`.
    pub(super) fn decode(
        &self,
        line: &[u8],
        scratch: &mut Scratch,
        out: &mut [f32],
    ) -> Result<(), BadRecord> {
        let found = scratch.fields(line, self.delimiter, self.columns)?.len();
        if found != self.columns {
            return Err(BadRecord::new(format!("{found} columns; the first line has {}", self.columns)));
        }
        for (value, column) in out.iter_mut().zip(&self.features) {
            *value = self.number(*column, scratch)? as f32;
            if !value.is_finite() {
                let message = format!("{} is too large for a 32-bit float", Quoted(scratch.field(*column)));
                return Err(BadRecord { column: Some(self.column(*column)), message });
            }
        }
        Ok(())
    }

    /// Target `number` of the line that was decoded last.
    pub(super) fn target(&self, number: usize, scratch: &Scratch) -> Result<f64, BadRecord> {
        self.number(self.labels[number], scratch)
    }

    fn number(&self, column: usize, scratch: &Scratch) -> Result<f64, BadRecord> {
        let field = scratch.field(column);
        let text = std::str::from_utf8(field).map(str::trim);
        match text.ok().and_then(|text| text.parse::<f64>().ok()).filter(|number| number.is_finite()) {
            Some(number) => Ok(number),
            None => Err(BadRecord {
                column: Some(self.column(column)),
                message: match text {
                    Ok("") => "the field is empty; expected a number".into(),
                    _ => format!("{} is not a number", Quoted(field)),
                },
            }),
        }
    }
}

/// A column by name or index.
fn find(wanted: &str, key: &str, names: &[String], columns: usize) -> Result<usize, BadRecord> {
    if let Some(at) = names.iter().position(|name| name == wanted) {
        return Ok(at);
    }
    match wanted.parse::<usize>() {
        Ok(index) if index < columns => Ok(index),
        Ok(index) => {
            Err(BadRecord::new(format!("{key} is column {index}, but there are {columns}, counted from 0")))
        }
        Err(_) if names.is_empty() => Err(BadRecord::new(format!(
            "{key} is \"{wanted}\", but the columns have no names; give an index, or set input.csv.header"
        ))),
        Err(_) => {
            let hint = match nearest(wanted, names.iter().map(String::as_str)) {
                Some(name) => format!("; did you mean \"{name}\"?"),
                None => format!("; there are {}", Quoted(names.join(", ").as_bytes())),
            };
            Err(BadRecord::new(format!("no column is named \"{wanted}\" ({key}){hint}")))
        }
    }
}

/// A field in a message: in quotes, cut when long.
struct Quoted<'a>(&'a [u8]);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_BYTES: usize = 60;
        let text = String::from_utf8_lossy(&self.0[..self.0.len().min(SHOWN_BYTES)]);
        write!(f, "\"{}{}\"", text.escape_debug(), if self.0.len() > SHOWN_BYTES { "…" } else { "" })
    }
}

/// Memory for splitting lines, used again for every line.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    reader: Option<(u8, Reader)>,
    text: Vec<u8>,
    ends: Vec<usize>,
    count: usize,
}

impl Scratch {
    /// Splits a line (without its end) into fields; at most one more than `limit` is counted.
    fn fields(&mut self, line: &[u8], delimiter: u8, limit: usize) -> Result<Fields<'_>, BadRecord> {
        if line.len() > LINE_BYTES_LIMIT {
            return Err(BadRecord::new(format!("the line is longer than {LINE_BYTES_LIMIT} bytes")));
        }
        if self.reader.as_ref().is_none_or(|(known, _)| *known != delimiter) {
            // A lone \r is data; the \r of \r\n is cut off by whoever finds the lines.
            let reader = ReaderBuilder::new().delimiter(delimiter).terminator(Terminator::Any(b'\n')).build();
            self.reader = Some((delimiter, reader));
        }
        if self.text.len() < line.len() + 1 {
            self.text.resize(line.len() + 1, 0);
        }
        let wanted = limit.saturating_add(1).min(line.len() + 2);
        if self.ends.len() < wanted {
            self.ends.resize(wanted, 0);
        }
        let Some((_, reader)) = &mut self.reader else {
            return Err(BadRecord::new("no reader"));
        };
        reader.reset();
        let (result, _, written, ends) = reader.read_record(line, &mut self.text, &mut self.ends);
        if result != ReadRecordResult::InputEmpty {
            return Err(BadRecord::new(format!("more than {limit} columns")));
        }
        let (result, _, _, last) =
            reader.read_record(b"\n", &mut self.text[written..], &mut self.ends[ends..]);
        self.count = ends + last;
        match result {
            ReadRecordResult::Record => Ok(Fields { scratch: self, at: 0 }),
            ReadRecordResult::OutputEndsFull => Err(BadRecord::new(format!("more than {limit} columns"))),
            _ => Err(BadRecord::new(
                "a quoted field does not end in this line; fields can not hold line breaks",
            )),
        }
    }

    fn field(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.text[start..self.ends[number]]
    }
}

/// The fields of the line split last.
struct Fields<'a> {
    scratch: &'a Scratch,
    at: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let scratch = self.scratch;
        self.at += 1;
        (self.at <= scratch.count).then(|| scratch.field(self.at - 1))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.scratch.count - self.at.min(self.scratch.count);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// Whether a line (without `\n`) is no record.
pub(crate) fn is_blank(line: &[u8]) -> bool {
    matches!(line, [] | [b'\r'])
}

/// Start of every record in whole lines of text, with the number of its line, from 0.
pub(super) fn line_starts(text: &[u8]) -> Vec<(u32, u32)> {
    let mut starts = Vec::new();
    let (mut start, mut line) = (0, 0);
    for end in memchr::memchr_iter(b'\n', text).chain([text.len()]) {
        if !is_blank(&text[start..end]) {
            starts.push((start as u32, line));
        }
        (start, line) = (end + 1, line + 1);
        if start >= text.len() {
            break;
        }
    }
    starts
}

/// The line that starts at `start`, without its end.
pub(super) fn line_at(text: &[u8], start: usize) -> &[u8] {
    let rest = &text[start.min(text.len())..];
    let line = &rest[..memchr::memchr(b'\n', rest).unwrap_or(rest.len())];
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings<'a>(label: &'a [String], features: &'a [String]) -> CsvSettings<'a> {
        CsvSettings { header: true, delimiter: b',', label, features, shape: &[], classes: true }
    }

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn iris() -> CsvCodec {
        CsvCodec::new(settings(&columns(&["kind"]), &[]), b"a,\"b, really\",kind,c").unwrap().0
    }

    fn decode(line: &str) -> Result<(Vec<f32>, f64), BadRecord> {
        let (mut out, mut scratch) = (vec![0.0; 3], Scratch::default());
        iris().decode(line.as_bytes(), &mut scratch, &mut out)?;
        Ok((out, iris().target(0, &scratch)?))
    }

    #[test]
    fn columns_go_by_name_or_index() {
        let (kind, features) = (columns(&["kind"]), columns(&["c", "0"]));
        let (codec, schema) = CsvCodec::new(settings(&kind, &features), b"\xEF\xBB\xBFa,b,kind,c").unwrap();
        assert_eq!((codec.names[0].as_str(), codec.labels, codec.features), ("a", vec![2], vec![3, 0]));
        assert_eq!(schema, RecordSchema { shape: vec![2], target: TargetKind::Class, targets: 1 });
        assert_eq!(iris().names[1], "b, really");
        let first = columns(&["0"]);
        let no_header = CsvSettings { header: false, shape: &[1, 2, 1], ..settings(&first, &[]) };
        let (codec, schema) = CsvCodec::new(no_header, b"5,1.0,2.0").unwrap();
        assert_eq!((codec.names.len(), schema.shape), (0, vec![1, 2, 1]));
    }

    #[test]
    fn records_have_as_many_targets_as_there_are_columns_for() {
        let labels = columns(&["u", "0"]);
        let (codec, schema) = CsvCodec::new(settings(&labels, &[]), b"t,x,u,y").unwrap();
        assert_eq!(schema, RecordSchema { shape: vec![2], target: TargetKind::Class, targets: 2 });
        let (mut out, mut scratch) = ([0.0; 2], Scratch::default());
        codec.decode(b"3,1,4,2", &mut scratch, &mut out).unwrap();
        assert_eq!(out, [1.0, 2.0]);
        assert_eq!((codec.target(0, &scratch), codec.target(1, &scratch)), (Ok(4.0), Ok(3.0)));
        let (_, schema) = CsvCodec::new(settings(&[], &[]), b"t,x,u,y").unwrap();
        assert_eq!((schema.target, schema.targets, schema.shape), (TargetKind::None, 0, vec![4]));
    }

    #[test]
    fn columns_that_are_not_there_are_refused() {
        let bad = |settings: CsvSettings| CsvCodec::new(settings, b"a,b,kind").unwrap_err().message;
        let [kind, kinds, seventh] = ["kind", "kinds", "7"].map(|name| columns(&[name]));
        assert!(bad(settings(&kinds, &[])).contains("did you mean \"kind\"?"));
        assert!(bad(settings(&seventh, &[])).contains("column 7, but there are 3"));
        assert!(bad(CsvSettings { header: false, ..settings(&kind, &[]) }).contains("no names"));
        assert!(bad(settings(&kind, &["2".into()])).contains("column kind is both label and feature"));
        assert!(bad(CsvSettings { shape: &[3], ..settings(&kind, &[]) }).contains("2 feature columns"));
    }

    #[test]
    fn fields_follow_rfc_4180_within_a_line() {
        assert_eq!(decode("1,\"2\",3, 4.5 ").unwrap(), (vec![1.0, 2.0, 4.5], 3.0));
        assert_eq!(decode("-1e3,+.5,0,1").unwrap(), (vec![-1000.0, 0.5, 1.0], 0.0));
        assert_eq!(decode("1,2,3,4").unwrap(), decode("\"1\",\"2\",\"3\",\"4\"").unwrap());
    }

    #[test]
    fn bad_lines_name_the_column() {
        for (line, column, part) in [
            ("1,x,3,4", Some((1, Some("b, really".into()))), "\"x\" is not a number"),
            ("1,,3,4", Some((1, Some("b, really".into()))), "the field is empty"),
            ("1,2,3,nan", Some((3, Some("c".into()))), "\"nan\" is not a number"),
            ("1,2,3,1e39", Some((3, Some("c".into()))), "too large"),
            ("1,2,three,4", Some((2, Some("kind".into()))), "\"three\""),
            ("1,2,3", None, "3 columns; the first line has 4"),
            ("1,2,3,4,5", None, "columns"),
            ("1,2,3,4,5,6,7,8", None, "columns"),
            ("1,\"2,3,4", None, "does not end in this line"),
        ] {
            let bad = decode(line).unwrap_err();
            assert_eq!(bad.column, column, "{line}");
            assert!(bad.message.contains(part), "{line}: {}", bad.message);
        }
    }

    #[test]
    fn lines_are_found_with_every_kind_of_end() {
        let text = b"a\r\n\n\r\nbb\nc";
        assert_eq!(line_starts(text), [(0, 0), (6, 3), (9, 4)]);
        assert_eq!(line_at(text, 0), b"a");
        assert_eq!(line_at(text, 9), b"c");
        assert_eq!(line_starts(b"a\n"), [(0, 0)]);
        assert!(line_starts(b"").is_empty() && line_starts(b"\n\n").is_empty());
    }

    #[test]
    fn any_bytes_are_an_error_at_most() {
        let mut state = 1u32;
        for _ in 0..20_000 {
            let mut line = Vec::new();
            for _ in 0..state % 24 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                line.push(b"0123456789,,,\"\"\r.e-x \xff\x00"[(state >> 16) as usize % 23]);
            }
            state = state.wrapping_add(1);
            let _ = iris().decode(&line, &mut Scratch::default(), &mut [0.0; 3]);
        }
    }
}
