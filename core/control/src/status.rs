//! What a job looks like from outside: pushed to observers, served as JSON by the AM's page.

use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The input is looked at.
    Planning,
    /// Containers are asked for and started.
    Waiting,
    /// Workers count the records of their part of the input.
    Scanning,
    /// Workers connect to each other.
    Joining,
    /// Steps are made.
    Training,
    /// The model is written and moved to its place.
    Committing,
    /// The job has ended.
    Ended,
}

/// What was measured on records.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Records measured.
    pub records: u64,
    /// Mean loss; not a number where it is not finite or nothing counts.
    #[serde(deserialize_with = "number_or_null")]
    pub loss: f64,
    /// Share of records whose target is the largest output, 0 to 1; absent where targets are numbers.
    pub top1: Option<f64>,
    /// Share of records whose target is among the five largest outputs, 0 to 1.
    pub top5: Option<f64>,
    /// What else was asked for (`validation.metrics`), in that order.
    #[serde(default)]
    pub others: Vec<Measurement>,
}

impl fmt::Display for Metrics {
    /// `loss 0.0312, accuracy 99.05 %, f1 0.9871`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "loss {:.4}", self.loss)?;
        if let Some(top1) = self.top1 {
            write!(f, ", accuracy {:.2} %", top1 * 100.0)?;
        }
        for Measurement { name, value, why } in &self.others {
            match value {
                Some(value) => write!(f, ", {name} {value:.4}")?,
                None => write!(f, ", no {name} ({why})")?,
            }
        }
        Ok(())
    }
}

/// One metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// As it was asked for, such as `hr@10`.
    pub name: String,
    /// What came out.
    pub value: Option<f64>,
    /// Why nothing did.
    pub why: String,
}

/// A number, or what JSON has for one that is none.
fn number_or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    if deserializer.is_human_readable() {
        return Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN));
    }
    f64::deserialize(deserializer)
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Rank in the ring, once it has one.
    pub rank: Option<usize>,
    /// Host it runs on.
    pub host: String,
    /// YARN container, or process of local mode.
    pub container: String,
    /// What it does.
    pub state: String,
    /// Step it has committed last.
    pub step: u64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// Where its log can be read, if anywhere.
    pub log_url: Option<String>,
}

/// When something happened first: the breakdown of a start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// What happened.
    pub what: String,
    /// Milliseconds since 1970.
    pub at_ms: u64,
}

/// A job, now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the job.
    pub name: String,
    /// YARN application id, or a name of the local run.
    pub application: String,
    /// Where it stands.
    pub phase: Phase,
    /// One line: what it does or waits for, or how it ended.
    pub message: String,
    /// Epoch under way, from 0.
    pub epoch: u64,
    /// Epochs of the job.
    pub epochs: u64,
    /// Steps committed.
    pub step: u64,
    /// Steps of the whole job; 0 until it is known.
    pub steps: u64,
    /// Records a second, over the last second or so.
    pub records_per_second: f64,
    /// Training metrics of the last reported steps.
    pub training: Option<Metrics>,
    /// Validation metrics of the last validated epoch.
    pub validation: Option<Metrics>,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Seconds until the end at the present rate.
    pub seconds_left: Option<f64>,
    /// Workers, by rank and then by container.
    pub workers: Vec<WorkerStatus>,
    /// When what happened first.
    pub marks: Vec<Mark>,
    /// How the job ended.
    pub outcome: Option<Outcome>,
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The model is in its place.
    Succeeded {
        /// Folder of the model.
        output: String,
    },
    /// It is not, and this is the first cause.
    Failed {
        /// Cause, rank, host and log.
        diagnostics: String,
    },
    /// Somebody ended it.
    Killed {
        /// Who or why.
        diagnostics: String,
    },
}
