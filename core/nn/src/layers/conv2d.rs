//! Convolution: `y[h, w, k] = b[k] + Σ W[k, c, i, j] · x[h s + i d - p, w s + j d - p, c]`, s stride,
//! d dilation, p padding; with groups, c runs over the channels of k's group.
//!
//! x (H, W, C), W [K, C / groups, kh, kw], b [K], y (H', W', K).
//! `dx` is the correlation of dy with the flipped weights, `dW` that of x with dy, `db = Σ dy`.
//!
//! Two kernels: [`Planar`] for few filters, on planar images, a few records at a time, and [`Whole`] for the others,
//! channels last, all records at once.

use super::activation::Activation;
use super::conv_planar::Planar;
use super::conv_prepared::Prepared;
use super::conv_whole::Whole;
use super::window::Window;
use crate::kernels::Isa;
use crate::kernels::conv::{Choice, ConvSize};
use crate::layer::{Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec, Wide};
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

/// With fewer filters a group than this, vectors along filters would idle.
const FEW_FILTERS: usize = 16;

/// Weights of a filter: what is larger is a typing mistake.
pub(super) const MAX_FILTER: usize = 1 << 24;

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

    /// The same, as kernels of whole micro-batches know it.
    pub(super) fn size(&self) -> ConvSize {
        let Conv { window, input, output, groups, .. } = *self;
        ConvSize {
            input: [input.h, input.w, input.c],
            output: [output.h, output.w, output.c],
            kernel: window.kernel,
            stride: window.stride,
            padding: window.padding,
            dilation: window.dilation,
            groups,
        }
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
    let kernel = if conv.group_outputs() < FEW_FILTERS && !conv.size().depthwise() {
        Kernel::Planar(Planar::new(conv)?)
    } else {
        Kernel::Whole(Box::new(Whole::new(&conv, Choice::STANDARD)))
    };
    let weight = vec![filters, conv.group_inputs(), conv.window.kernel[0], conv.window.kernel[1]];
    Ok(Box::new(Conv2d { conv, shape, weight, kernel }))
}

/// How a convolution is computed.
enum Kernel {
    Planar(Planar),
    Whole(Box<Whole>),
}

pub(crate) struct Conv2d {
    conv: Conv,
    shape: Shape,
    /// Shape of the weights.
    weight: Vec<usize>,
    kernel: Kernel,
}

impl Conv2d {
    /// A convolution of all records at once whose output and weights the user knows by other shapes.
    pub(super) fn whole(conv: Conv, shape: Shape, weight: Vec<usize>) -> Self {
        Conv2d { conv, shape, weight, kernel: Kernel::Whole(Box::new(Whole::new(&conv, Choice::STANDARD))) }
    }

    /// Plans its passes anew, by other algorithms.
    pub(crate) fn choose(&mut self, choice: Choice) {
        if let Kernel::Whole(whole) = &mut self.kernel {
            let bounds = whole.bounds;
            **whole = Whole::new(&self.conv, choice);
            whole.bounds = bounds;
        }
    }

    /// The kernel for all records at once, where it is that.
    pub(super) fn whole_kernel(&self) -> Option<&Whole> {
        match &self.kernel {
            Kernel::Planar(_) => None,
            Kernel::Whole(whole) => Some(whole),
        }
    }

    /// The same for predictions of at most `records` records at a time; `None` for few filters, whose weights are nothing
    /// beside the image.
    pub(crate) fn prepared(&self, records: usize) -> Option<Prepared> {
        match &self.kernel {
            Kernel::Planar(_) => None,
            Kernel::Whole(whole) => {
                let choice = whole.choice.for_few(&self.conv.size(), records);
                Some(Prepared::new(self.conv, self.shape.clone(), choice, whole.bounds))
            }
        }
    }

    /// Takes in an activation that follows; `false` when it can not.
    pub(crate) fn absorb(&mut self, activation: &Activation) -> bool {
        match &mut self.kernel {
            Kernel::Whole(whole) if !whole.bounds.any() => {
                let bounds = activation.function.bounds();
                whole.bounds = bounds.unwrap_or(whole.bounds);
                bounds.is_some()
            }
            _ => false,
        }
    }
}

impl Layer for Conv2d {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let conv = &self.conv;
        // PyTorch's default: Kaiming uniform with a = √5, which is 1/√(weights of a filter) for both.
        let init = Init::Uniform { bound: 1.0 / (conv.filter() as f32).sqrt() };
        let weight = ParameterSpec::learned("weight", self.weight.clone(), init);
        let bias = ParameterSpec::learned("bias", vec![conv.output.c], init);
        if conv.bias { vec![weight, bias] } else { vec![weight] }
    }

    fn flops(&self) -> u64 {
        2 * self.shape.elements() as u64 * self.conv.filter() as u64
    }

    fn wants(&self, _: Layout) -> Layout {
        match self.kernel {
            Kernel::Planar(_) => Layout::Planar,
            Kernel::Whole(_) => Layout::ChannelsLast,
        }
    }

    fn needs(&self) -> Needs {
        let output = matches!(&self.kernel, Kernel::Whole(whole) if whole.bounds.any());
        Needs { input: true, output }
    }

    fn adds(&self) -> bool {
        matches!(self.kernel, Kernel::Whole(_))
    }

    fn scratch(&self, records: usize) -> usize {
        match &self.kernel {
            Kernel::Planar(planar) => planar.scratch(records),
            Kernel::Whole(_) => 0,
        }
    }

    fn packed(&self, _: bool) -> usize {
        match &self.kernel {
            Kernel::Planar(planar) => planar.packed(),
            Kernel::Whole(_) => 0,
        }
    }

    fn pack(&self, _: Isa, params: &[f32], packed: &mut [f32]) {
        if let Kernel::Planar(planar) = &self.kernel {
            planar.pack(&params[..self.conv.weights()], packed);
        }
    }

    fn forward(&self, pass: Forward<'_>) {
        match &self.kernel {
            Kernel::Planar(planar) => planar.forward(pass),
            Kernel::Whole(_) => unreachable!("the kernel takes all records at once"),
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        match &self.kernel {
            Kernel::Planar(planar) => planar.backward(pass),
            Kernel::Whole(_) => unreachable!("the kernel takes all records at once"),
        }
    }

    fn wide(&self) -> Option<&dyn Wide> {
        match &self.kernel {
            Kernel::Planar(_) => None,
            Kernel::Whole(whole) => Some(&**whole),
        }
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
