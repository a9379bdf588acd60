//! The ring on its own thread.
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_ring::{
    Bucket, Reducer, Ring, RingError, Wire,
    memory::{Failure, MemoryOptions, rings},
};

fn on_all(rings: Vec<Ring>, work: impl Fn(Reducer) + Sync) {
    std::thread::scope(|scope| {
        for ring in rings {
            scope.spawn(|| work(Reducer::new(ring, Wire::F32, 4).unwrap()));
        }
    });
}

#[test]
fn buckets_come_back_in_order_in_their_own_vectors() {
    on_all(rings(3, &MemoryOptions::default()).unwrap(), |mut reducer| {
        let mut free: Vec<Vec<f32>> = (0..3).map(|_| vec![0.0; 50_000]).collect();
        let places: Vec<*const f32> = free.iter().map(|vector| vector.as_ptr()).collect();
        for step in 0..10 {
            for (bucket, mut vector) in free.drain(..).enumerate().rev() {
                vector.fill((reducer.rank() + step * bucket) as f32);
                reducer.submit(bucket, vector).unwrap();
            }
            for bucket in [2, 1, 0] {
                let reduced = reducer.wait_next().unwrap();
                let Bucket::F32(vector) = reduced.values else { panic!("it was f32") };
                assert_eq!(reduced.bucket, bucket);
                assert!(vector.iter().all(|value| *value == (3 + 3 * step * bucket) as f32));
                assert_eq!(vector.as_ptr(), places[bucket]);
                free.insert(0, vector);
            }
        }
        assert_eq!(reducer.stats().operations, 30);
        let ring = reducer.finish().unwrap();
        assert_eq!(ring.stats().operations, 30);
    });
}

#[test]
fn integers_and_calls_share_the_queue() {
    on_all(rings(2, &MemoryOptions::default()).unwrap(), |mut reducer| {
        let rank = reducer.rank() as i64;
        reducer.submit(0, vec![rank, i64::MAX]).unwrap();
        let mut gathered = vec![0; 2];
        gathered = reducer
            .with_ring(move |ring| {
                ring.all_gather(&[ring.rank() as u8 + 40], &mut gathered).map(|()| gathered)
            })
            .unwrap()
            .unwrap();
        assert_eq!(gathered, [40, 41]);
        assert_eq!(reducer.wait_next().unwrap().values, Bucket::I64(vec![1, -2]));
        assert!(matches!(reducer.wait_next(), Err(RingError::Misuse(_))));
    });
}

#[test]
fn more_buckets_than_agreed_are_refused() {
    let ring = rings(1, &MemoryOptions::default()).unwrap().remove(0);
    let mut reducer = Reducer::new(ring, Wire::F32, 2).unwrap();
    reducer.submit(0, vec![1.0f32]).unwrap();
    reducer.submit(1, vec![2.0f32]).unwrap();
    assert!(matches!(reducer.submit(2, vec![3.0f32]), Err(RingError::Misuse(_))));
    assert_eq!(reducer.wait_next().unwrap().values, Bucket::F32(vec![1.0]));
    reducer.submit(2, vec![3.0f32]).unwrap();
    assert_eq!(reducer.outstanding(), 2);
}

#[test]
fn buckets_in_another_order_are_told_apart() {
    on_all(rings(2, &MemoryOptions::default()).unwrap(), |mut reducer| {
        let rank = reducer.rank();
        reducer.submit(rank, vec![1.0f32; 100]).unwrap();
        reducer.submit(1 - rank, vec![1.0f32; 100]).unwrap();
        let error = reducer.wait_next().unwrap_err();
        assert!(matches!(error, RingError::Mismatch { .. }), "{error}");
        assert!(error.to_string().contains("bucket 1"), "{error}");
    });
}

#[test]
fn after_a_failure_every_bucket_is_that_failure() {
    let failures = vec![Failure { rank: 2, after_bytes: 1_000_000, killed: true }];
    let options = MemoryOptions { failures, ..MemoryOptions::default() };
    on_all(rings(3, &options).unwrap(), |mut reducer| {
        for bucket in 0..4 {
            reducer.submit(bucket, vec![1.0f32; 200_000]).unwrap();
        }
        let results: Vec<_> = (0..4).map(|_| reducer.wait_next()).collect();
        let first = results.iter().position(Result::is_err).expect("rank 2 dies");
        for result in &results[first..] {
            let error = result.as_ref().unwrap_err();
            assert!(reducer.rank() == 2 || matches!(error, RingError::PeerLost { rank: 2, .. }), "{error}");
        }
        let mut ring = reducer.finish().unwrap();
        assert!(ring.barrier().is_err());
    });
}

#[test]
fn dropping_a_busy_reducer_ends_it_and_tells_the_others() {
    let mut rings = rings(2, &MemoryOptions::default()).unwrap();
    let other = rings.pop().unwrap();
    let mut reducer = Reducer::new(rings.pop().unwrap(), Wire::F32, 4).unwrap();
    reducer.submit(0, vec![1.0f32; 1_000_000]).unwrap();
    drop(reducer);
    let mut other = other;
    let error = other.all_reduce_f32(&mut vec![1.0; 1_000_000], Wire::F32).unwrap_err();
    assert!(matches!(error, RingError::Aborted { .. }), "{error}");
}
