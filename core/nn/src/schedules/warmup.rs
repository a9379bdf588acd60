//! Warm-up in front of any schedule: for `warmup_steps` steps its factor is multiplied by a line that rises
//! from `warmup_from` to 1 (Goyal et al. 2017). As PyTorch's `LinearLR` chained with the schedule: the schedule
//! itself is not shifted.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::{Monitor, ParamReader};

/// Parameters that every schedule has.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("warmup_steps", "0", "steps over which the rate rises at the start"),
    ParamDoc::new("warmup_from", "0", "share of the rate that the first step uses"),
];

/// What was asked for in front of a schedule.
pub(crate) struct Warmup {
    steps: u64,
    from: f64,
}

impl Warmup {
    /// Reads the parameters.
    pub(crate) fn read(reader: &mut ParamReader<'_>) -> Warmup {
        let steps = reader.count("warmup_steps", 0, Some(0)) as u64;
        Warmup { steps, from: reader.number("warmup_from", 0.0..=1.0, Some(0.0)) }
    }

    /// Puts the warm-up in front of `schedule`.
    pub(crate) fn before(self, schedule: Box<dyn Schedule>) -> Box<dyn Schedule> {
        if self.steps == 0 { schedule } else { Box::new(Warmed { warmup: self, schedule }) }
    }
}

struct Warmed {
    warmup: Warmup,
    schedule: Box<dyn Schedule>,
}

impl Schedule for Warmed {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let Warmup { steps, from } = self.warmup;
        let ramp = from + (1.0 - from) * progress.step.min(steps) as f64 / steps as f64;
        ramp * self.schedule.factor(progress)
    }

    fn monitors(&self) -> Vec<Monitor> {
        self.schedule.monitors()
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("warmup");
    }
}
