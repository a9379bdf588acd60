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

/// α: what a message costs however short it is, to a byte's worth of β. Loopback with more ranks than cores and
/// 25 Gb/s Ethernet are alike here: 20 µs and 3 GB/s.
const MESSAGE_BYTES: u128 = 64 << 10;

/// From this many bytes a block the ring's 2(N−1) messages vanish against its bytes, and its neighbours' short ways
/// count more.
const RING_BLOCK_BYTES: usize = 128 << 10;

/// The algorithm for `bytes` of memory. `rounded`: whether the wire rounds, so that hops cost precision.
pub(crate) fn choose(bytes: usize, world: usize, rounded: bool) -> Algorithm {
    if !rounded && bytes / world >= RING_BLOCK_BYTES {
        return Algorithm::Ring;
    }
    // Costs in bytes: messages · α/β plus bytes. An exchange is never rounded.
    let (rounds, others, n) = (u128::from(distances(world)), world as u128 - 1, world as u128);
    let wire = (if rounded { bytes / 2 } else { bytes }) as u128;
    let exchange = rounds * MESSAGE_BYTES + others * bytes as u128;
    let halving = 2 * rounds * MESSAGE_BYTES + 2 * others * wire / n;
    if exchange <= halving { Algorithm::Exchange } else { Algorithm::Halving }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_vectors_are_exchanged_large_ones_go_round_and_rounded_ones_never_do() {
        assert_eq!(choose(8 << 10, 4, false), Algorithm::Exchange);
        assert_eq!(choose(8 << 10, 64, false), Algorithm::Halving);
        assert_eq!(choose(1 << 10, 64, false), Algorithm::Exchange);
        for world in 2..100 {
            assert_eq!(choose(0, world, false), Algorithm::Exchange);
            assert_eq!(choose(256 << 20, world, false), Algorithm::Ring);
            assert_eq!(choose(256 << 20, world, true), Algorithm::Halving);
            assert_ne!(choose(usize::MAX, world, true), Algorithm::Ring);
        }
    }
}
