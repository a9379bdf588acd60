//! What a ring is formed from.

use crate::{Abort, RingError, frame::MAX_NOTICE_RANK};
use ringspin_job::JobSecret;
use std::{net::SocketAddr, time::Duration};

/// Chunks of less would spend their time in system calls.
pub(crate) const MIN_CHUNK_BYTES: usize = 4 << 10;
/// Chunks of more would not stay in the cache between receiving and reducing.
pub(crate) const MAX_CHUNK_BYTES: usize = 16 << 20;

/// Buffers smaller than a few of loopback's 64 KiB segments make TCP wait for its timers.
pub(crate) const MIN_SOCKET_BUFFER_BYTES: usize = 128 << 10;

/// One rank's view of the ring to form. All but `rank` and `abort` must be the same on all ranks.
#[derive(Clone, Debug)]
pub struct RingConfig {
    /// The own rank, below `world`.
    pub rank: usize,
    /// Number of ranks.
    pub world: usize,
    /// Generation of the ring; links of another one are refused.
    pub generation: u64,
    /// Application attempt; links of another one are refused.
    pub attempt: u32,
    /// Where each rank listens, by rank.
    pub peers: Vec<SocketAddr>,
    /// The secret of the job.
    pub secret: JobSecret,
    /// Limit for all links to come up.
    pub connect_timeout: Duration,
    /// Silence after which a rank counts as gone. Longer than ranks may come apart between two operations.
    pub io_timeout: Duration,
    /// Bytes to receive, reduce and pass on at a time; see [`RingConfig::DEFAULT_CHUNK_BYTES`].
    pub chunk_bytes: usize,
    /// Send and receive buffers of each socket; 0 leaves them to the system, which adapts them.
    pub socket_buffer_bytes: usize,
    /// Whether ranks at one address exchange bytes through shared memory, where they can see each other's.
    pub shared_memory: bool,
    /// What ends this ring from other threads, also while it is being formed. Never one of another ring.
    pub abort: Abort,
}

impl RingConfig {
    /// Half an L2 cache or less: what was received is still there when it is added and sent.
    pub const DEFAULT_CHUNK_BYTES: usize = 256 << 10;

    pub(crate) fn check(&self) -> Result<(), RingError> {
        let wrong = |message: String| Err(RingError::Config(message));
        if self.world == 0 || self.rank >= self.world || self.world > MAX_NOTICE_RANK as usize {
            return wrong(format!("rank {} in a world of {}", self.rank, self.world));
        }
        if self.peers.len() != self.world {
            return wrong(format!("{} addresses for a world of {}", self.peers.len(), self.world));
        }
        if !(MIN_CHUNK_BYTES..=MAX_CHUNK_BYTES).contains(&self.chunk_bytes) {
            return wrong(format!(
                "chunks of {} bytes; from {MIN_CHUNK_BYTES} to {MAX_CHUNK_BYTES} are possible",
                self.chunk_bytes
            ));
        }
        if (1..MIN_SOCKET_BUFFER_BYTES).contains(&self.socket_buffer_bytes) {
            return wrong(format!(
                "socket buffers of {} bytes; 0 or at least {MIN_SOCKET_BUFFER_BYTES} are possible",
                self.socket_buffer_bytes
            ));
        }
        if self.io_timeout.is_zero() || self.connect_timeout.is_zero() {
            return wrong("a timeout of zero".into());
        }
        Ok(())
    }
}
