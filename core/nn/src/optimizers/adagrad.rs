//! Adagrad, as PyTorch's `Adagrad` (Duchi, Hazan and Singer 2011).
//!
//! `g = dw + weight_decay · w; s = s + g²; w = w - rate / (1 + (t - 1) · lr_decay) · g / (√s + eps)`.

use super::{Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Rule, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "Adagrad: steps scaled by the sum of squared gradients (PyTorch Adagrad)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "0.01", "learning rate"),
    ParamDoc::new("lr_decay", "0", "the rate is divided by 1 + lr_decay · updates made before"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to their gradients"),
    ParamDoc::new("initial_accumulator_value", "0", "what the sums start at"),
    ParamDoc::new("eps", "1e-10", "added to the root of the sums, so that nothing is divided by 0"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Adagrad {
        rate: reader.number("lr", 0.0..=f64::MAX, Some(1e-2)),
        rate_decay: reader.number("lr_decay", 0.0..=f64::MAX, Some(0.0)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0)),
        start: reader.number("initial_accumulator_value", 0.0..=f64::MAX, Some(0.0)),
        eps: reader.number("eps", 0.0..=f64::MAX, Some(1e-10)),
    })
}

struct Adagrad {
    rate: f64,
    rate_decay: f64,
    weight_decay: f64,
    start: f64,
    eps: f64,
}

impl Optimizer for Adagrad {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec { name: "sum", start: self.start as f32 }]
    }

    fn rests(&self) -> bool {
        self.weight_decay == 0.0
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let step = Step {
            rate: (moment.rate / (1.0 + (moment.update - 1) as f64 * self.rate_decay)) as f32,
            eps: self.eps as f32,
            weight_decay: (self.weight_decay * moment.decay) as f32,
        };
        sweep(moment.isa, step, params, grads, states);
    }
}

#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    eps: f32,
    weight_decay: f32,
}

impl Rule<1> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, [sum]: [V; 1]) -> (V, [V; 1]) {
        let g = V::splat(self.weight_decay).fma(w, g);
        let sum = g.fma(g, sum);
        let divisor = sum.sqrt().add(V::splat(self.eps));
        (V::splat(-self.rate).fma(g.div(divisor), w), [sum])
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("adagrad", 1e-6);
    }
}
