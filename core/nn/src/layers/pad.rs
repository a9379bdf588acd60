//! Pad: a number around the record, `y[…, before + i, …] = x[…, i, …]`, as PyTorch's ConstantPad1d and ConstantPad2d
//! (with value 0: ZeroPad2d); `dx` is the part of dy that x lies in.
//!
//! x of any shape, y larger. Without `dim`, `padding` is PyTorch's: [left, right, top, bottom] of an image (H, W, C),
//! or the first two; [before, after] of the time of a sequence (T, F) and of a vector (F). With `dim`, it is [before,
//! after] of that dimension of the record, such as -1, the channels. Nothing is cut off, as PyTorch does when a
//! number is negative: that is `slice`.

use super::dims::{dim_of, read_dim_number};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "a number around its input (PyTorch ConstantPad1d, ConstantPad2d, ZeroPad2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("padding", "required", "[left, right, top, bottom] of images, [before, after] of others"),
    ParamDoc::new("dim", "none", "the only dimension to pad, of a record that is channels last"),
    ParamDoc::new("value", "0", "what is put there"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let padding = reader.counts("padding", 0, None);
    let dim = reader.has("dim").then(|| read_dim_number(reader, "dim", 0));
    let value = reader.number("value", f64::from(f32::MIN)..=f64::from(f32::MAX), Some(0.0)) as f32;
    let padded: Vec<usize> = match (dim, input.dims().len()) {
        (Some(dim), _) => vec![dim_of("pad", dim, input)?],
        (None, 3) => vec![1, 0],
        (None, _) => vec![0],
    };
    if !padding.len().is_multiple_of(2) || padding.is_empty() || padding.len() > 2 * padded.len() {
        return Err(Misfit(format!(
            "padding = {padding:?} does not fit {input}, which the layer before gives: it takes two numbers for each \
             of {} dimensions",
            padded.len()
        )));
    }
    let mut output = input.dims().to_vec();
    let mut sides = vec![[0, 0]; output.len()];
    for (dim, pair) in padded.into_iter().zip(padding.chunks_exact(2)) {
        sides[dim] = [pair[0], pair[1]];
        output[dim] = output[dim].saturating_add(pair[0]).saturating_add(pair[1]);
    }
    let output = Shape::new(&output)?;
    Ok(Box::new(Pad { runs: runs(input, &output, &sides), record: input.elements(), value, output }))
}

/// How the numbers of a record of x lie in one of y.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Runs {
    /// Rows and columns of runs.
    count: [usize; 2],
    /// Numbers of a run.
    len: usize,
    /// Where the first run begins in y.
    start: usize,
    /// From a row to the next, and from a column to the next, in y.
    stride: [usize; 2],
}

/// At most two dimensions are padded in the rows of x: what lies within them is a run.
fn runs(input: &Shape, output: &Shape, sides: &[[usize; 2]]) -> Runs {
    let (x, y) = (input.dims(), output.dims());
    let inner = |dims: &[usize], dim: usize| -> usize { dims[dim + 1..].iter().product() };
    // The last dimension that is padded ends a run; the one before it, if any, counts columns.
    let last = sides.iter().rposition(|sides| *sides != [0, 0]).unwrap_or(0);
    let start = (0..x.len()).map(|dim| sides[dim][0] * inner(y, dim)).sum();
    let row = y[last] * inner(y, last);
    let columns = if last > 0 { x[last - 1] } else { 1 };
    let rows: usize = x[..last.saturating_sub(1)].iter().product();
    let block = if last > 0 { y[last - 1] * row } else { row };
    Runs { count: [rows, columns], len: x[last] * inner(x, last), start, stride: [block, row] }
}

impl Runs {
    /// Where each run begins in a record of y, in the order of x.
    fn starts(self) -> impl Iterator<Item = usize> {
        (0..self.count[0] * self.count[1]).map(move |i| {
            let (row, column) = (i / self.count[1], i % self.count[1]);
            self.start + row * self.stride[0] + column * self.stride[1]
        })
    }
}

struct Pad {
    runs: Runs,
    /// Numbers of a record of x.
    record: usize,
    value: f32,
    output: Shape,
}

impl Layer for Pad {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let len = self.runs.len;
        pass.y.fill(self.value);
        let records = pass.x.chunks_exact(self.record).zip(pass.y.chunks_exact_mut(self.output.elements()));
        for (x, y) in records {
            for (x, start) in x.chunks_exact(len).zip(self.runs.starts()) {
                y[start..start + len].copy_from_slice(x);
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let len = self.runs.len;
        let records = dx.chunks_exact_mut(self.record).zip(pass.dy.chunks_exact(self.output.elements()));
        for (dx, dy) in records {
            for (dx, start) in dx.chunks_exact_mut(len).zip(self.runs.starts()) {
                dx.copy_from_slice(&dy[start..start + len]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("pad", 0.0);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("pad", 2e-3);
    }
}
