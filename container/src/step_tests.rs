//! Tests of steps without data, storage or ApplicationMaster: one worker, and two with a ring between them.

use crate::step::{StepSums, Stepper};
use ringspin_data::formats::Targets;
use ringspin_data::reader::Batch;
use ringspin_job::{JobSecret, JobSpec, Settings};
use ringspin_nn::{Model, Registry, Shape};
use ringspin_ring::{Abort, Reducer, Ring, RingConfig, Wire};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

const LANES: usize = 2;
const RECORDS: usize = 29;
const INPUTS: usize = 3;

fn job(defines: &[&str]) -> JobSpec {
    let mut settings = Settings::new();
    settings.file(
        "job.toml",
        "epochs = 2\nlanes = 2\n[input]\npath = \"d\"\n[output]\npath = \"o\"\n[model]\nname = \"mlp\"\n\
         hidden = [5]\noutputs = 4\n[optimizer]\nlr = 0.1\nmomentum = 0.9\n",
    );
    defines.iter().for_each(|define| settings.define(define));
    JobSpec::resolve(settings).unwrap()
}

fn stepper(job: &JobSpec, reducer: Option<Reducer>) -> Stepper {
    let (registry, input) = (Registry::standard(), Shape::new(&[INPUTS]).unwrap());
    let model = Arc::new(Model::build(&registry, &job.model, &input, &job.loss).unwrap());
    Stepper::new(&registry, job, model, RECORDS as u64, reducer).unwrap()
}

/// The micro-batches of some lanes in a batch of these records, counted out round and round.
fn micro_batches(lanes: &[usize], records: std::ops::Range<usize>) -> Vec<Batch> {
    let of = |lane: usize| records.clone().filter(move |record| record % LANES == lane);
    let input = |record: usize| (0..INPUTS).map(move |i| ((record * 7 + i * 5) % 11) as f32 * 0.2 - 1.0);
    let batch = |lane: &usize| Batch {
        lane: *lane,
        step: 0,
        epoch: 0,
        inputs: of(*lane).flat_map(input).collect(),
        targets: Targets::Classes(of(*lane).map(|record| (record % 4) as u32).collect()),
        records: of(*lane).map(|record| record as u64).collect(),
    };
    lanes.iter().map(batch).collect()
}

/// Trains two epochs; returns the weights and what each step measured.
fn train(mut stepper: Stepper, job: &JobSpec, lanes: &[usize]) -> (Vec<f32>, Vec<StepSums>) {
    let mut made = Vec::new();
    for _ in 0..job.epochs {
        for start in (0..RECORDS).step_by(job.batch_size) {
            let batch = micro_batches(lanes, start..RECORDS.min(start + job.batch_size));
            made.extend(stepper.take(&batch).unwrap());
        }
        stepper.check_replicas().unwrap();
    }
    assert_eq!(stepper.step(), stepper.steps_per_epoch() * job.epochs);
    let weights = stepper.weights().to_vec();
    stepper.finish().unwrap();
    (weights, made)
}

fn alone(defines: &[&str]) -> (Vec<f32>, Vec<StepSums>) {
    let job = job(defines);
    train(stepper(&job, None), &job, &[0, 1])
}

/// The same on two ranks, a lane each.
fn together(defines: &[&str]) -> Vec<(Vec<f32>, Vec<StepSums>)> {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let peers: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let secret = JobSecret::new([7; 32]);
    let config = |rank| RingConfig {
        rank,
        world: 2,
        generation: 1,
        attempt: 1,
        peers: peers.clone(),
        secret: secret.clone(),
        connect_timeout: Duration::from_secs(10),
        io_timeout: Duration::from_secs(20),
        chunk_bytes: 4096,
        socket_buffer_bytes: 0,
        shared_memory: false,
        abort: Abort::new(),
    };
    let job = job(defines);
    std::thread::scope(|scope| {
        let ranks: Vec<_> = listeners
            .iter()
            .enumerate()
            .map(|(rank, listener)| {
                let (job, config) = (&job, config(rank));
                scope.spawn(move || {
                    let ring = Ring::connect(config, listener).unwrap();
                    let reducer = Reducer::new(ring, Wire::F32, crate::step::BUCKETS_UNDER_WAY).unwrap();
                    train(stepper(job, Some(reducer)), job, &[rank])
                })
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn batches_that_add_up_are_one_large_batch() {
    for mode in ["fast", "reproducible"] {
        let mode = format!("numerics={mode}");
        let (whole, large) = alone(&[&mode, "batch_size=12"]);
        for (size, count) in [(4, 3), (6, 2), (3, 4)] {
            let (size, count) = (format!("batch_size={size}"), format!("accumulate_steps={count}"));
            let (parts, small) = alone(&[&mode, &size, &count]);
            assert!(distance(&whole, &parts) < 1e-5, "{mode}, {size}");
            assert_eq!((small.len(), large.len()), (6, 6), "an epoch's last step takes what is left");
            for (small, large) in small.iter().zip(&large) {
                assert_eq!((small.records, small.top1), (large.records, large.top1));
                assert!((small.loss - large.loss).abs() < 1e-4);
            }
        }
    }
}

/// The last batch of an epoch has one record: rank 1 has nothing in it, but something from the batches before.
#[test]
fn ranks_add_up_too_where_the_last_batch_leaves_one_out() {
    for mode in ["fast", "reproducible"] {
        let mode = format!("numerics={mode}");
        for count in ["accumulate_steps=1", "accumulate_steps=3", "accumulate_steps=100"] {
            let defines = [&mode[..], "batch_size=4", count, "clip_norm=0.5", "ema_decay=0.5"];
            let (expected, steps) = alone(&defines);
            for (weights, made) in together(&defines) {
                assert!(distance(&weights, &expected) < 1e-5, "{mode}, {count}");
                assert!(weights == expected || mode.ends_with("fast"), "the same bits, {count}");
                let records = |made: &[StepSums]| made.iter().map(|sums| sums.records).collect::<Vec<_>>();
                assert_eq!(records(&made), records(&steps));
            }
        }
    }
}

#[test]
fn weights_are_the_average_where_one_is_kept() {
    let (last, _) = alone(&["batch_size=10"]);
    let (average, _) = alone(&["batch_size=10", "ema_decay=0.9"]);
    let (same, _) = alone(&["batch_size=10", "ema_decay=0"]);
    assert!(distance(&last, &average) > 1e-3);
    assert!(distance(&last, &same) < 1e-6, "nothing is kept of older weights");
}
