//! Sum of several inputs of one shape: `y = x₀ + x₁ + …`, so that the gradient of every input is dy.
//!
//! x and y of any shape.

use super::dims::same_shape;
use crate::kernels::rows::add_row;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "sum of its inputs, number by number (BigDL CAddTable)";

pub(crate) fn build(_: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Add { shape: same_shape("add", inputs)? }))
}

pub(crate) struct Add {
    shape: Shape,
}

impl Layer for Add {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        self.shape.elements() as u64
    }

    fn wants(&self, given: Layout) -> Layout {
        given
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn passes(&self) -> Option<usize> {
        Some(0)
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.copy_from_slice(pass.x);
        pass.others.iter().for_each(|other| add_row(pass.y, other));
    }

    fn backward(&self, pass: Backward<'_>) {
        for gradient in pass.dx.into_iter().chain(pass.dothers.iter_mut().filter_map(Option::as_deref_mut)) {
            gradient.copy_from_slice(pass.dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("add", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("add", 2e-3);
    }
}
