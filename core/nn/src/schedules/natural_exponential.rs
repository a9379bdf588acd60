//! Falls in steps of a power of e: `e ^ (-gamma · floor(t / step_size))`, as BigDL's `NaturalExp`.

use super::unit::Unit;
use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "multiplied by exp(-gamma) every step_size epochs or steps (BigDL NaturalExp)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("gamma", "required", "how fast the rate falls"),
    ParamDoc::new("step_size", "1", "epochs (or steps, by unit) between changes"),
    Unit::PARAM,
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let gamma = reader.number("gamma", 0.0..=f64::MAX, None);
    let size = reader.count("step_size", 1, Some(1)) as u64;
    Box::new(NaturalExponential { gamma, size, unit: Unit::read(reader) })
}

struct NaturalExponential {
    gamma: f64,
    size: u64,
    unit: Unit,
}

impl Schedule for NaturalExponential {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        (-self.gamma * (self.unit.count(progress) / self.size) as f64).exp()
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_the_formula() {
        golden::check_schedule("natural_exponential");
    }
}
