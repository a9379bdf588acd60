//! Gaussian error linear unit: `y = x Φ(x)`, `dx = dy (Φ(x) + x φ(x))`, Φ and φ the normal distribution and its density
//! (Hendrycks and Gimpel 2016). With `approximate = "tanh"`, `y = x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`.
//!
//! x and y of any shape.

use super::activation::Activation;
use crate::kernels::elementwise::Function;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "x times the probability that a normal number is below it (PyTorch GELU)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new(
    "approximate",
    "\"none\"",
    "\"tanh\" for the form with a hyperbolic tangent, as GPT-2 has it",
)];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let function = match reader.choice("approximate", &["none", "tanh"], Some("none")) {
        "tanh" => Function::GeluTanh,
        _ => Function::Gelu,
    };
    Ok(Box::new(Activation { function, shape: input.clone() }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("gelu", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("gelu", 2e-3);
    }
}
