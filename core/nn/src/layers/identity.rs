//! Identity: `y = x`, `dx = dy`, for a name in the place of a layer that is left out.
//!
//! x and y of any shape. It costs nothing: the engine leaves it out.

use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "its input as it is (PyTorch Identity)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Same { output: input.clone(), any_layout: true }))
}

/// The same numbers, perhaps in another shape.
pub(super) struct Same {
    pub(super) output: Shape,
    /// Whether the numbers mean the same in any layout; otherwise they are channels last.
    pub(super) any_layout: bool,
}

impl Layer for Same {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn wants(&self, given: Layout) -> Layout {
        if self.any_layout { given } else { Layout::ChannelsLast }
    }

    fn is_identity(&self) -> bool {
        true
    }

    fn copies(&self) -> Option<std::ops::Range<usize>> {
        Some(0..self.output.elements())
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn passes(&self) -> Option<usize> {
        Some(0)
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.copy_from_slice(pass.x);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.copy_from_slice(pass.dy);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("identity", 0.0);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("identity", 2e-3);
    }
}
