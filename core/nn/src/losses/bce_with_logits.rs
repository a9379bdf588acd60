//! Binary cross-entropy of logits: the model ends in plain numbers, without `sigmoid`.
//!
//! With `v = 1 + (pos_weight - 1) t`:
//! `loss = 1/F Σ w ((1 - t) y + v log (1 + exp(-y)))`, `dy = scale/F · w ((1 - t) - v (1 - sigmoid y))`; y, t, w
//! and pos_weight are (F). As PyTorch's `BCEWithLogitsLoss`.

use super::binary::Labels;
use super::elementwise::Factors;
use super::{Loss, Measure};
use crate::batch::{BatchMetrics, TargetKind};
use crate::kernels::elementwise::{Function, map};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "binary cross-entropy of logits (PyTorch BCEWithLogitsLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("weight", "all 1", "factor of each output's loss, a list as long as a record's outputs"),
    ParamDoc::new("pos_weight", "all 1", "factor of each output's loss where the target is 1, a list"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let (weight, pos_weight) = (Factors::read(reader, "weight"), Factors::read(reader, "pos_weight"));
    weight.check("bce_with_logits: weight", output.elements())?;
    pos_weight.check("bce_with_logits: pos_weight", output.elements())?;
    Ok(Box::new(BceWithLogits { outputs: output.elements(), weight, pos_weight }))
}

struct BceWithLogits {
    outputs: usize,
    weight: Factors,
    pos_weight: Factors,
}

impl Loss for BceWithLogits {
    fn targets(&self) -> TargetKind {
        TargetKind::Binary { count: self.outputs, no: 0.0, boundary: 0.0 }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let labels = Labels::new(measure.targets, 0.0);
        let mut metrics = BatchMetrics::of(measure.records);
        for (record, y) in measure.y.chunks_exact(self.outputs).enumerate() {
            let loss = |(i, y): (usize, &f32)| {
                let (y, t) = (f64::from(*y), f64::from(labels.at(record * self.outputs + i)));
                let softplus = (-y.abs()).exp().ln_1p() + if y < 0.0 { -y } else { 0.0 };
                self.weight.of(i) * ((1.0 - t) * y + (1.0 + (self.pos_weight.of(i) - 1.0) * t) * softplus)
            };
            metrics.loss_sum += y.iter().enumerate().map(loss).sum::<f64>() / self.outputs as f64;
        }
        if let Some(dy) = measure.dy {
            map(measure.isa, Function::Sigmoid, measure.y, dy);
            let scale = measure.scale / self.outputs as f32;
            for (i, dy) in dy.iter_mut().enumerate() {
                let (output, t) = (i % self.outputs, labels.at(i));
                let v = 1.0 + (self.pos_weight.of(output) as f32 - 1.0) * t;
                *dy = scale * self.weight.of(output) as f32 * ((1.0 - t) - v * (1.0 - *dy));
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
        golden::check_loss("bce_with_logits", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("bce_with_logits", 1e-3);
    }
}
