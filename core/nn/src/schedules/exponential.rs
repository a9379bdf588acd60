//! Falls steadily: `gamma ^ (t / step_size)`, as PyTorch's `ExponentialLR` (whose `step_size` is 1) and BigDL's
//! `Exponential` without stairs; with stairs it is the schedule `step`.

use super::unit::Unit;
use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "multiplied by gamma each epoch or step (PyTorch ExponentialLR, BigDL Exponential)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("gamma", "required", "what the rate is multiplied by over step_size"),
    ParamDoc::new(
        "step_size",
        "1",
        "epochs (or steps, by unit) in which the rate falls by gamma, bit by bit",
    ),
    Unit::PARAM,
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let gamma = reader.number("gamma", 0.0..=f64::MAX, None);
    let size = reader.count("step_size", 1, Some(1)) as f64;
    Box::new(Exponential { gamma, size, unit: Unit::read(reader) })
}

struct Exponential {
    gamma: f64,
    size: f64,
    unit: Unit,
}

impl Schedule for Exponential {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        self.gamma.powf(self.unit.count(progress) as f64 / self.size)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("exponential");
    }
}
