//! A value as somebody typed it, and where.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A value of a job file, before anybody asked what it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number with a fraction or an exponent.
    Float(f64),
    /// Text in quotes; sizes and durations are text with a unit.
    Text(String),
    /// `[a, b, ...]`.
    List(Vec<Value>),
    /// `{ key = value, ... }` or a `[table]`.
    Table(BTreeMap<String, Value>),
}

impl Value {
    /// What kind of value it is, in the words of an error message.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Bool(_) => "a boolean",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Text(_) => "text",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// The value of `-D key=text`: read as TOML would read it, and as plain text where TOML would not.
    pub fn from_argument(text: &str) -> Value {
        let document = format!("v = {text}");
        match toml::from_str::<BTreeMap<String, Value>>(&document) {
            Ok(mut table) if table.len() == 1 => {
                table.remove("v").unwrap_or_else(|| Value::Text(text.into()))
            }
            _ => Value::Text(text.into()),
        }
    }
}

impl fmt::Display for Value {
    /// Writes the value as TOML.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Bool(v) => write!(f, "{v}"),
            Value::Int(v) => write!(f, "{v}"),
            Value::Float(v) => write!(f, "{v:?}"),
            Value::Text(v) => write!(f, "{}", toml::Value::String(v.clone())),
            Value::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str("]")
            }
            Value::Table(entries) => {
                f.write_str("{ ")?;
                for (i, (key, item)) in entries.iter().enumerate() {
                    write!(f, "{}{key} = {item}", if i > 0 { ", " } else { "" })?;
                }
                f.write_str(" }")
            }
        }
    }
}

/// Where a value was written: what an error message points at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// Nobody wrote it: the built-in default.
    Default,
    /// A job file, with the line counted from 1.
    File {
        /// The file as the user named it.
        path: String,
        /// Line, from 1.
        line: usize,
    },
    /// `-D key=value` on the command line.
    Define,
    /// A flag of its own, such as `--queue`.
    Flag(String),
    /// Written by a program that built the job with the library.
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{path}:{line}"),
            Origin::Define => f.write_str("-D"),
            Origin::Flag(name) => f.write_str(name),
            Origin::Code => f.write_str("code"),
        }
    }
}

/// A value with the place it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Setting {
    /// The value.
    pub value: Value,
    /// Who wrote it.
    pub origin: Origin,
}
