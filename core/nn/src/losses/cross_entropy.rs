//! Cross-entropy of logits against one class a record.
//!
//! `loss = log Σⱼ exp(yⱼ) - y[class]`, `dy = scale · (softmax(y) - onehot(class))`; y is (F = classes).
//! As PyTorch's `CrossEntropyLoss`: the model ends in plain numbers, without softmax.

use super::{Loss, Measure, classes};
use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::kernels::Isa;
use crate::kernels::softmax::{exp_into, exp_sum, largest};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "cross-entropy of logits and one class a record (PyTorch CrossEntropyLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    Ok(Box::new(CrossEntropy { classes: classes::count("cross_entropy", output)? }))
}

struct CrossEntropy {
    classes: usize,
}

impl Loss for CrossEntropy {
    fn targets(&self) -> TargetKind {
        TargetKind::Classes { count: self.classes }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let Targets::Classes(targets) = measure.targets else {
            panic!("cross_entropy is given classes");
        };
        let mut metrics = BatchMetrics { records: measure.records as u64, ..BatchMetrics::default() };
        let mut dy = measure.dy;
        for (i, (y, class)) in measure.y.chunks_exact(self.classes).zip(targets).enumerate() {
            let class = *class as usize;
            let dy = dy.as_deref_mut().map(|dy| &mut dy[i * self.classes..][..self.classes]);
            let (max, sum) = softmax(measure.isa, y, measure.scale, dy, class);
            metrics.loss_sum += f64::from(sum).ln() + f64::from(max) - f64::from(y[class]);
            let rank = classes::rank(y, class);
            metrics.top1 += u64::from(rank < 1);
            metrics.top5 += u64::from(rank < 5);
        }
        metrics
    }
}

/// Writes `scale · (softmax(y) - onehot(class))`; returns the largest output and `Σ exp(y - largest)`.
fn softmax(isa: Isa, y: &[f32], scale: f32, dy: Option<&mut [f32]>, class: usize) -> (f32, f32) {
    let max = largest(y);
    let Some(dy) = dy else {
        return (max, exp_sum(isa, y, max));
    };
    let sum = exp_into(isa, y, max, dy);
    let factor = scale / sum;
    dy.iter_mut().for_each(|v| *v *= factor);
    dy[class] -= scale;
    (max, sum)
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("cross_entropy", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("cross_entropy", 1e-3);
    }
}
