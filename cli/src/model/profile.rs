//! `ringspin model profile`: steps on made-up data, and where their time goes.
//!
//! The steps are those of a job with these settings: a lone worker updates large layers within its passes, which then is
//! part of the time of their weights.
//!
//! Time is that of one thread, which takes part in everything: what it works on, and waits for, from one event of
//! the pass to the next.

use super::{Asked, asked};
use crate::args::ProfileArgs;
use crate::exit::{CommandError, Exit};
use crate::results::Results;
use ringspin_container::step::updates_at_once;
use ringspin_job::{JobSpec, format_bytes};
use ringspin_nn::{
    BatchView, Due, Gradients, Isa, Model, Phase, RandomKey, Registry, TargetKind, Targets, Team,
    TrainingPass, UpdateOptions, Updater, Workspace, peak_flops,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Steps before it counts.
const WARM_UP: u64 = 2;
/// Fewest steps that are measured, however long they take.
const FEWEST: usize = 3;

/// Batches that take turns in training.
const TURNS: usize = 4;

/// Seconds by layer and phase.
type Times = BTreeMap<(usize, u8), f64>;

/// What one thread spends its time with.
#[derive(Default)]
struct Watch {
    since: Option<(Instant, usize, u8)>,
    times: Times,
}

impl Watch {
    /// What went on so far ends; `next` begins.
    fn turn(&mut self, next: Option<(usize, Phase)>) {
        let now = Instant::now();
        if let Some((begun, layer, phase)) = self.since {
            *self.times.entry((layer, phase)).or_default() += (now - begun).as_secs_f64();
        }
        self.since = next.map(|(layer, phase)| (now, layer, phase as u8));
    }
}

/// What was measured.
struct Measured {
    /// Seconds of each step, in order of length.
    steps: Vec<f64>,
    /// Seconds of all updates.
    updates: f64,
    times: Times,
}

/// `ringspin model profile`.
///
/// # Errors
/// The model is wrong, or there are no threads.
pub fn run(args: &ProfileArgs, registry: &Registry) -> Result<Exit, CommandError> {
    let Asked { name, job, model, batch, threads } = asked(&args.model, registry)?;
    let model = Arc::new(model);
    let isa = isa(args.isa.as_deref())?;
    let machine = Machine { batch, threads, isa };
    let peak = peak_flops(&mut machine.team()?);
    let measured = if args.inference {
        infer(&model, machine, args.seconds)?
    } else {
        train(registry, &job, &model, machine, args.seconds)?
    };
    let report = Report { name, model, machine, peak, inference: args.inference, measured };
    report.results().print(args.model.format, &report.text())?;
    Ok(Exit::Success)
}

/// Micro-batch, and what works on it.
#[derive(Clone, Copy)]
struct Machine {
    batch: usize,
    threads: usize,
    isa: Isa,
}

impl Machine {
    fn team(self) -> Result<Team, CommandError> {
        let team = Team::new(self.threads);
        let team = team.map_err(|error| CommandError::internal(format!("compute threads: {error}")))?;
        Ok(team.with_isa(self.isa))
    }
}

/// The instructions that were asked for, or the best of this CPU that are not wider.
fn isa(name: Option<&str>) -> Result<Isa, CommandError> {
    let Some(name) = name else { return Ok(Isa::best()) };
    let known = || CommandError::usage(format!("--isa {name}: expected {}", Isa::NAMES.join(", ")));
    Isa::at_most(name).ok_or_else(known)
}

/// Batches of made-up records that take turns, as those of real data touch different rows of tables.
struct MadeUp {
    inputs: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
    /// Records of a batch.
    batch: usize,
}

impl MadeUp {
    fn new(model: &Model, batch: usize) -> MadeUp {
        let count = TURNS * batch;
        let inputs = model.made_up_inputs(count);
        let (mut classes, mut values) = (Vec::new(), Vec::new());
        match model.targets() {
            TargetKind::Classes { count: known, positions, .. } => {
                classes = (0..count * positions).map(|i| (i * 7 % known) as u32).collect();
            }
            TargetKind::Values { count: each } => {
                values = (0..count * each).map(|i| (i % 3) as f32 / 3.0).collect()
            }
            TargetKind::Binary { count: each, no, .. } => {
                values = (0..count * each).map(|i| if i % 2 == 0 { no } else { 1.0 }).collect();
            }
        }
        MadeUp { inputs, classes, values, batch }
    }

    /// The batch of a step.
    fn view(&self, step: u64) -> BatchView<'_> {
        let turn = (step % TURNS as u64) as usize;
        let part = |len: usize| turn * (len / TURNS)..(turn + 1) * (len / TURNS);
        let targets = if self.values.is_empty() {
            Targets::Classes(&self.classes[part(self.classes.len())])
        } else {
            Targets::Values(&self.values[part(self.values.len())])
        };
        BatchView { inputs: &self.inputs[part(self.inputs.len())], targets, count: self.batch }
    }
}

