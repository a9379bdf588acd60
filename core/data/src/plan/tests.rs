//! What must hold of every plan: exactly once, even, the same every time, whoever asks.

use super::*;
use crate::formats::{BinaryCodec, Codec, Element, LabelPlace, RecordSchema, TargetKind};
use crate::index::{Chunk, DatasetIndex};
use proptest::prelude::*;

/// An index of binary records, with chunks of the sizes given.
fn index(chunks: &[u32]) -> DatasetIndex {
    let codec = BinaryCodec { element: Element::U8, values: 10, planes: 0, label: LabelPlace::None };
    let schema = RecordSchema { shape: vec![10], target: TargetKind::None, targets: 0 };
    let mut first_record = 0;
    let chunks = chunks.iter().map(|records| {
        let (offset, bytes) = (first_record * 10, u64::from(*records) * 10);
        first_record += u64::from(*records);
        Chunk {
            file: 0,
            records: *records,
            first_record: first_record - u64::from(*records),
            offset,
            bytes,
            first_line: 0,
        }
    });
    DatasetIndex::for_tests(schema, Codec::Binary(codec), chunks.collect())
}

fn options(lanes: usize, batch_size: usize, window_bytes: u64) -> PlanOptions {
    let order = Order::Shuffled { seed: 7, window_bytes };
    PlanOptions { lanes, batch_size, order, deal: Deal::FileOrder }
}

/// Global record numbers of one micro-batch.
fn ids(index: &DatasetIndex, plan: &Plan, epoch: u64, step: u64, lane: usize) -> Vec<u64> {
    let order = plan.lane_order(epoch, lane);
    let range = plan.micro_batch(step, lane);
    range
        .map(|position| {
            let window = order.window(order.window_of(position)).unwrap();
            let (piece, record) = window.record(position);
            index.chunks()[window.pieces[piece].chunk as usize].first_record + u64::from(record)
        })
        .collect()
}

