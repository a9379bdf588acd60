//! Steps and validations of whole workers, in one process: what they come to on other numbers of workers.

use crate::measure::Measurer;
use crate::step::Stepper;
use crate::train::{build_model, dataset_options};
use ringspin_control::status::Metrics;
use ringspin_data::Dataset;
use ringspin_data::index::index;
use ringspin_data::plan::{Deal, Order, Plan, PlanOptions};
use ringspin_data::reader::{Batch, Reader, ReaderOptions};
use ringspin_data::storage::Storage;
use ringspin_job::{JobSpec, Settings};
use ringspin_nn::Registry;
use ringspin_ring::memory::{MemoryOptions, rings};
use ringspin_ring::{Reducer, Wire};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;

const LANES: usize = 6;
const RECORDS: usize = 60;

/// A job on a file of two features and a label.
fn job(folder: &Path, label: impl Fn(usize) -> i64, defines: &[&str]) -> JobSpec {
    let mut text = String::from("label,a,b\n");
    for i in 0..RECORDS {
        let feature = |factor: usize| (i * factor % 61) as f64 / 30.0 - 1.0;
        writeln!(text, "{},{},{}", label(i), feature(37), feature(53)).unwrap();
    }
    std::fs::write(folder.join("data.csv"), text).unwrap();
    let file = folder.join("data.csv").display().to_string();
    let mut settings = Settings::new();
    let fixed = [
        "batch_size=25",
        "input.format=csv",
        "input.csv.header=true",
        "input.csv.label=label",
        "output.path=out",
        "model.name=mlp",
        "model.hidden=[4]",
        "optimizer.lr=0.5",
    ];
    let own = [format!("lanes={LANES}"), format!("input.path={file}"), format!("validation.path={file}")];
    let all = fixed.iter().copied().chain(own.iter().map(String::as_str)).chain(defines.iter().copied());
    all.for_each(|define| settings.define(define));
    JobSpec::resolve(settings).unwrap_or_else(|problems| panic!("{problems}"))
}

/// What a worker has after an epoch: parameters, each step's loss, and what it measured.
type Outcome = (Vec<f32>, Vec<f64>, Metrics);

