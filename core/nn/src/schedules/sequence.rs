//! One schedule after the other, as PyTorch's `SequentialLR` and BigDL's `SequentialSchedule`.
//!
//! ```toml
//! [[schedule.then]]
//! name = "cosine"
//! from_epoch = 5     # after five epochs, which is where the schedule before ends
//! ```
//! Each counts from where it begins; "the job's" steps are those of its own part.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::{Component, Monitor, Problems};

/// Where the schedules that take over are listed.
pub(crate) const LIST: &str = "then";

/// Parameters that every schedule of a `[[schedule.then]]` has; one of them must be given.
pub const THEN_PARAMS: &[ParamDoc] = &[
    ParamDoc::new("from_epoch", "none", "epochs after which it takes over from the schedule before"),
    ParamDoc::new("from_step", "none", "or steps"),
];

/// When a schedule takes over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Start {
    Epoch(u64),
    Step(u64),
}

impl Start {
    /// Takes the parameters of its own from a listed schedule.
    pub(crate) fn take(component: &mut Component, problems: &mut Problems) -> Start {
        let mut own = component.clone();
        let is_own = |name: &str| THEN_PARAMS.iter().any(|param| param.name == name);
        own.params.0.retain(|name, _| is_own(name));
        component.params.0.retain(|name, _| !is_own(name));
        let mut reader = own.reader(problems);
        let start = match (reader.has("from_epoch"), reader.has("from_step")) {
            (true, false) => Start::Epoch(reader.count("from_epoch", 1, None) as u64),
            (false, true) => Start::Step(reader.count("from_step", 1, None) as u64),
            (both, _) => {
                let why = if both { "give one of the two" } else { "is required (or from_step)" };
                reader.problem("from_epoch", format!("{why}: when this schedule takes over"));
                Start::Epoch(1)
            }
        };
        reader.finish();
        start
    }

    fn step(self, progress: Progress<'_>) -> u64 {
        match self {
            Start::Epoch(epochs) => epochs.saturating_mul(progress.steps_per_epoch),
            Start::Step(steps) => steps,
        }
    }
}

/// A schedule and those that take over from it, in order.
pub(crate) struct Sequence {
    pub(crate) first: Box<dyn Schedule>,
    pub(crate) then: Vec<(Start, Box<dyn Schedule>)>,
}

impl Sequence {
    fn all(&self) -> impl Iterator<Item = (Start, &dyn Schedule)> {
        let then = self.then.iter().map(|(start, schedule)| (*start, &**schedule));
        std::iter::once((Start::Step(0), &*self.first)).chain(then)
    }
}

impl Schedule for Sequence {
    fn factor(&self, progress: Progress<'_>) -> f64 {
        let now = self.all().filter(|(start, _)| start.step(progress) <= progress.step);
        let Some((start, schedule)) = now.last() else { return 1.0 };
        let start = start.step(progress);
        let next = self.all().map(|(start, _)| start.step(progress)).find(|next| *next > progress.step);
        let seen = progress.validations.partition_point(|validated| validated.step <= start);
        schedule.factor(Progress {
            step: progress.step - start,
            total_steps: next.unwrap_or(progress.total_steps).saturating_sub(start),
            validations: &progress.validations[seen..],
            ..progress
        })
    }

    fn monitors(&self) -> Vec<Monitor> {
        self.all().flat_map(|(_, schedule)| schedule.monitors()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden;
    use crate::registry::Registry;
    use crate::schedules::Validated;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("sequence");
    }

    #[test]
    fn parts_know_where_they_begin_and_end() {
        let schedule = Component::new("schedule", "polynomial")
            .with("then[0].name", "plateau")
            .with("then[0].from_epoch", 2)
            .with("then[0].factor", 0.5)
            .with("then[0].patience", 0)
            .with("then[1].name", "polynomial")
            .with("then[1].from_step", 12);
        let schedule = Registry::standard().build_schedule(&schedule).unwrap();
        let validated = |step| Validated::new(step, 1.0);
        let validations = [3, 6, 8, 9].map(validated);
        let factor = |step, seen| {
            let validations = &validations[..seen];
            schedule.factor(Progress { step, steps_per_epoch: 3, total_steps: 16, validations })
        };
        assert_eq!([factor(0, 0), factor(3, 1)], [1.0, 0.5], "the first ends where the second begins");
        assert_eq!(
            [factor(6, 2), factor(8, 3), factor(9, 4)],
            [1.0, 1.0, 0.5],
            "what was before counts no more"
        );
        assert_eq!([factor(12, 4), factor(13, 4), factor(16, 4)], [1.0, 0.75, 0.0]);
        assert!(schedule.monitors().iter().all(|monitor| monitor.metric == "loss" && !monitor.maximize));
        assert_eq!(schedule.monitors().len(), 1);
    }

    #[test]
    fn mistakes_of_all_parts_are_told() {
        let schedule = Component::new("schedule", "constant")
            .with("gama", 1)
            .with("then[0].from_epoch", 0)
            .with("then[0].name", "step")
            .with("then[1].name", "cosin")
            .with("then[2].from_step", 3);
        let text = Registry::standard().build_schedule(&schedule).err().unwrap().to_string();
        for expected in [
            "schedule.gama: \"constant\" has no such parameter",
            "schedule.then[0].from_epoch: expected a whole number of at least 1, found 0",
            "schedule.then[0].step_size: is required",
            "schedule.then[1].from_epoch: is required (or from_step)",
            "schedule.then[1]: unknown schedule \"cosin\"; did you mean \"cosine\"?",
            "schedule.then[2]: unknown schedule \"\"",
        ] {
            assert!(text.contains(expected), "missing: {expected}\nin:\n{text}");
        }
    }
}
