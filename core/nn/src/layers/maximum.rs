//! The largest of several inputs: `y = max(x₀, x₁, …)`, number by number.
//!
//! x and y of any shape. dy is shared by the inputs that have the largest number, as PyTorch's `maximum`. NaN wins.

use super::dims::same_shape;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "the largest of its inputs, number by number (PyTorch maximum, BigDL CMaxTable)";

pub(crate) fn build(_: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    Ok(Box::new(Extreme { largest: true, shape: same_shape("maximum", inputs)? }))
}

/// The largest or the smallest of several inputs.
pub(super) struct Extreme {
    pub(super) largest: bool,
    pub(super) shape: Shape,
}

impl Layer for Extreme {
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
        Needs { input: true, output: true }
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.copy_from_slice(pass.x);
        for other in pass.others {
            for (y, x) in pass.y.iter_mut().zip(*other) {
                let wins = if self.largest { *x > *y } else { *x < *y };
                *y = if wins || x.is_nan() { *x } else { *y };
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let has = |x: f32, y: f32| x == y || x.is_nan();
        for (i, dy) in pass.dy.iter_mut().enumerate() {
            let all = std::iter::once(pass.x).chain(pass.others.iter().copied());
            *dy /= all.filter(|x| has(x[i], pass.y[i])).count() as f32;
        }
        let inputs = std::iter::once(pass.x).chain(pass.others.iter().copied());
        let gradients = std::iter::once(pass.dx).chain(pass.dothers.iter_mut().map(Option::as_deref_mut));
        for (x, gradient) in inputs.zip(gradients) {
            let Some(gradient) = gradient else { continue };
            for ((dx, dy), (x, y)) in gradient.iter_mut().zip(&*pass.dy).zip(x.iter().zip(pass.y)) {
                *dx = if has(*x, *y) { *dy } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::kernels::Isa;
    use crate::layer::Context;
    use crate::random::RandomKey;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("maximum", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("maximum", 2e-3);
    }

    #[test]
    fn equals_share_the_gradient() {
        let layer = Extreme { largest: true, shape: Shape::flat(2).unwrap() };
        let (mut first, mut second) = ([f32::NAN; 2], [f32::NAN; 2]);
        layer.backward(Backward {
            records: 1,
            params: &[],
            packed: &[],
            x: &[3.0, 5.0],
            others: &[&[3.0, 4.0]],
            y: &[3.0, 5.0],
            saved: &[],
            dy: &mut [1.0, 2.0],
            dx: Some(&mut first),
            add: false,
            dothers: &mut [Some(&mut second)],
            dparams: None,
            accumulate: true,
            scratch: &mut [],
            context: Context {
                isa: Isa::best(),
                training: true,
                key: RandomKey::default(),
                layer: 0,
                first_record: 0,
                scale: 1.0,
            },
        });
        assert_eq!((first, second), ([0.5, 2.0], [0.5, 0.0]));
    }
}
