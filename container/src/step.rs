//! One step: forward and backward on this worker's lanes, the sum over all ranks, the update.
//!
//! ```text
//! lanes -> gradients (cut into buckets) -> ring -> sums -> ÷ weight -> optimizer -> parameters
//!                 \ metrics, weight ----/
//! ```
//! Buckets of the last lane leave for the ring while backward still runs. Every rank gets the same sums, so
//! every rank makes the same update and the same decisions. With `accumulate_steps` the lanes of several batches
//! add to the same gradients, and the ring is used once for all of them.
//!
//! A worker that is alone, with one batch of one lane a step, updates large layers while backward still runs
//! ([`updates_at_once`]): their gradients are then kept nowhere.
//!
//! A step learns from the mean over all lanes of all its batches. Lanes give their gradients as shares of the
//! step's records, whose number everybody knows. Where classes have weights or are ignored, the mean is over what
//! targets weigh, and that is known once the last of them was measured: it is summed beside the gradients, and
//! divides their sums. Statistics, such as those of batch norm, stay means over records.

use crate::Misfortune;
use crate::cadence::{Cadence, Place};
use crate::gradients::{FixedPoint, Outgoing, Sums, cut};
use crate::measure::{Measured, Measurer, over_ranks};
use crate::row_exchange::{RowExchange, Table};
use crate::step_sums::StepSums;
use ringspin_control::messages::FailureKind;
use ringspin_control::status::Metrics;
use ringspin_data::formats::Targets;
use ringspin_data::reader::Batch;
use ringspin_job::{JobSpec, NumericsMode, Problems, UpdatesSpec};
use ringspin_nn::{
    BatchView, Due, Gradients, Model, Optimizers, ParameterKind, Progress, RandomKey, Registry, Schedule,
    TargetKind, TrainingPass, UpdateOptions, Updater, Validated, Workspace,
};
use ringspin_ring::{Bucket, Reducer, RingError};
use std::ops::Range;
use std::sync::Arc;

/// Buckets that the ring may have at once: those of the largest models, and the metrics.
pub const BUCKETS_UNDER_WAY: usize = 1024;
/// Fraction bits of sums of losses: a step's loss is shown, not learned from.
const LOSS_FRACTION_BITS: u32 = 24;
/// Fraction bits of what a step's targets weigh, as a share of its records: at most 1, for a record weighs no more.
const WEIGHT_FRACTION_BITS: u32 = 52;

/// Everything a step needs, kept between steps.
pub struct Stepper {
    model: Arc<Model>,
    workspace: Workspace,
    updater: Updater,
    schedule: Box<dyn Schedule>,
    params: Vec<f32>,
    grads: Gradients,
    /// The parameters whose dense gradients are kept: all, unless passes update some at once.
    kept: Vec<Range<usize>>,
    at_once: bool,
    buckets: Vec<Range<usize>>,
    missing: Vec<usize>,
    sums: Sums,
    rows: RowExchange,
    reducer: Option<Reducer>,
    seed: u64,
    stop_on_nan: bool,
    cadence: Cadence,
    /// Batches taken.
    batch: u64,
    /// Steps made.
    step: u64,
    /// Steps of the whole job.
    steps: u64,
    /// What this worker measured in the step under way.
    own: StepSums,
    /// What its targets weigh, as a share of all records of the step; over all ranks once the step was collected.
    /// An integer, so that it is the same number whoever has which lane.
    weight: i64,
    /// Whether gradients hold anything of the step under way.
    gathered: bool,
    validations: Vec<Validated>,
    rate: f64,
}

