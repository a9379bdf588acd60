//! Up and down once (Smith and Topin 2018), as PyTorch's `OneCycleLR` without its cycle of the momentum.
//!
//! The optimizer's own rate is the largest; it begins at `1 / div_factor` of it and ends at that divided by
//! `final_div_factor`.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;
use std::f64::consts::PI;

/// One line for the documentation.
pub(crate) const DOC: &str = "up to the optimizer's rate and down to almost nothing (PyTorch OneCycleLR)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("total_steps", "the job's", "steps of the cycle; the rate then stays where it is"),
    ParamDoc::new("pct_start", "0.3", "share of the cycle in which the rate rises"),
    ParamDoc::new("anneal_strategy", "\"cos\"", "\"cos\" or \"linear\""),
    ParamDoc::new("div_factor", "25", "what the largest rate is divided by at the start"),
    ParamDoc::new("final_div_factor", "10000", "what the first rate is divided by at the end"),
    ParamDoc::new("three_phase", "false", "down to the first rate as fast as up, then to the last"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    Box::new(OneCycle {
        total: reader.has("total_steps").then(|| reader.count("total_steps", 1, None) as u64),
        rise: reader.number("pct_start", 0.0..=1.0, Some(0.3)),
        linear: reader.choice("anneal_strategy", &["cos", "linear"], Some("cos")) == "linear",
        first: 1.0 / reader.number("div_factor", 1e-6..=f64::MAX, Some(25.0)),
        fall: 1.0 / reader.number("final_div_factor", 1e-6..=f64::MAX, Some(1e4)),
        three_phase: reader.flag("three_phase", false),
    })
}

struct OneCycle {
    total: Option<u64>,
    rise: f64,
    linear: bool,
    first: f64,
    fall: f64,
    three_phase: bool,
}

impl OneCycle {
    fn between(&self, from: f64, to: f64, share: f64) -> f64 {
        if self.linear {
            from + (to - from) * share
        } else {
            to + (from - to) / 2.0 * (1.0 + (PI * share).cos())
        }
    }
}

impl Schedule for OneCycle {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let total = self.total.unwrap_or(progress.total_steps).max(1) as f64;
        let (first, last, rise) = (self.first, self.first * self.fall, self.rise * total);
        // Last step of each phase, and the factors it goes between.
        let end = (total - 1.0, if self.three_phase { first } else { 1.0 }, last);
        let phases = match self.three_phase {
            true => [(rise - 1.0, first, 1.0), (2.0 * rise - 2.0, 1.0, first), end],
            false => [(rise - 1.0, first, 1.0), (rise - 1.0, 1.0, 1.0), end],
        };
        let (step, mut begin) = (progress.step as f64, 0.0);
        for (number, (end, from, to)) in phases.into_iter().enumerate() {
            if step <= end || number == 2 {
                let span = end - begin;
                let share = if span > 0.0 { ((step - begin) / span).min(1.0) } else { 1.0 };
                return self.between(from, to, share);
            }
            begin = end;
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("one_cycle");
    }

    #[test]
    fn the_shortest_cycles_have_a_rate() {
        for (total, rise, three_phase) in [(1, 0.3, false), (1, 1.0, true), (2, 0.5, true), (3, 0.0, false)] {
            let cycle =
                OneCycle { total: Some(total), rise, linear: false, first: 0.04, fall: 1e-4, three_phase };
            for step in 0..5 {
                let progress = Progress { step, steps_per_epoch: 1, total_steps: 1, validations: &[] };
                assert!((4e-6..=1.0).contains(&cycle.factor(progress)), "step {step} of {total}");
            }
        }
    }
}
