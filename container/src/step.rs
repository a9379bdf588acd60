//! One step: forward and backward on this worker's lanes, the sum over all ranks, the update.
//!
//! ```text
//! lanes -> gradients (cut into buckets) -> ring -> sums -> optimizer -> parameters
//!                 \ metrics ------------/
//! ```
//! Buckets of the last lane leave for the ring while backward still runs. Every rank gets the same sums, so
//! every rank makes the same update and the same decisions.

use crate::Misfortune;
use crate::gradients::{FixedPoint, cut};
use crate::measure::{Measured, Measurer, over_ranks};
use ringspin_control::messages::FailureKind;
use ringspin_control::status::Metrics;
use ringspin_data::formats::Targets;
use ringspin_data::plan::Plan;
use ringspin_data::reader::Batch;
use ringspin_job::{JobSpec, NumericsMode, Problems};
use ringspin_nn::{
    BatchMetrics, BatchView, Due, Model, Progress, RandomKey, Registry, Schedule, TargetKind, Team,
    TrainingPass, UpdateOptions, Updater, Workspace,
};
use ringspin_ring::{Bucket, Reducer, RingError};
use std::ops::Range;
use std::sync::Arc;

/// Buckets that the ring may have at once: those of the largest models, and the metrics.
pub const BUCKETS_UNDER_WAY: usize = 1024;
/// Fraction bits of sums of losses: a step's loss is shown, not learned from.
const LOSS_FRACTION_BITS: u32 = 24;
/// Fraction bits of what the records of a step weigh, which gradients are divided by. No record weighs more than 1.
const WEIGHT_FRACTION_BITS: u32 = 32;

/// What was measured in a step, over all ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSums {
    /// Sum of the records' losses.
    pub loss: f64,
    /// What they weigh in the mean.
    pub weight: f64,
    /// Targets whose class got the largest output.
    pub top1: u64,
    /// Targets whose class got one of the five largest outputs.
    pub top5: u64,
    /// Targets that are classes and count.
    pub classified: u64,
    /// Records.
    pub records: u64,
    /// Losses and gradients that are not finite, or too large to be summed.
    pub not_finite: u64,
    /// Whether the targets are classes, so that `top1` and `top5` mean something.
    pub has_classes: bool,
}

impl StepSums {
    /// Adds another step's.
    pub fn add(&mut self, other: &StepSums) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.classified += other.classified;
        self.records += other.records;
        self.not_finite += other.not_finite;
        self.has_classes = other.has_classes;
    }

    pub(crate) fn count(&mut self, metrics: &BatchMetrics) {
        if metrics.loss_sum.is_finite() {
            self.loss += metrics.loss_sum;
        } else {
            self.not_finite += 1;
        }
        self.weight += metrics.weight;
        self.top1 += metrics.top1;
        self.top5 += metrics.top5;
        self.classified += metrics.classified;
        self.records += metrics.records;
    }

    /// Means and shares; the latter where targets are classes.
    pub fn metrics(&self, has_classes: bool) -> Metrics {
        let share = |count: u64| count as f64 / self.classified.max(1) as f64;
        Metrics {
            records: self.records,
            loss: if self.not_finite > 0 { f64::NAN } else { self.loss / self.weight },
            top1: has_classes.then(|| share(self.top1)),
            top5: has_classes.then(|| share(self.top5)),
            others: Vec::new(),
        }
    }

    fn to_integers(self, fixed: FixedPoint) -> Vec<i64> {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        vec![
            fixed.of(self.loss),
            fixed.of(self.weight),
            count(self.top1),
            count(self.top5),
            count(self.classified),
            count(self.records),
            count(self.not_finite),
        ]
    }

    fn from_integers(integers: &[i64], fixed: FixedPoint, has_classes: bool) -> Self {
        StepSums {
            loss: fixed.value(integers[0]),
            weight: fixed.value(integers[1]),
            top1: integers[2].unsigned_abs(),
            top5: integers[3].unsigned_abs(),
            classified: integers[4].unsigned_abs(),
            records: integers[5].unsigned_abs(),
            not_finite: integers[6].unsigned_abs(),
            has_classes,
        }
    }
}

