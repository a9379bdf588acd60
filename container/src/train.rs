//! A worker's training, from its assignment to the model: the loop and what surrounds a step.
//!
//! ```text
//! assignment -> model, data, ring -> joined
//!   for each epoch: steps -> [validation]
//! rank 0 writes the model
//! ```

use crate::Misfortune;
use crate::chosen::Chosen;
use crate::link::Link;
use crate::measure::Measurer;
use crate::model_file::{self, MANIFEST_VERSION, Manifest};
use crate::report::Report;
use crate::selection::judge;
use crate::step::Stepper;
use crate::storage;
use crate::validation::Validation;
use ringspin_control::messages::{Assignment, FailureKind, JobContext, ToAm};
use ringspin_data::index::DatasetIndex;
use ringspin_data::plan::{Deal, Order, Plan, PlanOptions};
use ringspin_data::reader::{Batch, Reader, ReaderOptions};
use ringspin_data::storage::Storage;
use ringspin_data::{Dataset, DatasetOptions, formats::Normalisation};
use ringspin_hadoop::credentials::Credentials;
use ringspin_job::{
    ComputePrecision, InputSpec, JobSecret, JobSpec, NumericsSpec, Origin, Problems, SelectionSpec,
    WirePrecision,
};
use ringspin_nn::{Isa, Model, Registry, Shape, TargetKind, Team};
use ringspin_ring::{Abort, Reducer, Ring, RingConfig, Wire};
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Ranks may come apart by this much between two collectives: validation, a slow disk, the writing of the model.
const RING_SILENCE: Duration = Duration::from_secs(120);

/// One worker's part of a job.
pub struct Training {
    /// What it was told.
    pub assignment: Assignment,
    /// Attempt of the AM.
    pub attempt: u32,
    /// The job's secret.
    pub secret: JobSecret,
    /// Number of this worker's start.
    pub slot: u64,
    /// Tokens for HDFS.
    pub credentials: Credentials,
    /// The way to the AM.
    pub link: Link,
    /// Where reading ahead runs.
    pub runtime: Handle,
    /// Where the ring's predecessors connect.
    pub listener: TcpListener,
    /// Ends the ring from outside.
    pub abort: Abort,
}

/// The resolved job that travels in a context.
///
/// # Errors
/// It is none: the AM is of another version.
pub fn job(context: &JobContext) -> Result<JobSpec, Misfortune> {
    serde_json::from_str(&context.job)
        .map_err(|error| Misfortune::new(FailureKind::Panic, format!("the job that was sent: {error}")))
}

/// The model of a job for records of shape `input`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn build_model(registry: &Registry, job: &JobSpec, input: &[usize]) -> Result<Model, Misfortune> {
    let wrong = |error: &dyn std::fmt::Display| Misfortune::new(FailureKind::Job, error.to_string());
    let shape = Shape::new(input).map_err(|error| wrong(&error))?;
    let model = Model::build(registry, &job.model, &shape, &job.loss).map_err(|error| wrong(&error))?;
    Ok(with_numerics(model, job))
}

/// The model computed as the job says.
pub fn with_numerics(model: Model, job: &JobSpec) -> Model {
    let NumericsSpec { winograd, compute, .. } = job.numerics;
    model.with_winograd(winograd).with_bf16(compute == ComputePrecision::Bf16)
}

/// Threads that compute with the instructions that the job allows.
///
/// # Errors
/// The operating system refuses a thread, or the job, which a model's manifest may hold, names unknown instructions.
pub fn team(job: &JobSpec, threads: usize) -> Result<Team, Misfortune> {
    let name = &job.numerics.isa;
    let isa = Isa::at_most(name).ok_or_else(|| {
        let message = format!("numerics.isa = \"{name}\": expected {}", Isa::NAMES.join(", "));
        Misfortune::new(FailureKind::Job, message)
    })?;
    let team = Team::new(threads)
        .map_err(|error| Misfortune::new(FailureKind::Environment, format!("compute threads: {error}")))?;
    Ok(team.with_isa(isa))
}

/// What of a job's training the model shows to be wrong: optimizers for parameters that it does not have, and
/// measures that its targets do not give.
///
/// # Errors
/// Everything that is.
pub fn check_training(registry: &Registry, job: &JobSpec, model: &Model) -> Result<(), Misfortune> {
    let wrong = |problems: Problems| Misfortune::new(FailureKind::Job, problems.to_string());
    let optimizers = registry.build_optimizers(&job.optimizer).map_err(wrong)?;
    let schedule = registry.build_schedule(&job.schedule).map_err(wrong)?;
    let mut problems = optimizers.assign(model.parameters()).err().unwrap_or_default();
    let SelectionSpec { monitor, patience, keep_best, .. } = &job.selection;
    let own = (patience.is_some() || *keep_best).then(|| monitor.clone());
    if !matches!(model.targets(), TargetKind::Classes { .. }) {
        let own = own.map(|own| (&Origin::Default, "early_stopping.monitor", own));
        let schedules = schedule.monitors().into_iter();
        let schedules = schedules.map(|monitor| (&job.schedule.origin, "schedule.monitor", monitor));
        for (origin, key, monitor) in own.into_iter().chain(schedules) {
            if ["top1", "top5"].contains(&monitor.metric.as_str()) {
                let message = format!(
                    "\"{}\" needs classes, the loss compares numbers; monitor the loss, or one of validation.metrics",
                    monitor.metric
                );
                problems.add(origin, key, message);
            }
        }
    }
    problems.or(()).map_err(wrong)
}

