//! Maximum of each window of time: `y[t, f] = max x` over the window at t, as PyTorch's `MaxPool1d`.
//!
//! x (T, F), y (T', F). Computed as `max_pool2d` of an image of one row. PyTorch has time last.

use super::max_pool2d::{MaxPool2d, read_window_of_time, sizes_of_time};
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "maximum of each window of time (PyTorch MaxPool1d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("kernel_size", "required", "steps of the window"),
    ParamDoc::new("stride", "kernel_size", "distance between windows"),
    ParamDoc::new("padding", "0", "steps before and after the sequence, at most half a window"),
    ParamDoc::new("dilation", "1", "distance between the steps of a window"),
    ParamDoc::new("ceil_mode", "false", "whether a window that only partly lies on the sequence counts"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let window = read_window_of_time(reader, true);
    let (input, output) = sizes_of_time("max_pool1d", &window, input)?;
    let shape = Shape::new(&[output.w, output.c])?;
    Ok(Box::new(MaxPool2d::new(window, (input, output), shape)))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("max_pool1d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("max_pool1d", 2e-3);
    }
}
