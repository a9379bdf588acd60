//! Logs of containers: of running ones from their NodeManagers, of finished applications from the files that
//! log aggregation leaves in the file system.
//!
//! [`running`] asks NodeManagers. [`layout`] says where aggregated files are, [`aggregated`] reads them on top
//! of [`tfile`]; bytes come from a function that the caller gives, so nothing here knows HDFS. Refused: the
//! `IFile` format (its index is a serialised Java object), codecs other than `none` and `gz`, log servers.

pub mod aggregated;
pub mod layout;
pub mod running;
pub mod tfile;

use std::io;
use thiserror::Error;

/// An aggregated log file that cannot be read.
#[derive(Debug, Error)]
pub enum LogError {
    /// Not a TFile at all.
    #[error(
        "not a TFile, the default format of aggregated logs ({0}); files of the IFile format are read by the \
         history server or `yarn logs`"
    )]
    NotTFile(String),
    /// Compressed with something else than `none` or `gz`.
    #[error("compressed with {0:?}; only \"none\" and \"gz\" can be read here, `yarn logs` may know it")]
    Codec(String),
    /// Broken: truncated, overwritten, or written by something unknown.
    #[error("the log file is corrupt: {0}")]
    Corrupt(String),
    /// The source of bytes failed.
    #[error("cannot read the log file: {0}")]
    Read(#[source] io::Error),
    /// Whoever takes the logs failed.
    #[error("cannot write the log: {0}")]
    Write(#[source] io::Error),
}
