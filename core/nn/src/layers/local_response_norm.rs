//! Local response norm across channels: `y[c] = x[c] / (k + alpha / size · Σ x[j]²)^beta`, j over the `size` channels
//! around c, from `c - size / 2` to `c + (size - 1) / 2` (Krizhevsky et al. 2012).
//!
//! x and y (…, C). With b the base, `dx[j] = dy[j] b[j]^-beta - 2 beta alpha / size · x[j] Σ dy[c] x[c] b[c]^-(beta + 1)`,
//! c over the channels whose window holds j.
//!
//! BigDL's SpatialCrossMapLRN and Caffe's LRN are the same, with other defaults: size 5, alpha 1. TensorFlow's has
//! no division by the size.

use crate::kernels::response_norm::{Power, ResponseNorm};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "divides by the strength of neighbouring channels (PyTorch LocalResponseNorm)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("size", "required", "channels of a window"),
    ParamDoc::new("alpha", "1e-4", "what the mean of squares is multiplied by, at least 0"),
    ParamDoc::new("beta", "0.75", "the power, at least 0; multiples of 0.25 are fast"),
    ParamDoc::new("k", "1", "what the mean of squares is added to, above 0"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let size = reader.count("size", 1, None);
    let largest = f64::from(f32::MAX);
    let alpha = reader.number("alpha", 0.0..=largest, Some(1e-4));
    let beta = reader.number("beta", 0.0..=largest, Some(0.75));
    let k = reader.number("k", f64::from(f32::MIN_POSITIVE)..=largest, Some(1.0));
    let c = *input.dims().last().expect("a shape has dimensions");
    let norm = ResponseNorm {
        c,
        before: (size / 2).min(c - 1),
        behind: ((size - 1) / 2).min(c - 1),
        k: k as f32,
        scale: (alpha / size as f64) as f32,
        power: Power::new(beta),
        beta: beta as f32,
    };
    Ok(Box::new(LocalResponseNorm { norm, shape: input.clone() }))
}

struct LocalResponseNorm {
    norm: ResponseNorm,
    shape: Shape,
}

impl Layer for LocalResponseNorm {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        (self.shape.elements() * (self.norm.before + self.norm.behind + 4)) as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn scratch(&self, _: usize) -> usize {
        self.norm.forward_scratch().max(self.norm.backward_scratch())
    }

    fn forward(&self, pass: Forward<'_>) {
        self.norm.forward(pass.context.isa, pass.x, pass.y, pass.scratch);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            self.norm.backward(pass.context.isa, pass.x, pass.dy, dx, pass.scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("local_response_norm", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("local_response_norm", 2e-3);
    }
}