/// A workspace whose passes `watch` follows.
fn watched(workspace: Workspace, watch: &Arc<Mutex<Watch>>) -> Workspace {
    let watch = Arc::clone(watch);
    workspace.with_observer(Box::new(move |layer, phase, thread| {
        if thread == 0 {
            watch.lock().unwrap_or_else(PoisonError::into_inner).turn(Some((layer, phase)));
        }
    }))
}

/// Repeats a step until the time is over; `step` returns the seconds of its update.
fn measure(seconds: f64, watch: &Mutex<Watch>, mut step: impl FnMut(u64) -> f64) -> Measured {
    let mut measured = Measured { steps: Vec::new(), updates: 0.0, times: Times::new() };
    (0..WARM_UP).for_each(|number| {
        step(number);
    });
    *watch.lock().unwrap_or_else(PoisonError::into_inner) = Watch::default();
    let limit = Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX);
    let begun = Instant::now();
    while begun.elapsed() < limit || measured.steps.len() < FEWEST {
        let start = Instant::now();
        measured.updates += step(WARM_UP + measured.steps.len() as u64);
        measured.steps.push(start.elapsed().as_secs_f64());
    }
    measured.times = std::mem::take(&mut watch.lock().unwrap_or_else(PoisonError::into_inner).times);
    measured.steps.sort_by(f64::total_cmp);
    measured
}

fn train(
    registry: &Registry,
    job: &JobSpec,
    model: &Arc<Model>,
    machine: Machine,
    seconds: f64,
) -> Result<Measured, CommandError> {
    let wrong = |problems: ringspin_job::Problems| CommandError::usage(problems.to_string());
    let optimizers = registry.build_optimizers(&job.optimizer).map_err(wrong)?;
    let at_once = updates_at_once(job, &optimizers);
    let mut updater =
        Updater::new(optimizers, model.parameters(), UpdateOptions::default()).map_err(wrong)?;
    let watch = Arc::new(Mutex::new(Watch::default()));
    let mut workspace = Workspace::new(Arc::clone(model), machine.team()?, machine.batch);
    if at_once {
        workspace = workspace.with_updates(&mut updater);
    }
    let mut workspace = watched(workspace, &watch);
    let mut params = model.initialize(job.seed);
    let mut grads = Gradients::new(model, machine.batch);
    let data = MadeUp::new(model, machine.batch);
    let scale = 1.0 / machine.batch as f32;
    Ok(measure(seconds, &watch, |step| {
        let key = RandomKey { seed: job.seed, step, lane: 0 };
        let due = Due { update: step + 1, factor: 1.0 };
        if at_once {
            let mut update = updater.at_once(due, &mut params, &|_| 1.0);
            workspace.learn(&data.view(step), (scale, key), &mut update, &mut grads);
        } else {
            let training = TrainingPass { params: &params, scale, key, accumulate: false };
            workspace.forward_backward(&data.view(step), &training, &mut grads, &mut |_, _| ());
        }
        watch.lock().unwrap_or_else(PoisonError::into_inner).turn(None);
        let begun = Instant::now();
        updater.update(workspace.team(), due, &mut params, &mut grads);
        begun.elapsed().as_secs_f64()
    }))
}

fn infer(model: &Arc<Model>, machine: Machine, seconds: f64) -> Result<Measured, CommandError> {
    let batch = machine.batch;
    let watch = Arc::new(Mutex::new(Watch::default()));
    let params: Arc<[f32]> = model.initialize(1).into();
    let workspace = Workspace::for_inference(Arc::clone(model), machine.team()?, batch, &params);
    let mut workspace = watched(workspace, &watch);
    let inputs = model.made_up_inputs(batch);
    let data = BatchView { inputs: &inputs, targets: Targets::None, count: batch };
    let mut outputs = vec![0.0; batch * model.output().elements()];
    Ok(measure(seconds, &watch, |_| {
        workspace.forward(&data, &params, Some(&mut outputs));
        watch.lock().unwrap_or_else(PoisonError::into_inner).turn(None);
        0.0
    }))
}

struct Report {
    name: String,
    model: Arc<Model>,
    machine: Machine,
    peak: f64,
    inference: bool,
    measured: Measured,
}

/// Milliseconds of a layer in an average step: forward, backward, weights.
struct Row {
    layer: String,
    kind: String,
    flops: u64,
    ms: [f64; 3],
}

impl Row {
    fn total(&self) -> f64 {
        self.ms.iter().sum()
    }
}

impl Report {
    fn best(&self) -> f64 {
        self.measured.steps[0]
    }

    fn median(&self) -> f64 {
        self.measured.steps[self.measured.steps.len() / 2]
    }

    fn mean_ms(&self) -> f64 {
        1e3 * self.measured.steps.iter().sum::<f64>() / self.measured.steps.len() as f64
    }

    /// Operations of a step: backward costs twice forward.
    fn flops(&self) -> f64 {
        let forward: u64 = self.model.layers().iter().map(|layer| layer.flops).sum();
        let passes = if self.inference { 1.0 } else { 3.0 };
        passes * forward as f64 * self.machine.batch as f64
    }

