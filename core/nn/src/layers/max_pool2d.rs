//! Maximum of each window: `y[h, w, c] = max x` over the window at (h, w), as PyTorch's `MaxPool2d`.
//!
//! x (H, W, C), y (H', W', C). Padding never wins. dy goes to the first largest number of its window.
//! Planar images are pooled as C images of one channel each.

use super::dims::sequence;
use super::window::Window;
use crate::kernels::Isa;
use crate::kernels::pool::{self, Halve, Mark, RowTap, give_back, marks, marks_mut, raise};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Image, Layout, Shape};
use ringspin_job::ParamReader;
use std::ops::Range;

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
    Ok(Box::new(MaxPool2d::new(window, (input, output), shape)))
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

/// Reads the window of a pool over time: that of an image of one row.
pub(super) fn read_window_of_time(reader: &mut ParamReader<'_>, dilated: bool) -> Window {
    let kernel = reader.count("kernel_size", 1, None);
    let stride = reader.count("stride", 1, Some(kernel));
    let padding = reader.count("padding", 0, Some(0));
    let dilation = if dilated { reader.count("dilation", 1, Some(1)) } else { 1 };
    let ceil = reader.flag("ceil_mode", false);
    if padding > kernel / 2 {
        reader.problem("padding", format!("can be at most half of kernel_size {kernel}, found {padding}"));
    }
    Window { kernel: [1, kernel], stride: [1, stride], padding: [0, padding], dilation: [1, dilation], ceil }
}

/// A sequence as an image of one row, before and after a pool.
pub(super) fn sizes_of_time(layer: &str, window: &Window, input: &Shape) -> Result<(Image, Image), Misfit> {
    let [time, features] = sequence(layer, input)?;
    let image = Image { h: 1, w: time, c: features };
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
        if self.shape.as_image().is_some() { given } else { Layout::ChannelsLast }
    }

    fn arrange(&mut self, input: Layout) -> Layout {
        self.layout = input;
        input
    }

    fn needs(&self) -> Needs {
        Needs { input: self.halves().is_some(), output: false }
    }

    /// Which number of its window each output is, so that the input, often four times as large, need not be kept.
    fn saved(&self, records: usize) -> usize {
        let marks = self.shape.elements();
        let numbers = if self.fits_bytes() { marks.div_ceil(size_of::<f32>()) } else { marks };
        if self.halves().is_some() { 0 } else { records * numbers }
    }

    fn forward(&self, pass: Forward<'_>) {
        if let Some(halve) = self.halves() {
            return pool::halve(pass.context.isa, halve, pass.x, pass.y);
        }
        if self.fits_bytes() { self.pool::<u8>(pass) } else { self.pool::<u32>(pass) }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let isa = pass.context.isa;
        if let Some(halve) = self.halves() {
            return pool::halve_backward(isa, halve, pass.x, pass.dy, dx);
        }
        if self.fits_bytes() {
            self.spread::<u8>(isa, (pass.dy, pass.saved), dx);
        } else {
            self.spread::<u32>(isa, (pass.dy, pass.saved), dx);
        }
    }
}

impl MaxPool2d {
    /// From images to images; records of `shape`, when they are not images, are such of one row.
    pub(super) fn new(window: Window, (input, output): (Image, Image), shape: Shape) -> Self {
        MaxPool2d { window, input, output, shape, layout: Layout::ChannelsLast }
    }

    /// What is pooled, before and after: records, or planes of one channel.
    fn images(&self) -> [Image; 2] {
        [as_planes(self.layout, 1, self.input).1, as_planes(self.layout, 1, self.output).1]
    }

    /// Whether a byte says which number of its window an output is.
    fn fits_bytes(&self) -> bool {
        self.window.kernel[0] * self.window.kernel[1] <= usize::from(u8::MAX)
    }

