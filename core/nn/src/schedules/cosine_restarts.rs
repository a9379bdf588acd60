//! Cosines that begin again and again (SGDR, Loshchilov and Hutter 2017), as PyTorch's
//! `CosineAnnealingWarmRestarts`: the first takes `t_0`, each further one `t_mult` times as long.

use super::cosine::fall;
use super::unit::Unit;
use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "cosines that begin again and again (PyTorch CosineAnnealingWarmRestarts)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("t_0", "required", "epochs (or steps, by unit) of the first cosine"),
    ParamDoc::new("t_mult", "1", "what the length is multiplied by at each restart"),
    ParamDoc::new("min_factor", "0", "share of the rate that is reached (PyTorch's eta_min / lr)"),
    Unit::PARAM,
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let first = reader.count("t_0", 1, None) as u64;
    let growth = reader.count("t_mult", 1, Some(1)) as u64;
    let low = reader.number("min_factor", 0.0..=1.0, Some(0.0));
    Box::new(CosineRestarts { first, growth, low, unit: Unit::read(reader) })
}

struct CosineRestarts {
    first: u64,
    growth: u64,
    low: f64,
    unit: Unit,
}

impl Schedule for CosineRestarts {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let (mut count, mut length) = (self.unit.count(progress), self.first);
        if self.growth == 1 {
            count %= length;
        }
        while count >= length {
            count -= length;
            length = length.saturating_mul(self.growth);
        }
        fall(self.low, count as f64 / length as f64)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("cosine_restarts");
    }
}
