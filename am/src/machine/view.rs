//! What the machine shows to the outside: one [`Status`].

use super::{Machine, SlotState};
use ringspin_control::messages::Progress;
use ringspin_control::status::{Metrics, Outcome, Phase, Status, WorkerStatus};

/// What is known about the training under way.
#[derive(Debug, Default)]
pub(super) struct TrainingView {
    epoch: u64,
    step: u64,
    steps: u64,
    records_per_second: f64,
    seconds_left: Option<f64>,
    learning_rate: f64,
    training: Option<Metrics>,
    pub(super) validation: Option<Metrics>,
    pub(super) first_step_ms: Option<u64>,
}

impl TrainingView {
    pub(super) fn report(&mut self, progress: &Progress) {
        let seconds = (progress.elapsed_ms as f64 / 1000.0).max(1e-3);
        let steps = progress.step.saturating_sub(self.step) as f64;
        self.records_per_second = progress.metrics.records as f64 / seconds;
        let left = progress.steps.saturating_sub(progress.step) as f64;
        self.seconds_left = (steps > 0.0).then(|| left * seconds / steps);
        self.epoch = progress.epoch;
        self.step = progress.step;
        self.steps = progress.steps;
        self.learning_rate = progress.learning_rate;
        self.training = Some(progress.metrics.clone());
        self.first_step_ms = Some(progress.first_step_ms);
    }
}

impl Machine {
    /// Where the job stands.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Whether the cluster has been told how it ended.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Share of the job that is done, 0 to 1.
    pub fn progress(&self) -> f32 {
        match (&self.outcome, self.progress.steps) {
            (Some(Outcome::Succeeded { .. }), _) => 1.0,
            (_, 0) => 0.0,
            (_, steps) => (self.progress.step as f64 / steps as f64) as f32,
        }
    }

    /// When the first step was committed, milliseconds since 1970.
    pub fn first_step_ms(&self) -> Option<u64> {
        self.progress.first_step_ms
    }

    /// The job, now.
    pub fn status(&self) -> Status {
        let mut workers: Vec<WorkerStatus> = self
            .slots
            .values()
            .map(|slot| WorkerStatus {
                rank: slot.rank,
                host: slot.host.clone(),
                container: slot.container.clone(),
                state: match slot.doing.as_str() {
                    doing if slot.state == SlotState::Joined && !doing.is_empty() => doing.into(),
                    _ => slot.state.word().into(),
                },
                step: slot.step,
                resident_bytes: slot.resident_bytes,
                log_url: slot.log_url.clone(),
            })
            .collect();
        workers.sort_by_key(|worker| worker.rank.unwrap_or(usize::MAX));
        let view = &self.progress;
        Status {
            name: self.spec.name.clone(),
            application: self.context.application.clone(),
            phase: self.phase,
            message: self.message(),
            epoch: view.epoch,
            epochs: self.spec.epochs,
            step: view.step,
            steps: view.steps,
            records_per_second: view.records_per_second,
            training: view.training.clone(),
            validation: view.validation.clone(),
            learning_rate: view.learning_rate,
            seconds_left: view.seconds_left,
            workers,
            marks: self.marks.clone(),
            outcome: self.outcome.clone(),
        }
    }

    fn message(&self) -> String {
        let there = self.connected_count();
        match self.phase {
            Phase::Planning => "looking at the input".into(),
            Phase::Waiting => {
                let (min, max) = (self.spec.workers.min, self.spec.workers.max);
                let said = match self.last_heard_waiting.as_str() {
                    "" => String::new(),
                    said => format!("; the cluster says: {said}"),
                };
                let wanted = if min == max { format!("{min}") } else { format!("{min} to {max}") };
                format!("waiting for workers: {there} of {wanted} are there{said}")
            }
            Phase::Scanning => "counting the records of the input".into(),
            Phase::Joining => format!("connecting {}", plural(there, "worker", "workers")),
            Phase::Training => format!("training on {}", plural(there, "worker", "workers")),
            Phase::Committing => format!("moving the model to {}", self.spec.output.path),
            Phase::Ended => match &self.outcome {
                Some(Outcome::Succeeded { output }) => format!("succeeded, the model is in {output}"),
                Some(Outcome::Failed { diagnostics }) => format!("failed: {diagnostics}"),
                Some(Outcome::Killed { diagnostics }) => format!("killed: {diagnostics}"),
                None => "ended".into(),
            },
        }
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
