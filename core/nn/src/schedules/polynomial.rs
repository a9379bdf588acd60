//! Falls to 0 along a power: `(1 - t / total) ^ power`, as PyTorch's `PolynomialLR` and BigDL's `Poly`.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "falls to 0 at the end of the job along a power (PyTorch PolynomialLR, BigDL Poly)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("power", "1", "1: a straight line; larger: falls faster at first"),
    ParamDoc::new("total_steps", "the job's", "step at which the rate reaches 0"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let power = reader.number("power", 0.0..=f64::MAX, Some(1.0));
    let total = reader.has("total_steps").then(|| reader.count("total_steps", 1, None) as u64);
    Box::new(Polynomial { power, total })
}

struct Polynomial {
    power: f64,
    total: Option<u64>,
}

impl Schedule for Polynomial {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let total = self.total.unwrap_or(progress.total_steps).max(1);
        (1.0 - progress.step.min(total) as f64 / total as f64).powf(self.power)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("polynomial");
    }
}
