//! Flatten: an image becomes a flat record in PyTorch's order, channels first.
//!
//! x (H, W, C), y (F = C·H·W) with `y[(c H + h) W + w] = x[h, w, c]`, so that the weights of the linear layer
//! behind it are those of a PyTorch model. Planar images and flat records already lie so: nothing moves then.

use super::relayout::{to_channels_last, to_planar};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "flattens records to vectors, channels first (PyTorch Flatten)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let output = Shape::flat(input.elements())?;
    Ok(Box::new(Flatten { input: input.clone(), output, layout: Layout::ChannelsLast }))
}

/// A layer that does nothing, to stand for one that could not be built.
pub(crate) fn nothing(shape: Shape) -> Box<dyn Layer> {
    Box::new(Flatten { input: shape.clone(), output: shape, layout: Layout::ChannelsLast })
}

struct Flatten {
    input: Shape,
    output: Shape,
    layout: Layout,
}

impl Flatten {
    /// Rows (pixels) and columns (channels) of the matrix that is transposed; `None` when nothing moves.
    fn moves(&self) -> Option<(usize, usize)> {
        let dims = self.input.dims();
        let channels = *dims.last().expect("a shape has dimensions");
        let pixels = self.input.elements() / channels;
        let moves = dims.len() > 1 && channels > 1 && pixels > 1 && self.layout == Layout::ChannelsLast;
        moves.then_some((pixels, channels))
    }
}

impl Layer for Flatten {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn wants(&self, given: Layout) -> Layout {
        given
    }

    fn arrange(&mut self, input: Layout) -> Layout {
        self.layout = input;
        Layout::ChannelsLast
    }

    fn is_identity(&self) -> bool {
        self.moves().is_none()
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        match self.moves() {
            Some((pixels, channels)) => to_planar(pass.x, pass.y, pixels, channels),
            None => pass.y.copy_from_slice(pass.x),
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        match self.moves() {
            Some((pixels, channels)) => to_channels_last(pass.dy, dx, pixels, channels),
            None => dx.copy_from_slice(pass.dy),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("flatten", 0.0);
    }
}
