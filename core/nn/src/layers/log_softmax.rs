//! Logarithm of softmax: `y = x - max - log Σ exp(x - max)`, `dx = dy - exp(y) Σ dy`, max and Σ along the last
//! dimension.
//!
//! x and y of any shape: classes are the last dimension, of images the channels.

use crate::kernels::softmax::{exp_into, exp_sum, largest};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "logarithm of softmax, for the loss nll (PyTorch LogSoftmax over classes)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let features = *input.dims().last().expect("a shape has dimensions");
    Ok(Box::new(LogSoftmax { features, shape: input.clone() }))
}

struct LogSoftmax {
    features: usize,
    shape: Shape,
}

impl Layer for LogSoftmax {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        3 * self.shape.elements() as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: true }
    }

    fn forward(&self, pass: Forward<'_>) {
        let records = pass.x.chunks_exact(self.features).zip(pass.y.chunks_exact_mut(self.features));
        for (x, y) in records {
            let max = largest(x);
            let log_sum = max + exp_sum(pass.context.isa, x, max).ln();
            y.iter_mut().zip(x).for_each(|(y, x)| *y = x - log_sum);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let records = pass.y.chunks_exact(self.features).zip(pass.dy.chunks_exact(self.features));
        for ((y, dy), dx) in records.zip(dx.chunks_exact_mut(self.features)) {
            let sum: f32 = dy.iter().sum();
            exp_into(pass.context.isa, y, 0.0, dx);
            dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy - *dx * sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("log_softmax", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("log_softmax", 2e-3);
    }
}
