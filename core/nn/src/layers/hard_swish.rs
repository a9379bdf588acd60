//! Swish in straight lines: `y = x min(max(x + 3, 0), 6) / 6`; `dx = dy (x / 3 + 1/2)` where -3 < x ≤ 3, dy above.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "x min(max(x + 3, 0), 6) / 6 (PyTorch Hardswish)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let function = Function::HardSwish;
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("hard_swish", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("hard_swish", 2e-3);
    }
}
