//! The ring: reduce-scatter and all-gather as one stream each way between neighbours.

use super::{Lead, Round, Walk, before};

/// All-reduce over `world` blocks in each of `segments` segments. The sums of block `rank + 1` become complete on `rank`.
///
/// In a segment it sends blocks rank, rank − 1, …, twice round but for two, and receives rank − 1, rank − 2, …: the
/// received block `i` is the sent block `i + 1`, which is why one block of lead is all the order there is. The next
/// segment's own block may leave while the last ones of this segment are still under way.
pub(crate) fn ring(rank: usize, world: usize, segments: usize) -> impl Iterator<Item = Round> {
    let blocks = 2 * (world - 1);
    let round = Round {
        send: Some((1, Walk::down(rank, blocks).in_segments(0..segments))),
        receive: Some((1, Walk::down(before(rank, 1, world), blocks).in_segments(0..segments))),
        adds: world - 1,
        lead: Lead::Blocks(1),
        settle: None,
    };
    (world > 1).then_some(round).into_iter()
}
