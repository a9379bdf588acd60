//! One service at one address: connects when needed, shares the connection between calls.

use super::connection::Connection;
use super::frame::MAX_REQUEST_BYTES;
use super::handshake::Introduction;
use super::messages::MethodHeader;
use super::{Auth, IpcError, IpcOptions, Protocol};
use crate::credentials::Token;
use bytes::Bytes;
use prost::Message;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// A client of one protocol at one address; clones share the connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    address: String,
    protocol: Protocol,
    auth: Mutex<Auth>,
    options: IpcOptions,
    /// Held while connecting, so that many calls make one connection.
    slot: tokio::sync::Mutex<Slot>,
    /// Connections that were begun.
    attempts: AtomicU64,
}

#[derive(Default)]
struct Slot {
    connection: Option<Arc<Connection>>,
    /// The last attempt's number and error, for those who waited for it.
    failed: Option<(u64, IpcError)>,
}

/// A method header and a request, as they stand in a frame.
pub(super) fn encode<Q: Message>(protocol: Protocol, method: &'static str, request: &Q) -> Bytes {
    let header =
        MethodHeader { method: method.into(), protocol: protocol.name.into(), version: protocol.version };
    let mut body = header.encode_length_delimited_to_vec();
    request.encode_length_delimited(&mut body).expect("a Vec takes everything");
    body.into()
}

/// The answer of a frame.
pub(super) fn decode<R: Message + Default>(
    address: &str,
    method: &'static str,
    answer: Bytes,
) -> Result<R, IpcError> {
    R::decode_length_delimited(answer).map_err(|error| IpcError::Protocol {
        address: address.to_owned(),
        message: format!("the answer to {method} does not decode: {error}"),
    })
}

impl Client {
    /// A client of `address` (`host:port`); nothing happens before the first call.
    pub fn new(address: String, protocol: Protocol, auth: Auth, options: IpcOptions) -> Client {
        Client {
            inner: Arc::new(Inner {
                address,
                protocol,
                auth: Mutex::new(auth),
                options,
                slot: tokio::sync::Mutex::default(),
                attempts: AtomicU64::new(0),
            }),
        }
    }

    /// `host:port`.
    pub fn address(&self) -> &str {
        &self.inner.address
    }

    /// Calls `method` and waits for its answer, at most [`IpcOptions::call_timeout`], connecting included.
    ///
    /// Dropping the future gives the call up; the server may process it nevertheless.
    ///
    /// # Errors
    /// See [`IpcError`].
    pub async fn call<Q: Message, R: Message + Default>(
        &self,
        method: &'static str,
        request: &Q,
    ) -> Result<R, IpcError> {
        let body = encode(self.inner.protocol, method, request);
        let answer = self.call_encoded(method, &body, self.inner.options.call_timeout).await?;
        decode(&self.inner.address, method, answer)
    }

    /// A call whose request is encoded already, with a deadline of its own.
    pub(super) async fn call_encoded(
        &self,
        method: &'static str,
        body: &[u8],
        within: Duration,
    ) -> Result<Bytes, IpcError> {
        let address = || self.inner.address.clone();
        if body.len() > MAX_REQUEST_BYTES {
            let message = format!(
                "a request of {} bytes for {method} is more than servers take ({MAX_REQUEST_BYTES})",
                body.len()
            );
            return Err(IpcError::Protocol { address: address(), message });
        }
        let mut used = None;
        match timeout(within, self.attempt(method, body, &mut used)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                // Other calls may still wait on it, new ones should not: it may be dead without a sign.
                if let Some(connection) = used {
                    connection.retire();
                }
                Err(IpcError::Timeout { address: address(), method, after: within })
            }
        }
    }

    async fn attempt(
        &self,
        method: &'static str,
        body: &[u8],
        used: &mut Option<Arc<Connection>>,
    ) -> Result<Bytes, IpcError> {
        loop {
            let (connection, fresh) = self.connection().await?;
            *used = Some(Arc::clone(&connection));
            let mut pending = match connection.send(method, body).await {
                Ok(pending) => pending,
                // It ended between the look and the call, as idle connections do.
                Err(_) if !fresh => continue,
                Err(error) => return Err(error),
            };
            match pending.answer().await {
                Err(IpcError::Closed { sent: false, .. }) if !fresh => {}
                outcome => return outcome,
            }
        }
    }

    /// Uses `token` from the next connection on; the one that is open stays open.
    pub fn set_token(&self, token: Token) {
        *self.inner.auth.lock().unwrap_or_else(PoisonError::into_inner) = Auth::Token { token };
    }

    /// Makes the next call open a new connection; calls that wait keep theirs. For taking a new token into use
    /// at a quiet moment.
    pub async fn renew_connection(&self) {
        self.inner.slot.lock().await.connection = None;
    }

    /// The open connection, or a fresh one; `true` when it is fresh.
    async fn connection(&self) -> Result<(Arc<Connection>, bool), IpcError> {
        let inner = &*self.inner;
        let begun = inner.attempts.load(Ordering::Acquire);
        let mut slot = inner.slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|c| c.is_open()) {
            return Ok((Arc::clone(connection), false));
        }
        // An attempt that was made while this call waited for the lock speaks for this call too; otherwise a
        // hundred calls to a dead host would time out one after the other.
        if let Some((_, error)) = slot.failed.as_ref().filter(|(number, _)| *number > begun) {
            return Err(error.clone());
        }
        let number = inner.attempts.fetch_add(1, Ordering::AcqRel) + 1;
        let auth = inner.auth.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut client_id = [0; 16];
        getrandom::fill(&mut client_id).map_err(|error| IpcError::Connect {
            address: inner.address.clone(),
            source: Arc::new(std::io::Error::other(format!("no randomness: {error}"))),
        })?;
        let intro = Introduction {
            address: &inner.address,
            protocol: inner.protocol,
            auth: &auth,
            client_id: &client_id,
        };
        match Connection::open(intro, client_id, &inner.options).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                slot.connection = Some(Arc::clone(&connection));
                slot.failed = None;
                Ok((connection, true))
            }
            Err(error) => {
                slot.connection = None;
                slot.failed = Some((number, error.clone()));
                Err(error)
            }
        }
    }
}
