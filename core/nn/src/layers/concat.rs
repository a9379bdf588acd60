//! Inputs one after the other along a dimension, as PyTorch's `cat`.
//!
//! x of shapes that differ in that dimension only, y of their sum there. Dimensions are counted as the record has
//! them, channels last, from the end when negative: -1, the default, joins the channels of images, the features of
//! vectors and of sequences. PyTorch's dim 1 of images is our -1.

use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "its inputs one after the other along a dimension (PyTorch cat)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new(
    "dim",
    "-1",
    "dimension that grows, of a record that is channels last; negative: from the end",
)];

pub(crate) fn build(reader: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    let dim = super::dims::read_dim(reader, &inputs[0], -1);
    let dims = inputs[0].dims();
    let fits = |shape: &Shape| {
        let others = |(i, (a, b)): (usize, (&usize, &usize))| i == dim || a == b;
        shape.dims().len() == dims.len() && shape.dims().iter().zip(dims).enumerate().all(others)
    };
    if let Some(shape) = inputs.iter().find(|shape| !fits(shape)) {
        let message =
            format!("concat joins inputs that differ in dimension {dim} only, not {} and {shape}", inputs[0]);
        return Err(Misfit(message));
    }
    let mut output = dims.to_vec();
    output[dim] = inputs.iter().fold(0usize, |sum, shape| sum.saturating_add(shape.dims()[dim]));
    let runs = inputs.iter().map(|shape| shape.dims()[dim..].iter().product()).collect();
    Ok(Box::new(Concat { output: Shape::new(&output)?, runs }))
}

struct Concat {
    output: Shape,
    /// Numbers that each input gives at a time.
    runs: Vec<usize>,
}

impl Concat {
    /// Numbers of the output that hold one run of every input.
    fn row(&self) -> usize {
        self.runs.iter().sum()
    }
}

impl Layer for Concat {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let mut start = 0;
        for (x, run) in std::iter::once(pass.x).chain(pass.others.iter().copied()).zip(&self.runs) {
            for (row, x) in pass.y.chunks_exact_mut(self.row()).zip(x.chunks_exact(*run)) {
                row[start..start + run].copy_from_slice(x);
            }
            start += run;
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let mut start = 0;
        let gradients = std::iter::once(pass.dx).chain(pass.dothers.iter_mut().map(Option::as_deref_mut));
        for (gradient, run) in gradients.zip(&self.runs) {
            for (row, dx) in pass
                .dy
                .chunks_exact(self.row())
                .zip(gradient.into_iter().flat_map(|dx| dx.chunks_exact_mut(*run)))
            {
                dx.copy_from_slice(&row[start..start + run]);
            }
            start += run;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("concat", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("concat", 2e-3);
    }
}
