//! Mean of each window of time: `y[t, f] = Σ x / count` over the window at t, as PyTorch's `AvgPool1d`.
//!
//! x (T, F), y (T', F). Computed as `avg_pool2d` of an image of one row. PyTorch has time last.

use super::avg_pool2d::AvgPool2d;
use super::max_pool2d::{read_window_of_time, sizes_of_time};
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean of each window of time (PyTorch AvgPool1d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("kernel_size", "required", "steps of the window"),
    ParamDoc::new("stride", "kernel_size", "distance between windows"),
    ParamDoc::new("padding", "0", "steps before and after the sequence, at most half a window"),
    ParamDoc::new("ceil_mode", "false", "whether a window that only partly lies on the sequence counts"),
    ParamDoc::new("count_include_pad", "true", "whether padding counts in the divisor"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let window = read_window_of_time(reader, false);
    let include_pad = reader.flag("count_include_pad", true);
    let (input, output) = sizes_of_time("avg_pool1d", &window, input)?;
    let shape = Shape::new(&[output.w, output.c])?;
    let layout = Layout::ChannelsLast;
    Ok(Box::new(AvgPool2d { window, include_pad, divisor: None, input, output, shape, layout }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("avg_pool1d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("avg_pool1d", 2e-3);
    }
}
