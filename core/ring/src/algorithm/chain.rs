//! The chain: a vector goes from one rank to the next, each passing on what it has stored.

use super::{Lead, Round, Walk, after};

/// Broadcast of one block from `root`.
pub(crate) fn broadcast(rank: usize, root: usize, world: usize) -> impl Iterator<Item = Round> {
    let is_root = rank == root;
    let is_last = after(rank, 1, world) == root;
    let round = Round {
        send: (!is_last).then_some((1, Walk::up(0, 1))),
        receive: (!is_root).then_some((1, Walk::up(0, 1))),
        adds: 0,
        lead: if is_root { Lead::All } else { Lead::Blocks(0) },
        settle: None,
    };
    (world > 1).then_some(round).into_iter()
}
