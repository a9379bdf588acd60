//! Transposed convolution over time: `y[t s + j d - p, k] += W[c, k, j] · x[t, c]`, plus `b[k]`.
//!
//! x (T, C), W [C, K / groups, k], b [K], y (T', K) with `T' = (T - 1) s - 2 p + d (k - 1) + output_padding + 1`.
//! Computed as `conv_transpose2d` of an image of one row. PyTorch has time last.

use super::conv_transpose2d::{ConvTranspose, Transposed, check_extra};
use super::dims::sequence;
use super::window::Window;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::{Image, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "transposed convolution over time (PyTorch ConvTranspose1d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("out_channels", "required", "filters"),
    ParamDoc::new("kernel_size", "required", "steps of a filter"),
    ParamDoc::new("in_channels", "from the input", "channels of the input, checked when given"),
    ParamDoc::new("stride", "1", "distance in the output between neighbours of the input"),
    ParamDoc::new("padding", "0", "steps that are left out before and after the output"),
    ParamDoc::new("output_padding", "0", "steps added behind the output, fewer than stride or dilation"),
    ParamDoc::new("groups", "1", "parts that channels and filters are divided into"),
    ParamDoc::new("bias", "true", "whether a learned number is added to each filter's output"),
    ParamDoc::new("dilation", "1", "distance between the numbers of a filter"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let filters = reader.count("out_channels", 1, None);
    let kernel = reader.count("kernel_size", 1, None);
    let expected = reader.has("in_channels").then(|| reader.count("in_channels", 1, None));
    let stride = [1, reader.count("stride", 1, Some(1))];
    let padding = [0, reader.count("padding", 0, Some(0))];
    let extra = [0, reader.count("output_padding", 0, Some(0))];
    let groups = reader.count("groups", 1, Some(1));
    let bias = reader.flag("bias", true);
    let dilation = [1, reader.count("dilation", 1, Some(1))];
    check_extra(reader, extra, stride, dilation);
    let [time, channels] = sequence("conv_transpose1d", input)?;
    let window = Window { kernel: [1, kernel], stride, padding, dilation, ceil: false };
    let sizes = Transposed { layer: "conv_transpose1d", window, extra, filters, groups };
    let conv = sizes.conv(input, Image { h: 1, w: time, c: channels }, expected)?;
    let shape = Shape::new(&[conv.input.w, filters])?;
    Ok(Box::new(ConvTranspose::new(conv, bias, shape, vec![channels, filters / groups, kernel])))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("conv_transpose1d", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("conv_transpose1d", 2e-3);
    }
}
