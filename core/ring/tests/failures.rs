//! Ranks that die, hang or are told to stop: everybody learns it at once, and who it was.
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_ring::{
    Abort, Lost, Ring, RingError, Wire,
    memory::{Failure, MemoryOptions, rings},
};
use std::time::{Duration, Instant};

/// More than any failure needs, however busy the machine: far less than the I/O timeout.
const AT_ONCE: Duration = Duration::from_secs(2);
const LENGTH: usize = 1 << 20;

/// Reduces over and over on every rank until that fails; errors and when they came, by rank.
fn until_failure(rings: Vec<Ring>, wire: Wire) -> Vec<(RingError, Instant)> {
    let work = |mut ring: Ring| {
        let mut data = vec![1.0; LENGTH];
        loop {
            if let Err(error) = ring.all_reduce_f32(&mut data, wire) {
                let again = ring.all_reduce_f32(&mut data, wire).unwrap_err();
                assert_eq!(again.to_string(), error.to_string(), "a failed ring stays failed");
                return (error, Instant::now());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = rings.into_iter().map(|ring| scope.spawn(|| work(ring))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn everybody_learns_at_once_who_was_killed() {
    for (world, wire) in [(2, Wire::F32), (4, Wire::F32), (5, Wire::Bf16), (16, Wire::F32)] {
        for after_bytes in [0, 100, 3_000_000] {
            let dead = world / 2;
            let failures = vec![Failure { rank: dead, after_bytes, killed: true }];
            let options = MemoryOptions { failures, ..MemoryOptions::default() };
            let start = Instant::now();
            let results = until_failure(rings(world, &options).unwrap(), wire);
            for (rank, (error, _)) in results.iter().enumerate().filter(|(rank, _)| *rank != dead) {
                let RingError::PeerLost { rank: lost, cause } = error else { panic!("rank {rank}: {error}") };
                assert_eq!(*lost, dead, "rank {rank} of {world} after {after_bytes}: {cause}");
            }
            assert!(start.elapsed() < AT_ONCE + Duration::from_secs(2), "{:?}", start.elapsed());
        }
    }
}

#[test]
fn a_silent_rank_is_named_after_the_timeout() {
    for world in [2, 3, 6] {
        let failures = vec![Failure { rank: 1, after_bytes: 2_500_000, killed: false }];
        let io_timeout = Duration::from_millis(400);
        let options = MemoryOptions { failures, io_timeout, ..MemoryOptions::default() };
        let results = until_failure(rings(world, &options).unwrap(), Wire::F32);
        for (rank, (error, _)) in results.iter().enumerate().filter(|(rank, _)| *rank != 1) {
            let RingError::Timeout { rank: silent, waited } = error else { panic!("rank {rank}: {error}") };
            assert_eq!(*silent, 1, "rank {rank} of {world}");
            assert!(*waited >= Duration::from_millis(400) && *waited < AT_ONCE, "{waited:?}");
        }
    }
}

#[test]
fn an_abort_ends_the_operation_on_all_ranks() {
    let mut rings = rings(5, &MemoryOptions::default()).unwrap();
    // Rank 4 never comes, so the others are in the middle of an operation.
    let absent = rings.pop().unwrap();
    let abort: Abort = rings[1].abort_handle();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        let at = Instant::now();
        abort.abort("generation 2 begins");
        abort.abort("a second reason is not the first");
        at
    });
    let results = until_failure(rings, Wire::F32);
    let at = stopper.join().unwrap();
    for (rank, (error, when)) in results.iter().enumerate() {
        assert_eq!(error.to_string(), "aborted: generation 2 begins", "rank {rank}");
        assert!(when.duration_since(at) < AT_ONCE, "rank {rank}");
    }
    drop(absent);
}

#[test]
fn an_abort_before_the_operation_counts_as_well() {
    let mut rings = rings(2, &MemoryOptions::default()).unwrap();
    rings[0].abort_handle().abort("not now");
    assert_eq!(rings[0].barrier().unwrap_err().to_string(), "aborted: not now");
    assert_eq!(rings[1].barrier().unwrap_err().to_string(), "aborted: not now");
}

#[test]
fn a_rank_that_leaves_in_peace_takes_nothing_from_the_others() {
    // A slow link: the last bytes arrive after their sender has left.
    let options = MemoryOptions { delay: Duration::from_millis(5), ..MemoryOptions::default() };
    let finish = |mut ring: Ring| {
        let mut data = vec![1.0; 200_000];
        ring.all_reduce_f32(&mut data, Wire::F32).unwrap();
        assert!(data.iter().all(|value| *value == 3.0));
        ring
    };
    let rings = rings(3, &options).unwrap();
    std::thread::scope(|scope| {
        for ring in rings {
            scope.spawn(|| drop(finish(ring)));
        }
    });
}

#[test]
fn whoever_goes_on_without_a_rank_that_left_is_told_so() {
    let mut rings = rings(2, &MemoryOptions::default()).unwrap();
    drop(rings.pop());
    let error = rings[0].all_reduce_f32(&mut [1.0; 10], Wire::F32).unwrap_err();
    assert!(matches!(error, RingError::PeerLost { rank: 1, cause: Lost::Left }), "{error}");
}

#[test]
fn the_time_from_death_to_knowledge_is_milliseconds() {
    // Median of several: the best that a busy machine shows.
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let mut rings = rings(8, &MemoryOptions::default()).unwrap();
            let victim = rings.pop().unwrap();
            let killer = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(20));
                let at = Instant::now();
                victim.abort_handle().abort("stop");
                at
            });
            let results = until_failure(rings, Wire::F32);
            let at = killer.join().unwrap();
            results.iter().map(|(_, when)| when.saturating_duration_since(at)).max().unwrap()
        })
        .collect();
    times.sort();
    println!("8 ranks know after {:?} (median), {:?} (worst)", times[4], times[8]);
    assert!(times[4] < Duration::from_millis(50), "{times:?}");
}
