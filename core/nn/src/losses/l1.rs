//! Mean absolute error.
//!
//! `loss = 1/F Σ |y - t|`, `dy = scale/F · sign(y - t)`, 0 where y = t; y and t are (F). As PyTorch's `L1Loss`.

use super::Loss;
use super::elementwise::{Elementwise, PerNumber};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean absolute error of all outputs (PyTorch L1Loss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    Ok(Box::new(Elementwise::of_values(output.elements(), L1)))
}

struct L1;

impl PerNumber for L1 {
    fn loss(&self, _: usize, y: f64, t: f64) -> f64 {
        (y - t).abs()
    }

    fn slope(&self, _: usize, y: f32, t: f32) -> f32 {
        sign(y - t)
    }
}

/// -1, 0 or 1; not a number where `x` is none.
pub(crate) fn sign(x: f32) -> f32 {
    if x == 0.0 { 0.0 } else { 1f32.copysign(x) * if x.is_nan() { x } else { 1.0 } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("l1", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("l1", 1e-3);
    }

    #[test]
    fn there_is_no_slope_at_the_target() {
        assert_eq!([-0.5, -0.0, 0.0, 3.0].map(sign), [-1.0, 0.0, 0.0, 1.0]);
        assert!(sign(f32::NAN).is_nan());
    }
}
