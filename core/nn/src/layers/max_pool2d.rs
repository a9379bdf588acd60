//! Maximum of each window: `y[h, w, c] = max x` over the window at (h, w), as PyTorch's `MaxPool2d`.
//!
//! x (H, W, C), y (H', W', C). Padding never wins. dy goes to the first largest number of its window.
//! Planar images are pooled as C images of one channel each.

use super::window::Window;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Image, Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "maximum of each window (PyTorch MaxPool2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("kernel_size", "required", "rows and columns of the window: one number or two"),
    ParamDoc::new("stride", "kernel_size", "distance between windows"),
    ParamDoc::new("padding", "0", "rows and columns around the image, at most half a window"),
    ParamDoc::new("dilation", "1", "distance between the numbers of a window"),
    ParamDoc::new("ceil_mode", "false", "whether windows that only partly lie on the image count"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let window = read_window(reader, true);
    let (input, output) = sizes("max_pool2d", &window, input)?;
    let shape = Shape::image(output.h, output.w, output.c)?;
    Ok(Box::new(MaxPool2d { window, input, output, shape, layout: Layout::ChannelsLast }))
}

/// Reads the window of a pool.
pub(super) fn read_window(reader: &mut ParamReader<'_>, dilated: bool) -> Window {
    let kernel = reader.pair("kernel_size", 1, None);
    let stride = reader.pair("stride", 1, Some(kernel));
    let padding = reader.pair("padding", 0, Some([0, 0]));
    let dilation = if dilated { reader.pair("dilation", 1, Some([1, 1])) } else { [1, 1] };
    let ceil = reader.flag("ceil_mode", false);
    if padding[0] > kernel[0] / 2 || padding[1] > kernel[1] / 2 {
        reader
            .problem("padding", format!("can be at most half of kernel_size {kernel:?}, found {padding:?}"));
    }
    Window { kernel, stride, padding, dilation, ceil }
}

/// Image sizes before and after a pool.
pub(super) fn sizes(layer: &str, window: &Window, input: &Shape) -> Result<(Image, Image), Misfit> {
    let Some(image) = input.as_image() else {
        return Err(Misfit(format!("{layer} needs images (H × W × C), the layer before gives {input}")));
    };
    let [h, w] = window.output(layer, image)?;
    Ok((image, Image { h, w, c: image.c }))
}

/// What a pool sees of a planar record: one image a channel.
pub(super) fn as_planes(layout: Layout, records: usize, image: Image) -> (usize, Image) {
    match layout {
        Layout::ChannelsLast => (records, image),
        Layout::Planar => (records * image.c, Image { c: 1, ..image }),
    }
}

pub(crate) struct MaxPool2d {
    window: Window,
    input: Image,
    output: Image,
    shape: Shape,
    layout: Layout,
}

impl Layer for MaxPool2d {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        (self.shape.elements() * self.window.kernel[0] * self.window.kernel[1]) as u64
    }

    fn wants(&self, given: Layout) -> Layout {
        given
    }

    fn arrange(&mut self, input: Layout) -> Layout {
        self.layout = input;
        input
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let (_, input) = as_planes(self.layout, pass.records, self.input);
        let (_, output) = as_planes(self.layout, pass.records, self.output);
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        for (x, y) in pass.x.chunks_exact(input_len).zip(pass.y.chunks_exact_mut(output_len)) {
            for (i, y) in y.chunks_exact_mut(output.c).enumerate() {
                self.largest(x, input, [i / output.w, i % output.w], y);
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let (_, input) = as_planes(self.layout, pass.records, self.input);
        let (_, output) = as_planes(self.layout, pass.records, self.output);
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        dx.fill(0.0);
        let records = pass.x.chunks_exact(input_len).zip(pass.dy.chunks_exact(output_len));
        for ((x, dy), dx) in records.zip(dx.chunks_exact_mut(input_len)) {
            for (i, dy) in dy.chunks_exact(output.c).enumerate() {
                self.give_back(x, input, [i / output.w, i % output.w], (dy, dx));
            }
        }
    }
}

impl MaxPool2d {
    /// Whether `value` is the new largest number: the first of equals stays, and NaN wins and stays, as in
    /// PyTorch.
    fn wins(value: f32, largest: f32) -> bool {
        value > largest || (value.is_nan() && !largest.is_nan())
    }

    /// The largest numbers of the window at `place`, one a channel.
    fn largest(&self, x: &[f32], input: Image, place: [usize; 2], y: &mut [f32]) {
        y.fill(f32::NEG_INFINITY);
        for (_, h) in self.window.taps(0, place[0], input.h) {
            for (_, w) in self.window.taps(1, place[1], input.w) {
                let x = &x[(h * input.w + w) * input.c..][..input.c];
                for (y, x) in y.iter_mut().zip(x) {
                    *y = if Self::wins(*x, *y) { *x } else { *y };
                }
            }
        }
    }

    /// Adds the gradients of the window at `place` to those of its largest numbers.
    fn give_back(&self, x: &[f32], input: Image, place: [usize; 2], (dy, dx): (&[f32], &mut [f32])) {
        for (c, dy) in dy.iter().enumerate() {
            let (mut largest, mut winner) = (f32::NEG_INFINITY, None);
            for (_, h) in self.window.taps(0, place[0], input.h) {
                for (_, w) in self.window.taps(1, place[1], input.w) {
                    let i = (h * input.w + w) * input.c + c;
                    if winner.is_none() || Self::wins(x[i], largest) {
                        (largest, winner) = (x[i], Some(i));
                    }
                }
            }
            if let Some(i) = winner {
                dx[i] += dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("max_pool2d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("max_pool2d", 2e-3);
    }
}
