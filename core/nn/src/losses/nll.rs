//! Negative log-likelihood: the model ends in `log_softmax`.
//!
//! `loss = -w[c] y[c]`, divided by the sum of `w[c]` over all positions; `dy = -scale · w[c] · onehot(c)`; y is
//! (positions ..., classes), `c` the class of a position, `w` the classes' weights. As PyTorch's `NLLLoss`.

use super::classes::{Classes, IGNORE_INDEX, WEIGHT, rank};
use super::{Loss, Measure};
use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "negative log-likelihood after log_softmax (PyTorch NLLLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[WEIGHT, IGNORE_INDEX];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    Ok(Box::new(Nll { classes: Classes::read("nll", reader, output)? }))
}

struct Nll {
    classes: Classes,
}

impl Loss for Nll {
    fn targets(&self) -> TargetKind {
        self.classes.kind()
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let Targets::Classes(targets) = measure.targets else {
            panic!("nll is given classes");
        };
        let Classes { count, positions, .. } = self.classes;
        let weight = self.classes.weight(targets);
        let mut metrics = BatchMetrics { weight, ..BatchMetrics::of(measure.records) };
        let (mut dy, scale) = (measure.dy, measure.scale / positions as f32);
        if let Some(dy) = &mut dy {
            dy.fill(0.0);
        }
        let mut loss_sum = 0.0;
        for (i, (y, target)) in measure.y.chunks_exact(count).zip(targets).enumerate() {
            let Some((class, weight)) = self.classes.of(*target) else { continue };
            loss_sum -= weight * f64::from(y[class]);
            metrics.count_rank(rank(y, class));
            if let Some(dy) = &mut dy {
                dy[i * count + class] = -scale * weight as f32;
            }
        }
        metrics.loss_sum = loss_sum / positions as f64;
        metrics
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("nll", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("nll", 1e-3);
    }
}
