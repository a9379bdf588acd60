//! What bf16 on the wire costs: the error of a sum, against the number of ranks.
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_ring::{
    Wire,
    memory::{MemoryOptions, rings},
};

/// Half a unit in the last place of bf16, relative: the worst that one rounding does.
const ROUNDING: f64 = 1.0 / 256.0;
const LENGTH: usize = 150_000;

/// Values of rank `rank`: uniform, from 0 to 1 or from −1 to 1.
fn gradient(rank: usize, signed: bool) -> Vec<f32> {
    let mut state = (rank as u64 + 11).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    };
    (0..LENGTH).map(|_| if signed { 2.0 * next() - 1.0 } else { next() }).collect()
}

fn sums(gradients: &[Vec<f32>]) -> Vec<f64> {
    (0..LENGTH).map(|at| gradients.iter().map(|gradient| f64::from(gradient[at])).sum()).collect()
}

fn root_mean_square(values: impl Iterator<Item = f64>) -> f64 {
    (values.map(|value| value * value).sum::<f64>() / LENGTH as f64).sqrt()
}

/// Error of the all-reduce over `world` ranks: (root mean square over that of the sums, worst over Σ|x|).
fn error(world: usize, signed: bool) -> (f64, f64) {
    let options = MemoryOptions { chunk_bytes: 64 << 10, buffer_bytes: 1 << 20, ..MemoryOptions::default() };
    let gradients: Vec<Vec<f32>> = (0..world).map(|rank| gradient(rank, signed)).collect();
    let results: Vec<Vec<f32>> = std::thread::scope(|scope| {
        let rings = rings(world, &options).unwrap().into_iter();
        let threads: Vec<_> = rings
            .zip(&gradients)
            .map(|(mut ring, gradient)| {
                scope.spawn(move || {
                    let mut data = gradient.clone();
                    ring.all_reduce_f32(&mut data, Wire::Bf16).unwrap();
                    data
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| *result == results[0]), "the same bits on all ranks");
    assert!(results[0].iter().all(|value| value.to_bits() & 0xffff == 0), "every result is a bf16");

    let exact = sums(&gradients);
    let errors = || results[0].iter().zip(&exact).map(|(ours, exact)| f64::from(*ours) - exact);
    let relative = root_mean_square(errors()) / root_mean_square(exact.iter().copied());
    let worst = errors()
        .enumerate()
        .map(|(at, error)| error.abs() / gradients.iter().map(|g| f64::from(g[at].abs())).sum::<f64>())
        .fold(0.0, f64::max);
    (relative, worst)
}

/// What a ring that rounds at each hop would give: the reason why bf16 does not go round it.
fn error_round_the_ring(world: usize) -> f64 {
    let gradients: Vec<Vec<f32>> = (0..world).map(|rank| gradient(rank, false)).collect();
    let exact = sums(&gradients);
    let chain = |at: usize| {
        let round = |value: f32| half::bf16::from_f32(value).to_f32();
        gradients.iter().fold(0.0, |partial, gradient| round(partial) + gradient[at])
    };
    let errors = (0..LENGTH).map(|at| f64::from(half::bf16::from_f32(chain(at)).to_f32()) - exact[at]);
    root_mean_square(errors) / root_mean_square(exact.iter().copied())
}

#[test]
fn the_error_does_not_grow_with_the_number_of_ranks() {
    let worlds = [2, 3, 4, 8, 16, 31, 64];
    let same_sign: Vec<(f64, f64)> = worlds.iter().map(|world| error(*world, false)).collect();
    let signed: Vec<(f64, f64)> = worlds.iter().map(|world| error(*world, true)).collect();
    println!("world  same sign: rms, worst   random sign: rms, worst");
    for (world, (same, random)) in worlds.iter().zip(same_sign.iter().zip(&signed)) {
        println!("{world:5}  {:.5} {:.5}   {:.5} {:.5}", same.0, same.1, random.0, random.1);
    }
    for (world, (same, random)) in worlds.iter().zip(same_sign.iter().zip(&signed)) {
        // One sign: no growth. Random signs: √(lg N) at most.
        let hops = f64::from(world.next_power_of_two().ilog2());
        assert!(same.0 < 1.25 * same_sign[0].0, "world {world}: {} after {}", same.0, same_sign[0].0);
        assert!(
            random.0 < 1.25 * hops.sqrt() * signed[0].0,
            "world {world}: {} after {}",
            random.0,
            signed[0].0
        );
        assert!(same.1.max(random.1) < (hops + 1.0) * ROUNDING, "world {world}");
    }
    let (here, there) = (error_round_the_ring(2), error_round_the_ring(64));
    println!("round the ring: {here:.5} at 2, {there:.5} at 64");
    assert!(there > 2.5 * here, "the ring would do as well: {here} at 2, {there} at 64");
}
