//! Falls when validations stop getting better, as PyTorch's `ReduceLROnPlateau` and BigDL's `Plateau`.
//!
//! A pure function all the same: what validations measured is part of where a job stands, and is looked through
//! from the beginning. Every `patience + 1` validations in a row that are not better lower the factor; the
//! `cooldown` validations after that do not count.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::{MODES, Monitor, ParamReader};

/// One line for the documentation.
pub(crate) const DOC: &str =
    "multiplied by factor when validations stop getting better (PyTorch ReduceLROnPlateau)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("monitor", "\"loss\"", "what of a validation, as early_stopping.monitor"),
    ParamDoc::new(
        "mode",
        "\"auto\"",
        "\"min\" or \"max\" is better; \"auto\": min for loss, mae, mse, perplexity, max for others",
    ),
    ParamDoc::new("factor", "0.1", "what the rate is multiplied by"),
    ParamDoc::new("patience", "10", "validations in a row that may be no better"),
    ParamDoc::new("threshold", "0.0001", "how much better counts as better"),
    ParamDoc::new("threshold_mode", "\"rel\"", "\"rel\": a share of the best, \"abs\": an amount"),
    ParamDoc::new("cooldown", "0", "validations after a change that do not count"),
    ParamDoc::new("min_factor", "0", "share of the rate that is never fallen below (PyTorch's min_lr / lr)"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let metric = reader.text("monitor", Some("loss"));
    Box::new(Plateau {
        monitor: Monitor::new(&metric, reader.choice("mode", &MODES, Some("auto"))),
        factor: reader.number("factor", 0.0..=1.0, Some(0.1)),
        patience: reader.count("patience", 0, Some(10)),
        threshold: reader.number("threshold", 0.0..=f64::MAX, Some(1e-4)),
        relative: reader.choice("threshold_mode", &["rel", "abs"], Some("rel")) == "rel",
        cooldown: reader.count("cooldown", 0, Some(0)),
        low: reader.number("min_factor", 0.0..=1.0, Some(0.0)),
    })
}

struct Plateau {
    monitor: Monitor,
    factor: f64,
    patience: usize,
    threshold: f64,
    relative: bool,
    cooldown: usize,
    low: f64,
}

impl Plateau {
    fn is_better(&self, value: f64, best: f64) -> bool {
        match (self.monitor.maximize, self.relative) {
            (false, true) => value < best * (1.0 - self.threshold),
            (true, true) => value > best * (1.0 + self.threshold),
            (_, false) => self.monitor.is_better(value, best, self.threshold),
        }
    }
}

impl Schedule for Plateau {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let (mut factor, mut bad, mut cooldown) = (1.0f64, 0, 0);
        let mut best = self.monitor.worst();
        for validated in progress.validations {
            let value = validated.value(&self.monitor.metric);
            if self.is_better(value, best) {
                (best, bad) = (value, 0);
            } else {
                bad += 1;
            }
            if cooldown > 0 {
                (cooldown, bad) = (cooldown - 1, 0);
            }
            if bad > self.patience {
                factor = (factor * self.factor).max(self.low);
                (cooldown, bad) = (self.cooldown, 0);
            }
        }
        factor
    }

    fn monitors(&self) -> Vec<Monitor> {
        vec![self.monitor.clone()]
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("plateau");
    }
}
