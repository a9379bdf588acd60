//! Maximum of each of a given number of regions: `y[h, w, c] = max x` over the region at (h, w), as PyTorch's
//! `AdaptiveMaxPool2d`.
//!
//! x (H, W, C), y (H', W', C), with H' and W' as asked for. NaN wins. dy goes to the first largest number of its
//! region.

use super::regions::Regions;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "maxima of as many regions as asked for (PyTorch AdaptiveMaxPool2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("output_size", "required", "rows and columns of the output: one number or two")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let size = reader.pair("output_size", 1, None);
    let regions = Regions::new("adaptive_max_pool2d", input, size)?;
    let shape = Shape::image(size[0], size[1], regions.output.c)?;
    Ok(Box::new(AdaptiveMaxPool { regions, shape }))
}

/// Maxima of regions; the shape of the output is that of the layer.
pub(super) struct AdaptiveMaxPool {
    pub(super) regions: Regions,
    pub(super) shape: Shape,
}

impl Layer for AdaptiveMaxPool {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        self.regions.reads()
    }

    fn wants(&self, given: Layout) -> Layout {
        self.regions.wants(given)
    }

    fn arrange(&mut self, input: Layout) -> Layout {
        self.regions.layout = input;
        input
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: true }
    }

    fn forward(&self, pass: Forward<'_>) {
        let (input, output) = self.regions.images();
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        for (x, y) in pass.x.chunks_exact(input_len).zip(pass.y.chunks_exact_mut(output_len)) {
            y.fill(f32::NEG_INFINITY);
            self.regions.each(|pixels, at| {
                let y = &mut y[at..at + output.c];
                for channels in pixels.channels() {
                    for (y, x) in y.iter_mut().zip(&x[channels]) {
                        *y = if *x > *y || x.is_nan() { *x } else { *y };
                    }
                }
            });
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let (input, output) = self.regions.images();
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        dx.fill(0.0);
        let outputs = pass.y.chunks_exact(output_len).zip(pass.dy.chunks_exact_mut(output_len));
        let inputs = pass.x.chunks_exact(input_len).zip(dx.chunks_exact_mut(input_len));
        for ((y, dy), (x, dx)) in outputs.zip(inputs) {
            self.regions.each(|pixels, at| {
                for channels in pixels.channels() {
                    let largest = y[at..at + output.c].iter().zip(&mut dy[at..at + output.c]);
                    let numbers = x[channels.clone()].iter().zip(&mut dx[channels]);
                    for ((y, dy), (x, dx)) in largest.zip(numbers) {
                        if x == y || x.is_nan() {
                            // No number that comes later in the region gets it again.
                            *dx += std::mem::take(dy);
                        }
                    }
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;
    use crate::random::RandomKey;
    use crate::shape::Shape;
    use ringspin_job::{Component, Value};

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("adaptive_max_pool2d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("adaptive_max_pool2d", 2e-3);
    }

    #[test]
    fn the_first_of_equals_gets_the_gradient() {
        let component = Component::new("x", "adaptive_max_pool2d").with("output_size", Value::Int(1));
        let layer = golden::single_layer(&component, &Shape::image(2, 2, 1).unwrap());
        let dx = layer.backward_training(&[], &[1.0; 4], &[3.0], RandomKey::default()).dx;
        assert_eq!(dx, [3.0, 0.0, 0.0, 0.0]);
    }
}
