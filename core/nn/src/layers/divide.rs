//! Quotient of two inputs: `y = x₀ / x₁`, `dx₀ = dy / x₁`, `dx₁ = -dy y / x₁`.
//!
//! Both inputs and y of one shape.

use super::dims::two_of_one_shape;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "its first input divided by its second (BigDL CDivTable)";

pub(crate) fn build(_: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Divide { shape: two_of_one_shape("divide", inputs)? }))
}

struct Divide {
    shape: Shape,
}

impl Layer for Divide {
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
        Needs { input: true, output: true }
    }

    fn forward(&self, pass: Forward<'_>) {
        for ((y, x), other) in pass.y.iter_mut().zip(pass.x).zip(pass.others[0]) {
            *y = x / other;
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let divisors = pass.others[0];
        if let Some(dx) = pass.dx {
            for ((dx, dy), divisor) in dx.iter_mut().zip(&*pass.dy).zip(divisors) {
                *dx = dy / divisor;
            }
        }
        if let Some(other) = &mut pass.dothers[0] {
            for (((other, dy), y), divisor) in other.iter_mut().zip(&*pass.dy).zip(pass.y).zip(divisors) {
                *other = -dy * y / divisor;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("divide", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("divide", 4e-3);
    }
}
