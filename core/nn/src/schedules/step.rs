//! Falls by a factor every few epochs or steps: `gamma ^ floor(t / step_size)`, as PyTorch's `StepLR`.

use super::unit::Unit;
use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "multiplied by gamma every step_size epochs or steps (PyTorch StepLR)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("step_size", "required", "epochs (or steps, by unit) between changes"),
    ParamDoc::new("gamma", "0.1", "what the rate is multiplied by at each change"),
    Unit::PARAM,
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let size = reader.count("step_size", 1, None) as u64;
    let gamma = reader.number("gamma", 0.0..=f64::MAX, Some(0.1));
    Box::new(Step { size, gamma, unit: Unit::read(reader) })
}

struct Step {
    size: u64,
    gamma: f64,
    unit: Unit,
}

impl Schedule for Step {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        self.gamma.powf((self.unit.count(progress) / self.size) as f64)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("step");
    }
}
