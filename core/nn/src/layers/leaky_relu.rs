//! Rectifier that leaks: `y = x` above 0, `negative_slope · x` below; `dx = dy`, `dx = negative_slope · dy`.
//!
//! The slope is not below 0, unlike PyTorch's, so that the sign of y tells that of x. Keras' default is 0.3.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "x above 0, a small multiple of it below (PyTorch LeakyReLU)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("negative_slope", "0.01", "what numbers below 0 are multiplied by, at least 0")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let slope = reader.number("negative_slope", 0.0..=f64::from(f32::MAX), Some(0.01));
    let function = Function::LeakyRelu(slope as f32);
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("leaky_relu", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("leaky_relu", 2e-3);
    }
}