/// How gradients are summed over this worker's lanes.
enum Sums {
    /// In the gradient buffer itself; `travelling` holds the buckets' vectors where there is a ring.
    Fast { travelling: Vec<Vec<f32>> },
    /// As integers, bucket by bucket.
    Fixed { point: FixedPoint, sums: Vec<Vec<i64>>, lane: Vec<f32> },
}

/// Everything a step needs, kept between steps.
pub struct Stepper {
    model: Arc<Model>,
    workspace: Workspace,
    updater: Updater,
    schedule: Box<dyn Schedule>,
    params: Vec<f32>,
    grads: Vec<f32>,
    buckets: Vec<Range<usize>>,
    missing: Vec<usize>,
    sums: Sums,
    reducer: Option<Reducer>,
    lanes: usize,
    seed: u64,
    stop_on_nan: bool,
    step: u64,
    epochs: u64,
    steps_per_epoch: u64,
    batch_size: u64,
    records: u64,
    rate: f64,
}

impl Stepper {
    /// Prepares everything for `job`; `reducer` is absent when this worker is alone.
    ///
    /// # Errors
    /// The optimizer or the schedule is wrong, or there are no threads.
    pub fn new(
        registry: &Registry,
        job: &JobSpec,
        model: Arc<Model>,
        plan: &Plan,
        reducer: Option<Reducer>,
    ) -> Result<Self, Misfortune> {
        let wrong = |problems: Problems| Misfortune::new(FailureKind::Job, problems.to_string());
        let optimizers = registry.build_optimizers(&job.optimizer).map_err(wrong)?;
        let updater =
            Updater::new(optimizers, model.parameters(), UpdateOptions::default()).map_err(wrong)?;
        let schedule = registry.build_schedule(&job.schedule).map_err(wrong)?;
        let team = Team::new(job.workers.container.vcores).map_err(|error| {
            Misfortune::new(FailureKind::Environment, format!("compute threads: {error}"))
        })?;
        let parameters: Vec<Range<usize>> =
            model.parameters().iter().map(|parameter| parameter.range.clone()).collect();
        let bucket_values = usize::try_from(job.network.bucket_bytes / 4).unwrap_or(usize::MAX);
        let buckets = cut(&parameters, bucket_values);
        let count = model.parameter_count();
        let sums = match job.numerics.mode {
            NumericsMode::Fast if reducer.is_some() => {
                Sums::Fast { travelling: buckets.iter().map(|bucket| vec![0.0; bucket.len()]).collect() }
            }
            NumericsMode::Fast => Sums::Fast { travelling: Vec::new() },
            NumericsMode::Reproducible => Sums::Fixed {
                point: FixedPoint::new(job.numerics.fraction_bits, job.lanes),
                sums: buckets.iter().map(|bucket| vec![0; bucket.len()]).collect(),
                lane: vec![0.0; count],
            },
        };
        // The micro-batches of a step differ by one record at most.
        let records = usize::try_from(plan.step_records(0)).unwrap_or(usize::MAX).div_ceil(job.lanes);
        Ok(Stepper {
            workspace: Workspace::new(Arc::clone(&model), team, records),
            updater,
            schedule,
            params: model.initialize(job.seed),
            model,
            grads: vec![0.0; count],
            missing: vec![0; buckets.len()],
            buckets,
            sums,
            reducer,
            lanes: job.lanes,
            seed: job.seed,
            stop_on_nan: job.stop_on_nan,
            step: 0,
            epochs: job.epochs,
            steps_per_epoch: plan.steps_per_epoch(),
            batch_size: job.batch_size as u64,
            records: plan.records(),
            rate: 0.0,
        })
    }

    /// Steps committed.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Learning rate of the last step.
    pub fn learning_rate(&self) -> f64 {
        self.rate
    }

    /// The parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Whether the targets are classes.
    pub fn has_classes(&self) -> bool {
        matches!(self.model.targets(), TargetKind::Classes { .. })
    }

