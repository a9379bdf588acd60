//! One vector of a sequence: its last or first step, or the mean or maximum over the steps.
//!
//! x (T, F), y (F). PyTorch's `x[:, -1]`, `x[:, 0]`, `x.mean(1)` and `x.amax(1)`, where the gradient of a maximum goes to
//! the first step that has it. A second input of one number a record is its length: steps beyond it do not exist. A
//! record of length 0 gives 0.

use crate::kernels::elementwise::add_row;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::layers::dims::sequence;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "the last or first step of a sequence, or the mean or maximum; a second input is its length";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("mode", "\"last\"", "\"last\", \"first\", \"mean\" or \"max\"")];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Last,
    First,
    Mean,
    Max,
}

pub(crate) fn build(reader: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    let mode = match reader.choice("mode", &["last", "first", "mean", "max"], Some("last")) {
        "first" => Mode::First,
        "mean" => Mode::Mean,
        "max" => Mode::Max,
        _ => Mode::Last,
    };
    let [steps, features] = sequence("pool_sequence", &inputs[0])?;
    let lengths = match &inputs[1..] {
        [] => false,
        [length] if length.elements() == 1 => true,
        _ => {
            return Err(Misfit(
                "pool_sequence reads a sequence and, if need be, its length, one number".into(),
            ));
        }
    };
    Ok(Box::new(PoolSequence { mode, steps, features, lengths, output: Shape::flat(features)? }))
}

struct PoolSequence {
    mode: Mode,
    steps: usize,
    features: usize,
    lengths: bool,
    output: Shape,
}

impl PoolSequence {
    /// Steps of a record.
    fn length(&self, others: &[&[f32]], record: usize) -> usize {
        others.first().map_or(self.steps, |lengths| lengths[record] as usize)
    }

    /// The step with the largest number of feature `i`.
    fn largest(&self, x: &[f32], length: usize, i: usize) -> usize {
        let at = |t: usize| x[t * self.features + i];
        // A number that can not be compared is the largest, as in PyTorch.
        (1..length).fold(
            0,
            |best, t| if at(t) > at(best) || (at(t).is_nan() && !at(best).is_nan()) { t } else { best },
        )
    }
}

impl Layer for PoolSequence {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn flops(&self) -> u64 {
        (self.steps * self.features) as u64
    }

    fn whole_below(&self, input: usize) -> Option<usize> {
        (input == 1).then_some(self.steps + 1)
    }

    fn needs(&self) -> Needs {
        Needs { input: self.lengths || self.mode == Mode::Max, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let records = pass.x.chunks_exact(self.steps * self.features);
        for (record, (x, y)) in records.zip(pass.y.chunks_exact_mut(self.features)).enumerate() {
            let length = self.length(pass.others, record);
            let step = |t: usize| &x[t * self.features..][..self.features];
            y.fill(0.0);
            match self.mode {
                _ if length == 0 => {}
                Mode::Last => y.copy_from_slice(step(length - 1)),
                Mode::First => y.copy_from_slice(step(0)),
                Mode::Mean => {
                    (0..length).for_each(|t| add_row(y, step(t)));
                    y.iter_mut().for_each(|y| *y /= length as f32);
                }
                Mode::Max => {
                    for (i, y) in y.iter_mut().enumerate() {
                        *y = x[self.largest(x, length, i) * self.features + i];
                    }
                }
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(lengths) = pass.dothers.first_mut().and_then(Option::as_mut) {
            lengths.fill(0.0);
        }
        let Some(dx) = pass.dx else { return };
        let features = self.features;
        let records = dx.chunks_exact_mut(self.steps * features).zip(pass.dy.chunks_exact(features));
        for (record, (dx, dy)) in records.enumerate() {
            let length = self.length(pass.others, record);
            dx.fill(0.0);
            match self.mode {
                _ if length == 0 => {}
                Mode::Last => dx[(length - 1) * features..][..features].copy_from_slice(dy),
                Mode::First => dx[..features].copy_from_slice(dy),
                Mode::Mean => {
                    for dx in dx.chunks_exact_mut(features).take(length) {
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / length as f32);
                    }
                }
                Mode::Max => {
                    let x = &pass.x[record * self.steps * features..][..self.steps * features];
                    for (i, dy) in dy.iter().enumerate() {
                        dx[self.largest(x, length, i) * features + i] = *dy;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("pool_sequence", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("pool_sequence", 2e-3);
    }
}
