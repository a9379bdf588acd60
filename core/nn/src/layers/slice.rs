//! Slice: a part of a dimension, `y[…, i, …] = x[…, start + i, …]`, as PyTorch's `narrow`; `dx` is 0 elsewhere.
//!
//! x of any shape, y of the same with `end - start` along the dimension. Dimensions are counted as the record has
//! them, channels last, without the batch; `start` and `end` from the end when negative, as Python's.

use super::dims::{Along, dim_of, read_dim_number};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{MAX_RECORD_ELEMENTS, Shape};
use ringspin_job::ParamReader;
use std::ops::Range;

/// One line for the documentation.
pub(crate) const DOC: &str = "a part of a dimension (PyTorch narrow)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("dim", "-1", "dimension of a record that is channels last; negative: from the end"),
    ParamDoc::new("start", "0", "first place; negative: from the end"),
    ParamDoc::new("end", "the dimension's", "place behind the last; negative: from the end"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let dim = read_dim_number(reader, "dim", -1);
    let most = MAX_RECORD_ELEMENTS as i64;
    let start = reader.integer("start", -most..=most, Some(0));
    let end = reader.has("end").then(|| reader.integer("end", -most..=most, None));
    let dim = dim_of("slice", dim, input)?;
    let along = Along::new(input, dim);
    let place = |at: i64| {
        let from_end = along.count.checked_sub(usize::try_from(-at).unwrap_or(0));
        if at < 0 { from_end } else { usize::try_from(at).ok().filter(|at| *at <= along.count) }
    };
    let places = place(start).zip(end.map_or(Some(along.count), place)).map(|(start, end)| start..end);
    let Some(places) = places.filter(|places| !places.is_empty()) else {
        let end = end.map_or_else(|| "the end".into(), |end| end.to_string());
        return Err(Misfit(format!(
            "slice from {start} to {end} has no place in dimension {dim} of {input}, which the layer before gives"
        )));
    };
    let mut output = input.dims().to_vec();
    output[dim] = places.len();
    Ok(Box::new(Slice { along, places, output: Shape::new(&output)? }))
}

struct Slice {
    along: Along,
    places: Range<usize>,
    output: Shape,
}

impl Slice {
    /// Numbers of x that one run of y is part of, and where it lies in them.
    fn run(&self) -> (usize, Range<usize>) {
        let Along { count, inner, .. } = self.along;
        (count * inner, self.places.start * inner..self.places.end * inner)
    }
}

impl Layer for Slice {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn copies(&self) -> Option<Range<usize>> {
        (self.along.outer == 1).then(|| self.run().1)
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let (whole, part) = self.run();
        for (x, y) in pass.x.chunks_exact(whole).zip(pass.y.chunks_exact_mut(part.len())) {
            y.copy_from_slice(&x[part.clone()]);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let (whole, part) = self.run();
        for (dx, dy) in dx.chunks_exact_mut(whole).zip(pass.dy.chunks_exact(part.len())) {
            dx[..part.start].fill(0.0);
            dx[part.clone()].copy_from_slice(dy);
            dx[part.end..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("slice", 0.0);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("slice", 2e-3);
    }
}
