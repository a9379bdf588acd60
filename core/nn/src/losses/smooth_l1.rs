//! Mean absolute error that is rounded off near 0.
//!
//! With `d = y - t`: `l = d² / (2 beta)` where `|d| < beta`, `|d| - beta/2` elsewhere; `loss = 1/F Σ l`,
//! `dy = scale/F · (d / beta or sign d)`; y and t are (F). As PyTorch's `SmoothL1Loss`; with beta 0 it is `l1`.

use super::Loss;
use super::elementwise::{Elementwise, PerNumber};
use super::l1::sign;
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "absolute error, squared near 0 (PyTorch SmoothL1Loss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("beta", "1", "error below which it is squared and divided by 2 beta")];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let beta = reader.number("beta", 0.0..=f64::MAX, Some(1.0));
    Ok(Box::new(Elementwise::of_values(output.elements(), SmoothL1 { beta })))
}

struct SmoothL1 {
    beta: f64,
}

impl PerNumber for SmoothL1 {
    fn loss(&self, _: usize, y: f64, t: f64) -> f64 {
        let d = (y - t).abs();
        if d < self.beta { d * d / (2.0 * self.beta) } else { d - self.beta / 2.0 }
    }

    fn slope(&self, _: usize, y: f32, t: f32) -> f32 {
        let d = y - t;
        if d.abs() < self.beta as f32 { d / self.beta as f32 } else { sign(d) }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("smooth_l1", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("smooth_l1", 1e-3);
    }
}
