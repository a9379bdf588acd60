//! What can go wrong in a ring; the variant tells the reaction.

use crate::frame::{Notice, Reason};
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use thiserror::Error;

/// Why a ring could not be formed or an operation ended. The ring is spent afterwards.
#[derive(Clone, Debug, Error)]
pub enum RingError {
    /// A rank died or its network broke. Reaction: form the next generation, without it or with its successor.
    #[error("rank {rank} is lost: {cause}")]
    PeerLost {
        /// The rank that is gone.
        rank: usize,
        /// How it showed.
        #[source]
        cause: Lost,
    },
    /// [`crate::Abort::abort`] was called, here or on another rank. Reaction: do what the caller of it wanted.
    #[error("aborted: {reason}")]
    Aborted {
        /// What the caller said.
        reason: String,
    },
    /// A rank was connected but did nothing for the I/O timeout. Reaction: next generation without it.
    #[error("rank {rank} was silent for {} ms", .waited.as_millis())]
    Timeout {
        /// The silent rank; when several wait for one another, the one that fell silent first.
        rank: usize,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Two ranks run different operations, or a rank sends nonsense. Reaction: none; it is a bug, the job fails.
    #[error("rank {rank} is out of step: {detail}")]
    Mismatch {
        /// The rank whose bytes were unexpected.
        rank: usize,
        /// What came and what was expected.
        detail: String,
    },
    /// The connection to or from a rank was not there in time. Reaction: next generation, if the rank lives.
    #[error("no ring link with rank {rank} at {address}: {cause}")]
    Handshake {
        /// The rank that could not be reached or did not come.
        rank: usize,
        /// Where it should listen.
        address: SocketAddr,
        /// The last thing that went wrong.
        #[source]
        cause: HandshakeFault,
    },
    /// The configuration contradicts itself. Reaction: none; it is a bug.
    #[error("ring configuration: {0}")]
    Config(String),
    /// More buckets were submitted than the reducer was made for, or one was asked for that was not submitted.
    /// Reaction: none; it is a bug.
    #[error("reducer: {0}")]
    Misuse(String),
}

/// How the loss of a rank showed.
#[derive(Clone, Debug, Error)]
pub enum Lost {
    /// Its process closed the connection without a word.
    #[error("it closed the connection")]
    Closed,
    /// It dropped its ring while others were still at work.
    #[error("it has left the ring")]
    Left,
    /// The connection broke.
    #[error("{0}")]
    Broken(#[source] Arc<io::Error>),
    /// Another rank saw it.
    #[error("seen by rank {by}: {text}")]
    Reported {
        /// Who saw it first.
        by: usize,
        /// What it saw.
        text: String,
    },
}

/// Why a link could not be made.
#[derive(Clone, Debug, Error)]
pub enum HandshakeFault {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[source] Arc<io::Error>),
    /// Nothing happened until the time was over.
    #[error("not {what} within {} ms", .waited.as_millis())]
    TimedOut {
        /// What did not happen.
        what: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The other end speaks something else, or another version.
    #[error("the other end is no ring of this version")]
    NoRing,
    /// The other end does not know the job's secret, or closed the connection because we do not know its.
    #[error("the other end did not prove the secret of this job")]
    Unproven,
    /// The other end belongs to the job, but not to this ring.
    #[error("the other end is {theirs}, not {expected}")]
    Other {
        /// What it proved to be.
        theirs: String,
        /// What was wanted.
        expected: String,
    },
}

impl RingError {
    /// What the neighbours are told; `rank` is the own one.
    pub(crate) fn notice(&self, own_rank: usize) -> Notice {
        let (reason, by, about, text) = match self {
            RingError::PeerLost { rank, cause: Lost::Reported { by, text } } => {
                (Reason::Lost, *by, *rank, text.clone())
            }
            RingError::PeerLost { rank, cause } => (Reason::Lost, own_rank, *rank, cause.to_string()),
            RingError::Timeout { rank, waited } => {
                (Reason::Silent, own_rank, *rank, waited.as_millis().to_string())
            }
            RingError::Mismatch { rank, detail } => (Reason::Mismatch, own_rank, *rank, detail.clone()),
            RingError::Aborted { reason } => (Reason::Aborted, own_rank, own_rank, reason.clone()),
            RingError::Handshake { rank, .. } => (Reason::Lost, own_rank, *rank, self.to_string()),
            RingError::Config(_) | RingError::Misuse(_) => {
                (Reason::Aborted, own_rank, own_rank, self.to_string())
            }
        };
        Notice { reason, by: by as u32, about: about as u32, text }
    }

    /// What a notice means to the rank that gets it; `None` when it is no failure.
    pub(crate) fn from_notice(notice: Notice) -> Option<Self> {
        let (by, rank) = (notice.by as usize, notice.about as usize);
        Some(match notice.reason {
            Reason::Left => return None,
            Reason::Lost => RingError::PeerLost { rank, cause: Lost::Reported { by, text: notice.text } },
            Reason::Silent => {
                RingError::Timeout { rank, waited: Duration::from_millis(notice.text.parse().unwrap_or(0)) }
            }
            Reason::Mismatch => RingError::Mismatch { rank, detail: notice.text },
            Reason::Aborted => RingError::Aborted { reason: notice.text },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_first_cause_however_often_it_is_passed_on() {
        let first = RingError::PeerLost { rank: 2, cause: Lost::Closed };
        let second = RingError::from_notice(first.notice(3)).unwrap();
        let third = RingError::from_notice(second.notice(0)).unwrap();
        assert_eq!(third.to_string(), "rank 2 is lost: seen by rank 3: it closed the connection");

        let silent = RingError::Timeout { rank: 1, waited: Duration::from_millis(1500) };
        assert_eq!(RingError::from_notice(silent.notice(0)).unwrap().to_string(), silent.to_string());
        let mismatch = RingError::Mismatch { rank: 1, detail: "x".into() };
        assert_eq!(RingError::from_notice(mismatch.notice(0)).unwrap().to_string(), mismatch.to_string());
        let aborted = RingError::Aborted { reason: "generation 4".into() };
        assert_eq!(RingError::from_notice(aborted.notice(0)).unwrap().to_string(), aborted.to_string());
    }
}
