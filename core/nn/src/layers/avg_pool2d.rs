//! Mean of each window: `y[h, w, c] = Σ x / count` over the window at (h, w), as PyTorch's `AvgPool2d`.
//!
//! x (H, W, C), y (H', W', C). `count` is the window's size with padding, or the numbers on the image when
//! `count_include_pad` is false, or `divisor_override`. `dx` gets `dy / count` from every window it is in.

use super::max_pool2d::{as_planes, read_window, sizes};
use super::window::Window;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Image, Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean of each window (PyTorch AvgPool2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("kernel_size", "required", "rows and columns of the window: one number or two"),
    ParamDoc::new("stride", "kernel_size", "distance between windows"),
    ParamDoc::new("padding", "0", "rows and columns around the image, at most half a window"),
    ParamDoc::new("ceil_mode", "false", "whether windows that only partly lie on the image count"),
    ParamDoc::new("count_include_pad", "true", "whether padding counts in the divisor"),
    ParamDoc::new("divisor_override", "the window's size", "what sums are divided by, when given"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let window = read_window(reader, false);
    let include_pad = reader.flag("count_include_pad", true);
    let divisor = reader.has("divisor_override").then(|| reader.count("divisor_override", 1, None));
    let (input, output) = sizes("avg_pool2d", &window, input)?;
    let shape = Shape::image(output.h, output.w, output.c)?;
    let layout = Layout::ChannelsLast;
    Ok(Box::new(AvgPool2d { window, include_pad, divisor, input, output, shape, layout }))
}

pub(super) struct AvgPool2d {
    pub(super) window: Window,
    pub(super) include_pad: bool,
    pub(super) divisor: Option<usize>,
    pub(super) input: Image,
    pub(super) output: Image,
    /// Of the output; when it is not an image, records are such of one row.
    pub(super) shape: Shape,
    pub(super) layout: Layout,
}

impl AvgPool2d {
    /// One over what the sum of the window at `place` is divided by.
    fn factor(&self, input: Image, place: [usize; 2]) -> f32 {
        if let Some(divisor) = self.divisor {
            return 1.0 / divisor as f32;
        }
        let mut count = 1;
        for (axis, size) in [input.h, input.w].into_iter().enumerate() {
            let (padding, kernel) = (self.window.padding[axis], self.window.kernel[axis]);
            count *= if self.include_pad {
                // The padding behind the image ends where PyTorch's does: `padding` after the last number.
                let start = place[axis] * self.window.stride[axis];
                (start + kernel).min(size + 2 * padding) - start
            } else {
                self.window.taps(axis, place[axis], size).count()
            };
        }
        1.0 / count as f32
    }
}

impl Layer for AvgPool2d {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        (self.shape.elements() * self.window.kernel[0] * self.window.kernel[1]) as u64
    }

    fn wants(&self, given: Layout) -> Layout {
        if self.shape.as_image().is_some() { given } else { Layout::ChannelsLast }
    }

    fn arrange(&mut self, input: Layout) -> Layout {
        self.layout = input;
        input
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let (_, input) = as_planes(self.layout, pass.records, self.input);
        let (_, output) = as_planes(self.layout, pass.records, self.output);
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        for (x, y) in pass.x.chunks_exact(input_len).zip(pass.y.chunks_exact_mut(output_len)) {
            for (i, y) in y.chunks_exact_mut(output.c).enumerate() {
                let place = [i / output.w, i % output.w];
                y.fill(0.0);
                for (_, h) in self.window.taps(0, place[0], input.h) {
                    for (_, w) in self.window.taps(1, place[1], input.w) {
                        let x = &x[(h * input.w + w) * input.c..][..input.c];
                        y.iter_mut().zip(x).for_each(|(y, x)| *y += x);
                    }
                }
                let factor = self.factor(input, place);
                y.iter_mut().for_each(|y| *y *= factor);
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let (_, input) = as_planes(self.layout, pass.records, self.input);
        let (_, output) = as_planes(self.layout, pass.records, self.output);
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        dx.fill(0.0);
        for (dy, dx) in pass.dy.chunks_exact(output_len).zip(dx.chunks_exact_mut(input_len)) {
            for (i, dy) in dy.chunks_exact(output.c).enumerate() {
                let place = [i / output.w, i % output.w];
                let factor = self.factor(input, place);
                for (_, h) in self.window.taps(0, place[0], input.h) {
                    for (_, w) in self.window.taps(1, place[1], input.w) {
                        let dx = &mut dx[(h * input.w + w) * input.c..][..input.c];
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx += factor * dy);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("avg_pool2d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("avg_pool2d", 2e-3);
    }
}
