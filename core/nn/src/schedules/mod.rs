//! Schedules: the learning rate as a pure function of the step. One file each.

pub(crate) mod constant;
pub(crate) mod polynomial;
pub(crate) mod step;
pub(crate) mod warmup;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Updates made so far: 0 at the first.
    pub step: u64,
    /// Updates of one epoch.
    pub steps_per_epoch: u64,
    /// Epochs of the job.
    pub epochs: u64,
}

impl Progress {
    /// Full epochs made so far.
    pub fn epoch(&self) -> u64 {
        self.step / self.steps_per_epoch.max(1)
    }

    /// Updates of the whole job.
    pub fn total_steps(&self) -> u64 {
        self.steps_per_epoch.saturating_mul(self.epochs)
    }
}

/// The learning rate as a function of the step.
pub trait Schedule: Send + Sync {
    /// What the optimizer's own rate is multiplied by for the update at `progress`.
    fn factor(&self, progress: Progress) -> f64;
}
