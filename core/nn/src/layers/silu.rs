//! Sigmoid linear unit: `y = x σ(x)`, `dx = dy σ(x) (1 + x (1 - σ(x)))` with σ the logistic function.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "x times its logistic function (PyTorch SiLU, Keras swish)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let function = Function::Silu;
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("silu", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("silu", 2e-3);
    }
}
