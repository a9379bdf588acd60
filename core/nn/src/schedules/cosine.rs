//! Falls along half a cosine (Loshchilov and Hutter 2017), as PyTorch's `CosineAnnealingLR`:
//! `m + (1 - m) · (1 + cos(π t / t_max)) / 2` with `m = min_factor`. Beyond `t_max` it rises again.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;
use std::f64::consts::PI;

/// One line for the documentation.
pub(crate) const DOC: &str = "falls along half a cosine to the end of the job (PyTorch CosineAnnealingLR)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("t_max", "the job's", "steps (or epochs, by unit) of the fall"),
    ParamDoc::new("min_factor", "0", "share of the rate that is reached (PyTorch's eta_min / lr)"),
    ParamDoc::new("unit", "\"step\"", "what is counted: \"epoch\" or \"step\""),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let span = reader.has("t_max").then(|| reader.count("t_max", 1, None) as u64);
    let low = reader.number("min_factor", 0.0..=1.0, Some(0.0));
    let epochs = reader.choice("unit", &["epoch", "step"], Some("step")) == "epoch";
    Box::new(Cosine { span, low, epochs })
}

struct Cosine {
    span: Option<u64>,
    low: f64,
    epochs: bool,
}

impl Schedule for Cosine {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let (count, job) = match self.epochs {
            true => (progress.epoch(), progress.epochs()),
            false => (progress.step, progress.total_steps),
        };
        fall(self.low, count as f64 / self.span.unwrap_or(job).max(1) as f64)
    }
}

/// From 1 to `low` while `share` goes from 0 to 1.
pub(super) fn fall(low: f64, share: f64) -> f64 {
    low + (1.0 - low) * (1.0 + (PI * share).cos()) / 2.0
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("cosine");
    }
}
