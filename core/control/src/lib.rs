//! What the ApplicationMaster and its workers say to each other, and how.
//!
//! A connection begins with a [`handshake`] of fixed-size messages in which both sides prove that they know the
//! job's secret; nothing a peer sends is parsed before. Then length-prefixed [`frame`]s carry [`messages`].
//! Observers (the client that waits for the job) use the same door and receive [`status`].
//!
//! Nothing here decides anything: decisions are the AM's state machine and the worker's loop.

pub mod frame;
pub mod handshake;
pub mod messages;
pub mod status;

use std::time::Duration;

/// Version of the protocol; both sides are the same executable, so any difference is refused.
pub const PROTOCOL_VERSION: u32 = 1;

/// A stranger gets this long to complete the handshake before its connection is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Exit status of a worker that failed and has said why on its control connection.
pub const EXIT_REPORTED: i32 = 70;
/// Exit status of a worker that lost a peer of its ring: the peer's end is the cause.
pub const EXIT_PEER_LOST: i32 = 71;
/// Exit status of a worker that the AM told to abort.
pub const EXIT_ABORTED: i32 = 72;
/// Exit status of a worker that lost the AM.
pub const EXIT_LOST_AM: i32 = 73;
/// The exit statuses that are not a cause in themselves.
pub const REPORTED_EXITS: [i32; 4] = [EXIT_REPORTED, EXIT_PEER_LOST, EXIT_ABORTED, EXIT_LOST_AM];

/// What can go wrong on a control connection.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The connection ended or failed: the peer is gone.
    #[error("control connection: {0}")]
    Io(#[from] std::io::Error),
    /// The peer does not speak this protocol or does not know the job's secret.
    #[error("handshake refused: {0}")]
    Handshake(&'static str),
    /// A proven peer sent something that is no message: versions differ, or a bug.
    #[error("malformed control frame: {0}")]
    Malformed(String),
    /// A proven peer announced a frame over [`frame::MAX_FRAME_BYTES`].
    #[error("control frame of {0} bytes announced, limit {limit}", limit = frame::MAX_FRAME_BYTES)]
    TooLarge(u64),
}
