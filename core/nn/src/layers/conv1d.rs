//! Convolution over time: `y[t, k] = b[k] + Σ W[k, c, j] · x[t s + j d - p, c]`, s stride, d dilation, p padding; with
//! groups, c runs over the channels of k's group.
//!
//! x (T, C), W [K, C / groups, k], b [K], y (T', K). Computed as `conv2d` of an image of one row. PyTorch has time
//! last; BigDL's TemporalConvolution and Keras' Conv1D have it first, as here.

use super::conv2d::{Conv, Conv2d, MAX_FILTER};
use super::dims::sequence;
use super::window::Window;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::{Image, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "convolution over time (PyTorch Conv1d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("out_channels", "required", "filters"),
    ParamDoc::new("kernel_size", "required", "steps of a filter"),
    ParamDoc::new("in_channels", "from the input", "channels of the input, checked when given"),
    ParamDoc::new("stride", "1", "distance between windows"),
    ParamDoc::new("padding", "0", "steps of zeros before and after the sequence"),
    ParamDoc::new("dilation", "1", "distance between the steps of a window"),
    ParamDoc::new("groups", "1", "parts that channels and filters are divided into"),
    ParamDoc::new("bias", "true", "whether a learned number is added to each filter's output"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let filters = reader.count("out_channels", 1, None);
    let kernel = reader.count("kernel_size", 1, None);
    let expected = reader.has("in_channels").then(|| reader.count("in_channels", 1, None));
    let stride = reader.count("stride", 1, Some(1));
    let padding = reader.count("padding", 0, Some(0));
    let dilation = reader.count("dilation", 1, Some(1));
    let groups = reader.count("groups", 1, Some(1));
    let bias = reader.flag("bias", true);
    let [time, channels] = sequence("conv1d", input)?;
    if let Some(expected) = expected.filter(|expected| *expected != channels) {
        return Err(Misfit(format!("in_channels = {expected}, but the layer before gives {input}")));
    }
    if !channels.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
        let message = format!("{channels} input channels and {filters} filters can not both be divided");
        return Err(Misfit(format!("{message} into {groups} groups")));
    }
    let window = Window {
        kernel: [1, kernel],
        stride: [1, stride],
        padding: [0, padding],
        dilation: [1, dilation],
        ceil: false,
    };
    let image = Image { h: 1, w: time, c: channels };
    let [_, steps] = window.output("conv1d", image)?;
    let shape = Shape::new(&[steps, filters])?;
    let conv = Conv { window, input: image, output: Image { h: 1, w: steps, c: filters }, groups, bias };
    if kernel.checked_mul(conv.group_inputs()).is_none_or(|filter| filter > MAX_FILTER) {
        let message = format!("a filter of {kernel} × {}", conv.group_inputs());
        return Err(Misfit(format!("{message} has more than {MAX_FILTER} weights")));
    }
    let weight = vec![filters, conv.group_inputs(), kernel];
    Ok(Box::new(Conv2d::whole(conv, shape, weight)))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("conv1d", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("conv1d", 2e-3);
    }
}
