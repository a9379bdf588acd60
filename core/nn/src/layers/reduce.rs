//! A dimension becomes one number: its sum, mean, maximum or minimum, as PyTorch's `sum`, `mean`, `max` and `min` with
//! `dim`.
//!
//! x of any shape, y without the dimension, or with 1 in its place when `keepdim`; what is left of a vector is a vector
//! of one number. Dimensions are counted as the record has them, channels last, without the batch. `dx = dy` for sums,
//! `dy / n` for means of n numbers; for maxima and minima dy goes to the first such number. NaN is both.

use super::dims::{Along, dim_of, read_dim_number};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "sum, mean, maximum or minimum over a dimension (PyTorch sum, mean, max, min)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("op", "required", "\"sum\", \"mean\", \"max\" or \"min\""),
    ParamDoc::new("dim", "-1", "dimension of a record that is channels last; negative: from the end"),
    ParamDoc::new("keepdim", "false", "whether the dimension stays, with 1 number"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let op = match reader.choice("op", &["sum", "mean", "max", "min"], None) {
        "sum" => Op::Sum,
        "mean" => Op::Mean,
        "max" => Op::Max,
        _ => Op::Min,
    };
    let dim = read_dim_number(reader, "dim", -1);
    let keep = reader.flag("keepdim", false);
    let dim = dim_of("reduce", dim, input)?;
    let mut output = input.dims().to_vec();
    if keep || output.len() == 1 {
        output[dim] = 1;
    } else {
        output.remove(dim);
    }
    Ok(Box::new(Reduce { op, along: Along::new(input, dim), output: Shape::new(&output)? }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Sum,
    Mean,
    Max,
    Min,
}

struct Reduce {
    op: Op,
    along: Along,
    output: Shape,
}

impl Reduce {
    /// What sums are multiplied by.
    fn factor(&self) -> f32 {
        if self.op == Op::Mean { 1.0 / self.along.count as f32 } else { 1.0 }
    }

    fn join(&self, y: &mut f32, x: f32) {
        match self.op {
            Op::Sum | Op::Mean => *y += x,
            Op::Max => *y = if x > *y || x.is_nan() { x } else { *y },
            Op::Min => *y = if x < *y || x.is_nan() { x } else { *y },
        }
    }
}

impl Layer for Reduce {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn flops(&self) -> u64 {
        (self.output.elements() * self.along.count) as u64
    }

    fn needs(&self) -> Needs {
        let picks = matches!(self.op, Op::Max | Op::Min);
        Needs { input: picks, output: picks }
    }

    fn forward(&self, pass: Forward<'_>) {
        let Along { count, inner, .. } = self.along;
        for (x, y) in pass.x.chunks_exact(count * inner).zip(pass.y.chunks_exact_mut(inner)) {
            let (first, rest) = x.split_at(inner);
            y.copy_from_slice(first);
            for x in rest.chunks_exact(inner) {
                y.iter_mut().zip(x).for_each(|(y, x)| self.join(y, *x));
            }
            if self.op == Op::Mean {
                y.iter_mut().for_each(|y| *y *= self.factor());
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let Along { count, inner, .. } = self.along;
        let blocks = dx.chunks_exact_mut(count * inner).zip(pass.dy.chunks_exact_mut(inner));
        for (i, (dx, dy)) in blocks.enumerate() {
            if matches!(self.op, Op::Sum | Op::Mean) {
                for dx in dx.chunks_exact_mut(inner) {
                    dx.iter_mut().zip(&*dy).for_each(|(dx, dy)| *dx = self.factor() * dy);
                }
                continue;
            }
            let y = &pass.y[i * inner..(i + 1) * inner];
            let x = pass.x[i * count * inner..].chunks_exact(inner);
            for (x, dx) in x.zip(dx.chunks_exact_mut(inner)) {
                for ((x, dx), (y, dy)) in x.iter().zip(dx).zip(y.iter().zip(&mut *dy)) {
                    // No number that comes later gets it again.
                    *dx = if x == y || x.is_nan() { std::mem::take(dy) } else { 0.0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;
    use crate::random::RandomKey;
    use crate::shape::Shape;
    use ringspin_job::{Component, Value};

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("reduce", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("reduce", 2e-3);
    }

    #[test]
    fn the_first_of_equals_gets_the_gradient() {
        let component = Component::new("x", "reduce").with("op", Value::Text("max".into()));
        let layer = golden::single_layer(&component, &Shape::flat(3).unwrap());
        let dx = layer.backward_training(&[], &[1.0; 3], &[3.0], RandomKey::default()).dx;
        assert_eq!(dx, [3.0, 0.0, 0.0]);
    }
}
