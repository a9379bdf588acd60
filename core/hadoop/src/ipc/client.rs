//! One service at one address: connects when needed, shares the connection between calls.

use super::{Auth, IpcError, IpcOptions, Protocol};
use crate::credentials::Token;
use std::sync::Arc;

/// A client of one protocol at one address; clones share the connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    #[allow(dead_code)]
    protocol: Protocol,
    #[allow(dead_code)]
    auth: std::sync::Mutex<Auth>,
    #[allow(dead_code)]
    options: IpcOptions,
}

impl Client {
    /// A client of `address` (`host:port`); nothing happens before the first call.
    pub fn new(address: String, protocol: Protocol, auth: Auth, options: IpcOptions) -> Client {
        Client { inner: Arc::new(Inner { address, protocol, auth: std::sync::Mutex::new(auth), options }) }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Calls `method` and waits for its answer, at most [`IpcOptions::call_timeout`].
    ///
    /// # Errors
    /// See [`IpcError`].
    pub async fn call<Q: prost::Message, R: prost::Message + Default>(
        &self,
        _method: &'static str,
        _request: &Q,
    ) -> Result<R, IpcError> {
        Err(IpcError::Protocol { address: self.inner.address.clone(), message: "unfinished".into() })
    }

    /// Uses `token` from the next connection on; the one that is open stays open.
    pub fn set_token(&self, _token: Token) {}
}