    /// Makes the next step from this worker's micro-batches.
    ///
    /// # Errors
    /// The ring broke, or loss or gradients are not finite.
    pub fn make(&mut self, batches: &[Batch]) -> Result<StepSums, Misfortune> {
        let mut own = StepSums { has_classes: self.has_classes(), ..StepSums::default() };
        self.backward(batches, &mut own)?;
        let sums = self.collect(own)?;
        if sums.not_finite > 0 && self.stop_on_nan {
            return Err(self.not_finite(&sums));
        }
        let progress =
            Progress { step: self.step, steps_per_epoch: self.steps_per_epoch, epochs: self.epochs };
        let due = Due { update: self.step + 1, factor: self.schedule.factor(progress) };
        self.rate = self.updater.base_rate() * due.factor;
        self.updater.update(self.workspace.team(), due, &mut self.params, &mut self.grads);
        self.step += 1;
        Ok(sums)
    }

    /// Records of the step under way over all lanes.
    fn step_records(&self) -> u64 {
        let position = self.step % self.steps_per_epoch;
        (self.records - position * self.batch_size).min(self.batch_size)
    }

    /// 1 / what the records of the step under way weigh over all lanes. Where that depends on targets, the ranks
    /// add it up first, as integers and so to the same number whoever has which lane; where nothing counts it is
    /// 0, and so are the gradients.
    fn scale(&mut self, batches: &[Batch]) -> Result<f32, Misfortune> {
        if !self.model.weighs() {
            return Ok(1.0 / self.step_records() as f32);
        }
        let fixed = FixedPoint::new(WEIGHT_FRACTION_BITS, self.lanes);
        let weight = |batch: &Batch| fixed.of(self.model.weight(view(batch).targets, batch.count()));
        let mut sum = [batches.iter().map(weight).sum::<i64>()];
        if let Some(reducer) = &mut self.reducer {
            sum = reducer.with_ring(move |ring| ring.all_reduce_i64(&mut sum).map(|()| sum))??;
        }
        Ok(if sum[0] > 0 { (1.0 / fixed.value(sum[0])) as f32 } else { 0.0 })
    }

