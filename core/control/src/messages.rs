//! The messages, by direction.

use crate::status::{Metrics, Status};
use ringspin_data::index::{DatasetIndex, IndexPart, IndexTask};
use ringspin_data::plan::Deal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// First message of a dialer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Hello {
    /// A worker that the AM started.
    Worker(WorkerHello),
    /// Somebody who wants to see the job's status, until it ends.
    Observer,
}

/// Who a worker is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerHello {
    /// Number the AM gave to this start; never used twice.
    pub slot: u64,
    /// Port its ring listens on.
    pub ring_port: u16,
    /// Process id, for logs.
    pub pid: u32,
}

/// What a worker tells the AM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToAm {
    /// Alive.
    Heartbeat(Heartbeat),
    /// The answer to [`ToWorker::Scan`]: each task's number and what was counted.
    Scanned(Vec<(u32, IndexPart)>),
    /// The ring of this generation stands.
    Joined {
        /// Generation of the assignment.
        generation: u64,
    },
    /// Steps since the last report; from rank 0, over all ranks.
    Progress(Progress),
    /// The model was measured; from rank 0, over all ranks.
    Validated {
        /// Epoch, from 0, after which it was measured.
        epoch: u64,
        /// What came out.
        metrics: Metrics,
    },
    /// Something that people want to know; from rank 0.
    Note(String),
    /// All steps are made; rank 0 has written the model to the folder it was given.
    Done,
    /// It can not go on.
    Failed(Failure),
}

/// Sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Steps committed.
    pub step: u64,
    /// Resident memory, bytes.
    pub resident_bytes: u64,
    /// What it does, in a word or two.
    pub state: String,
}

/// Training since the last report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epoch under way, from 0.
    pub epoch: u64,
    /// Steps committed since the job began.
    pub step: u64,
    /// Steps of the whole job.
    pub steps: u64,
    /// Sums over the steps of this report.
    pub metrics: Metrics,
    /// Learning rate of the last step.
    pub learning_rate: f64,
    /// Milliseconds this report covers.
    pub elapsed_ms: u64,
    /// When the first step of the job was committed, milliseconds since 1970.
    pub first_step_ms: u64,
}

/// Why a worker can not go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What kind of cause.
    pub kind: FailureKind,
    /// For people: what happened, where, and what to do.
    pub message: String,
}

/// Kinds of causes, by what the AM makes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The job itself is wrong (input, model, output): trying again changes nothing.
    Job,
    /// Storage, network or memory of this node failed.
    Environment,
    /// Loss or gradients are not finite.
    NotFinite,
    /// Another worker left the ring; that one's fate is the cause.
    PeerLost {
        /// Its rank.
        rank: usize,
    },
    /// Broken invariant: a bug.
    Panic,
}

/// What the AM tells a worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Count the records of these byte ranges.
    Scan {
        /// The job.
        context: Box<JobContext>,
        /// What to scan, numbered.
        tasks: Vec<(u32, IndexTask)>,
    },
    /// Join a ring and train.
    Assign(Box<Assignment>),
    /// The AM is alive.
    Heartbeat,
    /// End at once, with failure.
    Abort {
        /// For the worker's log.
        reason: String,
    },
    /// The job is complete: end.
    Exit,
}

/// What a worker must know of the job and its cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobContext {
    /// The resolved job ([`ringspin_job::JobSpec`]), as JSON.
    pub job: String,
    /// YARN application id, or a name of the local run.
    pub application: String,
    /// Hadoop's configuration, where there is a cluster.
    pub hadoop: Option<BTreeMap<String, String>>,
    /// User in that cluster.
    pub user: String,
}

/// A worker's part in a generation of the ring.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The job.
    pub context: JobContext,
    /// Generation of the ring.
    pub generation: u64,
    /// Rank of this worker.
    pub rank: usize,
    /// `host:port` of every rank's ring listener.
    pub peers: Vec<String>,
    /// Lanes of every rank.
    pub lanes: Vec<Vec<usize>>,
    /// Order in which chunks of the training data are dealt to lanes.
    pub deal: Deal,
    /// Training data.
    pub train: DatasetIndex,
    /// Validation data.
    pub validation: Option<DatasetIndex>,
    /// Folder that rank 0 writes the model into; the AM moves it to its place.
    pub output: String,
}

/// What the AM tells an observer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToObserver {
    /// The job, now; the last one has an outcome.
    Status(Box<Status>),
}
