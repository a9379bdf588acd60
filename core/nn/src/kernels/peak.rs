//! What the CPU can do at most: fused multiply-adds on registers alone, for benchmarks to be set against.

use super::Kernel;
use super::lanes::{LANES, Lanes};
use crate::team::Team;
use std::time::Instant;

/// Rounds of a measurement: some milliseconds.
const ROUNDS: usize = 500_000;
/// Measurements, of which the best counts.
const TRIES: usize = 8;

/// Floating-point operations per second of all threads of `team` together with its instructions, a multiply-add
/// counted as two; the best of several short measurements.
pub fn peak_flops(team: &mut Team) -> f64 {
    let isa = team.isa();
    let per_thread = (isa.run(Chains { rounds: 1 }).1 * ROUNDS * LANES * 2) as f64;
    let rate = |team: &mut Team| {
        let start = Instant::now();
        team.run(&|_, _| {
            std::hint::black_box(isa.run(Chains { rounds: std::hint::black_box(ROUNDS) }));
        });
        per_thread * team.threads() as f64 / start.elapsed().as_secs_f64()
    };
    (0..TRIES).map(|_| rate(team)).fold(0.0, f64::max)
}

/// Independent chains of multiply-adds. Returns a number that depends on all of them, and the multiply-adds of
/// a round.
struct Chains {
    rounds: usize,
}

impl Kernel for Chains {
    type Output = (f32, usize);

    #[inline(always)]
    fn run<V: Lanes>(self) -> (f32, usize) {
        // As many chains as hide the latency of four cycles on two units and fit into the registers.
        if V::WIDE { chains::<V, 16>(self.rounds) } else { chains::<V, 6>(self.rounds) }
    }
}

#[inline(always)]
fn chains<V: Lanes, const N: usize>(rounds: usize) -> (f32, usize) {
    let (by, plus) = (V::splat(0.999), V::splat(1e-3));
    let mut values: [V; N] = std::array::from_fn(|i| V::splat(i as f32));
    for _ in 0..rounds {
        for value in &mut values {
            *value = value.fma(by, plus);
        }
    }
    let sum = values.into_iter().fold(V::splat(0.0), |sum, value| sum.add(value));
    (sum.sum(), N)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_a_rate_that_a_cpu_can_have() {
        let peak = peak_flops(&mut Team::new(1).unwrap());
        assert!((1e8..1e13).contains(&peak), "{peak}");
    }
}
