//! Recursive halving and doubling for any world: contributions meet in binomial trees of depth ⌈lg N⌉.

use super::{Lead, Round, Walk, after, before, distances};

/// All-reduce over `world` blocks in each of `segments` segments, one after the other. The sums of block `rank` become
/// complete on `rank`.
///
/// Reduce-scatter, d = 2^k … 2, 1: a rank still answers for the blocks less than 2d places ahead; those from d on go
/// to the rank d places ahead, for which they are less than d ahead. A block that lies j places ahead thus moves by
/// the binary digits of j. All-gather, d = 1, 2 … 2^k: a rank has the blocks less than d places behind and gives them
/// to the rank d places ahead.
pub(crate) fn halving(rank: usize, world: usize, segments: usize) -> impl Iterator<Item = Round> {
    (0..segments).flat_map(move |segment| in_segment(rank, world, segment))
}

fn in_segment(rank: usize, world: usize, segment: usize) -> impl Iterator<Item = Round> {
    let exponents = distances(world);
    let walk = move |first, count| Walk::up(first, count).in_segments(segment..segment + 1);
    let scatter = (0..exponents).rev().map(move |k| {
        let d = 1usize << k;
        let count = d.min(world - d);
        Round {
            send: Some((d as u32, walk(after(rank, d, world), count))),
            receive: Some((d as u32, walk(rank, count))),
            adds: count,
            lead: Lead::All,
            settle: None,
        }
    });
    let gather = (0..exponents).map(move |k| {
        let d = 1usize << k;
        let count = d.min(world - d);
        Round {
            send: Some((d as u32, walk(before(rank, count - 1, world), count))),
            receive: Some((d as u32, walk(before(rank, d + count - 1, world), count))),
            adds: 0,
            lead: Lead::All,
            settle: (k == 0).then_some((segment, rank)),
        }
    });
    scatter.chain(gather)
}
