//! One vector of a sequence: its last or first step, or the mean or maximum over the steps.
//!
//! x (T, F), y (F). PyTorch's `x[:, -1]`, `x[:, 0]`, `x.mean(1)` and `x.amax(1)`, where the gradient of a maximum goes to
//! the first step that has it. A second input of one number a record is its length: steps beyond it do not exist; with
//! `masked` it is a mask (T), and steps where it is not 0 do not exist. A record without any step gives 0.

use crate::kernels::rows::add_row;
use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::layers::dims::sequence;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "the last or first step of a sequence, or the mean or maximum; a second input is its length";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("mode", "\"last\"", "\"last\", \"first\", \"mean\" or \"max\""),
    ParamDoc::new(
        "masked",
        "false",
        "whether the second input is a mask: steps where it is not 0 do not exist",
    ),
];

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
    let masked = reader.flag("masked", false);
    let [steps, features] = sequence("pool_sequence", &inputs[0])?;
    let limit = match &inputs[1..] {
        [] if !masked => Limit::None,
        [mask] if masked && mask.elements() == steps => Limit::Mask,
        [length] if !masked && length.elements() == 1 => Limit::Length,
        _ => {
            let given: Vec<String> = inputs.iter().map(ToString::to_string).collect();
            let message = "pool_sequence reads a sequence and, if need be, its length, one number, or with masked a mask, \
                           one number a step";
            return Err(Misfit(format!("{message}; here {}", given.join(" and "))));
        }
    };
    Ok(Box::new(PoolSequence { mode, steps, features, limit, output: Shape::flat(features)? }))
}

/// What the second input says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    None,
    Length,
    Mask,
}

struct PoolSequence {
    mode: Mode,
    steps: usize,
    features: usize,
    limit: Limit,
    output: Shape,
}

impl PoolSequence {
    /// The steps of a record that exist.
    fn steps<'a>(
        &'a self,
        others: &'a [&[f32]],
        record: usize,
    ) -> impl DoubleEndedIterator<Item = usize> + Clone + 'a {
        let limit = others.first().copied().unwrap_or_default();
        (0..self.steps).filter(move |t| match self.limit {
            Limit::None => true,
            Limit::Length => *t < limit[record] as usize,
            Limit::Mask => limit[record * self.steps + t] == 0.0,
        })
    }

    /// The step with the largest number of feature `i`, the first of several.
    fn largest(&self, x: &[f32], steps: impl Iterator<Item = usize>, i: usize) -> Option<usize> {
        let at = |t: usize| x[t * self.features + i];
        // A number that can not be compared is the largest, as in PyTorch.
        steps.reduce(
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
        (input == 1 && self.limit == Limit::Length).then_some(self.steps + 1)
    }

    fn needs(&self) -> Needs {
        Needs { input: self.limit != Limit::None || self.mode == Mode::Max, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let records = pass.x.chunks_exact(self.steps * self.features);
        for (record, (x, y)) in records.zip(pass.y.chunks_exact_mut(self.features)).enumerate() {
            let (mut steps, step) =
                (self.steps(pass.others, record), |t: usize| &x[t * self.features..][..self.features]);
            y.fill(0.0);
            let one = match self.mode {
                Mode::Last => steps.next_back(),
                Mode::First => steps.next(),
                Mode::Mean => {
                    let count = steps.clone().count().max(1);
                    steps.for_each(|t| add_row(y, step(t)));
                    y.iter_mut().for_each(|y| *y /= count as f32);
                    continue;
                }
                Mode::Max => {
                    for (i, y) in y.iter_mut().enumerate() {
                        *y = self.largest(x, steps.clone(), i).map_or(0.0, |t| step(t)[i]);
                    }
                    continue;
                }
            };
            if let Some(t) = one {
                y.copy_from_slice(step(t));
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
            let mut steps = self.steps(pass.others, record);
            dx.fill(0.0);
            let one = match self.mode {
                Mode::Last => steps.next_back(),
                Mode::First => steps.next(),
                Mode::Mean => {
                    let count = steps.clone().count() as f32;
                    for t in steps {
                        let dx = &mut dx[t * features..][..features];
                        dx.iter_mut().zip(dy).for_each(|(dx, dy)| *dx = dy / count);
                    }
                    continue;
                }
                Mode::Max => {
                    let x = &pass.x[record * self.steps * features..][..self.steps * features];
                    for (i, dy) in dy.iter().enumerate() {
                        if let Some(t) = self.largest(x, steps.clone(), i) {
                            dx[t * features + i] = *dy;
                        }
                    }
                    continue;
                }
            };
            if let Some(t) = one {
                dx[t * features..][..features].copy_from_slice(dy);
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
