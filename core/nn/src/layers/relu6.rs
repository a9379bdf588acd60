//! Rectifier with a ceiling: `y = min(max(x, 0), 6)`, `dx = dy` where 0 < y < 6.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::Bounds;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "min(max(x, 0), 6) (PyTorch ReLU6)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let function = Function::Clip(Bounds::RELU6);
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("relu6", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("relu6", 2e-3);
    }
}
