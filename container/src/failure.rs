//! What ends a worker, and what the AM is told about it.

use ringspin_control::messages::{Failure, FailureKind};
use ringspin_control::{EXIT_PEER_LOST, EXIT_REPORTED};
use ringspin_data::DataError;
use ringspin_data::storage::{StorageError, StorageErrorKind};
use ringspin_ring::RingError;
use std::fmt;

/// Why a worker can not go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfortune {
    /// What the AM makes of it.
    pub kind: FailureKind,
    /// For people.
    pub message: String,
}

impl Misfortune {
    /// A cause with its kind.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Misfortune { kind, message: message.into() }
    }

    /// The message to the AM.
    pub fn report(&self) -> Failure {
        Failure { kind: self.kind, message: self.message.clone() }
    }

    /// The exit status of a worker that ends with it.
    pub fn exit_status(&self) -> i32 {
        match self.kind {
            FailureKind::PeerLost { .. } => EXIT_PEER_LOST,
            _ => EXIT_REPORTED,
        }
    }
}

impl fmt::Display for Misfortune {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfortune {}

impl From<StorageError> for Misfortune {
    fn from(error: StorageError) -> Self {
        let kind = match error.kind {
            StorageErrorKind::Unreachable | StorageErrorKind::Timeout => FailureKind::Environment,
            _ => FailureKind::Job,
        };
        Misfortune::new(kind, error.to_string())
    }
}

impl From<DataError> for Misfortune {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Storage(error) => error.into(),
            DataError::Broken(_) => Misfortune::new(FailureKind::Panic, error.to_string()),
            _ => Misfortune::new(FailureKind::Job, error.to_string()),
        }
    }
}

impl From<RingError> for Misfortune {
    fn from(error: RingError) -> Self {
        let kind = match &error {
            RingError::PeerLost { rank, .. }
            | RingError::Timeout { rank, .. }
            | RingError::Handshake { rank, .. } => FailureKind::PeerLost { rank: *rank },
            RingError::Aborted { .. } => FailureKind::Environment,
            RingError::Mismatch { .. } | RingError::Config(_) | RingError::Misuse(_) => FailureKind::Panic,
        };
        Misfortune::new(kind, error.to_string())
    }
}
