//! Product of several inputs of one shape: `y = x₀ · x₁ · …`, `dxₖ = dy · ∏ xⱼ` over the other inputs.
//!
//! x and y of any shape.

use super::dims::same_shape;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "product of its inputs, number by number (BigDL CMulTable)";

pub(crate) fn build(_: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Multiply { shape: same_shape("multiply", inputs)? }))
}

struct Multiply {
    shape: Shape,
}

fn multiply_into(to: &mut [f32], by: &[f32]) {
    to.iter_mut().zip(by).for_each(|(to, by)| *to *= by);
}

impl Layer for Multiply {
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
        Needs { input: true, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.copy_from_slice(pass.x);
        pass.others.iter().for_each(|other| multiply_into(pass.y, other));
    }

    fn backward(&self, pass: Backward<'_>) {
        // The others are multiplied again for every input: there are seldom more than two.
        let inputs = || std::iter::once(pass.x).chain(pass.others.iter().copied());
        let gradients = std::iter::once(pass.dx).chain(pass.dothers.iter_mut().map(Option::as_deref_mut));
        for (k, gradient) in gradients.enumerate() {
            let Some(gradient) = gradient else { continue };
            gradient.copy_from_slice(pass.dy);
            inputs().enumerate().filter(|(j, _)| *j != k).for_each(|(_, x)| multiply_into(gradient, x));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("multiply", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("multiply", 2e-3);
    }
}
