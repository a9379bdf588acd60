//! Mean squared error.
//!
//! `loss = 1/F Σ (y - t)²`, `dy = scale · 2/F (y - t)`; y and t are (F). As PyTorch's `MSELoss`.

use super::{Loss, Measure};
use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean squared error of all outputs (PyTorch MSELoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    Ok(Box::new(Mse { outputs: output.elements() }))
}

struct Mse {
    outputs: usize,
}

impl Loss for Mse {
    fn targets(&self) -> TargetKind {
        TargetKind::Values { count: self.outputs }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let Targets::Values(targets) = measure.targets else {
            panic!("mse is given values");
        };
        let mut metrics = BatchMetrics { records: measure.records as u64, ..BatchMetrics::default() };
        let squares = |(y, t): (&f32, &f32)| (f64::from(*y) - f64::from(*t)).powi(2);
        for (y, t) in measure.y.chunks_exact(self.outputs).zip(targets.chunks_exact(self.outputs)) {
            metrics.loss_sum += y.iter().zip(t).map(squares).sum::<f64>() / self.outputs as f64;
        }
        if let Some(dy) = measure.dy {
            let factor = 2.0 * measure.scale / self.outputs as f32;
            for ((dy, y), t) in dy.iter_mut().zip(measure.y).zip(targets) {
                *dy = factor * (y - t);
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
        golden::check_loss("mse", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("mse", 1e-3);
    }
}
