//! Where numbers equal one: `y = 1` where x is `value`, 0 elsewhere; such as a mask of padding from the numbers of
//! words. It has no gradient: `dx = 0`.
//!
//! x and y of any shape. PyTorch's `x == value`.

use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "1 where its input is a number, 0 elsewhere (PyTorch ==)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("value", "0", "the number")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let value = reader.number("value", f64::from(f32::MIN)..=f64::from(f32::MAX), Some(0.0)) as f32;
    Ok(Box::new(Equal { value, shape: input.clone() }))
}

struct Equal {
    value: f32,
    shape: Shape,
}

impl Layer for Equal {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn wants(&self, given: Layout) -> Layout {
        given
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.iter_mut().zip(pass.x).for_each(|(y, x)| *y = f32::from(u8::from(*x == self.value)));
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("equal", 0.0);
    }
}
