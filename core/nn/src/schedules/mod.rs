//! Schedules: the learning rate as a pure function of where a job stands. One file each.
//!
//! A step is an update. Factors multiply every optimizer's own rate, so that any schedule goes with any optimizer.

pub(crate) mod constant;
pub(crate) mod cosine;
pub(crate) mod cosine_restarts;
pub(crate) mod exponential;
pub(crate) mod multi_step;
pub(crate) mod natural_exponential;
pub(crate) mod one_cycle;
pub(crate) mod plateau;
pub(crate) mod polynomial;
pub(crate) mod sequence;
pub(crate) mod step;
mod unit;
pub(crate) mod warmup;

pub use sequence::THEN_PARAMS;

use ringspin_job::Monitor;

/// What a validation measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Updates made before it.
    pub step: u64,
    /// Metrics by name; `loss` is the mean loss.
    measured: Vec<(String, f64)>,
}

impl Validated {
    /// A loss that was measured after `step` updates.
    pub fn new(step: u64, loss: f64) -> Validated {
        Validated { step, measured: vec![("loss".into(), loss)] }
    }

    /// Adds another metric, if there is a value of it.
    #[must_use]
    pub fn with(mut self, metric: &str, value: Option<f64>) -> Validated {
        self.measured.extend(value.map(|value| (metric.into(), value)));
        self
    }

    /// The value of a metric; not a number where it was not measured.
    pub fn value(&self, metric: &str) -> f64 {
        self.measured.iter().find(|(name, _)| name == metric).map_or(f64::NAN, |(_, value)| *value)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress<'a> {
    /// Updates made so far: 0 at the first.
    pub step: u64,
    /// Updates of one epoch.
    pub steps_per_epoch: u64,
    /// Updates of the whole job, or of a schedule's part in a sequence.
    pub total_steps: u64,
    /// What validations have measured so far, in order.
    pub validations: &'a [Validated],
}

impl Progress<'_> {
    /// Full epochs made so far.
    pub fn epoch(&self) -> u64 {
        self.step / self.steps_per_epoch.max(1)
    }

    /// Epochs of the whole job, those begun counted.
    pub fn epochs(&self) -> u64 {
        self.total_steps.div_ceil(self.steps_per_epoch.max(1))
    }
}

/// The learning rate as a function of where a job stands.
pub trait Schedule: Send + Sync {
    /// What the optimizers' own rates are multiplied by for the update at `progress`.
    fn factor(&self, progress: Progress<'_>) -> f64;

    /// What it looks at in validations.
    fn monitors(&self) -> Vec<Monitor> {
        Vec::new()
    }
}
