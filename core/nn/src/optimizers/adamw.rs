//! Adam with decoupled weight decay, as PyTorch's `AdamW` (Loshchilov and Hutter 2019).
//!
//! `w = (1 - rate · weight_decay) · w`, then a step of Adam (`optimizers/adam.rs`) without decay.

use super::Optimizer;
use super::adam::Adam;
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
    Box::new(Adam::read(reader, 0.01, true))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn several_steps_agree_with_pytorch() {
        golden::check_optimizer("adamw", 2e-6);
    }
}
