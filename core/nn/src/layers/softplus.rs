//! Soft rectifier: `y = log(1 + exp(beta x)) / beta`, `dx = dy σ(beta x)`; x and dy themselves where `beta x` is above
//! `threshold`. Keras and BigDL have no threshold.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "log(1 + exp(beta x)) / beta (PyTorch Softplus)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("beta", "1", "how sharp the bend is, above 0"),
    ParamDoc::new("threshold", "20", "where beta x is above this, y is x"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let beta = reader.number("beta", f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX), Some(1.0));
    let threshold = reader.number("threshold", f64::from(f32::MIN)..=f64::from(f32::MAX), Some(20.0));
    let function = Function::Softplus { beta: beta as f32, threshold: threshold as f32 };
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("softplus", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("softplus", 2e-3);
    }
}
