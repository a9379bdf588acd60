//! Layer-wise adaptive rate scaling (You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional
//! Networks", algorithm 1): momentum with a rate of its own for every parameter array.
//!
//! `λ = trust_coefficient · ‖w‖ / (‖dw‖ + weight_decay · ‖w‖)`, or 1 where a norm is 0;
//! `v = momentum · v + rate · λ · (dw + weight_decay · w); w = w - v`.

use super::{Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Measured, Rule, measure, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "momentum with a rate for every parameter array (LARS, You et al. 2017, BigDL LarsSGD)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "required", "learning rate"),
    ParamDoc::new("momentum", "0.9", "share of the last step that goes on"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to their gradients"),
    ParamDoc::new(
        "trust_coefficient",
        "0.001",
        "how much of its norm an array may change in a step, at rate 1",
    ),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Lars {
        rate: reader.number("lr", 0.0..=f64::MAX, None),
        momentum: reader.number("momentum", 0.0..=1.0, Some(0.9)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0)),
        trust: reader.number("trust_coefficient", 0.0..=f64::MAX, Some(1e-3)),
    })
}

struct Lars {
    rate: f64,
    momentum: f64,
    weight_decay: f64,
    trust: f64,
}

impl Optimizer for Lars {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zeros("momentum_buffer")]
    }

    fn measures(&self) -> bool {
        true
    }

    fn measure(&self, moment: Moment, params: &[f32], grads: &[f32], _: &mut [&mut [f32]]) -> [f64; 2] {
        measure(moment.isa, Norms, params, grads, &mut [])
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let weight_decay = self.weight_decay * moment.decay;
        let [weight, gradient] = moment.norms;
        let local = if weight > 0.0 && gradient > 0.0 {
            self.trust * weight / (gradient + weight_decay * weight)
        } else {
            1.0
        };
        let step = Step {
            rate: (moment.rate * local) as f32,
            momentum: self.momentum as f32,
            weight_decay: weight_decay as f32,
        };
        sweep(moment.isa, step, params, grads, states);
    }
}

#[derive(Clone, Copy)]
struct Norms;

impl Measured<0> for Norms {
    #[inline(always)]
    fn look<V: Lanes>(self, w: V, g: V, _: [V; 0]) -> ([V; 2], [V; 0]) {
        ([w, g], [])
    }
}

#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    momentum: f32,
    weight_decay: f32,
}

impl Rule<1> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, [v]: [V; 1]) -> (V, [V; 1]) {
        let g = V::splat(self.weight_decay).fma(w, g);
        let v = g.fma(V::splat(self.rate), v.mul(V::splat(self.momentum)));
        (w.sub(v), [v])
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_the_paper() {
        golden::check_optimizer("lars", 1e-6);
    }
}
