//! Results on stdout, in the format that was asked for: names and values, once a command.

use crate::args::Format;
use crate::exit::CommandError;
use ringspin_control::status::Measurement;
use serde_json::{Map, Value};
use std::io::Write;

/// Names and values in order.
#[derive(Clone, Debug, Default)]
pub struct Results(Vec<(String, Value)>);

impl Results {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.push((name.into(), value.into()));
        self
    }

    /// Adds a value if there is one.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds metrics by their names; nothing where one has no value.
    #[must_use]
    pub fn with_metrics(self, metrics: &[Measurement]) -> Self {
        metrics.iter().fold(self, |results, metric| results.with(&metric.name, metric.value))
    }

    /// Writes them to stdout; `text` is what people get.
    ///
    /// # Errors
    /// stdout can not be written.
    pub fn print(&self, format: Format, text: &str) -> Result<(), CommandError> {
        let written = match format {
            Format::Text => text.trim_end().to_string(),
            Format::Json => Value::Object(self.0.iter().cloned().collect::<Map<_, _>>()).to_string(),
            Format::Properties => self.properties(),
        };
        print_line(&written)
    }

    fn properties(&self) -> String {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|(name, value)| {
                let text = match value {
                    Value::String(text) => text.clone(),
                    value => value.to_string(),
                };
                format!("{name}={}", escape(&text))
            })
            .collect();
        lines.join("\n")
    }
}

/// Writes a line to stdout.
///
/// # Errors
/// stdout can not be written.
pub fn print_line(text: &str) -> Result<(), CommandError> {
    let mut stdout = std::io::stdout().lock();
    let written = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    match written {
        // Whoever read us has seen enough, as in `ringspin list | head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| CommandError::internal(format!("stdout: {error}"))),
    }
}

/// A value in a Java properties file, on one line.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (i, c) in text.chars().enumerate() {
        match c {
            '\\' => escaped.push_str("\\\\"),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // Blanks in front of a value belong to the separator.
            ' ' if i == 0 => escaped.push_str("\\ "),
            // `Properties.load` reads bytes as Latin-1.
            c if !c.is_ascii() => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units)
                    .iter()
                    .for_each(|unit| escaped.push_str(&format!("\\u{unit:04X}")));
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_read_back_by_java() {
        let results =
            Results::new().with("path", "C:\\x").with("why", "a\nb = c").with("n", 7).with("s", " x");
        let foreign = Results::new().with("name", "n\u{e4}me \u{1f600}");
        assert_eq!(foreign.properties(), "name=n\\u00E4me \\uD83D\\uDE00");
        assert_eq!(results.properties(), "path=C:\\\\x\nwhy=a\\nb = c\nn=7\ns=\\ x");
    }
}