/// One epoch on `world` workers; gives what each of them has.
fn epoch(job: &JobSpec, world: usize) -> Vec<Outcome> {
    let runtime = Runtime::new().unwrap();
    let storage = Storage::local(Path::new("/")).unwrap();
    let records = Arc::new(runtime.block_on(index(&storage, &job.input)).unwrap());
    let (registry, shape) = (Registry::standard(), records.schema.shape.clone());
    let worker = |rank: usize, reducer: Option<Reducer>| {
        let model = Arc::new(build_model(&registry, job, &shape).unwrap());
        let lanes: Vec<usize> = (0..LANES).filter(|lane| lane % world == rank).collect();
        let reader = |order: Order| {
            let options =
                PlanOptions { lanes: LANES, batch_size: job.batch_size, order, deal: Deal::FileOrder };
            let plan = Arc::new(Plan::new(&records, &options).unwrap());
            let options = dataset_options(&job.input, &model);
            let dataset = Arc::new(Dataset::new(storage.clone(), Arc::clone(&records), &options).unwrap());
            let options = ReaderOptions { prefetch: 1, end_step: plan.steps_per_epoch() };
            let mut reader = Reader::new(runtime.handle().clone(), dataset, Arc::clone(&plan), options);
            lanes.iter().for_each(|lane| reader.hold(*lane, 0));
            (reader, plan)
        };
        let (mut training, plan) = reader(Order::Shuffled { seed: 1, window_bytes: 1 << 20 });
        let mut stepper = Stepper::new(&registry, job, Arc::clone(&model), plan.records(), reducer).unwrap();
        let mut losses = Vec::new();
        for _ in 0..plan.steps_per_epoch() {
            let batches: Vec<Batch> =
                lanes.iter().map(|lane| training.next(*lane).unwrap().unwrap()).collect();
            losses.extend(stepper.take(&batches).unwrap().map(|sums| sums.metrics(true).loss));
        }
        let metrics = job.validation.as_ref().map_or(&[][..], |validation| &validation.metrics);
        let mut measurer = Measurer::new(&registry, metrics, &model).unwrap();
        let (mut validation, mut measured) = (reader(Order::Sequential).0, measurer.begin());
        for lane in &lanes {
            while let Some(batch) = validation.next(*lane).unwrap() {
                stepper.evaluate(&batch, &mut measurer, &mut measured).unwrap();
            }
        }
        let measured = measurer.metrics(stepper.sum_over_ranks(measured).unwrap());
        (stepper.weights().to_vec(), losses, measured)
    };
    if world == 1 {
        return vec![worker(0, None)];
    }
    let rings = rings(world, &MemoryOptions::default()).unwrap();
    std::thread::scope(|scope| {
        let worker = &worker;
        let workers: Vec<_> = rings
            .into_iter()
            .enumerate()
            .map(|(rank, ring)| {
                scope.spawn(move || worker(rank, Some(Reducer::new(ring, Wire::F32, 64).unwrap())))
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    })
}

/// Three classes that weigh differently, and -1, which does not count.
fn weighted(folder: &Path, more: &[&str]) -> JobSpec {
    let label = |i| if i % 5 == 3 { -1 } else { (i * 7 % 3) as i64 };
    let loss = ["model.outputs=3", "loss.weight=[0.2, 5.0, 1.0]", "loss.ignore_index=-1"];
    job(folder, label, &[&loss, more].concat())
}

/// PyTorch's mean is over the whole batch, however lanes are dealt.
#[test]
fn weights_of_classes_are_those_of_the_whole_step() {
    let folder = tempfile::tempdir().unwrap();
    let job = weighted(folder.path(), &[]);
    let expected = epoch(&job, 1).remove(0);
    assert!(expected.1.iter().all(|loss| loss.is_finite()));
    for world in [2, 3] {
        for (params, losses, metrics) in epoch(&job, world) {
            let worst = params.iter().zip(&expected.0).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-5, "{world} workers: {worst}");
            assert!(losses.iter().zip(&expected.1).all(|(a, b)| (a - b).abs() < 1e-5), "{losses:?}");
            assert!((metrics.loss - expected.2.loss).abs() < 1e-5);
        }
    }
}

#[test]
fn reproducible_steps_and_metrics_do_not_depend_on_the_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let metrics =
        "validation.metrics=['top2', 'perplexity', 'f1', 'roc_auc(positive = 1)', 'pr_auc(positive = 1)']";
    for accumulate in ["accumulate_steps=1", "accumulate_steps=2"] {
        let job = weighted(folder.path(), &["numerics.mode=reproducible", metrics, accumulate]);
        let expected = epoch(&job, 1).remove(0);
        assert_eq!(expected.2.others.len(), 5);
        assert!(expected.2.others.iter().all(|metric| metric.value.is_some()), "{}", expected.2);
        for world in [2, 3] {
            for (params, _, metrics) in epoch(&job, world) {
                assert_eq!(params, expected.0, "{world} workers, {accumulate}");
                assert_eq!(metrics.others, expected.2.others, "{world} workers, {accumulate}");
            }
        }
    }
}

/// Nothing counts in any step: no gradient, and no loss to tell.
#[test]
fn a_step_in_which_nothing_counts_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let job = job(folder.path(), |_| -1, &["model.outputs=3", "loss.ignore_index=-1"]);
    let (params, losses, metrics) = epoch(&job, 2).remove(0);
    let model = build_model(&Registry::standard(), &job, &[2]).unwrap();
    assert_eq!(params, model.initialize(job.seed));
    assert!(losses.iter().all(|loss| loss.is_nan()) && metrics.loss.is_nan());
}

/// Groups that lanes and micro-batches cut are put together again.
#[test]
fn rankings_see_whole_groups() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = "validation.metrics=['hr@2(group = 15)', 'ndcg@9(group = 15)', 'hr@1(group = 7)']";
    let defines = ["model.outputs=1", "loss.name=bce_with_logits", "input.csv.target=number", metrics];
    let job = job(folder.path(), |i| i64::from(i % 15 == 4), &defines);
    let expected = epoch(&job, 1).remove(0).2.others;
    assert!(expected[1].value.is_some_and(|ndcg| ndcg > 0.0), "{expected:?}");
    assert!(expected[2].why.contains("4 records are in no whole group of 7"), "{expected:?}");
    for world in [2, 3] {
        for (_, _, metrics) in epoch(&job, world) {
            // Weights differ by some bits; ranks here do not.
            assert_eq!(metrics.others, expected, "{world} workers");
        }
    }
}
