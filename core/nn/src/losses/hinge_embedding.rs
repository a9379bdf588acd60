//! Hinge loss of distances: small where the target is 1, at least `margin` where it is -1.
//!
//! `loss = 1/F Σ (t = 1: y; t = -1: max(0, margin - y))`, `dy = scale/F · (1, or -1 where margin - y is not
//! below 0)`; y is (F), t (F) of ±1 or of the classes 0 (-1) and 1. As PyTorch's `HingeEmbeddingLoss`.

use super::Loss;
use super::elementwise::{Elementwise, PerNumber};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "distances: small for the target 1, large for -1 (PyTorch HingeEmbeddingLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("margin", "1", "distance that is large enough")];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let margin = reader.number("margin", f64::MIN..=f64::MAX, Some(1.0));
    Ok(Box::new(Elementwise::of_binary(output.elements(), (-1.0, 0.0), HingeEmbedding { margin })))
}

struct HingeEmbedding {
    margin: f64,
}

impl PerNumber for HingeEmbedding {
    fn loss(&self, _: usize, y: f64, t: f64) -> f64 {
        match (t > 0.0, self.margin - y) {
            (true, _) => y,
            (false, short) if short < 0.0 => 0.0,
            (false, short) => short,
        }
    }

    fn slope(&self, _: usize, y: f32, t: f32) -> f32 {
        match (t > 0.0, self.margin as f32 - y) {
            (true, _) => 1.0,
            (false, short) if short < 0.0 => 0.0,
            (false, _) => -1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("hinge_embedding", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("hinge_embedding", 1e-3);
    }
}
