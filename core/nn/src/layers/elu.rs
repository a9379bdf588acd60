//! Exponential linear unit: `y = x` above 0, `alpha (eˣ - 1)` below; `dx = dy`, `dx = dy (y + alpha)`.
//!
//! alpha is not below 0, as PyTorch's must not be in place.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "x above 0, alpha (exp(x) - 1) below (PyTorch ELU)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("alpha", "1", "how far below 0 outputs go, at least 0")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let alpha = reader.number("alpha", 0.0..=f64::from(f32::MAX), Some(1.0));
    let function = Function::Elu(alpha as f32);
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("elu", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("elu", 2e-3);
    }
}
