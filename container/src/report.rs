//! What the ApplicationMaster is told while a worker trains.

use crate::link::Link;
use crate::step_sums::StepSums;
use ringspin_control::messages::{Progress, ToAm};
use ringspin_control::status::Metrics;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Rank 0 reports this often, and at the first step, and at the end of an epoch.
const REPORT_INTERVAL: Duration = Duration::from_millis(250);

/// Tells the AM how it goes; only rank 0 has anything to say.
pub(crate) struct Report<'a> {
    link: &'a Link,
    rank: usize,
    steps_per_epoch: u64,
    steps: u64,
    since: Instant,
    interval: StepSums,
    epoch: StepSums,
    learning_rate: f64,
    step: u64,
    first_step_ms: u64,
    has_classes: bool,
    /// Training metrics of the last epoch.
    pub(crate) last_epoch: Option<Metrics>,
    /// Metrics of the last validation.
    pub(crate) validation: Option<Metrics>,
}

impl<'a> Report<'a> {
    /// Of a job of so many epochs.
    pub(crate) fn new(link: &'a Link, rank: usize, steps_per_epoch: u64, epochs: u64) -> Self {
        Report {
            link,
            rank,
            steps_per_epoch,
            steps: steps_per_epoch.saturating_mul(epochs),
            since: Instant::now(),
            interval: StepSums::default(),
            epoch: StepSums::default(),
            learning_rate: 0.0,
            step: 0,
            first_step_ms: 0,
            has_classes: true,
            last_epoch: None,
            validation: None,
        }
    }

    /// A step was committed, the last of `step`.
    pub(crate) fn step(&mut self, step: u64, sums: &StepSums, learning_rate: f64) {
        self.step = step;
        self.interval.add(sums);
        self.epoch.add(sums);
        self.learning_rate = learning_rate;
        self.has_classes = sums.has_classes;
        self.link.pulse.set_step(self.step);
        if step == 1 {
            self.first_step_ms =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        }
        if step == 1 || self.since.elapsed() >= REPORT_INTERVAL {
            self.send();
        }
    }

    /// An epoch is over.
    pub(crate) fn epoch_end(&mut self) {
        if self.interval.records > 0 {
            self.send();
        }
        self.last_epoch = Some(std::mem::take(&mut self.epoch).metrics(self.has_classes));
    }

    /// The model was measured after an epoch, counted from 0.
    pub(crate) fn validated(&mut self, epoch: u64, metrics: Metrics) {
        self.validation = Some(metrics.clone());
        if self.rank == 0 {
            self.link.send(ToAm::Validated { epoch, metrics });
        }
        // What validation took is not the training's rate.
        self.since = Instant::now();
    }

    /// Something that people want to know.
    pub(crate) fn note(&self, text: String) {
        if self.rank == 0 {
            self.link.send(ToAm::Note(text));
        }
    }

    /// Weights of an earlier epoch are written: what is known of them is the job's result.
    pub(crate) fn kept(&self, epoch: u64, metrics: Metrics) {
        if self.rank == 0 {
            self.note(format!("the weights after epoch {} were the best, and are kept", epoch + 1));
            self.link.send(ToAm::Validated { epoch, metrics });
        }
    }

    fn send(&mut self) {
        let sums = std::mem::take(&mut self.interval);
        let elapsed_ms = self.since.elapsed().as_millis() as u64;
        self.since = Instant::now();
        if self.rank == 0 {
            self.link.send(ToAm::Progress(Progress {
                epoch: (self.step - 1) / self.steps_per_epoch,
                step: self.step,
                steps: self.steps,
                metrics: sums.metrics(self.has_classes),
                learning_rate: self.learning_rate,
                elapsed_ms,
                first_step_ms: self.first_step_ms,
            }));
        }
    }
}
