//! Losses: what is minimised. One file each; the loss of a batch is PyTorch's `reduction="mean"`.
//!
//! A loss is measured on one output of a model. Of some records it gives the sum of their losses and what they
//! weigh; the loss of a step is the sum over all lanes divided by the weight over all lanes. Where classes have
//! weights or are ignored, the weight depends on the targets; no record weighs more than 1. Gradients come as those of
//! the sum over the step's records, divided by their number; who makes a step adds up the weights beside the
//! gradients, and divides by what a record weighs on average: then they are those of the whole step's mean, however
//! it is cut into lanes and batches. The loss of several outputs is a sum of such means, each with a factor.

pub(crate) mod bce;
pub(crate) mod bce_with_logits;
pub(crate) mod binary;
pub(crate) mod classes;
pub(crate) mod cosine_embedding;
pub(crate) mod cross_entropy;
pub(crate) mod elementwise;
pub(crate) mod hinge;
pub(crate) mod hinge_embedding;
pub(crate) mod huber;
pub(crate) mod kl_div;
pub(crate) mod l1;
pub(crate) mod margin_ranking;
pub(crate) mod mse;
pub(crate) mod multi_margin;
pub(crate) mod nll;
pub(crate) mod pairs;
pub(crate) mod smooth_l1;

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

    /// Sums the records' losses and what they weigh in the mean, at most 1 each, and writes the gradient.
    fn measure(&self, measure: Measure<'_>) -> BatchMetrics;
}
