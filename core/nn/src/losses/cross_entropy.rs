//! Cross-entropy of logits against one class a position.
//!
//! With `p = softmax(y)`, weights `w`, smoothing `ε` and K classes, for the class `c` of a position:
//! `loss = (1 - ε) w[c] (-log p[c]) + ε/K Σⱼ w[j] (-log p[j])`, divided by the sum of `w[c]` over all positions;
//! `dy[k] = scale · ((1 - ε) w[c] (p[k] - onehot[k]) + ε/K (p[k] Σⱼ w[j] - w[k]))`; y is (positions ..., K).
//! As PyTorch's `CrossEntropyLoss`: the model ends in plain numbers, without softmax.

use super::classes::{Classes, IGNORE_INDEX, WEIGHT, rank};
use super::{Loss, Measure};
use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::kernels::Isa;
use crate::kernels::softmax::{exp_into, exp_sum, largest};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "cross-entropy of logits and one class a position (PyTorch CrossEntropyLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    WEIGHT,
    IGNORE_INDEX,
    ParamDoc::new("label_smoothing", "0", "share of the target that is spread over all classes"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let smoothing = reader.number("label_smoothing", 0.0..=1.0, Some(0.0));
    Ok(Box::new(CrossEntropy { classes: Classes::read("cross_entropy", reader, output)?, smoothing }))
}

struct CrossEntropy {
    classes: Classes,
    smoothing: f64,
}

impl CrossEntropy {
    /// The loss of one position; writes its gradient times `scale`.
    fn position(
        &self,
        isa: Isa,
        y: &[f32],
        (class, weight): (usize, f64),
        gradient: Option<(&mut [f32], f32)>,
    ) -> f64 {
        let own = (1.0 - self.smoothing) * weight;
        let spread = self.smoothing / self.classes.count as f64;
        // What all probabilities together are multiplied by.
        let mass = if spread > 0.0 { own + spread * self.classes.weight_of_all() } else { own };
        let max = largest(y);
        let sum = match gradient {
            None => exp_sum(isa, y, max),
            Some((dy, scale)) => {
                let sum = exp_into(isa, y, max, dy);
                let factor = scale * mass as f32 / sum;
                dy.iter_mut().for_each(|v| *v *= factor);
                dy[class] -= scale * own as f32;
                if spread > 0.0 {
                    for (k, dy) in dy.iter_mut().enumerate() {
                        *dy -= scale * (spread * self.classes.weight_of(k)) as f32;
                    }
                }
                sum
            }
        };
        let log_sum = f64::from(sum).ln() + f64::from(max);
        let mut loss = own * (log_sum - f64::from(y[class]));
        if spread > 0.0 {
            let term = |(k, y): (usize, &f32)| self.classes.weight_of(k) * (log_sum - f64::from(*y));
            loss += spread * y.iter().enumerate().map(term).sum::<f64>();
        }
        loss
    }
}

impl Loss for CrossEntropy {
    fn targets(&self) -> TargetKind {
        self.classes.kind()
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let Targets::Classes(targets) = measure.targets else {
            panic!("cross_entropy is given classes");
        };
        let Classes { count, positions, .. } = self.classes;
        let weight = self.classes.weight(targets);
        let mut metrics = BatchMetrics { weight, ..BatchMetrics::of(measure.records) };
        let (mut dy, scale) = (measure.dy, measure.scale / positions as f32);
        let mut loss_sum = 0.0;
        for (i, (y, target)) in measure.y.chunks_exact(count).zip(targets).enumerate() {
            let dy = dy.as_deref_mut().map(|dy| &mut dy[i * count..][..count]);
            let Some((class, weight)) = self.classes.of(*target) else {
                dy.into_iter().for_each(|dy| dy.fill(0.0));
                continue;
            };
            loss_sum += self.position(measure.isa, y, (class, weight), dy.map(|dy| (dy, scale)));
            metrics.count_rank(rank(y, class));
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
        golden::check_loss("cross_entropy", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("cross_entropy", 1e-3);
    }
}
