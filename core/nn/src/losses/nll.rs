//! Negative log-likelihood: the model ends in `log_softmax`.
//!
//! `loss = -y[class]`, `dy = -scale · onehot(class)`; y is (F = classes). As PyTorch's `NLLLoss`.

use super::{Loss, Measure, classes};
use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "negative log-likelihood after log_softmax (PyTorch NLLLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    Ok(Box::new(Nll { classes: classes::count("nll", output)? }))
}

struct Nll {
    classes: usize,
}

impl Loss for Nll {
    fn targets(&self) -> TargetKind {
        TargetKind::Classes { count: self.classes }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let Targets::Classes(targets) = measure.targets else {
            panic!("nll is given classes");
        };
        let mut metrics = BatchMetrics { records: measure.records as u64, ..BatchMetrics::default() };
        for (y, class) in measure.y.chunks_exact(self.classes).zip(targets) {
            metrics.loss_sum -= f64::from(y[*class as usize]);
            let rank = classes::rank(y, *class as usize);
            metrics.top1 += u64::from(rank < 1);
            metrics.top5 += u64::from(rank < 5);
        }
        if let Some(dy) = measure.dy {
            dy.fill(0.0);
            for (dy, class) in dy.chunks_exact_mut(self.classes).zip(targets) {
                dy[*class as usize] = -measure.scale;
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
        golden::check_loss("nll", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("nll", 1e-3);
    }
}
