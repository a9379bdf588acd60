//! Several addresses of one service, of which one answers.

use super::client::{decode, encode};
use super::{Attempt, Auth, Client, IpcError, IpcOptions, Protocol, Retry, RetryPolicy};
use crate::credentials::Token;
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// A client of a service that runs at one of several addresses; clones share everything.
#[derive(Clone)]
pub struct FailoverClient {
    inner: Arc<Inner>,
}

struct Inner {
    clients: Vec<Client>,
    protocol: Protocol,
    options: IpcOptions,
    policy: RetryPolicy,
    /// Index of the address that answered last.
    active: AtomicUsize,
}

impl FailoverClient {
    /// A client of `addresses` (`host:port` each), tried in this order, beginning with the one that answered
    /// last.
    pub fn new(
        addresses: Vec<String>,
        protocol: Protocol,
        auth: Auth,
        options: IpcOptions,
        policy: RetryPolicy,
    ) -> Self {
        let clients =
            addresses.into_iter().map(|a| Client::new(a, protocol, auth.clone(), options.clone())).collect();
        let active = AtomicUsize::new(0);
        FailoverClient { inner: Arc::new(Inner { clients, protocol, options, policy, active }) }
    }

    /// The addresses.
    pub fn addresses(&self) -> Vec<String> {
        self.inner.clients.iter().map(|c| c.address().to_owned()).collect()
    }

    /// The address that calls go to at present; empty when there is none at all.
    pub fn active_address(&self) -> &str {
        let active = self.inner.active.load(Ordering::Relaxed);
        self.inner.clients.get(active).map_or("", Client::address)
    }

    /// Calls `method` at the address that answered last, and goes on as the policy says. `idempotent` says that
    /// the server may process the request twice without harm.
    ///
    /// # Errors
    /// The error that ended it; [`IpcError::Exhausted`] when the policy gave up after several attempts.
    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
        idempotent: bool,
    ) -> Result<R, IpcError> {
        let Inner { clients, protocol, options, policy, active } = &*self.inner;
        let body = encode(*protocol, method, request);
        let started = Instant::now();
        let mut made = 0;
        loop {
            let index = active.load(Ordering::Acquire);
            let Some(client) = clients.get(index) else {
                let source = Arc::new(std::io::Error::other("no address is configured"));
                return Err(IpcError::Connect { address: format!("the service of {method}"), source });
            };
            let left = policy.deadline.saturating_sub(started.elapsed());
            let outcome = client.call_encoded(method, &body, options.call_timeout.min(left)).await;
            made += 1;
            let error = match outcome {
                Ok(answer) => {
                    if made > 1 {
                        let waited_ms = started.elapsed().as_millis() as u64;
                        tracing::info!(
                            address = client.address(),
                            method,
                            attempts = made,
                            waited_ms,
                            "answered again"
                        );
                    }
                    return decode(client.address(), method, answer);
                }
                Err(error) => error,
            };
            let elapsed = started.elapsed();
            let attempt = Attempt { made, addresses: clients.len() as u32, elapsed, idempotent };
            let after = match policy.decide(&error, &attempt) {
                Retry::GiveUp => return Err(self.give_up(error, made, elapsed)),
                Retry::Same { after } => after,
                Retry::Failover { after } => {
                    // Only the first of many calls that fail together moves on.
                    let next = (index + 1) % clients.len();
                    let _ = active.compare_exchange(index, next, Ordering::AcqRel, Ordering::Acquire);
                    after
                }
            };
            note(method, &error, made, after);
            tokio::time::sleep(after).await;
        }
    }

    fn give_up(&self, error: IpcError, attempts: u32, elapsed: Duration) -> IpcError {
        if attempts == 1 {
            return error;
        }
        IpcError::Exhausted { addresses: self.addresses(), attempts, elapsed, last: Box::new(error) }
    }

    /// Uses `token` from the next connection on, at every address.
    pub fn set_token(&self, token: Token) {
        self.inner.clients.iter().for_each(|c| c.set_token(token.clone()));
    }

    /// Makes the next call open a new connection; calls that wait keep theirs.
    pub async fn renew_connection(&self) {
        for client in &self.inner.clients {
            client.renew_connection().await;
        }
    }
}

/// Loud once, then quiet: a long outage would fill the log otherwise.
fn note(method: &'static str, error: &IpcError, made: u32, after: Duration) {
    let after_ms = after.as_millis() as u64;
    if made == 1 {
        tracing::warn!(method, %error, after_ms, "call failed, trying again");
    } else {
        tracing::debug!(method, %error, attempts = made, after_ms, "call failed again");
    }
}
