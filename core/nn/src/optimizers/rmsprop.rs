//! RMSprop, as PyTorch's `RMSprop` (Tieleman and Hinton 2012; centered: Graves 2013).
//!
//! `g = dw + weight_decay · w; s = alpha s + (1 - alpha) g²; a = √s + eps`, or centered
//! `c = alpha c + (1 - alpha) g; a = √(s - c²) + eps`; `w = w - rate · g / a`, or with momentum
//! `b = momentum · b + g / a; w = w - rate · b`.

use super::{MAX_BETA, Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Rule, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "RMSprop: steps scaled by a running mean of squared gradients (PyTorch RMSprop)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "0.01", "learning rate"),
    ParamDoc::new("alpha", "0.99", "memory of the running means"),
    ParamDoc::new("eps", "1e-8", "added to the root of the squares, so that nothing is divided by 0"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to their gradients"),
    ParamDoc::new("momentum", "0", "share of the last step that goes on"),
    ParamDoc::new("centered", "false", "squares are those of the distance from the mean gradient"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(RmsProp {
        rate: reader.number("lr", 0.0..=f64::MAX, Some(1e-2)),
        alpha: reader.number("alpha", 0.0..=MAX_BETA, Some(0.99)),
        eps: reader.number("eps", 0.0..=f64::MAX, Some(1e-8)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0)),
        momentum: reader.number("momentum", 0.0..=1.0, Some(0.0)),
        centered: reader.flag("centered", false),
    })
}

struct RmsProp {
    rate: f64,
    alpha: f64,
    eps: f64,
    weight_decay: f64,
    momentum: f64,
    centered: bool,
}

impl Optimizer for RmsProp {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        let mut states = vec![StateSpec::zeros("square_avg")];
        if self.momentum > 0.0 {
            states.push(StateSpec::zeros("momentum_buffer"));
        }
        if self.centered {
            states.push(StateSpec::zeros("grad_avg"));
        }
        states
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let step = Step {
            rate: moment.rate as f32,
            alpha: self.alpha as f32,
            fresh: (1.0 - self.alpha) as f32,
            eps: self.eps as f32,
            weight_decay: (self.weight_decay * moment.decay) as f32,
            momentum: (self.momentum > 0.0).then_some(self.momentum as f32),
            centered: self.centered,
        };
        match states.len() {
            1 => sweep::<_, 1>(moment.isa, step, params, grads, states),
            2 => sweep::<_, 2>(moment.isa, step, params, grads, states),
            _ => sweep::<_, 3>(moment.isa, step, params, grads, states),
        }
    }
}

#[derive(Clone, Copy)]
struct Step {
    rate: f32,
    alpha: f32,
    fresh: f32,
    eps: f32,
    weight_decay: f32,
    momentum: Option<f32>,
    centered: bool,
}

/// States in the order of [`RmsProp::states`].
impl<const N: usize> Rule<N> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, g: V, mut states: [V; N]) -> (V, [V; N]) {
        let (zero, fresh) = (V::splat(0.0), V::splat(self.fresh));
        let g = V::splat(self.weight_decay).fma(w, g);
        let mut square = g.mul(g).fma(fresh, states[0].mul(V::splat(self.alpha)));
        states[0] = square;
        if self.centered {
            let mean = g.sub(states[N - 1]).fma(fresh, states[N - 1]);
            states[N - 1] = mean;
            // Rounding may take a small difference below 0.
            square = zero.max(zero.sub(mean).fma(mean, square));
        }
        let mut step = g.div(square.sqrt().add(V::splat(self.eps)));
        if let Some(momentum) = self.momentum {
            step = V::splat(momentum).fma(states[1], step);
            states[1] = step;
        }
        (V::splat(-self.rate).fma(step, w), states)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("rmsprop", 2e-6);
    }
}
