//! Which algorithm an all-reduce takes: a pure function of the size and the world, hence the same on all ranks.

use super::distances;

/// How an all-reduce is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Everybody gets everything and adds it.
    Exchange,
    /// Halving and doubling.
    Halving,
    /// Round the ring.
    Ring,
}

/// α/β: what a message costs however short it is, in bytes of which the link moves as many in that time. Measured over
/// loopback with more ranks than cores (about 12 µs at 2.5 GB/s); 25 Gb/s Ethernet is alike.
const MESSAGE_BYTES: u128 = 32 << 10;

/// The ring's additional messages may cost at most this part of its bytes: its neighbours' short ways are worth some.
const RING_SURCHARGE: u128 = 2;

/// Blocks of a segment have about this many bytes, so that what was just reduced, or is about to be replaced, is still in
/// a cache when it is sent or received. Less leaves too little under way: with four ranks on two cores, 64 MiB went round
/// at 1.56 GB/s with 4 MiB, at 1.47 with 2 and at 1.39 with 1; two ranks showed no difference.
const SEGMENT_BLOCK_BYTES: usize = 4 << 20;

/// In how many segments a vector of `bytes` is worked on.
pub(crate) fn segments(bytes: usize, world: usize) -> usize {
    (bytes / (SEGMENT_BLOCK_BYTES * world)).max(1)
}

/// The algorithm for `bytes` of memory. `rounded`: whether the wire rounds, so that hops cost precision.
pub(crate) fn choose(bytes: usize, world: usize, rounded: bool) -> Algorithm {
    let (rounds, n, bytes) = (u128::from(distances(world)), world as u128, bytes as u128);
    let traffic = 2 * (n - 1) * (if rounded { bytes / 2 } else { bytes }) / n;
    // What is exchanged is never rounded, and everybody adds all of it: n vectors pass through each rank.
    let exchange = rounds * MESSAGE_BYTES + n * bytes;
    let halving = 2 * rounds * MESSAGE_BYTES + traffic;
    let ring = 2 * (n - 1) * MESSAGE_BYTES + traffic;
    if exchange <= halving {
        Algorithm::Exchange
    } else if rounded || ring - halving > traffic / RING_SURCHARGE {
        Algorithm::Halving
    } else {
        Algorithm::Ring
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_vectors_are_exchanged_large_ones_go_round_and_rounded_ones_never_do() {
        assert_eq!(choose(8 << 10, 4, false), Algorithm::Exchange);
        assert_eq!(choose(64 << 10, 4, false), Algorithm::Halving);
        assert_eq!(choose(256 << 10, 4, false), Algorithm::Ring);
        assert_eq!(choose(8 << 10, 64, false), Algorithm::Halving);
        assert_eq!(choose(2 << 10, 64, false), Algorithm::Exchange);
        assert_eq!(choose(64 << 10, 3, false), Algorithm::Ring);
        for world in 2..100 {
            assert_eq!(choose(0, world, false), Algorithm::Exchange);
            assert_eq!(choose(256 << 20, world, false), Algorithm::Ring);
            assert_eq!(choose(256 << 20, world, true), Algorithm::Halving);
            assert_ne!(choose(usize::MAX, world, true), Algorithm::Ring);
        }
    }
}
