//! What a ring has done and whom it waited for.

use std::time::Duration;

/// Totals since the ring was formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RingStats {
    /// Operations that were completed.
    pub operations: u64,
    /// Time in operations, first byte to last.
    pub busy: Duration,
    /// Time in adding and converting.
    pub reducing: Duration,
    /// How often the thread slept because no link could move.
    pub waits: u64,
    /// Connections to the listener that were turned away while the ring was formed.
    pub refused_connections: u64,
    /// One entry for each rank this one has links with, by rising distance: first those it sends to, then those
    /// it receives from.
    pub neighbours: Vec<NeighbourStats>,
}

/// What happened on one link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NeighbourStats {
    /// The rank at the other end.
    pub rank: usize,
    /// Whether it sends and this rank receives.
    pub receives: bool,
    /// Bytes moved, headers included.
    pub bytes: u64,
    /// Time slept for want of its bytes, or because it took none.
    pub waiting: Duration,
    /// Of `waiting`: before it had begun with the operation. Nobody but itself is the cause of that.
    pub late: Duration,
}