/// How records of an input are read for a model.
pub fn dataset_options(input: &InputSpec, model: &Model) -> DatasetOptions {
    let targets = model.targets();
    let normalisation = Normalisation { mean: input.mean.clone(), std: input.std.clone() };
    DatasetOptions {
        normalisation,
        classes: targets.classes().and_then(|count| u32::try_from(count).ok()),
        ignored: targets.ignored(),
        cache_bytes: input.cache_bytes,
    }
}

impl Training {
    /// Trains; on rank 0 writes the model.
    ///
    /// # Errors
    /// Whatever ends this worker.
    pub fn run(mut self, registry: &Registry) -> Result<(), Misfortune> {
        self.link.pulse.set_state("joining");
        let job = job(&self.assignment.context)?;
        let storage = storage::open(
            &self.assignment.context,
            &job,
            &self.credentials,
            &format!("worker{}", self.slot),
        )?;
        let model = Arc::new(build_model(registry, &job, &self.assignment.train.schema.shape)?);
        let own = Own {
            rank: self.assignment.rank,
            world: self.assignment.peers.len(),
            lanes: self.assignment.lanes[self.assignment.rank].clone(),
        };
        let train = self.assignment.train.clone();
        let (mut reader, plan) = self.reader(&job, &model, &storage, train)?;
        own.lanes.iter().for_each(|lane| reader.hold(*lane, 0));
        let mut stepper =
            Stepper::new(registry, &job, Arc::clone(&model), plan.records(), self.ring(&job, &own)?)?;
        self.link.send(ToAm::Joined { generation: self.assignment.generation });
        self.link.pulse.set_state("training");
        let mut validation =
            self.validation(registry, (&job, &model), &storage, &own, plan.step_records(0))?;
        let mut report = Report::new(&self.link, own.rank, stepper.steps_per_epoch(), job.epochs);
        let mut best = None;
        for epoch in 0..job.epochs {
            for _ in 0..plan.steps_per_epoch() {
                let batches = next_batches(&mut reader, &own.lanes)?;
                let made = stepper.take(&batches)?;
                batches.into_iter().for_each(|batch| reader.recycle(batch));
                if let Some(sums) = made {
                    report.step(stepper.step(), &sums, stepper.learning_rate());
                }
            }
            stepper.check_replicas()?;
            report.epoch_end();
            if let Some((every, validation)) = &mut validation
                && ((epoch + 1) % *every == 0 || epoch + 1 == job.epochs)
            {
                self.link.pulse.set_state("validating");
                let metrics = validation.measure(&mut stepper)?;
                stepper.validated(&metrics);
                report.validated(epoch, metrics);
                let verdict = judge(&job.selection, stepper.validations());
                if verdict.best && job.selection.keep_best && own.rank == 0 {
                    best = Some(Chosen::now(&stepper, &report).kept());
                }
                if let Some(why) = verdict.stop {
                    report.note(why);
                    break;
                }
                self.link.pulse.set_state("training");
            }
        }
        if own.rank == 0 {
            self.link.pulse.set_state("writing the model");
            self.write(&job, &storage, &model, Chosen::of(best, &stepper, &report))?;
        }
        stepper.finish()
    }

    fn reader(
        &self,
        job: &JobSpec,
        model: &Model,
        storage: &Storage,
        index: DatasetIndex,
    ) -> Result<(Reader, Arc<Plan>), Misfortune> {
        let options = PlanOptions {
            lanes: job.lanes,
            batch_size: job.batch_size,
            order: Order::Shuffled { seed: job.seed, window_bytes: job.input.shuffle_bytes },
            deal: self.assignment.deal.clone(),
        };
        let plan = Arc::new(Plan::new(&index, &options)?);
        let dataset = Dataset::new(storage.clone(), Arc::new(index), &dataset_options(&job.input, model))?;
        let end_step = plan.steps_per_epoch().saturating_mul(job.epochs);
        let options = ReaderOptions { prefetch: job.input.prefetch, end_step };
        Ok((Reader::new(self.runtime.clone(), Arc::new(dataset), Arc::clone(&plan), options), plan))
    }