    fn pool<M: Mark>(&self, pass: Forward<'_>) {
        let [input, output] = self.images();
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        let record_len = self.input.pixels() * self.input.c;
        pass.y.fill(f32::NEG_INFINITY);
        let records = pass.y.chunks_exact_mut(self.shape.elements());
        for (record, (y, saved)) in records.zip(pass.saved.chunks_exact_mut(self.saved(1))).enumerate() {
            let own = &mut marks_mut::<M>(saved)[..self.shape.elements()];
            own.fill(M::NONE);
            let x = &pass.x[record * record_len..(record + 1) * record_len];
            let outputs = y.chunks_exact_mut(output_len).zip(own.chunks_exact_mut(output_len));
            for (x, (y, own)) in x.chunks_exact(input_len).zip(outputs) {
                let line = output.w * output.c;
                let rows = y.chunks_exact_mut(line).zip(own.chunks_exact_mut(line));
                for (row, (y, own)) in rows.enumerate() {
                    self.row_taps(row, input, |range, tap| raise(pass.context.isa, tap, &x[range], (y, own)));
                }
            }
        }
    }

    fn spread<M: Mark>(&self, isa: Isa, (dy, saved): (&[f32], &[f32]), dx: &mut [f32]) {
        let [input, output] = self.images();
        let (input_len, output_len) = (input.pixels() * input.c, output.pixels() * output.c);
        dx.fill(0.0);
        let records = dy.chunks_exact(self.shape.elements()).zip(saved.chunks_exact(self.saved(1)));
        for ((dy, saved), dx) in records.zip(dx.chunks_exact_mut(self.input.pixels() * self.input.c)) {
            let own = &marks::<M>(saved)[..self.shape.elements()];
            let outputs = dy.chunks_exact(output_len).zip(own.chunks_exact(output_len));
            for (dx, (dy, own)) in dx.chunks_exact_mut(input_len).zip(outputs) {
                let line = output.w * output.c;
                for (row, (dy, own)) in dy.chunks_exact(line).zip(own.chunks_exact(line)).enumerate() {
                    self.row_taps(row, input, |range, tap| give_back(isa, tap, (dy, own), &mut dx[range]));
                }
            }
        }
    }

    /// The most frequent pool, of 2 × 2 on planes, has a kernel of its own.
    fn halves(&self) -> Option<Halve> {
        let (_, input) = as_planes(self.layout, 1, self.input);
        let plain = Window { kernel: [2, 2], stride: [2, 2], padding: [0, 0], dilation: [1, 1], ceil: false };
        let window = Window { ceil: false, ..self.window };
        let whole = !self.window.ceil || (input.h.is_multiple_of(2) && input.w.is_multiple_of(2));
        (input.c == 1 && window == plain && whole).then_some(Halve { h: input.h, w: input.w })
    }

    /// Calls `with(numbers of an image row, what the outputs of `row` see of it)` for the taps of the windows
    /// in reading order.
    fn row_taps(&self, row: usize, input: Image, mut with: impl FnMut(Range<usize>, RowTap)) {
        let len = input.w * input.c;
        for (tap_row, h) in self.window.taps(0, row, input.h) {
            for column in 0..self.window.kernel[1] {
                let number = (tap_row * self.window.kernel[1] + column) as u32;
                let (outputs, from) = self.window.columns(column, input.w, self.output.w);
                let (first, count, stride) = (outputs.start, outputs.len(), self.window.stride[1]);
                if count > 0 {
                    with(h * len..(h + 1) * len, RowTap { number, first, count, from, stride, c: input.c });
                }
            }
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
        golden::check_layer("max_pool2d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("max_pool2d", 2e-3);
    }

    /// Windows of more numbers than a byte can tell apart.
    #[test]
    fn the_largest_of_a_wide_window_gets_the_gradient() {
        for (kernel, largest) in [(15, 7 * 20 + 3), (16, 15 * 20 + 14), (18, 17 * 20 + 16)] {
            let component = Component::new("x", "max_pool2d").with("kernel_size", Value::Int(kernel));
            let layer = golden::single_layer(&component, &Shape::image(19, 20, 1).unwrap());
            let mut x = vec![-1.0; 2 * 19 * 20];
            x[largest] = 2.0;
            x[19 * 20 + 5] = 1.0;
            assert_eq!(layer.forward_training(&[], &x, RandomKey::default()), [2.0, 1.0], "{kernel}");
            let mut expected = vec![0.0; x.len()];
            (expected[largest], expected[19 * 20 + 5]) = (3.0, 4.0);
            let dx = layer.backward_training(&[], &x, &[3.0, 4.0], RandomKey::default()).dx;
            assert_eq!(dx, expected, "{kernel}");
        }
    }
}
