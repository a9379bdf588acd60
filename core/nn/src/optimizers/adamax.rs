//! Adamax, as PyTorch's `Adamax` (Kingma and Ba 2015, section 7.1).
//!
//! `g = dw + weight_decay · w; m = β₁ m + (1 - β₁) g; u = max(β₂ u, |g| + eps);`
//! `w = w - rate / (1 - β₁ᵗ) · m / u`.

use super::{MAX_BETA, Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Rule, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "Adam with the largest gradient instead of the mean square (PyTorch Adamax)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "0.002", "learning rate"),
    ParamDoc::new("beta1", "0.9", "memory of the running mean of gradients"),
    ParamDoc::new("beta2", "0.999", "what the largest gradient so far fades by"),
    ParamDoc::new("eps", "1e-8", "added to magnitudes, so that nothing is divided by 0"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to their gradients"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Adamax {
        rate: reader.number("lr", 0.0..=f64::MAX, Some(2e-3)),
        beta1: reader.number("beta1", 0.0..=MAX_BETA, Some(0.9)),
        beta2: reader.number("beta2", 0.0..=MAX_BETA, Some(0.999)),
        eps: reader.number("eps", 0.0..=f64::MAX, Some(1e-8)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0)),
    })
}

struct Adamax {
    rate: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
}

impl Optimizer for Adamax {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zeros("exp_avg"), StateSpec::zeros("exp_inf")]
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let step = Step {
            rate: (moment.rate / moment.correction(self.beta1)) as f32,
            mean: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            eps: self.eps as f32,
            weight_decay: (self.weight_decay * moment.decay) as f32,
        };
        sweep(moment.isa, step, params, grads, states);
    }
}

#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    mean: f32,
    beta2: f32,
    eps: f32,
    weight_decay: f32,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, [m, u]: [V; 2]) -> (V, [V; 2]) {
        let g = V::splat(self.weight_decay).fma(w, g);
        let m = g.sub(m).fma(V::splat(self.mean), m);
        let u = u.mul(V::splat(self.beta2)).max(g.abs().add(V::splat(self.eps)));
        (V::splat(-self.rate).fma(m.div(u), w), [m, u])
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("adamax", 1e-6);
    }
}
