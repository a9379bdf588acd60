//! A line: `y = factor · x + offset`, `dx = factor · dy`, with numbers that are given, not learned.
//!
//! x and y of any shape. BigDL's MulConstant and AddConstant, Keras' Rescaling.

use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "a given multiple of its input plus a given number (Keras Rescaling)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("factor", "1", "what numbers are multiplied by"),
    ParamDoc::new("offset", "0", "what is added then"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let any = f64::from(f32::MIN)..=f64::from(f32::MAX);
    let factor = reader.number("factor", any.clone(), Some(1.0)) as f32;
    let offset = reader.number("offset", any, Some(0.0)) as f32;
    Ok(Box::new(Scale { factor, offset, shape: input.clone() }))
}

struct Scale {
    factor: f32,
    offset: f32,
    shape: Shape,
}

impl Layer for Scale {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        2 * self.shape.elements() as u64
    }

    fn wants(&self, given: Layout) -> Layout {
        given
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn passes(&self) -> Option<usize> {
        Some(0)
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.iter_mut().zip(pass.x).for_each(|(y, x)| *y = self.factor * x + self.offset);
    }

    fn backward(&self, pass: Backward<'_>) {
        pass.dy.iter_mut().for_each(|dy| *dy *= self.factor);
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
        golden::check_layer("scale", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("scale", 2e-3);
    }
}
