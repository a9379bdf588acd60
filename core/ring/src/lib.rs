//! The collectives: how the workers of one generation keep one model between them.
//!
//! Synchronous, on the caller's thread (or on one of its own, see [`Reducer`]). No tokio, no Hadoop, no idea of
//! what a network or a gradient is. It refuses to recover: when something fails, every rank gets an error that
//! names the rank to blame, the ring is spent, and whoever owns it forms the next generation.
//!
//! # Words
//!
//! - *rank*, *world*: a worker's number among the `world` workers of one *generation*. A ring lives for one
//!   generation of one application *attempt*.
//! - *operation*: one collective call. All ranks run the same operations in the same order with the same sizes.
//! - *block*: the vector of an operation is cut into `world` blocks of nearly equal length; the *owner* of a
//!   block is the rank on which its sum becomes complete.
//! - *distance*: a rank sends to the rank `distance` places further on (modulo world) and receives from the rank
//!   as many places before. Distances are powers of two; the ring proper is distance 1.
//! - *link*: one direction of such a connection. It carries *frames*: a header, then the bytes that header, world
//!   and rank imply. A *control link* joins neighbours of distance 1 in both directions and carries *notices*:
//!   why a rank gave up.
//! - *round*: one send stream and one receive stream that run at once. An operation is one or more rounds.
//! - *lead*: how much of its send stream a rank may send before anything has arrived.
//! - *chunk*: what is received, reduced and passed on at a time. It has no meaning on the wire.
//! - *wire format*: how elements travel: as they lie in memory, or `f32` as bf16.
//!
//! # Algorithms
//!
//! With α the cost of a message, β that of a byte, S the bytes of the vector and N the world:
//!
//! | algorithm | rounds | cost | used for |
//! |---|---|---|---|
//! | exchange | lg N | lg N · α + (N−1) · S · β | small vectors, blobs, barrier |
//! | halving | 2 lg N | 2 lg N · α + 2(N−1)/N · S · β | bf16, and what lies between |
//! | ring | 1 | 2(N−1) · α + 2(N−1)/N · S · β | large vectors |
//! | chain | 1 | (N−1) · α + S · β | broadcast |
//!
//! **Ring** (Patarasuk & Yuan 2009). Rank r first sends its own block r. What it receives are the partial sums of
//! block r−1, then r−2, …; it adds its own values and passes the result on. After N−1 blocks the last sum is
//! complete, its bits go round the same way, and everybody stores them. So the send stream is *the own block,
//! followed by everything received, once it is processed, except the last block*: reduce-scatter and all-gather are
//! one stream each way, without a barrier between steps, in which byte `p` may leave as soon as `p − lead` bytes
//! are processed. That is all the pipelining there is.
//!
//! **Halving** (the transpose of Bruck's all-gather, for any N): with distance d = 2^k, …, 4, 2, 1 a rank sends the
//! sums whose owners are d … 2d−1 places ahead to the rank d places ahead, then the all-gather goes
//! d = 1, 2, 4, …, 2^k. The contributions to a block meet in a binomial tree of depth ⌈lg N⌉.
//!
//! **Exchange** (Bruck, Ho, Kipnis, Upfal & Weathersby 1997): with distance d = 1, 2, 4, … a rank passes on the first
//! d contributions it holds, so that it holds all after ⌈lg N⌉ rounds; everybody then adds them in the order of ranks.
//!
//! Neighbours of the ring share hosts and racks, so long vectors go round it; the other two cross the network at every
//! distance and win where latency counts.
//!
//! # Numerics
//!
//! - `i64` sums wrap and are the same for any order, world and algorithm.
//! - `f32` sums are the same bits on all ranks: the owner's bits are what everybody stores, or everybody adds the same
//!   values in the same order. They depend on the world (payloads of NaNs on the processor as well).
//! - bf16 on the wire: partial sums travel rounded to nearest even, sums are made in f32, and the owner stores what it
//!   sends. Each hop rounds once, so hops are what counts. Round the ring a block makes N−1 hops: the error grows with
//!   √N, and from N = 256 on a partial sum swallows contributions whole (256 + 1 is 256 in bf16). In the binomial tree
//!   of *halving* a contribution makes at most ⌈lg N⌉ hops, and the sums that are rounded are mostly small ones: for
//!   values of one sign the relative error does not depend on N, for values of random sign it grows with √(lg N), and
//!   it is never more than (⌈lg N⌉ + 1) · 2⁻⁸ · Σ|x|. The bytes are the same. So bf16 always goes by halving; vectors
//!   so small that latency decides are exchanged as f32.
//!
//! # Failure
//!
//! End of file or reset on a link, silence for `io_timeout`, a frame of another operation, or [`Abort::abort`] end the
//! operation. The rank then sends a notice to both neighbours and shuts all its links down, so that everybody wakes up
//! within a round trip a hop and knows the first cause. An operation may have succeeded on some ranks and failed on
//! others: whether a step counts must be decided elsewhere.
//!
//! Memory is sent as it lies; all machines of a job are little-endian.

#[cfg(target_endian = "big")]
compile_error!("the wire format of ringspin-ring is the memory of little-endian machines");

mod abort;
mod algorithm;
mod collectives;
mod config;
mod control;
mod error;
mod format;
mod frame;
mod handshake;
mod kernels;
mod links;
mod pump;
mod reducer;
mod rendezvous;
mod stats;
mod streams;

pub use abort::Abort;
pub use collectives::{Ring, Wire};
pub use config::RingConfig;
pub use error::{HandshakeFault, Lost, RingError};
pub use links::memory;
pub use reducer::{Bucket, Reduced, Reducer};
pub use stats::{NeighbourStats, RingStats};
