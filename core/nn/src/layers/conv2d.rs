//! Convolution: `y[h, w, k] = b[k] + Σ W[k, c, i, j] · x[h s + i d - p, w s + j d - p, c]`, s stride,
//! d dilation, p padding; with groups, c runs over the channels of k's group.
//!
//! x (H, W, C), W [K, C / groups, kh, kw], b [K], y (H', W', K).
//! `dx` is the correlation of dy with the flipped weights, `dW` that of x with dy, `db = Σ dy`.
//!
//! Two kernels: [`Planar`] for few channels, on planar images, and [`Columns`] for the others, channels last.

use super::conv_columns::Columns;
use super::conv_planar::Planar;
use super::window::Window;
use crate::layer::{Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec};
use crate::registry::ParamDoc;
use crate::shape::{Image, Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "convolution over images (PyTorch Conv2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("out_channels", "required", "filters"),
    ParamDoc::new("kernel_size", "required", "rows and columns of a filter: one number or two"),
    ParamDoc::new("in_channels", "from the input", "channels of the input, checked when given"),
    ParamDoc::new("stride", "1", "distance between windows"),
    ParamDoc::new("padding", "0", "rows and columns of zeros around the image"),
    ParamDoc::new("dilation", "1", "distance between the numbers of a window"),
    ParamDoc::new("groups", "1", "parts that channels and filters are divided into"),
    ParamDoc::new("bias", "true", "whether a learned number is added to each filter's output"),
];

/// With fewer input channels a group than this, vectors along channels would idle.
const FEW_CHANNELS: usize = 16;

/// Weights of a filter: what is larger is a typing mistake.
const MAX_FILTER: usize = 1 << 24;

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Conv {
    pub(super) window: Window,
    pub(super) input: Image,
    pub(super) output: Image,
    pub(super) groups: usize,
    pub(super) bias: bool,
}

impl Conv {
    /// Input channels of a group.
    pub(super) fn group_inputs(&self) -> usize {
        self.input.c / self.groups
    }

    /// Filters of a group.
    pub(super) fn group_outputs(&self) -> usize {
        self.output.c / self.groups
    }

    /// Weights of one filter.
    pub(super) fn filter(&self) -> usize {
        self.group_inputs() * self.window.kernel[0] * self.window.kernel[1]
    }

    /// Weights of all filters.
    pub(super) fn weights(&self) -> usize {
        self.output.c * self.filter()
    }
}

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let filters = reader.count("out_channels", 1, None);
    let kernel = reader.pair("kernel_size", 1, None);
    let channels = reader.has("in_channels").then(|| reader.count("in_channels", 1, None));
    let stride = reader.pair("stride", 1, Some([1, 1]));
    let padding = reader.pair("padding", 0, Some([0, 0]));
    let dilation = reader.pair("dilation", 1, Some([1, 1]));
    let groups = reader.count("groups", 1, Some(1));
    let bias = reader.flag("bias", true);
    let given = input;
    let Some(input) = given.as_image() else {
        return Err(Misfit(format!("conv2d needs images (H × W × C), the layer before gives {given}")));
    };
    if let Some(channels) = channels.filter(|channels| *channels != input.c) {
        return Err(Misfit(format!("in_channels = {channels}, but the layer before gives {given}")));
    }
    if !input.c.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
        let message = format!("{} input channels and {filters} filters can not both be divided", input.c);
        return Err(Misfit(format!("{message} into {groups} groups")));
    }
    let window = Window { kernel, stride, padding, dilation, ceil: false };
    let [h, w] = window.output("conv2d", input)?;
    let shape = Shape::image(h, w, filters)?;
    let conv = Conv { window, input, output: Image { h, w, c: filters }, groups, bias };
    let filter = kernel[0].checked_mul(kernel[1]).and_then(|size| size.checked_mul(conv.group_inputs()));
    if filter.is_none_or(|filter| filter > MAX_FILTER) {
        let message = format!("a filter of {} × {} × {}", kernel[0], kernel[1], conv.group_inputs());
        return Err(Misfit(format!("{message} has more than {MAX_FILTER} weights")));
    }
    if conv.group_inputs() < FEW_CHANNELS {
        let kernel = Planar::new(conv)?;
        Ok(Box::new(Conv2d { conv, shape, kernel, layout: Layout::Planar }))
    } else {
        Ok(Box::new(Conv2d { conv, shape, kernel: Columns::new(conv), layout: Layout::ChannelsLast }))
    }
}

/// The part of a convolution that differs between kernels.
pub(super) trait ConvKernel: Send + Sync + 'static {
    fn scratch(&self, records: usize) -> usize;
    fn packed(&self) -> usize;
    fn pack(&self, weights: &[f32], packed: &mut [f32]);
    fn forward(&self, pass: Forward<'_>);
    fn backward(&self, pass: Backward<'_>);
}

struct Conv2d<K> {
    conv: Conv,
    shape: Shape,
    kernel: K,
    layout: Layout,
}

impl<K: ConvKernel> Layer for Conv2d<K> {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let (conv, [kh, kw]) = (&self.conv, self.conv.window.kernel);
        // PyTorch's default: Kaiming uniform with a = √5, which is 1/√(weights of a filter) for both.
        let init = Init::Uniform { bound: 1.0 / (conv.filter() as f32).sqrt() };
        let shape = vec![conv.output.c, conv.group_inputs(), kh, kw];
        let weight = ParameterSpec::learned("weight", shape, init);
        let bias = ParameterSpec::learned("bias", vec![conv.output.c], init);
        if conv.bias { vec![weight, bias] } else { vec![weight] }
    }

    fn flops(&self) -> u64 {
        2 * self.shape.elements() as u64 * self.conv.filter() as u64
    }

    fn wants(&self, _: Layout) -> Layout {
        self.layout
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn scratch(&self, records: usize) -> usize {
        self.kernel.scratch(records)
    }

    fn packed(&self) -> usize {
        self.kernel.packed()
    }

    fn pack(&self, params: &[f32], packed: &mut [f32]) {
        self.kernel.pack(&params[..self.conv.weights()], packed);
    }

    fn forward(&self, pass: Forward<'_>) {
        self.kernel.forward(pass);
    }

    fn backward(&self, pass: Backward<'_>) {
        self.kernel.backward(pass);
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("conv2d", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("conv2d", 2e-3);
    }
}
