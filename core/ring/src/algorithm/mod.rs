//! Pure schedules: which block a rank sends and receives in which round. No I/O, no memory, no element types.
//!
//! A schedule is a handful of [`Round`]s, all of them plain numbers. What the words mean is said in the crate's
//! documentation; that every rank ends with every contribution exactly once, for any world and any interleaving, is
//! what the tests of this module run.

mod chain;
mod choice;
mod exchange;
mod halving;
mod ring;
#[cfg(test)]
mod simulation;
mod walk;

pub(crate) use chain::broadcast;
pub(crate) use choice::{Algorithm, choose, segments};
pub(crate) use exchange::exchange;
pub(crate) use halving::halving;
pub(crate) use ring::ring;
pub(crate) use walk::{Cursor, Partition, Walk};

/// What of the send stream may leave when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lead {
    /// All at once: this round sends nothing that it receives.
    All,
    /// In each segment the first so many blocks at once; after that, the sent block `j + lead` is the received block `j`
    /// and leaves as far as that has been processed.
    Blocks(usize),
}

impl Lead {
    /// The step of the receive stream that step `step` of the send stream `walk` passes on.
    pub(crate) fn source(self, walk: &Walk, step: usize) -> Option<usize> {
        match self {
            Lead::Blocks(lead) if walk.step_in_segment(step) >= lead => Some(step - lead),
            _ => None,
        }
    }
}

/// One send stream and one receive stream that run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// Blocks to send, and the distance they go; an absent stream has not even a header.
    pub(crate) send: Option<(u32, Walk)>,
    /// Blocks to receive, and the distance they come from.
    pub(crate) receive: Option<(u32, Walk)>,
    /// In each segment the first `adds` received blocks are added to memory, the others replace it.
    pub(crate) adds: usize,
    /// How much may be sent unconditionally.
    pub(crate) lead: Lead,
    /// Segment and block whose sum is complete before the round starts: memory takes the values that the wire can carry.
    pub(crate) settle: Option<(usize, usize)>,
}

/// Exponents of the distances at which a world of `world` ranks has links: 2^0, 2^1, … < world.
pub(crate) fn distances(world: usize) -> u32 {
    assert!(world > 0, "a world has at least one rank");
    usize::BITS - (world - 1).leading_zeros()
}

/// The rank `distance` places after `rank`.
pub(crate) fn after(rank: usize, distance: usize, world: usize) -> usize {
    (rank + distance) % world
}

/// The rank `distance` places before `rank`.
pub(crate) fn before(rank: usize, distance: usize, world: usize) -> usize {
    (rank + world - distance % world) % world
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_reach_every_power_of_two_below_the_world() {
        let counts: Vec<u32> = [1, 2, 3, 4, 5, 8, 9, 64, 65].map(distances).to_vec();
        assert_eq!(counts, [0, 1, 2, 2, 3, 3, 4, 6, 7]);
        assert_eq!((after(3, 2, 4), before(1, 2, 4), before(0, 1, 1)), (1, 3, 0));
    }
}
