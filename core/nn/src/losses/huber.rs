//! Squared error that grows like the absolute error far from 0.
//!
//! With `d = y - t`: `l = d²/2` where `|d| ≤ delta`, `delta (|d| - delta/2)` elsewhere; `loss = 1/F Σ l`,
//! `dy = scale/F · d`, cut to ±delta; y and t are (F). As PyTorch's `HuberLoss`: delta times `smooth_l1`.

use super::Loss;
use super::elementwise::{Elementwise, PerNumber};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "squared error near 0, absolute error elsewhere (PyTorch HuberLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("delta", "1", "error up to which it is squared")];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let delta = reader.number("delta", 0.0..=f64::MAX, Some(1.0));
    if delta == 0.0 {
        reader.problem("delta", "expected a number greater than 0, found 0");
    }
    Ok(Box::new(Elementwise::of_values(output.elements(), Huber { delta })))
}

struct Huber {
    delta: f64,
}

impl PerNumber for Huber {
    fn loss(&self, _: usize, y: f64, t: f64) -> f64 {
        let d = (y - t).abs();
        if d <= self.delta { d * d / 2.0 } else { self.delta * (d - self.delta / 2.0) }
    }

    fn slope(&self, _: usize, y: f32, t: f32) -> f32 {
        let (d, delta) = (y - t, self.delta as f32);
        d.clamp(-delta, delta)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("huber", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("huber", 1e-3);
    }
}
