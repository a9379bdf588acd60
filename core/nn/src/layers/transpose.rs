//! Transpose: two dimensions change places, `y[…, j, …, i, …] = x[…, i, …, j, …]`, as PyTorch's `transpose`.
//!
//! x of any shape, y of the same with two sizes exchanged. Dimensions are counted as the record has them, channels
//! last, without the batch, from the end when negative: PyTorch's (1, 2) of sequences is (0, 1) here.

use super::dims::{dim_of, read_dim_number};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "exchanges two dimensions (PyTorch transpose)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("dim0", "-2", "a dimension of a record that is channels last; negative: from the end"),
    ParamDoc::new("dim1", "-1", "the other"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let (one, other) = (read_dim_number(reader, "dim0", -2), read_dim_number(reader, "dim1", -1));
    let (one, other) = (dim_of("transpose", one, input)?, dim_of("transpose", other, input)?);
    let (first, second) = (one.min(other), one.max(other));
    let dims = input.dims();
    let mut output = dims.to_vec();
    output.swap(first, second);
    let product = |dims: &[usize]| dims.iter().product();
    // Where both are one dimension nothing moves: 1 stands for the second.
    let (between, last) =
        if first == second { (1, 1) } else { (product(&dims[first + 1..second]), dims[second]) };
    let sizes = Sizes { first: dims[first], between, last, inner: product(&dims[second + 1..]) };
    Ok(Box::new(Transpose { sizes, output: Shape::new(&output)? }))
}

/// A block that is moved: `first × between × last × inner` numbers become `last × between × first × inner`.
#[derive(Clone, Copy)]
struct Sizes {
    first: usize,
    between: usize,
    last: usize,
    inner: usize,
}

impl Sizes {
    fn exchanged(self) -> Self {
        Sizes { first: self.last, last: self.first, ..self }
    }

    /// Moves all blocks.
    fn transpose(self, from: &[f32], to: &mut [f32]) {
        let Sizes { first, between, last, inner } = self;
        let block = first * between * last * inner;
        for (from, to) in from.chunks_exact(block).zip(to.chunks_exact_mut(block)) {
            for (i, to) in to.chunks_exact_mut(inner).enumerate() {
                let (l, b, f) = (i / (between * first), i / first % between, i % first);
                to.copy_from_slice(&from[((f * between + b) * last + l) * inner..][..inner]);
            }
        }
    }
}

struct Transpose {
    sizes: Sizes,
    output: Shape,
}

impl Layer for Transpose {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        self.sizes.transpose(pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            self.sizes.exchanged().transpose(pass.dy, dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("transpose", 0.0);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("transpose", 2e-3);
    }
}
