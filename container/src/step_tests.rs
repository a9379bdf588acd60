//! Tests of steps without data, storage or ApplicationMaster: one worker, and two with a ring between them.

use crate::step::Stepper;
use crate::step_sums::StepSums;
use ringspin_data::formats::Targets;
use ringspin_data::reader::Batch;
use ringspin_job::{JobSpec, Settings};
use ringspin_nn::{Model, ParameterKind, Registry, Shape};
use ringspin_ring::memory::{MemoryOptions, rings};
use ringspin_ring::{Reducer, Wire};
use std::sync::Arc;

const LANES: usize = 2;
const RECORDS: usize = 29;
const INPUTS: usize = 3;
/// Classes that weigh differently, and one that does not count.
const WEIGHED: [&str; 2] = ["loss.weight=[0.1, 4.0, 1.0, 0.7]", "loss.ignore_index=2"];

const MLP: &str = "[model]\nname = \"mlp\"\nhidden = [5]\noutputs = 4\n";
/// Its running statistics are those of the last step.
const NORMED: &str = "[[model.layers]]\ntype = \"batch_norm1d\"\nmomentum = 1.0\n\
    [[model.layers]]\ntype = \"linear\"\nout_features = 4\n";

fn job(model: &str, defines: &[&str]) -> JobSpec {
    let mut settings = Settings::new();
    let rest = "epochs = 2\nlanes = 2\n[input]\npath = \"d\"\n[output]\npath = \"o\"\n\
        [optimizer]\nlr = 0.1\nmomentum = 0.9\n";
    settings.file("job.toml", &format!("{rest}{model}"));
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

fn alone(model: &str, defines: &[&str]) -> (Vec<f32>, Vec<StepSums>) {
    let job = job(model, defines);
    train(stepper(&job, None), &job, &[0, 1])
}

/// The same on two ranks, a lane each.
fn together(model: &str, defines: &[&str]) -> Vec<(Vec<f32>, Vec<StepSums>)> {
    let job = job(model, defines);
    let rings = rings(2, &MemoryOptions::default()).unwrap();
    std::thread::scope(|scope| {
        let job = &job;
        let ranks: Vec<_> = rings
            .into_iter()
            .enumerate()
            .map(|(rank, ring)| {
                scope.spawn(move || {
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

/// With and without weights of targets.
fn losses() -> [&'static [&'static str]; 2] {
    [&[], &WEIGHED]
}

#[test]
fn batches_that_add_up_are_one_large_batch() {
    for (mode, loss) in
        ["fast", "reproducible"].into_iter().flat_map(|mode| losses().map(|loss| (mode, loss)))
    {
        let mode = format!("numerics={mode}");
        let defines = |more: &[&str]| alone(MLP, &[loss, &[&mode], more].concat());
        let (whole, large) = defines(&["batch_size=12"]);
        for (size, count) in [(4, 3), (6, 2), (3, 4)] {
            let (size, count) = (format!("batch_size={size}"), format!("accumulate_steps={count}"));
            let (parts, small) = defines(&[&size, &count]);
            assert!(distance(&whole, &parts) < 1e-5, "{mode}, {size}, {loss:?}");
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
    for (mode, loss) in
        ["fast", "reproducible"].into_iter().flat_map(|mode| losses().map(|loss| (mode, loss)))
    {
        let mode = format!("numerics={mode}");
        for count in ["accumulate_steps=1", "accumulate_steps=3", "accumulate_steps=100"] {
            let more = [&mode[..], "batch_size=4", count, "clip_norm=0.5", "ema_decay=0.5"];
            let defines = [loss, &more].concat();
            let (expected, steps) = alone(MLP, &defines);
            for (weights, made) in together(MLP, &defines) {
                assert!(distance(&weights, &expected) < 1e-5, "{mode}, {count}");
                assert!(weights == expected || mode.ends_with("fast"), "the same bits, {count}");
                let records = |made: &[StepSums]| made.iter().map(|sums| sums.records).collect::<Vec<_>>();
                assert_eq!(records(&made), records(&steps));
            }
        }
    }
}

/// PyTorch's mean for the whole step, whatever its batches and lanes: the biases' gradients by hand.
#[test]
fn a_step_learns_from_the_mean_over_what_its_targets_weigh() {
    let model = "[[model.layers]]\ntype = \"linear\"\nout_features = 4\n";
    let defines = ["batch_size=4", "accumulate_steps=100", "epochs=1", "optimizer.momentum=0.0"];
    let job = job(model, &[&WEIGHED[..], &defines].concat());
    let mut stepper = stepper(&job, None);
    let before = stepper.weights().to_vec();
    for start in (0..RECORDS).step_by(4) {
        stepper.take(&micro_batches(&[0, 1], start..RECORDS.min(start + 4))).unwrap();
    }
    let (mut grads, mut total) = ([0.0f64; 4], 0.0);
    for record in (0..RECORDS).filter(|record| record % 4 != 2) {
        let (class, weight) = (record % 4, [0.1, 4.0, 1.0, 0.7][record % 4]);
        let inputs = &micro_batches(&[record % LANES], record..record + 1)[0].inputs;
        let z: Vec<f64> = (0..4)
            .map(|o| {
                let row = &before[o * INPUTS..(o + 1) * INPUTS];
                let dot: f64 = row.iter().zip(inputs).map(|(w, x)| f64::from(w * x)).sum();
                (dot + f64::from(before[4 * INPUTS + o])).exp()
            })
            .collect();
        let sum: f64 = z.iter().sum();
        for (o, grad) in grads.iter_mut().enumerate() {
            *grad += weight * (z[o] / sum - f64::from(u8::from(o == class)));
        }
        total += weight;
    }
    for (o, grad) in grads.iter().enumerate() {
        let change = f64::from(before[4 * INPUTS + o] - stepper.weights()[4 * INPUTS + o]);
        assert!((change - 0.1 * grad / total).abs() < 1e-6, "{change} instead of {}", 0.1 * grad / total);
    }
}

/// Statistics are means over records, whatever these weigh, on any number of workers.
#[test]
fn statistics_of_a_step_are_means_over_the_records_of_its_micro_batches() {
    let mean = |records: std::ops::Range<usize>, feature: usize| {
        let batches = micro_batches(&[0, 1], records.clone());
        let all = batches.iter().flat_map(|batch| batch.inputs.iter().skip(feature).step_by(INPUTS));
        all.map(|input| f64::from(*input)).sum::<f64>() / records.len() as f64
    };
    for (count, last) in [(1, 28), (3, 24), (100, 0)] {
        for loss in losses() {
            let count = format!("accumulate_steps={count}");
            let defines = [loss, &["batch_size=4", "numerics=reproducible", &count]].concat();
            let (job, (weights, _)) = (job(NORMED, &defines), alone(NORMED, &defines));
            let model =
                Model::build(&Registry::standard(), &job.model, &Shape::new(&[INPUTS]).unwrap(), &job.loss);
            let model = model.unwrap();
            let means = model.parameters().iter().find(|p| p.kind == ParameterKind::Statistic).unwrap();
            for (feature, got) in weights[means.range.clone()].iter().enumerate() {
                let expected = mean(last..RECORDS, feature);
                assert!(
                    (f64::from(*got) - expected).abs() < 1e-5,
                    "{count}, {loss:?}: {got}, not {expected}"
                );
            }
            assert!(together(NORMED, &defines).iter().all(|rank| rank.0 == weights), "{count}, {loss:?}");
        }
    }
}

#[test]
fn weights_are_the_average_where_one_is_kept() {
    let (last, _) = alone(MLP, &["batch_size=10"]);
    let (average, _) = alone(MLP, &["batch_size=10", "ema_decay=0.9"]);
    let (same, _) = alone(MLP, &["batch_size=10", "ema_decay=0"]);
    assert!(distance(&last, &average) > 1e-3);
    assert!(distance(&last, &same) < 1e-6, "nothing is kept of older weights");
}

/// All records of a batch, as the only lane has them.
fn micro_batch(records: std::ops::Range<usize>) -> [Batch; 1] {
    let [mut all, rest] = micro_batches(&[0, 1], records).try_into().unwrap_or_else(|_| panic!("two lanes"));
    all.inputs.extend(rest.inputs);
    all.records.extend(rest.records);
    if let (Targets::Classes(all), Targets::Classes(rest)) = (&mut all.targets, rest.targets) {
        all.extend(rest);
    }
    [all]
}

/// Large enough to be updated within passes, and weights that two layers share, which are not.
const LARGE: &str = "[[model.layers]]\ntype = \"linear\"\nout_features = 110\n\
    [[model.layers]]\ntype = \"tanh\"\n\
    [[model.layers]]\ntype = \"linear\"\nname = \"twice\"\nout_features = 110\n\
    [[model.layers]]\ntype = \"linear\"\nshare = \"twice\"\nout_features = 110\n\
    [[model.layers]]\ntype = \"linear\"\nout_features = 900\n\
    [[model.layers]]\ntype = \"linear\"\nout_features = 4\n";

/// A limit that no norm reaches keeps updates behind the pass, and changes nothing else.
#[test]
fn a_lone_worker_updates_within_passes_without_another_bit() {
    for loss in losses() {
        let run = |more: &[&str]| {
            let settings = ["lanes=1", "batch_size=9", "clip_value=0.05", "ema_decay=0.5"];
            let job = job(LARGE, &[loss, &settings, more].concat());
            let mut stepper = stepper(&job, None);
            let starts = (0..2).flat_map(|_| (0..RECORDS).step_by(9));
            let made = starts.map(|start| stepper.take(&micro_batch(start..RECORDS.min(start + 9))).unwrap());
            let made: Vec<Option<StepSums>> = made.collect();
            (stepper.updates_within_passes(), stepper.weights().to_vec(), made)
        };
        let ((within, weights, sums), (never, expected, measured)) = (run(&[]), run(&["clip_norm=1e30"]));
        assert_eq!((within, never), (110 * 900 + 900, 0), "the only layer that is large and its own");
        assert!(weights == expected && sums.len() == measured.len(), "{loss:?}");
        for (own, other) in sums.iter().flatten().zip(measured.iter().flatten()) {
            assert_eq!((own.loss, own.records, own.top1), (other.loss, other.records, other.top1));
        }
    }
}

#[test]
fn a_gradient_that_is_not_finite_ends_the_job_though_nobody_keeps_it() {
    let model = "[[model.layers]]\ntype = \"linear\"\nout_features = 2800\n\
        [[model.layers]]\ntype = \"linear\"\nout_features = 4\n";
    let job = job(model, &["lanes=1", "batch_size=9", "optimizer.lr=1e30"]);
    let mut stepper = stepper(&job, None);
    assert_eq!(stepper.updates_within_passes(), 3 * 2800 + 2800, "of the first layer no gradient is kept");
    let ended = (0..8).find_map(|_| stepper.take(&micro_batch(0..9)).err());
    let message = ended.expect("it can not go on").message;
    assert!(message.contains("not finite; the first such gradient is that of 0."), "{message}");
}
