//! Hinge loss: outputs should have their target's sign, and be at least `margin` from 0.
//!
//! `loss = 1/F Σ max(0, margin - t y)`, `dy = -scale/F · t` where that is not below 0; y is (F), t (F) of ±1 or
//! of the classes 0 (-1) and 1. What PyTorch has as `MarginRankingLoss` with the second input 0, and Keras as
//! `Hinge`.

use super::Loss;
use super::elementwise::{Elementwise, PerNumber};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "max(0, margin - target · output) for targets of ±1 (Keras Hinge)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("margin", "1", "distance from 0 that is far enough")];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let margin = reader.number("margin", f64::MIN..=f64::MAX, Some(1.0));
    Ok(Box::new(Elementwise::of_binary(output.elements(), (-1.0, 0.0), Hinge { margin })))
}

struct Hinge {
    margin: f64,
}

impl PerNumber for Hinge {
    fn loss(&self, _: usize, y: f64, t: f64) -> f64 {
        let short = self.margin - t * y;
        // What is not a number stays so.
        if short < 0.0 { 0.0 } else { short }
    }

    fn slope(&self, _: usize, y: f32, t: f32) -> f32 {
        if self.margin as f32 - t * y < 0.0 { 0.0 } else { -t }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("hinge", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("hinge", 1e-3);
    }
}
