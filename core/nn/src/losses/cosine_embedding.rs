//! Angles between two vectors: none where the target is 1, a wide one where it is -1.
//!
//! With `cos = x1·x2 / √((|x1|² + 1e-12) (|x2|² + 1e-12))`: `loss = 1 - cos` for the target 1,
//! `max(0, cos - margin)` for -1; one target a record, ±1 or one of the classes 0 (-1) and 1. An output record
//! (2 D) holds x1 (D), then x2 (D). As PyTorch's `CosineEmbeddingLoss`.

use super::binary::Labels;
use super::{Loss, Measure, pairs};
use crate::batch::{BatchMetrics, TargetKind};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "angle between the two halves of the output, small for the target 1 (PyTorch CosineEmbeddingLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("margin", "0", "cosine, from -1 to 1, below which vectors with the target -1 may be")];

/// What PyTorch adds to squared lengths.
const EPSILON: f64 = 1e-12;

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let margin = reader.number("margin", -1.0..=1.0, Some(0.0));
    Ok(Box::new(CosineEmbedding { half: pairs::half("cosine_embedding", output)?, margin }))
}

struct CosineEmbedding {
    half: usize,
    margin: f64,
}

impl CosineEmbedding {
    /// The loss of one record; writes its gradient times `scale`.
    fn record(&self, y: &[f32], alike: bool, gradient: Option<(&mut [f32], f32)>) -> f64 {
        let (x1, x2) = y.split_at(self.half);
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let (square1, square2) = (dot(x1, x1) + EPSILON, dot(x2, x2) + EPSILON);
        let lengths = (square1 * square2).sqrt();
        let cos = dot(x1, x2) / lengths;
        let over = cos - self.margin;
        let (loss, slope) = match alike {
            true => (1.0 - cos, -1.0),
            false if over < 0.0 => (0.0, 0.0),
            false => (over, 1.0),
        };
        if let Some((dy, scale)) = gradient {
            let scale = f64::from(scale) * slope;
            let (d1, d2) = dy.split_at_mut(self.half);
            for (i, (d1, d2)) in d1.iter_mut().zip(d2).enumerate() {
                let (x1, x2) = (f64::from(x1[i]), f64::from(x2[i]));
                *d1 = (scale * (x2 / lengths - cos * x1 / square1)) as f32;
                *d2 = (scale * (x1 / lengths - cos * x2 / square2)) as f32;
            }
        }
        loss
    }
}

impl Loss for CosineEmbedding {
    fn targets(&self) -> TargetKind {
        TargetKind::Binary { count: 1, no: -1.0, boundary: 0.0 }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let labels = Labels::new(measure.targets, -1.0);
        let mut metrics = BatchMetrics::of(measure.records);
        let (mut dy, len) = (measure.dy, 2 * self.half);
        for (i, y) in measure.y.chunks_exact(len).enumerate() {
            let dy = dy.as_deref_mut().map(|dy| &mut dy[i * len..][..len]);
            metrics.loss_sum += self.record(y, labels.at(i) > 0.0, dy.map(|dy| (dy, measure.scale)));
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("cosine_embedding", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("cosine_embedding", 1e-3);
    }
}
