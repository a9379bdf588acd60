//! Binary cross-entropy of probabilities: the model ends in `sigmoid`.
//!
//! `loss = -1/F Σ w (t log y + (1 - t) log (1 - y))`, logarithms cut at -100;
//! `dy = scale/F · w (y - t) / (y (1 - y))`, whose divisor is at least 1e-12; y, t and w are (F). As PyTorch's
//! `BCELoss`; `bce_with_logits` is more exact and needs no `sigmoid`.

use super::Loss;
use super::elementwise::{Elementwise, Factors, PerNumber};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "binary cross-entropy of probabilities, after sigmoid (PyTorch BCELoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("weight", "all 1", "factor of each output's loss, a list as long as a record's outputs")];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let weight = Factors::read(reader, "weight");
    weight.check("bce: weight", output.elements())?;
    Ok(Box::new(Elementwise::of_binary(output.elements(), (0.0, 0.5), Bce { weight })))
}

struct Bce {
    weight: Factors,
}

impl PerNumber for Bce {
    fn loss(&self, i: usize, y: f64, t: f64) -> f64 {
        // `max` would turn what is not a number into -100.
        let log = |x: f64| if x.ln() < -100.0 { -100.0 } else { x.ln() };
        self.weight.of(i) * ((t - 1.0) * log(1.0 - y) - t * log(y))
    }

    fn slope(&self, i: usize, y: f32, t: f32) -> f32 {
        self.weight.of(i) as f32 * (y - t) / ((1.0 - y) * y).max(1e-12)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("bce", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("bce", 5e-3);
    }

    /// What PyTorch gives for `BCELoss` at the ends.
    #[test]
    fn certainties_are_cut_as_in_pytorch() {
        let bce = Bce { weight: Factors::default() };
        assert_eq!(
            [bce.loss(0, 0.0, 1.0), bce.loss(0, 1.0, 0.0), bce.loss(0, 1.0, 1.0)],
            [100.0, 100.0, 0.0]
        );
        assert_eq!(
            [bce.slope(0, 0.0, 1.0), bce.slope(0, 1.0, 0.0), bce.slope(0, 1.0, 1.0)],
            [-1e12, 1e12, 0.0]
        );
        assert!(bce.loss(0, f64::NAN, 1.0).is_nan());
    }
}
