//! Adam, as PyTorch's `Adam` (Kingma and Ba 2015, with the weight decay added to the gradient).
//!
//! `g = dw + weight_decay · w; m = β₁ m + (1 - β₁) g; v = β₂ v + (1 - β₂) g²;`
//! `w = w - rate / (1 - β₁ᵗ) · m / (√v / √(1 - β₂ᵗ) + eps)`.

use super::{Moment, Optimizer};
use crate::kernels::update::{Adam as Kernel, adam};
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

/// Largest accepted memory: at 1 nothing would ever be learned.
const MAX_BETA: f64 = 0.999_999_999;

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Optimizer> {
    Box::new(Adam {
        rate: reader.number("lr", 0.0..=f64::MAX, Some(1e-3)),
        beta1: reader.number("beta1", 0.0..=MAX_BETA, Some(0.9)),
        beta2: reader.number("beta2", 0.0..=MAX_BETA, Some(0.999)),
        eps: reader.number("eps", 0.0..=f64::MAX, Some(1e-8)),
        weight_decay: reader.number("weight_decay", 0.0..=f64::MAX, Some(0.0)),
    })
}

struct Adam {
    rate: f64,
    beta1: f64,
    beta2: f64,
    eps: f64,
    weight_decay: f64,
}

impl Optimizer for Adam {
    fn base_rate(&self) -> f64 {
        self.rate
    }

    fn states(&self) -> &'static [&'static str] {
        &["exp_avg", "exp_avg_sq"]
    }

    fn update(&self, moment: Moment, params: &mut [f32], grads: &[f32], states: &mut [&mut [f32]]) {
        let [mean, square] = states else { panic!("Adam keeps two arrays") };
        let power = moment.update.min(i32::MAX as u64) as i32;
        let kernel = Kernel {
            beta1: self.beta1 as f32,
            beta2: self.beta2 as f32,
            step: (moment.rate / (1.0 - self.beta1.powi(power))) as f32,
            root: (1.0 / (1.0 - self.beta2.powi(power)).sqrt()) as f32,
            eps: self.eps as f32,
            weight_decay: self.weight_decay as f32,
        };
        adam(moment.isa, kernel, params, grads, (mean, square));
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
