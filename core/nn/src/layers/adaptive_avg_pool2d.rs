//! Mean of each of a given number of regions: `y[h, w, c] = Σ x / count` over the region at (h, w), as PyTorch's
//! `AdaptiveAvgPool2d`.
//!
//! x (H, W, C), y (H', W', C), with H' and W' as asked for. `dx` gets `dy / count` from every region it is in.

use super::regions::Regions;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "means of as many regions as asked for (PyTorch AdaptiveAvgPool2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("output_size", "required", "rows and columns of the output: one number or two")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let size = reader.pair("output_size", 1, None);
    let regions = Regions::new("adaptive_avg_pool2d", input, size)?;
    let shape = Shape::image(size[0], size[1], regions.output.c)?;
    Ok(Box::new(AdaptiveAvgPool { regions, shape }))
}

/// Means of regions; the shape of the output is that of the layer.
pub(super) struct AdaptiveAvgPool {
    pub(super) regions: Regions,
    pub(super) shape: Shape,
}

impl Layer for AdaptiveAvgPool {
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
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let (input, output) = self.regions.images();
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        for (x, y) in pass.x.chunks_exact(input_len).zip(pass.y.chunks_exact_mut(output_len)) {
            y.fill(0.0);
            self.regions.each(|pixels, at| {
                let y = &mut y[at..at + output.c];
                for channels in pixels.channels() {
                    y.iter_mut().zip(&x[channels]).for_each(|(y, x)| *y += x);
                }
                let factor = 1.0 / pixels.count() as f32;
                y.iter_mut().for_each(|y| *y *= factor);
            });
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let (input, output) = self.regions.images();
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        dx.fill(0.0);
        for (dy, dx) in pass.dy.chunks_exact(output_len).zip(dx.chunks_exact_mut(input_len)) {
            self.regions.each(|pixels, at| {
                let factor = 1.0 / pixels.count() as f32;
                for channels in pixels.channels() {
                    let dy = &dy[at..at + output.c];
                    dx[channels].iter_mut().zip(dy).for_each(|(dx, dy)| *dx += factor * dy);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("adaptive_avg_pool2d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("adaptive_avg_pool2d", 2e-3);
    }
}