    /// Milliseconds of a phase of a layer in an average step.
    fn ms(&self, layer: usize, phase: Phase) -> f64 {
        let seconds = self.measured.times.get(&(layer, phase as u8)).copied().unwrap_or_default();
        1e3 * seconds / self.measured.steps.len() as f64
    }

    fn rows(&self) -> Vec<Row> {
        let rows = self.model.layers().iter().enumerate().map(|(i, layer)| Row {
            layer: layer.prefix.clone(),
            kind: layer.name.clone(),
            flops: layer.flops,
            ms: [Phase::Forward, Phase::Backward, Phase::Weights].map(|phase| self.ms(i, phase)),
        });
        rows.collect()
    }

    fn loss_ms(&self) -> f64 {
        (0..self.model.layers().len()).map(|layer| self.ms(layer, Phase::Loss)).sum()
    }

    fn update_ms(&self) -> f64 {
        1e3 * self.measured.updates / self.measured.steps.len() as f64
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can not fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let (best, records) = (self.best(), self.machine.batch as f64);
        let what = if self.inference { "prediction" } else { "step" };
        writeln!(
            text,
            "{}, {}, {} threads: FMA peak {:.1} GFLOP/s",
            cpu(),
            self.machine.isa,
            self.machine.threads,
            self.peak * 1e-9
        )?;
        writeln!(
            text,
            "{}, micro-batch {}: best {what} {:.3} ms, median {:.3} ms; {:.1} records/s at best",
            self.name,
            self.machine.batch,
            best * 1e3,
            self.median() * 1e3,
            records / best
        )?;
        writeln!(
            text,
            "{:.2} GFLOP a {what}, {:.1} GFLOP/s: {:.1} % of the peak; peak memory {}\n",
            self.flops() * 1e-9,
            self.flops() / best * 1e-9,
            100.0 * self.flops() / best / self.peak,
            format_bytes(peak_memory())
        )?;
        self.table(text)
    }

    fn table(&self, text: &mut String) -> std::fmt::Result {
        let (rows, all) = (self.rows(), self.mean_ms());
        let mut kinds: BTreeMap<&str, f64> = BTreeMap::new();
        writeln!(
            text,
            "{:<34} {:>10} {:>10} {:>10} {:>7} {:>9}",
            "layer", "forward ms", "backward", "weights", "share", "GFLOP/s"
        )?;
        let passes = if self.inference { 1.0 } else { 3.0 };
        for row in rows.iter().filter(|row| row.total() > 0.0) {
            let rate = passes * row.flops as f64 * self.machine.batch as f64 / row.total() * 1e-6;
            let label = format!("{} ({})", row.layer, row.kind);
            let [forward, backward, weights] = row.ms;
            let share = 100.0 * row.total() / all;
            writeln!(
                text,
                "{label:<34} {forward:>10.3} {backward:>10.3} {weights:>10.3} {share:>5.1} % {rate:>9.1}"
            )?;
            *kinds.entry(&row.kind).or_default() += row.total();
        }
        writeln!(text)?;
        let measured: f64 = kinds.values().sum::<f64>() + self.loss_ms() + self.update_ms();
        let others =
            [("loss", self.loss_ms()), ("update", self.update_ms()), ("rest", (all - measured).max(0.0))];
        for (kind, ms) in kinds.into_iter().chain(others).filter(|(_, ms)| *ms > 0.0) {
            writeln!(text, "{kind:<34} {ms:>10.3} ms {:>27.1} %", 100.0 * ms / all)?;
        }
        Ok(())
    }

    fn results(&self) -> Results {
        let layers: Vec<serde_json::Value> = self
            .rows()
            .into_iter()
            .map(|row| {
                let [forward, backward, weights] = row.ms;
                json!({"layer": row.layer, "type": row.kind, "forwardMs": forward, "backwardMs": backward, "weightsMs": weights})
            })
            .collect();
        let records = self.machine.batch as f64;
        Results::new()
            .with("model", self.name.as_str())
            .with("cpu", cpu())
            .with("isa", self.machine.isa.to_string())
            .with("threads", self.machine.threads)
            .with("batch", self.machine.batch)
            .with("parameters", self.model.learned_count())
            .with("inference", self.inference)
            .with("peakGflops", self.peak * 1e-9)
            .with("gflop", self.flops() * 1e-9)
            .with("peakShare", self.flops() / self.best() / self.peak)
            .with("steps", self.measured.steps.len())
            .with("bestMs", self.best() * 1e3)
            .with("medianMs", self.median() * 1e3)
            .with("bestRecordsPerSecond", records / self.best())
            .with("medianRecordsPerSecond", records / self.median())
            .with("peakMemoryBytes", peak_memory())
            .with("meanMs", self.mean_ms())
            .with("lossMs", self.loss_ms())
            .with("updateMs", self.update_ms())
            .with("layers", layers)
    }
}

/// The CPU's name, family and model, as Linux says.
fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or("?").trim().to_string()
    };
    format!("{}, family {} model {}", field("model name"), field("cpu family"), field("model"))
}

/// The most memory this process had, in bytes; 0 where the system does not say.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}