impl Stepper {
    /// Prepares everything for `job`, whose epochs have `records` records; `reducer` is absent when this worker is
    /// alone.
    ///
    /// # Errors
    /// The optimizer or the schedule is wrong, or there are no threads.
    pub fn new(
        registry: &Registry,
        job: &JobSpec,
        model: Arc<Model>,
        records: u64,
        reducer: Option<Reducer>,
    ) -> Result<Self, Misfortune> {
        let wrong = |problems: Problems| Misfortune::new(FailureKind::Job, problems.to_string());
        let optimizers = registry.build_optimizers(&job.optimizer).map_err(wrong)?;
        let at_once = updates_at_once(job, &optimizers) && reducer.is_none();
        let UpdatesSpec { accumulate_steps, clip_value, clip_norm, ema_decay } = job.updates;
        let options = UpdateOptions { clip_norm, clip_value, ema_decay };
        let mut updater = Updater::new(optimizers, model.parameters(), options).map_err(wrong)?;
        let schedule = registry.build_schedule(&job.schedule).map_err(wrong)?;
        let team = crate::train::team(job, job.workers.container.vcores)?;
        let parameters: Vec<Range<usize>> =
            model.parameters().iter().filter(|p| !p.kind.is_rows()).map(|p| p.range.clone()).collect();
        let bucket_values = usize::try_from(job.network.bucket_bytes / 4).unwrap_or(usize::MAX);
        let buckets = cut(&parameters, bucket_values);
        let batch_size = job.batch_size as u64;
        let cadence = Cadence { records, batch_size, accumulate: accumulate_steps };
        let batches = usize::try_from(cadence.batches_per_step()).unwrap_or(usize::MAX);
        let summed = job.lanes.saturating_mul(batches);
        // The micro-batches of a batch differ by one record at most.
        let most = usize::try_from(records.min(batch_size)).unwrap_or(usize::MAX).div_ceil(job.lanes);
        let sums = match job.numerics.mode {
            NumericsMode::Fast => Sums::fast(&buckets, reducer.is_some()),
            NumericsMode::Reproducible => {
                let point = FixedPoint::new(job.numerics.fraction_bits, summed);
                Sums::fixed(point, &buckets, Gradients::new(&model, most))
            }
        };
        let mut workspace = Workspace::new(Arc::clone(&model), team, most);
        if at_once {
            workspace = workspace.with_updates(&mut updater);
        }
        let kept = parameters.into_iter().filter(|range| !updater.is_left(range.start)).collect();
        if workspace.isa().imitates_bf16() {
            tracing::warn!(
                "numerics.compute = \"bf16\" is slower than \"f32\" here: this CPU, or its kernel, has no AMX, and the \
                 same bits are computed without it"
            );
        }
        Ok(Stepper {
            workspace,
            updater,
            schedule,
            params: model.initialize(job.seed),
            grads: Gradients::new(&model, most),
            model,
            kept,
            at_once,
            missing: vec![0; buckets.len()],
            buckets,
            sums,
            rows: RowExchange::default(),
            reducer,
            seed: job.seed,
            stop_on_nan: job.stop_on_nan,
            cadence,
            batch: 0,
            step: 0,
            steps: cadence.steps_per_epoch().saturating_mul(job.epochs),
            own: StepSums::default(),
            weight: 0,
            gathered: false,
            validations: Vec::new(),
            rate: 0.0,
        })
    }

