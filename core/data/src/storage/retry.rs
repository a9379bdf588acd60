//! When a failed call is tried again, and for how long.

use super::{StorageError, StorageErrorKind};
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;
use tokio::time::Instant;

/// Deadlines and patience of every call to a file system.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Limit for one attempt of a call that moves no file content.
    pub call_timeout: Duration,
    /// Limit for one attempt to make progress: the next packet of a read, the next piece of a write.
    pub stall_timeout: Duration,
    /// Transient failures are retried until this much time has passed since the first attempt.
    pub retry_for: Duration,
    /// Wait before the second attempt; doubles with each one.
    pub backoff_first: Duration,
    /// Longest wait between two attempts.
    pub backoff_max: Duration,
}

impl Default for RetryPolicy {
    /// For processes that run for hours: a NameNode may be away for minutes.
    fn default() -> Self {
        RetryPolicy {
            call_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(20),
            retry_for: Duration::from_secs(600),
            backoff_first: Duration::from_millis(200),
            backoff_max: Duration::from_secs(10),
        }
    }
}

impl RetryPolicy {
    /// For a person who waits: says after half a minute that nobody answers.
    pub fn interactive() -> Self {
        RetryPolicy { retry_for: Duration::from_secs(20), ..RetryPolicy::default() }
    }

    /// Runs `once` until it succeeds, fails for good, or patience ends; `once` gets the number of the attempt
    /// from 0. `salt` spreads the waits of many processes that lost the same server.
    pub(crate) async fn run<T, F>(
        &self,
        salt: &str,
        mut once: impl FnMut(u32) -> F,
    ) -> Result<T, StorageError>
    where
        F: Future<Output = Result<T, StorageError>>,
    {
        let start = Instant::now();
        let mut attempt = 0;
        loop {
            let mut error = match once(attempt).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            attempt += 1;
            let wait = self.backoff(attempt, salt);
            let patience = match (error.kind, error.patience) {
                (_, Some(patience)) => patience.min(self.retry_for),
                // A corrupt read is tried once more: another replica may be right.
                (StorageErrorKind::Corrupt, _) if attempt == 1 => self.retry_for,
                (kind, _) if kind.is_transient() => self.retry_for,
                _ => Duration::ZERO,
            };
            if start.elapsed() + wait > patience {
                error.tries = Some((attempt, start.elapsed()));
                return Err(error);
            }
            tracing::debug!(attempt, wait_ms = wait.as_millis() as u64, "retrying: {error}");
            tokio::time::sleep(wait).await;
        }
    }

    /// Wait after `failures` attempts: doubled each time, up to the maximum, times 0.5 to 1.5.
    fn backoff(&self, failures: u32, salt: &str) -> Duration {
        let doubled = self.backoff_first.saturating_mul(1 << (failures - 1).min(20)).min(self.backoff_max);
        let mut hasher = DefaultHasher::new();
        (salt, failures).hash(&mut hasher);
        doubled.mul_f64(0.5 + (hasher.finish() % 1024) as f64 / 1024.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Location;

    fn error(kind: StorageErrorKind) -> StorageError {
        StorageError::new(kind, "read", &Location::local("/x".as_ref()).unwrap(), "down")
    }

    #[tokio::test(start_paused = true)]
    async fn transient_failures_are_retried_until_patience_ends() {
        let policy = RetryPolicy::default();
        let start = Instant::now();
        let failed = policy
            .run("worker-1", |_| async { Err::<(), _>(error(StorageErrorKind::Unreachable)) })
            .await
            .unwrap_err();
        assert!(start.elapsed() <= policy.retry_for && start.elapsed() > policy.retry_for / 2);
        assert!(failed.to_string().contains("(tried "), "{failed}");
        let answer = policy
            .run("worker-1", |attempt| async move {
                if attempt < 3 { Err(error(StorageErrorKind::Timeout)) } else { Ok(attempt) }
            })
            .await;
        assert_eq!(answer.unwrap(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn lasting_failures_are_not_retried() {
        for (kind, tries) in [
            (StorageErrorKind::NotFound, 1),
            (StorageErrorKind::PermissionDenied, 1),
            (StorageErrorKind::NoSpace, 1),
            (StorageErrorKind::Corrupt, 2),
        ] {
            let mut count = 0;
            let result = RetryPolicy::default()
                .run("w", |_| {
                    count += 1;
                    async move { Err::<(), _>(error(kind)) }
                })
                .await;
            assert_eq!((result.unwrap_err().kind, count), (kind, tries));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_lasting_kind_may_pass_within_a_time_of_its_own() {
        let start = Instant::now();
        let full = || error(StorageErrorKind::NoSpace).may_pass_within(Duration::from_secs(30));
        let failed = RetryPolicy::default().run("w", |_| async { Err::<(), _>(full()) }).await.unwrap_err();
        assert_eq!(failed.kind, StorageErrorKind::NoSpace);
        assert!((15..=30).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    }

    #[test]
    fn waits_grow_and_differ_between_processes() {
        let policy = RetryPolicy::default();
        assert!(policy.backoff(1, "a") <= policy.backoff_first.mul_f64(1.5));
        assert!(policy.backoff(30, "a") >= policy.backoff_max / 2);
        assert_ne!(policy.backoff(5, "a"), policy.backoff(5, "b"));
    }
}
