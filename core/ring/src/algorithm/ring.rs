//! The ring: reduce-scatter and all-gather as one stream each way between neighbours.

use super::{Lead, Round, Walk, before};

/// All-reduce over `world` blocks. The sum of block `rank + 1` becomes complete on `rank`.
///
/// Sends blocks rank, rank − 1, …, twice round but for two; receives rank − 1, rank − 2, …: the received block
/// `i` is the sent block `i + 1`, which is why one block of lead is all the order there is.
pub(crate) fn ring(rank: usize, world: usize) -> impl Iterator<Item = Round> {
    let blocks = 2 * (world - 1);
    let round = Round {
        send: Some((1, Walk::down(rank, blocks))),
        receive: Some((1, Walk::down(before(rank, 1, world), blocks))),
        adds: world - 1,
        lead: Lead::Blocks(1),
        settle: None,
    };
    (world > 1).then_some(round).into_iter()
}
