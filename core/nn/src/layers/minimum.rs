//! The smallest of several inputs: `y = min(x₀, x₁, …)`, number by number.
//!
//! x and y of any shape. dy is shared by the inputs that have the smallest number, as PyTorch's `minimum`. NaN wins.

use super::dims::same_shape;
use super::maximum::Extreme;
use crate::layer::{Layer, Misfit};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "the smallest of its inputs, number by number (PyTorch minimum, BigDL CMinTable)";

pub(crate) fn build(_: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Extreme { largest: false, shape: same_shape("minimum", inputs)? }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("minimum", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("minimum", 2e-3);
    }
}
