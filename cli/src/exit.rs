//! How a command ended, as its exit status: what schedulers see.

use std::fmt;

/// Exit statuses, each with one meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything went well; a job ended as SUCCEEDED.
    Success = 0,
    /// Something unexpected: a bug, or this machine's fault.
    Internal = 1,
    /// The command line or the job file is wrong.
    Usage = 2,
    /// The job can not be started as it is: input, output, queue, permission, resources, unreachable cluster.
    Refused = 3,
    /// The job has failed.
    Failed = 4,
    /// The job was killed.
    Killed = 5,
    /// The job may still run, but nobody answers about it.
    LostContact = 6,
}

/// For `--help`.
pub const EXIT_STATUS_HELP: &str = "Exit status:
  0  success; for a job: its final status is SUCCEEDED
  1  something unexpected went wrong on this machine
  2  bad usage: command line or job file
  3  refused: the job can not be started as it is (input, output, queue, permission, cluster not reachable)
  4  the job failed
  5  the job was killed
  6  lost contact: the job may still run, but nobody answers about it";

/// An error with the exit status it leads to.
#[derive(Debug)]
pub struct CommandError {
    /// Exit status.
    pub exit: Exit,
    /// For people; one or more lines.
    pub message: String,
}

impl CommandError {
    /// An error with its exit status.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        CommandError { exit, message: message.into() }
    }

    /// Wrong command line or job file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The job can not be started as it is.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// A bug, or this machine's fault.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CommandError {}
