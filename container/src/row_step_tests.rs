//! Tests of steps of models with tables whose gradient are single rows, on one, two and three ranks.

use crate::step::Stepper;
use ringspin_data::formats::Targets;
use ringspin_data::reader::Batch;
use ringspin_job::{JobSpec, Settings};
use ringspin_nn::{Model, Registry, Shape};
use ringspin_ring::memory::{MemoryOptions, rings};
use ringspin_ring::{Reducer, Wire};
use std::collections::BTreeMap;
use std::sync::Arc;

const LANES: usize = 6;
const RECORDS: usize = 50;

fn job(sparse: &str, defines: &[&str]) -> JobSpec {
    let text = format!(
        "epochs = 2\nlanes = {LANES}\nbatch_size = 8\n[input]\npath = \"d\"\n[output]\npath = \"o\"\n\
         [optimizer]\nname = \"adam\"\nlr = 0.02\n[loss]\nname = \"bce_with_logits\"\n\
         [model]\nname = \"neumf\"\nusers = 23\nitems = 40\nmf = 3\nmlp = [4, 5]\nsparse = \"{sparse}\"\n"
    );
    let mut settings = Settings::new();
    settings.file("job.toml", &text);
    defines.iter().for_each(|define| settings.define(define));
    JobSpec::resolve(settings).unwrap()
}

/// The micro-batches of some lanes in a batch of these records, counted out round and round.
fn micro_batches(lanes: &[usize], records: std::ops::Range<usize>) -> Vec<Batch> {
    let of = |lane: usize| records.clone().filter(move |record| record % LANES == lane);
    let batch = |lane: &usize| Batch {
        lane: *lane,
        step: 0,
        epoch: 0,
        inputs: of(*lane).flat_map(|r| [(r * 7 % 11) as f32, (r * r % 31) as f32]).collect(),
        targets: Targets::Values(of(*lane).map(|record| (record % 2) as f32).collect()),
        records: of(*lane).map(|record| record as u64).collect(),
    };
    lanes.iter().map(batch).collect()
}

/// Weights by the parameters' names.
type Weights = BTreeMap<String, Vec<f32>>;

fn train(job: &JobSpec, reducer: Option<Reducer>, lanes: &[usize]) -> Weights {
    let (registry, input) = (Registry::standard(), Shape::new(&[2]).unwrap());
    let model = Arc::new(Model::build(&registry, &job.model, &input, &job.loss).unwrap());
    let mut stepper = Stepper::new(&registry, job, Arc::clone(&model), RECORDS as u64, reducer)
        .unwrap_or_else(|e| panic!("{e:?}"));
    for _ in 0..job.epochs {
        for start in (0..RECORDS).step_by(job.batch_size) {
            let batch = micro_batches(lanes, start..RECORDS.min(start + job.batch_size));
            stepper.take(&batch).unwrap_or_else(|e| panic!("{e:?}"));
        }
        stepper.check_replicas().unwrap_or_else(|e| panic!("{e:?}"));
    }
    let weights = stepper.weights();
    let named = model.parameters().iter().map(|p| (p.name.clone(), weights[p.range.clone()].to_vec()));
    let named = named.collect();
    stepper.finish().unwrap_or_else(|e| panic!("{e:?}"));
    named
}

/// What every rank of a world of `world` comes to.
fn on(world: usize, job: &JobSpec) -> Vec<Weights> {
    if world == 1 {
        return vec![train(job, None, &(0..LANES).collect::<Vec<_>>())];
    }
    let rings = rings(world, &MemoryOptions::default()).unwrap();
    std::thread::scope(|scope| {
        let ranks = rings.into_iter().enumerate().map(|(rank, ring)| {
            scope.spawn(move || {
                let reducer = Reducer::new(ring, Wire::F32, crate::step::BUCKETS_UNDER_WAY).unwrap();
                // Of three, the last has none.
                let lanes: Vec<usize> = (0..LANES).filter(|lane| (lane * lane) % world == rank).collect();
                train(job, Some(reducer), &lanes)
            })
        });
        let ranks: Vec<_> = ranks.collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn distance(a: &Weights, b: &Weights) -> f32 {
    let pairs = a.iter().zip(b).flat_map(|((name, a), (other, b))| {
        assert_eq!((name, a.len()), (other, b.len()));
        a.iter().zip(b).map(|(a, b)| (a - b).abs())
    });
    pairs.fold(0.0, f32::max)
}

const WAYS: [&[&str]; 4] = [
    &[],
    &["accumulate_steps=3", "clip_norm=0.05", "ema_decay=0.5"],
    &[
        "optimizer.name=sgd",
        "optimizer.momentum=0.9",
        "optimizer.groups[0].match=*embed*",
        "optimizer.groups[0].l2=0.1",
    ],
    &["optimizer.name=adagrad", "loss.pos_weight=[3.0]"],
];

#[test]
fn reproducible_weights_are_the_same_bits_on_any_number_of_ranks() {
    for way in WAYS {
        for sparse in ["exact", "lazy"] {
            let defines = [&["numerics=reproducible"], way].concat();
            let job = job(sparse, &defines);
            let expected = on(1, &job).remove(0);
            for world in [2, 3] {
                assert!(
                    on(world, &job).iter().all(|rank| *rank == expected),
                    "{sparse} {way:?}, {world} ranks"
                );
            }
        }
    }
}

#[test]
fn ranks_agree_and_rows_do_what_dense_gradients_do() {
    for way in WAYS {
        for mode in ["numerics=fast", "numerics=reproducible"] {
            let defines = [&[mode], way].concat();
            let dense = on(1, &job("no", &defines)).remove(0);
            let exact = job("exact", &defines);
            for world in [1, 2, 3] {
                let ranks = on(world, &exact);
                assert!(ranks.iter().all(|rank| *rank == ranks[0]), "{way:?}, {mode}: replicas");
                let distance = distance(&ranks[0], &dense);
                assert!(distance < 1e-5, "{way:?}, {mode}, {world} ranks: {distance}");
            }
        }
    }
}
