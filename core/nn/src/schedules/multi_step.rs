//! Falls by a factor at given epochs or steps, as PyTorch's `MultiStepLR` and BigDL's `MultiStep`.
//!
//! `gamma ^ (milestones that t has reached)`.

use super::unit::Unit;
use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "multiplied by gamma at each milestone (PyTorch MultiStepLR)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("milestones", "required", "epochs (or steps, by unit) of the changes, such as [30, 60]"),
    ParamDoc::new("gamma", "0.1", "what the rate is multiplied by at each change"),
    Unit::PARAM,
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let milestones = reader.counts("milestones", 1, None);
    let gamma = reader.number("gamma", 0.0..=f64::MAX, Some(0.1));
    Box::new(MultiStep { milestones, gamma, unit: Unit::read(reader) })
}

struct MultiStep {
    milestones: Vec<usize>,
    gamma: f64,
    unit: Unit,
}

impl Schedule for MultiStep {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let count = self.unit.count(progress);
        let reached = self.milestones.iter().filter(|milestone| **milestone as u64 <= count).count();
        self.gamma.powf(reached as f64)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("multi_step");
    }
}
