//! Which of two numbers is larger: x1 where the target is 1, x2 where it is -1, by at least `margin`.
//!
//! `loss = 1/F Σ max(0, margin - t (x1 - x2))`, `dx1 = -scale/F · t` and `dx2 = scale/F · t` where that is not
//! below 0; an output record (2 F) holds x1 (F), then x2 (F); t is (F) of ±1 or of the classes 0 (-1) and 1. As
//! PyTorch's `MarginRankingLoss`.

use super::binary::Labels;
use super::{Loss, Measure, pairs};
use crate::batch::{BatchMetrics, TargetKind};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "first half of the output above the second for the target 1, below for -1 (PyTorch MarginRankingLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("margin", "0", "how far above or below")];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let margin = reader.number("margin", f64::MIN..=f64::MAX, Some(0.0));
    Ok(Box::new(MarginRanking { half: pairs::half("margin_ranking", output)?, margin }))
}

struct MarginRanking {
    half: usize,
    margin: f64,
}

impl Loss for MarginRanking {
    fn targets(&self) -> TargetKind {
        TargetKind::Binary { count: self.half, no: -1.0, boundary: 0.0 }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let labels = Labels::new(measure.targets, -1.0);
        let mut metrics = BatchMetrics::of(measure.records);
        let scale = measure.scale / self.half as f32;
        let mut dy = measure.dy;
        for (record, y) in measure.y.chunks_exact(2 * self.half).enumerate() {
            let mut loss = 0.0;
            for i in 0..self.half {
                let t = labels.at(record * self.half + i);
                let apart = f64::from(y[i]) - f64::from(y[self.half + i]);
                let short = self.margin - f64::from(t) * apart;
                // What is not a number stays so.
                loss += if short < 0.0 { 0.0 } else { short };
                if let Some(dy) = &mut dy {
                    let slope = if short < 0.0 { 0.0 } else { scale * t };
                    dy[record * 2 * self.half + i] = -slope;
                    dy[record * 2 * self.half + self.half + i] = slope;
                }
            }
            metrics.loss_sum += loss / self.half as f64;
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("margin_ranking", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("margin_ranking", 1e-3);
    }
}
