//! Losses: what is minimised. One file each; the loss of a batch is the mean of its records' losses.

pub(crate) mod classes;
pub(crate) mod cross_entropy;
pub(crate) mod mse;
pub(crate) mod nll;

use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::kernels::Isa;

/// Arguments of [`Loss::measure`]: some records' outputs and targets.
pub struct Measure<'a> {
    /// Records.
    pub records: usize,
    /// Outputs of the model.
    pub y: &'a [f32],
    /// Targets of the same records, of the kind that [`Loss::targets`] names.
    pub targets: Targets<'a>,
    /// Gradient of `scale ·` loss with respect to `y`, to be overwritten; `None` in evaluation.
    pub dy: Option<&'a mut [f32]>,
    /// 1 / records of the whole step.
    pub scale: f32,
    /// Instructions for kernels.
    pub isa: Isa,
}

/// What is minimised.
pub trait Loss: Send + Sync {
    /// What it compares the outputs with.
    fn targets(&self) -> TargetKind;

    /// Sums the records' losses and writes the gradient.
    fn measure(&self, measure: Measure<'_>) -> BatchMetrics;
}
