//! Client of Hadoop IPC version 9 (`org.apache.hadoop.ipc.Server`), on tokio.
//!
//! One [`Client`] is one connection to one address, opened when first needed and again after it was lost, with
//! any number of calls in flight. A [`FailoverClient`] holds several addresses of one service (two
//! ResourceManagers, two NameNodes) and decides by a [`RetryPolicy`]. Errors tell the reaction ([`IpcError`]).
//!
//! It refuses: mechanisms other than SIMPLE and TOKEN with DIGEST-MD5, servers that do not prove knowledge of
//! the token, frames above the limits below, compressed or continued packets.

mod client;
mod connection;
mod error;
mod failover;
mod frame;
mod handshake;
mod messages;
mod response;
mod retry;
mod sasl;
#[cfg(test)]
pub(crate) mod tests;

pub use client::Client;
pub use error::{IpcError, RemoteException};
pub use failover::FailoverClient;
pub use retry::{Attempt, Retry, RetryPolicy};

use crate::conf::{ConfError, Configuration, TimeUnit};
use crate::credentials::Token;
use std::time::Duration;

/// Largest frame taken from a server; Hadoop's `ipc.maximum.response.length`.
pub const MAX_RESPONSE_BYTES: usize = 128 << 20;

/// What no configuration can raise the limit above: Java's frames end there too.
const LARGEST_RESPONSE_BYTES: usize = i32::MAX as usize;

/// A protocol, as the server registered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Full Java name. YARN's end in `PB`, HDFS's does not.
    pub name: &'static str,
    /// Version, 1 for all that concern us.
    pub version: u64,
}

/// Who calls, and how that is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// A bare name, for clusters without Kerberos.
    Simple {
        /// On whose behalf the call is made.
        user: String,
        /// Who makes it, when that is somebody else (proxy user).
        real_user: Option<String>,
    },
    /// A token; the user is the one it was issued to.
    Token {
        /// The token.
        token: Token,
    },
}

/// How one connection behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpcOptions {
    /// For the TCP connection, and once more for the SASL exchange; Java: `ipc.client.connect.timeout`, 20 s.
    pub connect_timeout: Duration,
    /// For one call, from the moment it is made; Java since 3.4: `ipc.client.rpc-timeout.ms`, 120 s.
    pub call_timeout: Duration,
    /// Silence after which a ping is sent while calls wait, so that the server keeps the connection and a
    /// vanished host is noticed; Java: `ipc.ping.interval`, 60 s.
    pub ping_interval: Duration,
    /// How long sent bytes or probes may go unacknowledged by the server's host before the connection is given up
    /// (TCP user timeout and keepalive): a host that vanishes without a word is noticed within one and a half
    /// times this, while a server that is only slow keeps its calls. Java waits for the call's own deadline.
    pub dead_peer_timeout: Duration,
    /// Silence without waiting calls after which the connection is closed: NodeManagers are many, and an idle
    /// connection may have died unseen. Java: `ipc.client.connection.maxidletime`, 10 s.
    pub idle_timeout: Duration,
    /// Largest frame taken from the server; Java: `ipc.maximum.response.length`.
    pub max_response_bytes: usize,
    /// Negotiate with SASL even for [`Auth::Simple`]: for clusters with `hadoop.security.authentication` other
    /// than `simple`, where the negotiation tells best what the server wants.
    pub sasl: bool,
}

impl Default for IpcOptions {
    fn default() -> Self {
        IpcOptions {
            connect_timeout: Duration::from_secs(20),
            call_timeout: Duration::from_secs(120),
            ping_interval: Duration::from_secs(60),
            dead_peer_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(10),
            max_response_bytes: MAX_RESPONSE_BYTES,
            sasl: false,
        }
    }
}

impl IpcOptions {
    /// What the cluster's configuration says, and defaults where it says nothing or "for ever".
    ///
    /// # Errors
    /// Names the key, the value and the file.
    pub fn from_configuration(conf: &Configuration) -> Result<IpcOptions, ConfError> {
        let default = IpcOptions::default();
        let time = |key, default: Duration| {
            let time = conf.get_time(key, TimeUnit::Millis, Some(default))?;
            Ok::<_, ConfError>(time.filter(|t| !t.is_zero()).unwrap_or(default))
        };
        let max = conf.get_size("ipc.maximum.response.length", MAX_RESPONSE_BYTES as u64)?;
        Ok(IpcOptions {
            connect_timeout: time("ipc.client.connect.timeout", default.connect_timeout)?,
            call_timeout: time("ipc.client.rpc-timeout.ms", default.call_timeout)?,
            ping_interval: time("ipc.ping.interval", default.ping_interval)?,
            dead_peer_timeout: default.dead_peer_timeout,
            idle_timeout: time("ipc.client.connection.maxidletime", default.idle_timeout)?,
            max_response_bytes: usize::try_from(max).unwrap_or(usize::MAX).min(LARGEST_RESPONSE_BYTES),
            sasl: conf.is_secure()?,
        })
    }
}
