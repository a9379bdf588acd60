//! Rectifier: `y = max(x, 0)`, `dx = dy` where y > 0.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::Bounds;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "max(x, 0) (PyTorch ReLU)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Activation { function: Function::Clip(Bounds::RELU), shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("relu", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("relu", 2e-3);
    }
}