fn epoch_ids(index: &DatasetIndex, plan: &Plan, epoch: u64) -> Vec<Vec<u64>> {
    (0..plan.lanes())
        .map(|lane| {
            let order = plan.lane_order(epoch, lane);
            let windows = (0..order.windows()).map(|number| order.window(number).unwrap());
            windows
                .flat_map(|window| {
                    let first =
                        |piece: usize| index.chunks()[window.pieces[piece].chunk as usize].first_record;
                    let positions = window.positions.clone();
                    let ids: Vec<u64> = positions
                        .map(|position| {
                            let (piece, record) = window.record(position);
                            first(piece) + u64::from(record)
                        })
                        .collect();
                    ids
                })
                .collect()
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_record_is_in_one_micro_batch_of_one_step(
        chunks in proptest::collection::vec(1u32..200, 1..20),
        (lanes, batch) in (1usize..40, 1usize..300),
        window in 1u64..3_000,
        epoch in 0u64..3,
    ) {
        let index = index(&chunks);
        let plan = Plan::new(&index, &options(lanes, batch, window)).unwrap();
        let total = index.records();
        prop_assert_eq!(plan.steps_per_epoch(), total.div_ceil(batch as u64));
        let orders = epoch_ids(&index, &plan, epoch);
        let mut taken = vec![0u64; lanes];
        let mut used = Vec::new();
        for step in 0..plan.steps_per_epoch() {
            let ranges: Vec<_> = (0..lanes).map(|lane| plan.micro_batch(step, lane)).collect();
            let sizes: Vec<u64> = ranges.iter().map(|range| range.end - range.start).collect();
            prop_assert_eq!(sizes.iter().sum::<u64>(), plan.step_records(step));
            let last = step + 1 == plan.steps_per_epoch();
            prop_assert!(last || plan.step_records(step) == batch as u64);
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{:?}", sizes);
            for (lane, range) in ranges.into_iter().enumerate() {
                prop_assert_eq!(range.start, taken[lane], "a lane is used from front to back");
                taken[lane] = range.end;
                prop_assert!(range.is_empty() || plan.step_of(lane, range.start) == step);
                used.extend_from_slice(&orders[lane][range.start as usize..range.end as usize]);
            }
        }
        used.sort_unstable();
        prop_assert_eq!(used, (0..total).collect::<Vec<_>>());
        for (lane, order) in orders.iter().enumerate() {
            prop_assert_eq!(order.len() as u64, plan.lane_records(lane));
            prop_assert!(order.iter().all(|id| plan.lane_range(lane).contains(id)), "lanes keep their records");
        }
        let sizes = (0..lanes).map(|lane| plan.lane_records(lane));
        prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
    }

    #[test]
    fn grouped_chunks_deal_the_same_records(chunks in proptest::collection::vec(1u32..50, 1..20), lanes in 1usize..9) {
        let index = index(&chunks);
        let order: Vec<u32> = (0..chunks.len() as u32).rev().collect();
        let options = PlanOptions { deal: Deal::ByHost(order), order: Order::Sequential, ..options(lanes, 5, 1) };
        let plan = Plan::new(&index, &options).unwrap();
        let mut all = epoch_ids(&index, &plan, 0).concat();
        let last = index.chunks().last().unwrap();
        prop_assert_eq!(all[0], last.first_record, "the last chunk is dealt first");
        all.sort_unstable();
        prop_assert_eq!(all, (0..index.records()).collect::<Vec<_>>());
    }
}

#[test]
fn orders_depend_on_seed_epoch_and_lane_alone() {
    let index = index(&[100; 10]);
    let shuffled = options(4, 32, 1 << 20);
    let plan = Plan::new(&index, &shuffled).unwrap();
    let again = Plan::new(&index, &PlanOptions { batch_size: 7, ..shuffled.clone() }).unwrap();
    assert_eq!(epoch_ids(&index, &plan, 3), epoch_ids(&index, &again, 3), "not on the batch size");
    assert_ne!(epoch_ids(&index, &plan, 3), epoch_ids(&index, &plan, 4));
    let order = Order::Shuffled { seed: 8, window_bytes: 1 << 20 };
    let other = Plan::new(&index, &PlanOptions { order, ..shuffled.clone() }).unwrap();
    assert_ne!(epoch_ids(&index, &plan, 3), epoch_ids(&index, &other, 3));
    let shift = |ids: &[u64], by: u64| ids.iter().map(|id| id - by).collect::<Vec<_>>();
    let lanes = epoch_ids(&index, &plan, 0);
    assert_ne!(shift(&lanes[1], 250), lanes[0], "lanes are shuffled differently");
    // The first ids of seed 7, epoch 0, lane 0: a change of these breaks the resuming of old jobs.
    assert_eq!(ids(&index, &plan, 0, 0, 0), FIRST_IDS);
}

const FIRST_IDS: [u64; 8] = [163, 243, 105, 120, 81, 25, 100, 124];

#[test]
fn a_lane_that_fits_is_permuted_as_a_whole_and_a_large_one_by_windows() {
    let index = index(&[100; 10]);
    let whole = Plan::new(&index, &options(1, 32, 10_000)).unwrap();
    assert_eq!(whole.lane_order(0, 0).windows(), 1);
    let ids = &epoch_ids(&index, &whole, 0)[0];
    // Of a random permutation, about half of the first half come from the first half.
    let low = ids[..500].iter().filter(|id| **id < 500).count();
    assert!((200..300).contains(&low), "{low}");
    let windows = Plan::new(&index, &options(1, 32, 2_500)).unwrap();
    let order = windows.lane_order(0, 0);
    assert_eq!(order.windows(), 5);
    let window = order.window(1).unwrap();
    assert_eq!((window.positions.clone(), window.pieces.len()), (200..400, 2));
    let first_uses = window.by_first_use();
    assert_eq!(first_uses.len(), 2);
    assert_eq!(first_uses[0], window.record(200).0);
    assert_eq!(order.window_of(0), 0);
    assert_eq!((order.window_of(199), order.window_of(200), order.window_of(999)), (0, 1, 4));
    assert!(order.window(5).is_none());
}

#[test]
fn permutations_are_drawn_evenly() {
    // 3 records have 6 permutations; over many epochs each comes up about as often.
    let index = index(&[3]);
    let plan = Plan::new(&index, &options(1, 3, 1_000)).unwrap();
    let mut counts = std::collections::HashMap::new();
    for epoch in 0..6_000 {
        *counts.entry(epoch_ids(&index, &plan, epoch)[0].clone()).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (880..1_120).contains(count)), "{counts:?}");
}

#[test]
fn fewer_records_than_lanes_or_batches_work() {
    for (records, lanes, batch) in [(3, 16, 100), (3, 16, 2), (1, 1, 1), (17, 16, 1), (5, 2, 100)] {
        let index = index(&[records]);
        let plan = Plan::new(&index, &options(lanes, batch, 100)).unwrap();
        let mut all: Vec<u64> = Vec::new();
        for step in 0..plan.steps_per_epoch() {
            (0..lanes).for_each(|lane| all.extend(ids(&index, &plan, 0, step, lane)));
        }
        all.sort_unstable();
        assert_eq!(all, (0..u64::from(records)).collect::<Vec<_>>(), "{records} {lanes} {batch}");
        assert!((0..lanes).all(|lane| plan.micro_batch(plan.steps_per_epoch(), lane).is_empty()));
    }
}

#[test]
fn workers_with_neighbouring_lanes_share_a_batch_evenly() {
    for (workers, lanes, batch) in [(4, 16, 100), (3, 6, 128), (8, 16, 3), (5, 10, 33)] {
        let index = index(&[10_000]);
        let plan = Plan::new(&index, &options(lanes, batch, 1 << 20)).unwrap();
        for step in 0..50 {
            let loads: Vec<u64> = (0..workers)
                .map(|worker| {
                    let lanes = worker * lanes / workers..(worker + 1) * lanes / workers;
                    lanes.map(|lane| plan.micro_batch(step, lane)).map(|range| range.end - range.start).sum()
                })
                .collect();
            let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
            assert!(spread <= 2, "{workers} workers, {lanes} lanes, batch {batch}, step {step}: {loads:?}");
        }
    }
}

#[test]
fn sequential_plans_keep_the_order_of_the_files() {
    let index = index(&[7, 30, 1, 12]);
    let plan = Plan::new(&index, &PlanOptions { order: Order::Sequential, ..options(3, 8, 0) }).unwrap();
    assert_eq!(epoch_ids(&index, &plan, 0).concat(), (0..50).collect::<Vec<_>>());
    assert_eq!((plan.position(0), plan.position(6), plan.position(15)), ((0, 0), (0, 6), (2, 1)));
}

#[test]
fn plans_that_can_not_be_are_refused() {
    let index = index(&[5, 5]);
    assert!(Plan::new(&index, &options(0, 1, 1)).is_err());
    assert!(Plan::new(&index, &options(1, 0, 1)).is_err());
    for order in [vec![0], vec![0, 0], vec![0, 1, 2]] {
        assert!(Plan::new(&index, &PlanOptions { deal: Deal::ByHost(order), ..options(1, 1, 1) }).is_err());
    }
}
