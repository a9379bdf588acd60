//! Logistic function in straight lines: `y = min(max(x + 3, 0), 6) / 6`, `dx = dy / 6` where 0 < y < 1.
//!
//! BigDL's HardSigmoid and Keras 2's `hard_sigmoid` are another one, `0.2 x + 0.5` between 0 and 1.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "min(max(x + 3, 0), 6) / 6 (PyTorch Hardsigmoid)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let function = Function::HardSigmoid;
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("hard_sigmoid", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("hard_sigmoid", 2e-3);
    }
}
