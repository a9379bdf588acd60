//! Adam with decoupled weight decay, as PyTorch's `AdamW` (Loshchilov and Hutter 2019).
//!
//! `w = (1 - rate · weight_decay) · w`, then a step of Adam (`optimizers/adam.rs`) without decay.

use super::adam::{Moments, Step};
use super::{Moment, Optimizer, StateSpec};
use crate::kernels::update::sweep;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "Adam with weight decay beside the gradient (PyTorch AdamW)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("lr", "0.001", "learning rate"),
    ParamDoc::new("beta1", "0.9", "memory of the running mean of gradients"),
    ParamDoc::new("beta2", "0.999", "memory of the running mean of squared gradients"),
    ParamDoc::new("eps", "1e-8", "added to the root of the squares, so that nothing is divided by 0"),
    ParamDoc::new("weight_decay", "0.01", "share of the weights, times the rate, that each step takes off"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(AdamW {
        rate: reader.number("lr", 0.0..=f64::MAX, Some(1e-3)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.01)),
        moments: Moments::read(reader, 1e-8),
    })
}

struct AdamW {
    rate: f64,
    weight_decay: f64,
    moments: Moments,
}

impl Optimizer for AdamW {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> Vec<StateSpec> {
        Moments::states()
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let step = Step {
            direction: self.moments.direction(moment),
            rate: moment.rate as f32,
            added: 0.0,
            kept: (1.0 - moment.rate * self.weight_decay * moment.decay) as f32,
        };
        sweep(moment.isa, step, params, grads, states);
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("adamw", 2e-6);
    }
}
