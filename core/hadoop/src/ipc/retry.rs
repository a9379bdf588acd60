//! When a call is made again, where, and after how long: a pure function of the error and the situation.
//!
//! The classes are those of Java's `RetryPolicies.FailoverOnNetworkExceptionRetry`: connection failures and
//! standbys go to the next address, `RetriableException` to the same one, refusals and exceptions of the method
//! end the call, and what may have been processed is repeated only when that does no harm.

use super::IpcError;
use std::time::Duration;

/// How long and how often to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included.
    pub max_attempts: u32,
    /// Pause after the first round over all addresses; doubles with every further round.
    pub base_delay: Duration,
    /// Longest pause.
    pub max_delay: Duration,
    /// Time for everything, pauses included.
    pub deadline: Duration,
}

/// What to do after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Again at the same address after a pause.
    Same {
        /// The pause.
        after: Duration,
    },
    /// Again at the next address after a pause.
    Failover {
        /// The pause.
        after: Duration,
    },
    /// No more.
    GiveUp,
}

/// The situation after a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Attempts made so far, from 1.
    pub made: u32,
    /// Number of addresses.
    pub addresses: u32,
    /// Time since the first attempt began.
    pub elapsed: Duration,
    /// Whether processing the request twice does no harm.
    pub idempotent: bool,
}

/// What an error means for trying again.
enum Reaction {
    Next,
    Again,
    End,
}

fn reaction(error: &IpcError, idempotent: bool) -> Reaction {
    match error {
        IpcError::Connect { .. } | IpcError::Standby { .. } => Reaction::Next,
        IpcError::Closed { sent: false, .. } => Reaction::Next,
        IpcError::Closed { sent: true, .. } | IpcError::Timeout { .. } if idempotent => Reaction::Next,
        IpcError::Retriable { .. } => Reaction::Again,
        _ => Reaction::End,
    }
}

impl Default for RetryPolicy {
    /// Two minutes: longer than a ResourceManager's or NameNode's failover (2-10 s seen) and restart (8-30 s).
    fn default() -> Self {
        RetryPolicy {
            max_attempts: 100,
            base_delay: Duration::from_millis(200),
            max_delay: Duration::from_secs(5),
            deadline: Duration::from_secs(120),
        }
    }
}

impl RetryPolicy {
    /// A policy that never tries again.
    pub fn once() -> Self {
        RetryPolicy { max_attempts: 1, ..RetryPolicy::default() }
    }

    /// What to do after `attempt` ended with `error`.
    pub fn decide(&self, error: &IpcError, attempt: &Attempt) -> Retry {
        let reaction = reaction(error, attempt.idempotent);
        if attempt.made >= self.max_attempts || matches!(reaction, Reaction::End) {
            return Retry::GiveUp;
        }
        let after = match reaction {
            // Every address gets its first chance at once: the other one of a pair is usually alive.
            Reaction::Next if attempt.made < attempt.addresses => Duration::ZERO,
            Reaction::Next => self.delay(attempt.made / attempt.addresses.max(1)),
            _ => self.delay(attempt.made),
        };
        if attempt.elapsed.saturating_add(after) >= self.deadline {
            return Retry::GiveUp;
        }
        match reaction {
            Reaction::Next => Retry::Failover { after },
            _ => Retry::Same { after },
        }
    }

    /// Pause after round `round`, from 1.
    fn delay(&self, round: u32) -> Duration {
        let doublings = round.saturating_sub(1).min(20);
        self.base_delay.saturating_mul(1 << doublings).min(self.max_delay)
    }
}
