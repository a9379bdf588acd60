//! Difference of two inputs: `y = x₀ - x₁`, `dx₀ = dy`, `dx₁ = -dy`.
//!
//! Both inputs and y of one shape.

use super::dims::two_of_one_shape;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "its first input less its second (BigDL CSubTable)";

pub(crate) fn build(_: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Subtract { shape: two_of_one_shape("subtract", inputs)? }))
}

struct Subtract {
    shape: Shape,
}

impl Layer for Subtract {
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
        for ((y, x), other) in pass.y.iter_mut().zip(pass.x).zip(pass.others[0]) {
            *y = x - other;
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.copy_from_slice(pass.dy);
        }
        if let Some(other) = &mut pass.dothers[0] {
            other.iter_mut().zip(&*pass.dy).for_each(|(other, dy)| *other = -dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("subtract", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("subtract", 2e-3);
    }
}
