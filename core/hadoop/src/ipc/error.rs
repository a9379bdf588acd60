//! What can go wrong with a call. The variant tells the reaction; [`super::RetryPolicy`] is the reaction.

use std::io;
use std::sync::Arc;
use std::time::Duration;

/// An exception that a Hadoop server answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteException {
    /// Java class, such as `org.apache.hadoop.yarn.exceptions.ApplicationNotFoundException`.
    pub class: String,
    /// Message without the stack trace.
    pub message: String,
    /// Java stack trace, for debugging; empty when the server sent none.
    pub stack: String,
}

impl RemoteException {
    /// The class without its package (`ApplicationNotFoundException`).
    pub fn short_class(&self) -> &str {
        self.class.rsplit(['.', '$']).next().unwrap_or(&self.class)
    }
}

impl std::fmt::Display for RemoteException {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.short_class(), self.message)
    }
}

/// Why a call failed. Cloned to every call that was waiting on the same connection.
#[derive(Clone, Debug, thiserror::Error)]
pub enum IpcError {
    /// No connection: refused, unreachable, unknown host, timed out. Nothing was sent; another address may do.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The connection broke while the call was waiting.
    #[error("connection to {address} was lost: {reason}{}", if *.sent { " (the request may have been processed)" } else { "" })]
    Closed {
        /// `host:port`.
        address: String,
        /// How it was lost.
        reason: String,
        /// Whether the server may have got the request: then only idempotent calls may be repeated.
        sent: bool,
    },
    /// No answer within the call's deadline; the server may have processed the request.
    #[error("{address} did not answer {method} within {:.1} s", .after.as_secs_f64())]
    Timeout {
        /// `host:port`.
        address: String,
        /// Method that was called.
        method: &'static str,
        /// The deadline.
        after: Duration,
    },
    /// The server is the standby of a pair; ask the other one.
    #[error("{address} is in standby: {exception}")]
    Standby {
        /// `host:port`.
        address: String,
        /// The exception.
        exception: RemoteException,
    },
    /// The server asks to try again later (safe mode, starting up, overloaded).
    #[error("{address} asks to retry: {exception}")]
    Retriable {
        /// `host:port`.
        address: String,
        /// The exception.
        exception: RemoteException,
    },
    /// The token is expired, cancelled or unknown to the server; get a newer one.
    #[error("{address} refuses the token: {exception}")]
    InvalidToken {
        /// `host:port`.
        address: String,
        /// The exception.
        exception: RemoteException,
    },
    /// The server refuses who we are or how we prove it; trying again does not help.
    #[error("{address} refuses access: {message}")]
    Unauthorized {
        /// `host:port`.
        address: String,
        /// What was refused and what the server would accept.
        message: String,
    },
    /// The server does not know the method or protocol: it is older, newer, or another service's port.
    #[error("{address} does not know {method}: {exception}")]
    NoSuchMethod {
        /// `host:port`.
        address: String,
        /// Method that was called.
        method: &'static str,
        /// The exception.
        exception: RemoteException,
    },
    /// The method itself failed with this exception.
    #[error("{method} failed at {address}: {exception}")]
    Remote {
        /// `host:port`.
        address: String,
        /// Method that was called.
        method: &'static str,
        /// The exception.
        exception: RemoteException,
    },
    /// What came back is not Hadoop IPC version 9, or breaks a limit.
    #[error("{address} does not speak Hadoop IPC as expected: {message}")]
    Protocol {
        /// `host:port`.
        address: String,
        /// What was wrong.
        message: String,
    },
    /// A [`super::FailoverClient`] gave up after trying its addresses again and again.
    #[error(
        "no answer from {} after {attempts} attempts in {:.1} s; the last one: {last}",
        .addresses.join(", "),
        .elapsed.as_secs_f64()
    )]
    Exhausted {
        /// All addresses.
        addresses: Vec<String>,
        /// Attempts made.
        attempts: u32,
        /// Time spent.
        elapsed: Duration,
        /// Error of the last attempt.
        #[source]
        last: Box<IpcError>,
    },
}

impl IpcError {
    /// The exception of the server, if one came back.
    pub fn exception(&self) -> Option<&RemoteException> {
        match self {
            IpcError::Standby { exception, .. }
            | IpcError::Retriable { exception, .. }
            | IpcError::InvalidToken { exception, .. }
            | IpcError::NoSuchMethod { exception, .. }
            | IpcError::Remote { exception, .. } => Some(exception),
            IpcError::Exhausted { last, .. } => last.exception(),
            _ => None,
        }
    }

    /// Whether the server answered with an exception of this class, named with or without its package.
    pub fn is_exception(&self, class: &str) -> bool {
        self.exception().is_some_and(|e| e.class == class || e.short_class() == class)
    }

    /// The error of the last attempt: itself unless it is [`IpcError::Exhausted`].
    pub fn last_attempt(&self) -> &IpcError {
        match self {
            IpcError::Exhausted { last, .. } => last.last_attempt(),
            other => other,
        }
    }
}
