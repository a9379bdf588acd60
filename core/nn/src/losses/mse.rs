//! Mean squared error.
//!
//! `loss = 1/F Σ (y - t)²`, `dy = scale · 2/F (y - t)`; y and t are (F). As PyTorch's `MSELoss`.

use super::Loss;
use super::elementwise::{Elementwise, PerNumber};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean squared error of all outputs (PyTorch MSELoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    Ok(Box::new(Elementwise::of_values(output.elements(), Mse)))
}

struct Mse;

impl PerNumber for Mse {
    fn loss(&self, _: usize, y: f64, t: f64) -> f64 {
        (y - t).powi(2)
    }

    fn slope(&self, _: usize, y: f32, t: f32) -> f32 {
        2.0 * (y - t)
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