    /// Steps committed.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.cadence.steps_per_epoch()
    }

    /// Parameters that passes update themselves.
    #[cfg(test)]
    pub(crate) fn updates_within_passes(&self) -> usize {
        (0..self.params.len()).filter(|place| self.updater.is_left(*place)).count()
    }

    /// Learning rate of the last step.
    pub fn learning_rate(&self) -> f64 {
        self.rate
    }

    /// The weights as they are measured and written: the parameters, or their running average.
    pub fn weights(&self) -> &[f32] {
        self.updater.average().unwrap_or(&self.params)
    }

    /// Takes note of what a validation measured: schedules look at it.
    pub fn validated(&mut self, metrics: &Metrics) {
        let shares = [("top1", metrics.top1), ("top5", metrics.top5)];
        let others = metrics.others.iter().map(|other| (other.name.as_str(), other.value));
        let mut validated = Validated::new(self.step, metrics.loss);
        for (name, value) in shares.into_iter().chain(others) {
            validated = validated.with(name, value);
        }
        self.validations.push(validated);
    }

    /// What validations have measured.
    pub fn validations(&self) -> &[Validated] {
        &self.validations
    }

    /// Whether the targets are classes.
    pub fn has_classes(&self) -> bool {
        matches!(self.model.targets(), TargetKind::Classes { .. })
    }

    /// Takes this worker's micro-batches of the next batch. Returns what was measured in a step, when that was its
    /// last batch.
    ///
    /// # Errors
    /// The ring broke, or loss or gradients are not finite.
    pub fn take(&mut self, batches: &[Batch]) -> Result<Option<StepSums>, Misfortune> {
        let place = self.cadence.place(self.batch);
        if place.first {
            self.begin();
        }
        let bad = if self.at_once {
            let [batch] = batches else {
                let message = format!("{} micro-batches of one lane", batches.len());
                return Err(Misfortune::new(FailureKind::Panic, message));
            };
            self.learn(batch, place)?
        } else {
            self.backward(batches, place)?;
            None
        };
        self.batch += 1;
        if !place.last {
            return Ok(None);
        }
        let sums = self.collect(self.own, place.records)?;
        if sums.not_finite > 0 && self.stop_on_nan {
            return Err(self.not_finite(&sums, bad));
        }
        self.weigh();
        let due = self.due();
        self.rate = self.updater.base_rate() * due.factor;
        self.updater.update(self.workspace.team(), due, &mut self.params, &mut self.grads);
        self.step += 1;
        Ok(Some(sums))
    }

    /// The update that is next.
    fn due(&self) -> Due {
        let progress = Progress {
            step: self.step,
            steps_per_epoch: self.cadence.steps_per_epoch(),
            total_steps: self.steps,
            validations: &self.validations,
        };
        Due { update: self.step + 1, factor: self.schedule.factor(progress) }
    }

    /// A step begins: nothing is summed yet.
    fn begin(&mut self) {
        self.own = StepSums { has_classes: self.has_classes(), ..StepSums::default() };
        self.weight = 0;
        self.gathered = false;
        if let Sums::Fixed { sums, rows, .. } = &mut self.sums {
            sums.iter_mut().for_each(|sums| sums.fill(0));
            rows.iter_mut().for_each(|rows| rows.sum.clear());
        }
    }

    /// Goes through the only micro-batch of a step, which updates what is left to passes. Returns the place of the first of
    /// those parameters whose gradient was not finite.
    fn learn(&mut self, batch: &Batch, place: Place) -> Result<Option<usize>, Misfortune> {
        let (due, records) = (self.due(), place.records as f64);
        let view = view(&self.model, batch)?;
        let weigh = |weight: f64| mean_factor(weight_point().of(weight / records));
        let mut update = self.updater.at_once(due, &mut self.params, &weigh);
        let key = RandomKey { seed: self.seed, step: self.batch, lane: batch.lane as u32 };
        let pass = (1.0 / place.records as f32, key);
        let metrics = self.workspace.learn(&view, pass, &mut update, &mut self.grads);
        let bad = update.not_finite();
        self.own.count(&metrics);
        self.own.not_finite += u64::from(bad.is_some());
        self.weight += weight_point().of(metrics.weight / records);
        self.gathered = true;
        Ok(bad)
    }

    /// Adds the gradients of this worker's lanes; in the last batch of a step buckets leave as soon as they are
    /// complete.
    fn backward(&mut self, batches: &[Batch], place: Place) -> Result<(), Misfortune> {
        let scale = 1.0 / place.records as f32;
        let own = &mut self.own;
        let used = batches.iter().filter(|batch| batch.count() > 0);
        let used: Vec<(u32, BatchView<'_>)> = used
            .map(|batch| Ok((batch.lane as u32, view(&self.model, batch)?)))
            .collect::<Result<_, Misfortune>>()?;
        let mut out = Outgoing::new(&self.buckets, self.reducer.as_mut(), &mut self.missing);
        for (i, (lane_number, batch)) in used.iter().enumerate() {
            let last = place.last && i + 1 == used.len();
            out.begin_lane();
            let mut training = TrainingPass {
                params: &self.params,
                scale,
                key: RandomKey { seed: self.seed, step: self.batch, lane: *lane_number },
                accumulate: self.gathered,
            };
            let metrics = match &mut self.sums {
                Sums::Fast { travelling } => {
                    let mut ready = |range: Range<usize>, values: &[f32]| {
                        if last && !travelling.is_empty() {
                            out.spread(range, values, |bucket, at, values| {
                                travelling[bucket][at..at + values.len()].copy_from_slice(values);
                            });
                            out.send(|bucket| std::mem::take(&mut travelling[bucket]));
                        }
                    };
                    self.workspace.forward_backward(batch, &training, &mut self.grads, &mut ready)
                }
                Sums::Fixed { point, sums, rows, lane } => {
                    training.accumulate = false;
                    let mut ready = |range: Range<usize>, values: &[f32]| {
                        out.spread(range, values, |bucket, at, values| {
                            own.not_finite +=
                                point.add(&mut sums[bucket][at..at + values.len()], values) as u64;
                        });
                        if last {
                            out.send(|bucket| std::mem::take(&mut sums[bucket]));
                        }
                    };
                    let metrics = self.workspace.forward_backward(batch, &training, lane, &mut ready);
                    for (sum, table) in rows.iter_mut().zip(&lane.tables) {
                        own.not_finite += sum.add(point, self.workspace.team(), &table.sum) as u64;
                    }
                    metrics
                }
            };
            own.count(&metrics);
            self.weight += weight_point().of(metrics.weight / place.records as f64);
            self.gathered = true;
        }
        if used.is_empty() && place.last {
            // None of this worker's lanes has a record in this batch: it adds nothing, but takes part.
            if !self.gathered {
                self.grads.clear();
            }
            out.missing.fill(0);
            match &mut self.sums {
                Sums::Fast { travelling } => {
                    for (values, bucket) in travelling.iter_mut().zip(&self.buckets) {
                        values.copy_from_slice(&self.grads.dense[bucket.clone()]);
                    }
                    out.send(|bucket| std::mem::take(&mut travelling[bucket]));
                }
                Sums::Fixed { sums, .. } => out.send(|bucket| std::mem::take(&mut sums[bucket])),
            }
        }
        out.failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Waits for the sums over all ranks in a step of `records` records.
    fn collect(&mut self, mut own: StepSums, records: u64) -> Result<StepSums, Misfortune> {
        let has_classes = own.has_classes;
        if let Some(reducer) = &mut self.reducer {
            let loss = FixedPoint::new(LOSS_FRACTION_BITS, reducer.world());
            let mut integers = own.to_integers(loss);
            integers.push(self.weight);
            reducer.submit(self.buckets.len(), integers)?;
            for _ in 0..self.buckets.len() {
                let reduced = reducer.wait_next()?;
                let range = self.buckets[reduced.bucket].clone();
                match (reduced.values, &mut self.sums) {
                    (Bucket::F32(values), Sums::Fast { travelling }) => {
                        self.grads.dense[range].copy_from_slice(&values);
                        travelling[reduced.bucket] = values;
                    }
                    (Bucket::I64(values), Sums::Fixed { point, sums, .. }) => {
                        point.read(&values, &mut self.grads.dense[range]);
                        sums[reduced.bucket] = values;
                    }
                    (Bucket::F32(_), Sums::Fixed { .. }) | (Bucket::I64(_), Sums::Fast { .. }) => {
                        return Err(Misfortune::new(
                            FailureKind::Panic,
                            "a bucket came back as another kind",
                        ));
                    }
                }
            }
            if let Bucket::I64(integers) = reducer.wait_next()?.values {
                own = StepSums::from_integers(&integers, loss, has_classes);
                self.weight = integers.last().copied().unwrap_or_default();
            }
        } else if let Sums::Fixed { point, sums, .. } = &self.sums {
            for (bucket, sums) in self.buckets.iter().zip(sums) {
                point.read(sums, &mut self.grads.dense[bucket.clone()]);
            }
        }
        self.collect_rows(records)?;
        if matches!(self.sums, Sums::Fast { .. }) && !self.grads.are_finite(&self.kept) {
            own.not_finite += 1;
        }
        Ok(own)
    }

    /// Sums the touched rows of tables over all ranks.
    fn collect_rows(&mut self, records: u64) -> Result<(), RingError> {
        if self.grads.tables.is_empty() {
            return Ok(());
        }
        let records = usize::try_from(records).unwrap_or(usize::MAX);
        let limits = self.grads.tables.iter();
        let limits: Vec<[usize; 2]> =
            limits.map(|table| [table.rows(), table.rows_of_record().saturating_mul(records)]).collect();
        let team = self.workspace.team();
        match &mut self.sums {
            Sums::Fast { .. } => {
                let sums = self.grads.tables.iter_mut().map(|table| &mut table.sum).zip(limits);
                let mut tables: Vec<_> = sums.map(|(sum, [rows, most])| Table { sum, rows, most }).collect();
                if let Some(reducer) = &mut self.reducer {
                    self.rows.exchange(reducer, team, &mut tables)?;
                }
            }
            Sums::Fixed { point, rows, .. } => {
                let sums = rows.iter_mut().map(|rows| &mut rows.sum).zip(limits);
                let mut tables: Vec<_> = sums.map(|(sum, [rows, most])| Table { sum, rows, most }).collect();
                if let Some(reducer) = &mut self.reducer {
                    self.rows.exchange(reducer, team, &mut tables)?;
                }
                for (table, sum) in self.grads.tables.iter_mut().zip(tables) {
                    table.sum.convert(sum.sum, |sums, values| point.read(sums, values));
                }
            }
        }
        Ok(())
    }

    /// Divides the gradients by what the step's targets weigh. Where nothing counts they are 0, and stay so.
    fn weigh(&mut self) {
        let factor = mean_factor(self.weight);
        if factor == 1.0 {
            return;
        }
        let learned = self.model.parameters().iter().filter(|parameter| {
            parameter.kind == ParameterKind::Learned && !self.updater.is_left(parameter.range.start)
        });
        for parameter in learned {
            self.grads.dense[parameter.range.clone()].iter_mut().for_each(|gradient| *gradient *= factor);
        }
        let tables = self.grads.tables.iter_mut().flat_map(|table| table.sum.values_mut());
        tables.for_each(|gradient| *gradient *= factor);
    }

    /// `bad`: the place of a parameter whose gradient was not finite, and is not kept.
    fn not_finite(&self, sums: &StepSums, bad: Option<usize>) -> Misfortune {
        let (step, epoch) = (self.step, self.step / self.cadence.steps_per_epoch() + 1);
        let grads = match &self.sums {
            Sums::Fast { .. } => &self.grads,
            Sums::Fixed { lane, .. } => lane,
        };
        let parameters = self.model.parameters();
        let bad = bad.and_then(|place| parameters.iter().find(|own| own.range.contains(&place)));
        let bad = bad.into_iter().chain(self.model.find_non_finite(grads));
        let place = match bad.min_by_key(|parameter| parameter.range.start) {
            Some(parameter) => {
                format!("; the first such gradient is that of {} ({})", parameter.name, parameter.layer)
            }
            None => match &self.sums {
                Sums::Fixed { point, .. } if sums.not_finite > 0 => format!(
                    ", or a gradient is beyond {:.0}, the largest that numerics.fraction_bits leaves room for; lower it",
                    point.limit()
                ),
                _ => "; it came from another worker".into(),
            },
        };
        let message = format!(
            "step {step} (epoch {epoch}): loss or gradients are not finite{place}. Lower optimizer.lr, look at the \
             input's mean and std, or set stop_on_nan = false to go on"
        );
        Misfortune::new(FailureKind::NotFinite, message)
    }

    /// Measures a batch without learning from it.
    ///
    /// # Errors
    /// As [`view`].
    pub(crate) fn evaluate(
        &mut self,
        batch: &Batch,
        measurer: &mut Measurer,
        measured: &mut Measured,
    ) -> Result<(), Misfortune> {
        let weights = self.updater.average().unwrap_or(&self.params);
        measurer.measure(&mut self.workspace, weights, batch, measured)
    }

    /// Adds up what the ranks have measured.
    ///
    /// # Errors
    /// The ring broke.
    pub(crate) fn sum_over_ranks(&mut self, measured: Measured) -> Result<Measured, Misfortune> {
        let Some(reducer) = &mut self.reducer else { return Ok(measured) };
        let fixed = FixedPoint::new(LOSS_FRACTION_BITS, reducer.world());
        let Measured { sums, mut gathered } = measured;
        let mut integers = sums.to_integers(fixed);
        let (integers, gathered) = reducer.with_ring(move |ring| {
            ring.all_reduce_i64(&mut integers)?;
            over_ranks(ring, &mut gathered).map(|()| (integers, gathered))
        })??;
        Ok(Measured { sums: StepSums::from_integers(&integers, fixed, sums.has_classes), gathered })
    }

    /// Makes sure that all ranks hold the same parameters: the invariant of data-parallel training.
    ///
    /// # Errors
    /// They do not, or the ring broke.
    pub fn check_replicas(&mut self) -> Result<(), Misfortune> {
        let own = fingerprint(&self.params).to_be_bytes();
        let Some(reducer) = &mut self.reducer else { return Ok(()) };
        let mut all = vec![0; own.len() * reducer.world()];
        let all = reducer.with_ring(move |ring| ring.all_gather(&own, &mut all).map(|()| all))??;
        match all.chunks_exact(own.len()).position(|other| other != own) {
            None => Ok(()),
            Some(rank) => Err(Misfortune::new(
                FailureKind::Panic,
                format!(
                    "after step {} rank {rank} holds other parameters than rank {}",
                    self.step,
                    reducer.rank()
                ),
            )),
        }
    }

    /// Leaves the ring in peace.
    ///
    /// # Errors
    /// The ring broke.
    pub fn finish(self) -> Result<(), Misfortune> {
        match self.reducer {
            Some(reducer) => Ok(reducer.finish().map(drop)?),
            None => Ok(()),
        }
    }
}

/// How weights of a step are written as integers.
fn weight_point() -> FixedPoint {
    FixedPoint::new(WEIGHT_FRACTION_BITS, 1)
}

/// What gradients are multiplied by, so that they are those of a mean, where a step's targets weigh so much.
fn mean_factor(weight: i64) -> f32 {
    if weight == 0 { 1.0 } else { (1.0 / weight_point().value(weight)) as f32 }
}

/// Whether passes of a job's worker update large layers themselves: where a step is one pass of one worker, and what it
/// does to a parameter depends on that parameter's gradient alone.
pub fn updates_at_once(job: &JobSpec, optimizers: &Optimizers) -> bool {
    let one_pass = job.workers.max == 1 && job.lanes == 1 && job.updates.accumulate_steps == 1;
    let apart = job.updates.clip_norm.is_none() && !optimizers.measure();
    one_pass && apart && job.numerics.mode == NumericsMode::Fast
}

/// FNV-1a over the bits.
fn fingerprint(params: &[f32]) -> u64 {
    params.iter().fold(0xcbf2_9ce4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A batch as the model takes it.
///
/// # Errors
/// A record has a number that is no row of a table of the model, or no length, where it has to be one.
pub(crate) fn view<'a>(model: &Model, batch: &'a Batch) -> Result<BatchView<'a>, Misfortune> {
    if let Some((i, message)) = model.find_wrong(&batch.inputs) {
        let message = format!("record {} of the data: {message}", batch.records[i]);
        return Err(Misfortune::new(FailureKind::Job, message));
    }
    let targets = match &batch.targets {
        Targets::None => ringspin_nn::Targets::None,
        Targets::Classes(classes) => ringspin_nn::Targets::Classes(classes),
        Targets::Values(values) => ringspin_nn::Targets::Values(values),
    };
    Ok(BatchView { inputs: &batch.inputs, targets, count: batch.count() })
}
