//! Adam with layer-wise rates (You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2 with
//! φ(z) = z).
//!
//! `r = Adam's direction (optimizers/adam.rs) + weight_decay · w; w = w - rate · ‖w‖ / ‖r‖ · r`, norms over
//! every parameter array; the ratio is 1 where one of them is 0.

use super::adam::{Direction, Moments};
use super::{Moment, Optimizer, StateSpec};
use crate::kernels::lanes::Lanes;
use crate::kernels::update::{Measured, Rule, measure, sweep};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "Adam with a rate for every parameter array (LAMB, You et al. 2020)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "0.001", "learning rate"),
    ParamDoc::new("beta1", "0.9", "memory of the running mean of gradients"),
    ParamDoc::new("beta2", "0.999", "memory of the running mean of squared gradients"),
    ParamDoc::new("eps", "1e-6", "added to the root of the squares, so that nothing is divided by 0"),
    ParamDoc::new("weight_decay", "0", "multiple of the weights added to the direction"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Lamb {
        rate: reader.number("lr", 0.0..=f64::MAX, Some(1e-3)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0)),
        moments: Moments::read(reader, 1e-6),
    })
}

struct Lamb {
    rate: f64,
    weight_decay: f64,
    moments: Moments,
}

impl Lamb {
    fn step(&self, moment: Moment) -> Step {
        Step {
            direction: self.moments.direction(moment),
            rate: (moment.rate * moment.ratio()) as f32,
            weight_decay: (self.weight_decay * moment.decay) as f32,
        }
    }
}

impl Optimizer for Lamb {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        Moments::states()
    }

    fn measures(&self) -> bool {
        true
    }

    /// Brings the moments up to date: the direction is measured with them.
    fn measure(&self, moment: Moment, params: &[f32], grads: &[f32], states: &mut [&mut [f32]]) -> [f64; 2] {
        measure(moment.isa, self.step(moment), params, grads, states)
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        sweep(moment.isa, self.step(moment), params, grads, states);
    }
}

#[derive(Clone, Copy)]
struct Step {
    direction: Direction,
    rate: f32,
    weight_decay: f32,
}

impl Step {
    #[inline(always)]
    fn decayed<V: Lanes>(self, w: V, states: [V; 2]) -> V {
        V::splat(self.weight_decay).fma(w, self.direction.of(states))
    }
}

impl Measured<2> for Step {
    #[inline(always)]
    fn look<V: Lanes>(self, w: V, g: V, states: [V; 2]) -> ([V; 2], [V; 2]) {
        let states = self.direction.remember(g, states);
        ([w, self.decayed(w, states)], states)
    }
}

impl Rule<2> for Step {
    #[inline(always)]
    fn apply<V: Lanes>(self, w: V, _: V, states: [V; 2]) -> (V, [V; 2]) {
        (V::splat(-self.rate).fma(self.decayed(w, states), w), states)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_the_paper() {
        golden::check_optimizer("lamb", 2e-6);
    }
}
