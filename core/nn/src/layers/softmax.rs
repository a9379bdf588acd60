//! Softmax along a dimension: `y = exp(x - max) / Σ exp(x - max)`, `dx = y (dy - Σ dy y)`, max and Σ along it.
//!
//! x and y of any shape. Dimensions are counted as the record has them, channels last, from the end when negative.

use super::dims::{Along, dim_of, read_dim_number};
use crate::kernels::softmax::{softmax, softmax_backward};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "shares that sum to 1 along a dimension (PyTorch Softmax)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new(
    "dim",
    "-1",
    "dimension that sums to 1, of a record that is channels last; negative: from the end",
)];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let dim = read_dim_number(reader, "dim", -1);
    let along = Along::new(input, dim_of("softmax", dim, input)?);
    Ok(Box::new(Softmax { along, shape: input.clone() }))
}

struct Softmax {
    along: Along,
    shape: Shape,
}

impl Layer for Softmax {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        4 * self.shape.elements() as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: true }
    }

    fn forward(&self, pass: Forward<'_>) {
        let Along { count, inner, .. } = self.along;
        for (x, y) in pass.x.chunks_exact(count * inner).zip(pass.y.chunks_exact_mut(count * inner)) {
            softmax(pass.context.isa, inner, x, y);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let Along { count, inner, .. } = self.along;
        let blocks = pass.y.chunks_exact(count * inner).zip(pass.dy.chunks_exact(count * inner));
        for ((y, dy), dx) in blocks.zip(dx.chunks_exact_mut(count * inner)) {
            softmax_backward(pass.context.isa, inner, (y, dy), dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("softmax", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("softmax", 2e-3);
    }
}