    /// Computes the gradients of this worker's lanes; buckets leave as soon as they are complete.
    fn backward(&mut self, batches: &[Batch], own: &mut StepSums) -> Result<(), Misfortune> {
        let scale = self.scale(batches)?;
        let used: Vec<&Batch> = batches.iter().filter(|batch| batch.count() > 0).collect();
        let mut out = Outgoing::new(&self.buckets, self.reducer.as_mut(), &mut self.missing);
        if let Sums::Fixed { sums, .. } = &mut self.sums {
            sums.iter_mut().for_each(|sums| sums.fill(0));
        }
        for (i, batch) in used.iter().enumerate() {
            let last = i + 1 == used.len();
            out.begin_lane();
            let mut training = TrainingPass {
                params: &self.params,
                scale,
                key: RandomKey { seed: self.seed, step: self.step, lane: batch.lane as u32 },
                accumulate: i > 0,
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
                    self.workspace.forward_backward(&view(batch), &training, &mut self.grads, &mut ready)
                }
                Sums::Fixed { point, sums, lane } => {
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
                    self.workspace.forward_backward(&view(batch), &training, lane, &mut ready)
                }
            };
            own.count(&metrics);
        }
        if used.is_empty() {
            // None of this worker's lanes has a record in this step: it adds nothing, but takes part.
            self.grads.fill(0.0);
            out.missing.fill(0);
            match &mut self.sums {
                Sums::Fast { travelling } => {
                    travelling.iter_mut().for_each(|values| values.fill(0.0));
                    out.send(|bucket| std::mem::take(&mut travelling[bucket]));
                }
                Sums::Fixed { sums, .. } => out.send(|bucket| std::mem::take(&mut sums[bucket])),
            }
        }
        out.failure.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Waits for the sums over all ranks.
    fn collect(&mut self, mut own: StepSums) -> Result<StepSums, Misfortune> {
        let has_classes = own.has_classes;
        if let Some(reducer) = &mut self.reducer {
            let loss = FixedPoint::new(LOSS_FRACTION_BITS, reducer.world());
            reducer.submit(self.buckets.len(), own.to_integers(loss))?;
            for _ in 0..self.buckets.len() {
                let reduced = reducer.wait_next()?;
                let range = self.buckets[reduced.bucket].clone();
                match (reduced.values, &mut self.sums) {
                    (Bucket::F32(values), Sums::Fast { travelling }) => {
                        self.grads[range].copy_from_slice(&values);
                        travelling[reduced.bucket] = values;
                    }
                    (Bucket::I64(values), Sums::Fixed { point, sums, .. }) => {
                        point.read(&values, &mut self.grads[range]);
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
            }
        } else if let Sums::Fixed { point, sums, .. } = &self.sums {
            for (bucket, sums) in self.buckets.iter().zip(sums) {
                point.read(sums, &mut self.grads[bucket.clone()]);
            }
        }
        if matches!(self.sums, Sums::Fast { .. }) && !self.grads.iter().all(|value| value.is_finite()) {
            own.not_finite += 1;
        }
        Ok(own)
    }

    fn not_finite(&self, sums: &StepSums) -> Misfortune {
        let (step, epoch) = (self.step, self.step / self.steps_per_epoch + 1);
        let grads = match &self.sums {
            Sums::Fast { .. } => &self.grads,
            Sums::Fixed { lane, .. } => lane,
        };
        let place = match self.model.find_non_finite(grads) {
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
    pub(crate) fn evaluate(&mut self, batch: &Batch, measurer: &mut Measurer, measured: &mut Measured) {
        measurer.measure(&mut self.workspace, &self.params, batch, measured);
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

/// FNV-1a over the bits.
fn fingerprint(params: &[f32]) -> u64 {
    params.iter().fold(0xcbf2_9ce4_8422_2325, |hash, value| {
        (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A batch as the model takes it.
pub(crate) fn view(batch: &Batch) -> BatchView<'_> {
    let targets = match &batch.targets {
        Targets::None => ringspin_nn::Targets::None,
        Targets::Classes(classes) => ringspin_nn::Targets::Classes(classes),
        Targets::Values(values) => ringspin_nn::Targets::Values(values),
    };
    BatchView { inputs: &batch.inputs, targets, count: batch.count() }
}

/// Gradients on their way from backward to the ring, in one lane.
struct Outgoing<'a> {
    buckets: &'a [Range<usize>],
    reducer: Option<&'a mut Reducer>,
    /// Values of each bucket that this lane has not finished yet.
    missing: &'a mut [usize],
    /// Buckets that have left, all those before included: every rank submits them in this order.
    sent: usize,
    failure: Option<RingError>,
}

impl<'a> Outgoing<'a> {
    fn new(buckets: &'a [Range<usize>], reducer: Option<&'a mut Reducer>, missing: &'a mut [usize]) -> Self {
        Outgoing { buckets, reducer, missing, sent: 0, failure: None }
    }

    /// The next lane begins.
    fn begin_lane(&mut self) {
        for (missing, bucket) in self.missing.iter_mut().zip(self.buckets) {
            *missing = bucket.len();
        }
    }

    /// Hands the part of `range` that each bucket has to `take`, as `(bucket, offset in it, values)`.
    fn spread(&mut self, range: Range<usize>, values: &[f32], mut take: impl FnMut(usize, usize, &[f32])) {
        for (number, bucket) in self.buckets.iter().enumerate() {
            let (start, end) = (range.start.max(bucket.start), range.end.min(bucket.end));
            if start < end {
                take(number, start - bucket.start, &values[start - range.start..end - range.start]);
                self.missing[number] -= end - start;
            }
        }
    }

    /// Submits the buckets that are complete; `values` takes one out of where it was collected.
    fn send<B: Into<Bucket>>(&mut self, mut values: impl FnMut(usize) -> B) {
        let Some(reducer) = &mut self.reducer else { return };
        while self.missing.get(self.sent) == Some(&0) {
            if let Err(error) = reducer.submit(self.sent, values(self.sent)) {
                self.failure.get_or_insert(error);
            }
            self.sent += 1;
        }
    }
}
