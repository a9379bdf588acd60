//! A value as somebody typed it, and where.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use toml::de::{DeTable, DeValue};

/// A value of a job file, before anybody asked what it should be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
        let parsed = DeTable::parse(&document).ok().filter(|table| table.get_ref().len() == 1);
        parsed
            .and_then(|table| Value::from_toml(table.get_ref().get("v")?.get_ref()).ok())
            .unwrap_or_else(|| Value::Text(text.into()))
    }

    /// A value of a parsed TOML document.
    ///
    /// # Errors
    /// Numbers that do not fit 64 bits, and dates, which no key accepts.
    pub fn from_toml(value: &DeValue<'_>) -> Result<Value, String> {
        Ok(match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(v) => Value::Bool(*v),
            DeValue::Integer(v) => Value::Int(
                i64::from_str_radix(v.as_str(), v.radix())
                    .map_err(|_| format!("{} does not fit 64 bits", v.as_str()))?,
            ),
            DeValue::Float(v) => {
                Value::Float(v.as_str().parse().map_err(|_| format!("{} is not a number", v.as_str()))?)
            }
            DeValue::Datetime(v) => return Err(format!("a date ({v}) is accepted nowhere in a job")),
            DeValue::Array(items) => Value::List(
                items.iter().map(|item| Value::from_toml(item.get_ref())).collect::<Result<_, _>>()?,
            ),
            DeValue::Table(table) => Value::Table(
                table
                    .iter()
                    .map(|(name, item)| Ok((name.get_ref().to_string(), Value::from_toml(item.get_ref())?)))
                    .collect::<Result<_, String>>()?,
            ),
        })
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        Value::Int(number.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Value::Float(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Value::Bool(flag)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
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
