//! What goes wrong between a file and a batch.

use crate::storage::StorageError;
use std::fmt;

/// The error of this crate. `Storage` may be worth another try (see its kind); the others fail the job, because
/// the input or the request is wrong.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be listed, read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The content of a file is not what the job says it is.
    #[error("{file}: {place}{message}")]
    Format {
        /// Full URI of the file.
        file: String,
        /// Where in the file.
        place: Place,
        /// What is wrong and what was expected.
        message: String,
    },
    /// What the job asks of the input can not be.
    #[error("{0}")]
    Input(String),
    /// A part of the reader ended without saying why.
    #[error("broken invariant in the data reader: {0}")]
    Broken(String),
}

/// A place within a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The file as a whole.
    File,
    /// A byte.
    Byte(u64),
    /// A record of a binary file.
    Record {
        /// Number of the record within the file, from 0.
        record: u64,
        /// Offset of its first byte.
        offset: u64,
    },
    /// A line of a text file.
    Line {
        /// Line, from 1, as an editor counts.
        line: u64,
        /// Number of the record within the file, from 0; header and blank lines do not count.
        record: u64,
        /// Offset of the line's first byte.
        offset: u64,
        /// Column: its number from 0, and its name where the file has names.
        column: Option<(usize, Option<String>)>,
    },
}

impl fmt::Display for Place {
    /// Ends with a colon and a blank where there is anything to say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File => Ok(()),
            Place::Byte(offset) => write!(f, "byte {offset}: "),
            Place::Record { record, offset } => write!(f, "record {record} (byte {offset}): "),
            Place::Line { line, record, offset, column } => {
                write!(f, "line {line} (record {record}, byte {offset})")?;
                match column {
                    Some((number, Some(name))) => write!(f, ", column {number} \"{name}\": "),
                    Some((number, None)) => write!(f, ", column {number}: "),
                    None => f.write_str(": "),
                }
            }
        }
    }
}

impl DataError {
    /// Content that is not as it should be.
    pub(crate) fn format(file: impl fmt::Display, place: Place, message: impl Into<String>) -> Self {
        DataError::Format { file: file.to_string(), place, message: message.into() }
    }
}
