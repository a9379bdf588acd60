//! Kullback-Leibler divergence of a distribution from the targets': the model ends in `log_softmax`.
//!
//! `loss = share · Σ t (log t - y)`, `dy = -scale · share · t`; with `log_target` t holds logarithms and stands
//! as exp(t). y and t are (F); share is 1/F, or 1 with `reduction = "batchmean"`, which is the divergence of a
//! record. As PyTorch's `KLDivLoss`.

use super::{Loss, Measure};
use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::kernels::softmax::{exp_into, exp_sum, largest};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "divergence of log-probabilities from the targets' distribution (PyTorch KLDivLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("reduction", "\"mean\"", "\"mean\" of all numbers, or \"batchmean\": of the records' sums"),
    ParamDoc::new("log_target", "false", "whether the targets are logarithms of probabilities"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let per_number = reader.choice("reduction", &["mean", "batchmean"], Some("mean")) == "mean";
    let log_target = reader.flag("log_target", false);
    Ok(Box::new(KlDiv { outputs: output.elements(), per_number, log_target }))
}

struct KlDiv {
    outputs: usize,
    per_number: bool,
    log_target: bool,
}

impl KlDiv {
    fn loss(&self, y: f64, t: f64) -> f64 {
        match self.log_target {
            true => t.exp() * (t - y),
            // The limit of t log t.
            false if t == 0.0 => 0.0,
            false => t * (t.ln() - y),
        }
    }
}

impl Loss for KlDiv {
    fn targets(&self) -> TargetKind {
        TargetKind::Values { count: self.outputs }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let Targets::Values(targets) = measure.targets else {
            panic!("kl_div is given values");
        };
        let mut metrics = BatchMetrics::of(measure.records);
        let divisor = if self.per_number { self.outputs as f64 } else { 1.0 };
        for (y, t) in measure.y.chunks_exact(self.outputs).zip(targets.chunks_exact(self.outputs)) {
            let losses = y.iter().zip(t).map(|(y, t)| self.loss(f64::from(*y), f64::from(*t)));
            metrics.loss_sum += losses.sum::<f64>() / divisor;
        }
        if let Some(dy) = measure.dy {
            let scale = measure.scale / divisor as f32;
            for (dy, t) in dy.chunks_exact_mut(self.outputs).zip(targets.chunks_exact(self.outputs)) {
                let mut factor = -scale;
                if self.log_target {
                    // Logarithms of probabilities are not above 0; what is comes out by its reciprocal.
                    let max = largest(t).max(0.0);
                    exp_into(measure.isa, t, max, dy);
                    factor /= exp_sum(measure.isa, &[-max], 0.0);
                } else {
                    dy.copy_from_slice(t);
                }
                dy.iter_mut().for_each(|dy| *dy *= factor);
            }
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("kl_div", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("kl_div", 1e-3);
    }
}
