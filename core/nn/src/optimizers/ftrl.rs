//! Follow the regularized leader, per coordinate (McMahan et al. 2013, "Ad Click Prediction", algorithm 1), with
//! the parameters of TensorFlow's and BigDL's `Ftrl`; the power of the rate is the paper's, -1/2.
//!
//! `n' = n + dw²; z = z + dw + 2 · shrinkage · w - (√n' - √n) / rate · w; n = n';`
//! `w = 0` where `|z| ≤ l1`, else `(l1 · sign z - z) / ((beta + √n) / rate + 2 · l2)`, where `l1`, `l2` and
//! `shrinkage` are the three strengths of regularization.

use super::{Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Rule, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "FTRL-proximal, which keeps weights at exactly 0 (McMahan et al. 2013, BigDL Ftrl)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "0.001", "learning rate, more than 0"),
    ParamDoc::new("initial_accumulator_value", "0.1", "what the sums of squared gradients start at"),
    ParamDoc::new(
        "l1_regularization_strength",
        "0",
        "multiple of the weights' magnitudes that is paid; sets small ones to 0",
    ),
    ParamDoc::new("l2_regularization_strength", "0", "multiple of the weights' squares that is paid"),
    ParamDoc::new("l2_shrinkage_regularization_strength", "0", "such a multiple that only gradients pay"),
    ParamDoc::new("beta", "0", "added to the roots of the sums, as in the paper"),
];

/// Smallest rate: the formula divides by it.
const MIN_RATE: f64 = 1e-12;

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Ftrl {
        rate: reader.number("lr", MIN_RATE..=f64::MAX, Some(1e-3)),
        start: reader.number("initial_accumulator_value", 0.0..=f64::MAX, Some(0.1)),
        l1: reader.number("l1_regularization_strength", 0.0..=f64::MAX, Some(0.0)),
        l2: reader.number("l2_regularization_strength", 0.0..=f64::MAX, Some(0.0)),
        shrinkage: reader.number("l2_shrinkage_regularization_strength", 0.0..=f64::MAX, Some(0.0)),
        beta: reader.number("beta", 0.0..=f64::MAX, Some(0.0)),
    })
}

struct Ftrl {
    rate: f64,
    start: f64,
    l1: f64,
    l2: f64,
    shrinkage: f64,
    beta: f64,
}

impl Optimizer for Ftrl {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec { name: "accumulator", start: self.start as f32 }, StateSpec::zeros("linear")]
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        // A schedule may end at 0.
        let rate = moment.rate.max(MIN_RATE);
        let step = Step {
            slowness: (1.0 / rate) as f32,
            l1: self.l1 as f32,
            rest: (self.beta / rate + 2.0 * self.l2) as f32,
            shrinkage: (2.0 * self.shrinkage * moment.decay) as f32,
        };
        sweep(moment.isa, step, params, grads, states);
    }
}

#[derive(Clone, Copy)]
struct Step {
    /// 1 / rate
    slowness: f32,
    l1: f32,
    /// beta / rate + 2 · l2
    rest: f32,
    /// 2 · shrinkage
    shrinkage: f32,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, [n, z]: [V; 2]) -> (V, [V; 2]) {
        let (zero, slowness, l1) = (V::splat(0.0), V::splat(self.slowness), V::splat(self.l1));
        let sum = g.fma(g, n);
        let (root, old) = (sum.sqrt(), n.sqrt());
        let pulled = V::splat(self.shrinkage).fma(w, z.add(g));
        let z = zero.sub(root.sub(old).mul(slowness)).fma(w, pulled);
        let w = l1.with_sign(z).sub(z).div(root.fma(slowness, V::splat(self.rest)));
        // Where nothing was learned yet the divisor may be 0. NaN is neither equal nor greater, and stays.
        let w = z.if_equal(zero, zero, w);
        (l1.sub(z.abs()).if_greater(zero, zero, w), [sum, z])
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_the_paper() {
        golden::check_optimizer("ftrl", 2e-6);
    }
}
