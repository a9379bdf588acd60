//! Stochastic gradient descent with momentum, as PyTorch's `SGD`.
//!
//! `g = dw + weight_decay · w`; with momentum `b = momentum · b + (1 - dampening) · g` (the first update sets
//! `b = g`) and `g = b`, or with Nesterov `g + momentum · b`; `w = w - rate · g`.

use super::{Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Rule, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "stochastic gradient descent, with momentum on request (PyTorch SGD)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "required", "learning rate"),
    ParamDoc::new("momentum", "0", "share of the last step that goes on"),
    ParamDoc::new("dampening", "0", "share of the gradient kept out of the momentum"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to their gradients"),
    ParamDoc::new("nesterov", "false", "look ahead along the momentum"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    let rate = reader.number("lr", 0.0..=f64::MAX, None);
    let momentum = reader.number("momentum", 0.0..=1.0, Some(0.0));
    let dampening = reader.number("dampening", 0.0..=1.0, Some(0.0));
    let weight_decay = reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0));
    let nesterov = reader.flag("nesterov", false);
    if nesterov && (momentum == 0.0 || dampening != 0.0) {
        reader.problem("nesterov", "needs a momentum and no dampening");
    }
    Box::new(Sgd { rate, momentum, dampening, weight_decay, nesterov })
}

struct Sgd {
    rate: f64,
    momentum: f64,
    dampening: f64,
    weight_decay: f64,
    nesterov: bool,
}

impl Optimizer for Sgd {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        if self.momentum == 0.0 { vec![] } else { vec![StateSpec::zeros("momentum_buffer")] }
    }

    fn rests(&self) -> bool {
        self.momentum == 0.0 && self.weight_decay == 0.0
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let first = moment.update == 1;
        let step = Step {
            rate: moment.rate as f32,
            weight_decay: (self.weight_decay * moment.decay) as f32,
            momentum: if first { 0.0 } else { self.momentum as f32 },
            fresh: if first { 1.0 } else { (1.0 - self.dampening) as f32 },
            ahead: if self.nesterov { Some(self.momentum as f32) } else { None },
        };
        if states.is_empty() {
            sweep::<_, 0>(moment.isa, step, params, grads, states);
        } else {
            sweep::<_, 1>(moment.isa, step, params, grads, states);
        }
    }
}

#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    weight_decay: f32,
    momentum: f32,
    /// Share of the gradient that enters the momentum.
    fresh: f32,
    /// Nesterov: share of the new momentum added to the gradient.
    ahead: Option<f32>,
}

impl Rule<0> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, _: [V; 0]) -> (V, [V; 0]) {
        let g = V::splat(self.weight_decay).fma(w, g);
        (V::splat(-self.rate).fma(g, w), [])
    }
}

impl Rule<1> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, [b]: [V; 1]) -> (V, [V; 1]) {
        let g = V::splat(self.weight_decay).fma(w, g);
        let b = g.fma(V::splat(self.fresh), b.mul(V::splat(self.momentum)));
        let g = match self.ahead {
            Some(ahead) => b.fma(V::splat(ahead), g),
            None => b,
        };
        (V::splat(-self.rate).fma(g, w), [b])
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("sgd", 1e-6);
    }
}
