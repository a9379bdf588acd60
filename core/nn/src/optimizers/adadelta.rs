//! Adadelta, as PyTorch's `Adadelta` (Zeiler 2012).
//!
//! `g = dw + weight_decay · w; s = rho s + (1 - rho) g²; δ = √(d + eps) / √(s + eps) · g;`
//! `d = rho d + (1 - rho) δ²; w = w - rate · δ`.

use super::{MAX_BETA, Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Rule, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "Adadelta: steps as large as the last ones were (PyTorch Adadelta)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "1", "learning rate"),
    ParamDoc::new("rho", "0.9", "memory of the running means of squares"),
    ParamDoc::new("eps", "1e-6", "added under the roots, so that steps begin and nothing is divided by 0"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to their gradients"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Adadelta {
        rate: reader.number("lr", 0.0..=f64::MAX, Some(1.0)),
        rho: reader.number("rho", 0.0..=MAX_BETA, Some(0.9)),
        eps: reader.number("eps", 0.0..=f64::MAX, Some(1e-6)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0)),
    })
}

struct Adadelta {
    rate: f64,
    rho: f64,
    eps: f64,
    weight_decay: f64,
}

impl Optimizer for Adadelta {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        vec![StateSpec::zeros("square_avg"), StateSpec::zeros("acc_delta")]
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let step = Step {
            rate: moment.rate as f32,
            rho: self.rho as f32,
            fresh: (1.0 - self.rho) as f32,
            eps: self.eps as f32,
            weight_decay: (self.weight_decay * moment.decay) as f32,
        };
        sweep(moment.isa, step, params, grads, states);
    }
}

#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    rho: f32,
    fresh: f32,
    eps: f32,
    weight_decay: f32,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, [squares, deltas]: [V; 2]) -> (V, [V; 2]) {
        let (rho, fresh, eps) = (V::splat(self.rho), V::splat(self.fresh), V::splat(self.eps));
        let g = V::splat(self.weight_decay).fma(w, g);
        let squares = g.mul(g).fma(fresh, squares.mul(rho));
        let delta = deltas.add(eps).sqrt().div(squares.add(eps).sqrt()).mul(g);
        let deltas = delta.mul(delta).fma(fresh, deltas.mul(rho));
        (V::splat(-self.rate).fma(delta, w), [squares, deltas])
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("adadelta", 1e-6);
    }
}
