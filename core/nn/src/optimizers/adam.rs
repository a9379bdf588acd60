//! Adam, as PyTorch's `Adam` (Kingma and Ba 2015, with the weight decay added to the gradient).
//!
//! `g = dw + weight_decay · w; m = β₁ m + (1 - β₁) g; v = β₂ v + (1 - β₂) g²;`
//! `w = w - rate / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + eps)`.

use super::{MAX_BETA, Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Rule, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "Adam: steps scaled by running moments of the gradient (PyTorch Adam)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "0.001", "learning rate"),
    ParamDoc::new("beta1", "0.9", "memory of the running mean of gradients"),
    ParamDoc::new("beta2", "0.999", "memory of the running mean of squared gradients"),
    ParamDoc::new("eps", "1e-8", "added to the root of the squares, so that nothing is divided by 0"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to their gradients"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Adam::read(reader, 0.0, false))
}

/// Adam, with the weight decay in the gradient or, decoupled, beside it.
pub(super) struct Adam {
    rate: f64,
    weight_decay: f64,
    decoupled: bool,
    moments: Moments,
}

impl Adam {
    pub(super) fn read(reader: &mut ParamReader<'_>, weight_decay: f64, decoupled: bool) -> Adam {
        Adam {
            rate: reader.number("lr", 0.0..=f64::MAX, Some(1e-3)),
            weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(weight_decay)),
            decoupled,
            moments: Moments::read(reader, 1e-8),
        }
    }
}

impl Optimizer for Adam {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        Moments::states()
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let decay = self.weight_decay * moment.decay;
        let (added, kept) = if self.decoupled { (0.0, 1.0 - moment.rate * decay) } else { (decay, 1.0) };
        let (direction, rate) = (self.moments.direction(moment), moment.rate as f32);
        let step = Step { direction, rate, added: added as f32, kept: kept as f32 };
        sweep(moment.isa, step, params, grads, states);
    }
}

/// Running means of gradients and of their squares, as Adam and its relatives have them.
pub(super) struct Moments {
    beta1: f64,
    beta2: f64,
    eps: f64,
}

impl Moments {
    /// Reads the parameters.
    pub(super) fn read(reader: &mut ParamReader<'_>, eps: f64) -> Moments {
        Moments {
            beta1: reader.number("beta1", 0.0..=MAX_BETA, Some(0.9)),
            beta2: reader.number("beta2", 0.0..=MAX_BETA, Some(0.999)),
            eps: reader.number("eps", 0.0..=f64::MAX, Some(eps)),
        }
    }

    /// The two means.
    pub(super) fn states() -> Vec<StateSpec> {
        vec![StateSpec::zeros("exp_avg"), StateSpec::zeros("exp_avg_sq")]
    }

    /// What the means come to in this update.
    pub(super) fn direction(&self, moment: Moment) -> Direction {
        Direction {
            mean: (1.0 - self.beta1) as f32,
            beta2: self.beta2 as f32,
            square: (1.0 - self.beta2) as f32,
            scale: (1.0 / moment.correction(self.beta1)) as f32,
            root: (1.0 / moment.correction(self.beta2).sqrt()) as f32,
            eps: self.eps as f32,
        }
    }
}

/// The direction `m / (1 - β₁ᵗ) / (√v / √(1 - β₂ᵗ) + eps)`.
#[derive(Clone, Copy)]
pub(super) struct Direction {
    mean: f32,
    beta2: f32,
    square: f32,
    scale: f32,
    root: f32,
    eps: f32,
}

impl Direction {
    /// The means with one more gradient.
    #[inline(always)]
    pub(super) fn remember<V: Lanes>(self, g: V, [m, v]: [V; 2]) -> [V; 2] {
        let m = g.sub(m).fma(V::splat(self.mean), m);
        let v = v.mul(V::splat(self.beta2));
        [m, g.mul(g).fma(V::splat(self.square), v)]
    }

    /// The direction.
    #[inline(always)]
    pub(super) fn of<V: Lanes>(self, [m, v]: [V; 2]) -> V {
        let divisor = v.sqrt().fma(V::splat(self.root), V::splat(self.eps));
        m.mul(V::splat(self.scale)).div(divisor)
    }
}

/// Adam's step, with the weight decay in the gradient (`added`) or beside it (`kept`).
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) direction: Direction,
    pub(super) rate: f32,
    /// Multiple of the weights added to the gradient.
    pub(super) added: f32,
    /// Share of the weights that stays.
    pub(super) kept: f32,
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, states: [V; 2]) -> (V, [V; 2]) {
        let states = self.direction.remember(V::splat(self.added).fma(w, g), states);
        let w = w.mul(V::splat(self.kept));
        (V::splat(-self.rate).fma(self.direction.of(states), w), states)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("adam", 2e-6);
    }
}