    /// Joins the ring; a single worker has none.
    fn ring(&self, job: &JobSpec, own: &Own) -> Result<Option<Reducer>, Misfortune> {
        if own.world == 1 {
            return Ok(None);
        }
        let peers = self.assignment.peers.iter().map(|peer| resolve(peer)).collect::<Result<Vec<_>, _>>()?;
        let config = RingConfig {
            rank: own.rank,
            world: own.world,
            generation: self.assignment.generation,
            attempt: self.attempt,
            peers,
            secret: self.secret.clone(),
            connect_timeout: job.network.connect_timeout,
            io_timeout: RING_SILENCE,
            chunk_bytes: usize::try_from(job.network.chunk_bytes).unwrap_or(usize::MAX),
            socket_buffer_bytes: 0,
            shared_memory: job.network.shared_memory,
            abort: self.abort.clone(),
        };
        let ring = Ring::connect(config, &self.listener)?;
        let wire = match job.network.wire {
            WirePrecision::F32 => Wire::F32,
            WirePrecision::Bf16 => Wire::Bf16,
        };
        Ok(Some(Reducer::new(ring, wire, crate::step::BUCKETS_UNDER_WAY)?))
    }

    fn validation(
        &mut self,
        registry: &Registry,
        (job, model): (&JobSpec, &Model),
        storage: &Storage,
        own: &Own,
        step_records: u64,
    ) -> Result<Option<(u64, Validation)>, Misfortune> {
        let (Some(spec), Some(index)) = (&job.validation, self.assignment.validation.take()) else {
            return Ok(None);
        };
        let measurer = Measurer::new(registry, &spec.metrics, model)?;
        measurer.check_memory(index.records(), job.workers.container.memory_bytes / 2)?;
        let options = PlanOptions {
            lanes: job.lanes,
            // Micro-batches no larger than those that the training has memory for.
            batch_size: usize::try_from(step_records).unwrap_or(usize::MAX),
            order: Order::Sequential,
            deal: Deal::FileOrder,
        };
        let plan = Arc::new(Plan::new(&index, &options)?);
        let dataset = Dataset::new(storage.clone(), Arc::new(index), &dataset_options(&spec.input, model))?;
        let validation = Validation {
            measurer,
            dataset: Arc::new(dataset),
            plan,
            lanes: own.lanes.clone(),
            runtime: self.runtime.clone(),
            prefetch: spec.input.prefetch,
        };
        Ok(Some((spec.every_epochs, validation)))
    }

    fn write(
        &self,
        job: &JobSpec,
        storage: &Storage,
        model: &Model,
        chosen: Chosen<'_>,
    ) -> Result<(), Misfortune> {
        let folder = storage.locate(&self.assignment.output)?;
        let manifest = Manifest {
            kind: "ringspin-model".into(),
            version: MANIFEST_VERSION,
            ringspin: env!("CARGO_PKG_VERSION").into(),
            application: self.assignment.context.application.clone(),
            input: model.input().dims().to_vec(),
            output: model.output().dims().to_vec(),
            steps: chosen.step,
            epochs: chosen.epochs,
            training: chosen.training,
            validation: chosen.validation,
            weights_bytes: 0,
            weights_sha256: String::new(),
            job: job.clone(),
        };
        self.runtime.block_on(model_file::write(storage, &folder, model, &chosen.weights, manifest))
    }
}

/// This worker's place.
struct Own {
    rank: usize,
    world: usize,
    lanes: Vec<usize>,
}

fn resolve(peer: &str) -> Result<SocketAddr, Misfortune> {
    let found = peer.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| {
        Misfortune::new(FailureKind::Environment, format!("ring address {peer}: unknown host"))
    })
}

/// The next micro-batch of every lane.
fn next_batches(reader: &mut Reader, lanes: &[usize]) -> Result<Vec<Batch>, Misfortune> {
    lanes
        .iter()
        .map(|lane| {
            let batch = reader.next(*lane)?;
            batch.ok_or_else(|| {
                Misfortune::new(FailureKind::Panic, format!("lane {lane} ended before the job"))
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringspin_job::Settings;
    use ringspin_job::keys::{Kind, find};

    #[test]
    fn the_key_has_the_names_of_the_instructions() {
        let choices = match find("numerics.isa").map(|key| key.kind) {
            Some(Kind::Choice(choices)) => choices,
            _ => &[],
        };
        assert_eq!(choices, Isa::NAMES);
    }

    /// A resolved job as a manifest has it, with other numerics.
    fn job(numerics: serde_json::Value) -> JobSpec {
        let mut settings = Settings::new();
        for define in ["input.path=data", "output.path=out", "model.name=lenet5"] {
            settings.define(define);
        }
        let mut job = serde_json::to_value(JobSpec::resolve(settings).unwrap()).unwrap();
        job["numerics"] = numerics;
        serde_json::from_value(job).unwrap()
    }

    #[test]
    fn jobs_of_older_and_edited_manifests_are_read() {
        let old = job(serde_json::json!({ "mode": "fast", "fraction_bits": 40, "winograd": false }));
        assert_eq!(old.numerics, NumericsSpec { winograd: false, ..NumericsSpec::default() });
        assert_eq!(team(&old, 1).unwrap().isa(), Isa::best());
        let narrow = job(serde_json::json!({ "isa": "portable" }));
        assert_eq!(team(&narrow, 1).unwrap().isa(), Isa::portable());
        let wrong = team(&job(serde_json::json!({ "isa": "sse9" })), 1).err().unwrap();
        let text = "numerics.isa = \"sse9\": expected avx512, avx2, portable";
        assert!(wrong.to_string().contains(text), "{wrong}");
    }
}
