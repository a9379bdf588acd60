//! All collectives among threads with links in memory: any world, any length, transfers cut anywhere.
#![allow(clippy::unwrap_used)] // a test may panic

use proptest::prelude::*;
use ringspin_ring::{
    Ring, RingError, Wire,
    memory::{MemoryOptions, rings},
};

/// Runs `work` on every rank of a world, each on its thread; results by rank.
fn on_all<T: Send>(world: usize, options: &MemoryOptions, work: impl Fn(Ring) -> T + Sync) -> Vec<T> {
    let rings = rings(world, options).unwrap();
    std::thread::scope(|scope| {
        let threads: Vec<_> = rings.into_iter().map(|ring| scope.spawn(|| work(ring))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// Values that depend on rank and place, the same in every run.
fn values(rank: usize, length: usize) -> impl Iterator<Item = f32> {
    let mut state = (rank as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..length).map(move |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// The sum over ranks, in f64.
fn exact_sum(world: usize, length: usize) -> Vec<f64> {
    let mut sums = vec![0.0; length];
    for rank in 0..world {
        sums.iter_mut().zip(values(rank, length)).for_each(|(sum, value)| *sum += f64::from(value));
    }
    sums
}

fn check_f32(world: usize, length: usize, wire: Wire, options: &MemoryOptions) {
    let results = on_all(world, options, |mut ring| {
        let mut data: Vec<f32> = values(ring.rank(), length).collect();
        ring.all_reduce_f32(&mut data, wire).unwrap();
        data
    });
    let tolerance = match wire {
        Wire::F32 => 1e-6 * world as f64,
        Wire::Bf16 => 0.004 * (f64::from(world.ilog2()) + 2.0) * world as f64,
    };
    for (ours, exact) in results[0].iter().zip(exact_sum(world, length)) {
        assert!(
            (f64::from(*ours) - exact).abs() <= tolerance,
            "{ours} for {exact}, world {world}, length {length}"
        );
    }
    for (rank, result) in results.iter().enumerate() {
        assert_eq!(bits(result), bits(&results[0]), "rank {rank} of {world}, length {length}");
    }
}

#[test]
fn vectors_of_every_short_length_and_world() {
    let options = MemoryOptions { buffer_bytes: 50, cut_seed: 3, ..MemoryOptions::default() };
    for world in 1..=9 {
        for length in [0, 1, 2, world - 1, world, world + 1, 33] {
            check_f32(world, length, Wire::F32, &options);
            check_f32(world, length, Wire::Bf16, &options);
        }
    }
}

#[test]
fn sixty_four_ranks_take_every_algorithm() {
    // 8 KiB a rank is halved, 16 MiB goes round the ring in 256 KiB blocks.
    let options = MemoryOptions { buffer_bytes: 1 << 20, chunk_bytes: 64 << 10, ..MemoryOptions::default() };
    for length in [10, 2048, 40_001, (4 << 20) + 7] {
        check_f32(64, length, Wire::F32, &options);
    }
    check_f32(64, 300_000, Wire::Bf16, &options);
    check_f32(37, (2 << 20) + 1, Wire::F32, &options);
}

#[test]
fn integer_sums_do_not_depend_on_the_world() {
    // 12 contributions, spread over ever more ranks: exactly the same sum, also when it wraps.
    let length = 100_003;
    let part = |lane: i64, at: i64| {
        lane.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_mul(at + 7).wrapping_add(i64::MAX / 9)
    };
    let sum_over = |world: usize| {
        let mut results = on_all(world, &MemoryOptions::default(), |mut ring| {
            let lanes = (0..12).filter(|lane| *lane as usize % ring.world() == ring.rank());
            let mut data = vec![0i64; length];
            for lane in lanes {
                data.iter_mut().zip(0..).for_each(|(sum, at)| *sum = sum.wrapping_add(part(lane, at)));
            }
            ring.all_reduce_i64(&mut data).unwrap();
            data
        });
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        results.swap_remove(0)
    };
    let alone = sum_over(1);
    for world in [2, 3, 5, 8, 12] {
        assert!(sum_over(world) == alone, "world {world}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]

    #[test]
    fn any_world_any_length_any_cut(
        world in 1usize..13,
        length in 0usize..60_000,
        buffer_bytes in 41usize..40_000,
        chunk_bytes in 4096usize..40_000,
        cut_seed: u64,
        rounded: bool,
    ) {
        let options = MemoryOptions { buffer_bytes, chunk_bytes, cut_seed, ..MemoryOptions::default() };
        check_f32(world, length, if rounded { Wire::Bf16 } else { Wire::F32 }, &options);
    }

    #[test]
    fn large_blocks_go_round_the_ring(world in 2usize..5, extra in 0usize..999, cut_seed: u64) {
        let options = MemoryOptions { cut_seed, ..MemoryOptions::default() };
        check_f32(world, world * 33_000 + extra, Wire::F32, &options);
    }

    #[test]
    fn blobs_and_broadcasts_arrive_whole(world in 1usize..10, length in 0usize..5000, root in 0usize..10, cut_seed: u64) {
        let options = MemoryOptions { buffer_bytes: 997, cut_seed, ..MemoryOptions::default() };
        let root = root % world;
        on_all(world, &options, |mut ring| {
            let rank = ring.rank();
            let blob: Vec<u8> = (0..length).map(|i| (i * 7 + rank) as u8).collect();
            let mut all = vec![0; length * world];
            ring.all_gather(&blob, &mut all).unwrap();
            for from in 0..world {
                assert!((0..length).all(|i| all[from * length + i] == (i * 7 + from) as u8));
            }
            ring.barrier().unwrap();
            let mut weights: Vec<f32> = values(rank, length).collect();
            ring.broadcast_f32(root, &mut weights).unwrap();
            assert_eq!(bits(&weights), bits(&values(root, length).collect::<Vec<_>>()));
            let mut bytes = blob.clone();
            ring.broadcast_bytes(root, &mut bytes).unwrap();
            assert!((0..length).all(|i| bytes[i] == (i * 7 + root) as u8));
        });
    }
}

#[test]
fn many_operations_in_a_row_with_ranks_that_come_late() {
    let options = MemoryOptions { delay: std::time::Duration::from_micros(300), ..MemoryOptions::default() };
    let all = on_all(5, &options, |mut ring| {
        for step in 0..30u64 {
            std::thread::sleep(std::time::Duration::from_micros(step * ring.rank() as u64 % 7 * 100));
            let mut sum = vec![1.0f32; 1000 * step as usize];
            ring.all_reduce_f32(&mut sum, Wire::F32).unwrap();
            assert!(sum.iter().all(|value| *value == 5.0));
            ring.barrier().unwrap();
        }
        ring.stats().clone()
    });
    for (rank, stats) in all.iter().enumerate() {
        assert_eq!(stats.operations, 60);
        let ranks: Vec<usize> = stats.neighbours.iter().map(|neighbour| neighbour.rank).collect();
        assert_eq!(ranks, [1, 2, 4, 4, 3, 1].map(|distance| (rank + distance) % 5));
        assert!(stats.neighbours.iter().all(|neighbour| neighbour.bytes > 0));
    }
}

#[test]
fn a_slow_rank_is_known_by_those_who_wait_for_it() {
    let all = on_all(4, &MemoryOptions::default(), |mut ring| {
        for _ in 0..5 {
            if ring.rank() == 2 {
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            ring.all_reduce_f32(&mut vec![1.0; 600_000], Wire::F32).unwrap();
        }
        ring.stats().clone()
    });
    // Rank 3 waits for the first byte of rank 2; rank 0 waits as long, but rank 3 had begun.
    let late = |rank: usize| {
        let stats: &ringspin_ring::RingStats = &all[rank];
        stats.neighbours.iter().find(|n| n.receives).map(|n| n.late.as_millis()).unwrap()
    };
    assert!(late(3) >= 300, "{}", late(3));
    assert!(late(0) < late(3) / 2 && late(1) < late(3) / 2, "{} {} {}", late(0), late(1), late(3));
}

#[test]
fn different_operations_are_told_apart_on_both_ranks() {
    let mismatch = |work: fn(Ring) -> Result<(), RingError>, text: &str| {
        for result in on_all(2, &MemoryOptions::default(), work) {
            let error = result.unwrap_err();
            assert!(matches!(error, RingError::Mismatch { .. }), "{error}");
            assert!(error.to_string().contains(text), "{error}");
        }
    };
    mismatch(|mut ring| ring.all_reduce_f32(&mut vec![0.0; 10 + ring.rank()], Wire::F32), "11 F32");
    mismatch(
        |mut ring| ring.all_reduce_f32(&mut vec![0.0; 1_000_000 + ring.rank()], Wire::F32),
        "1000001 F32",
    );
    mismatch(
        |mut ring| match ring.rank() {
            0 => ring.all_reduce_f32(&mut [0.0; 8], Wire::F32),
            _ => ring.all_reduce_i64(&mut [0; 4]),
        },
        "I64",
    );
    mismatch(
        |mut ring| match ring.rank() {
            0 => ring.barrier(),
            _ => ring.all_gather(&[], &mut []),
        },
        "barrier",
    );
    mismatch(
        |mut ring| match ring.rank() {
            0 => ring.all_reduce_f32(&mut vec![0.0; 1 << 20], Wire::F32),
            _ => ring.all_reduce_f32(&mut vec![0.0; 1 << 20], Wire::Bf16),
        },
        "Bf16",
    );
}
