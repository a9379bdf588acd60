//! What relu, tanh and the like share: `y = f(x)` for every number, whatever the shape and layout.

use crate::kernels::elementwise::{Function, derive, map};
use crate::layer::{Backward, Forward, Layer, Needs};
use crate::shape::{Layout, Shape};

/// A function of every number. Where its derivative is written in terms of the output it can be applied in place.
#[derive(Clone)]
pub(crate) struct Activation {
    pub(crate) function: Function,
    pub(crate) shape: Shape,
}

impl Layer for Activation {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        self.shape.elements() as u64
    }

    fn wants(&self, given: Layout) -> Layout {
        given
    }

    fn needs(&self) -> Needs {
        let input = self.function.derives_from_input();
        Needs { input, output: !input }
    }

    fn forward(&self, pass: Forward<'_>) {
        map(pass.context.isa, self.function, pass.x, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            let from = if self.function.derives_from_input() { pass.x } else { pass.y };
            derive(pass.context.isa, self.function, from, pass.dy, dx);
        }
    }
}
