//! One start of a worker, from the container to its end.

use std::time::Duration;

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// The container is ours and is being started.
    Launching,
    /// The worker has connected.
    Connected,
    /// It counts records.
    Scanning,
    /// It has a rank and joins the ring.
    Assigned,
    /// It trains.
    Joined,
    /// It has made all steps.
    Done,
    /// The container has ended or was given back.
    Gone,
}

impl SlotState {
    /// Whether the worker has a control connection in this state.
    pub fn is_connected(self) -> bool {
        !matches!(self, SlotState::Launching | SlotState::Gone)
    }

    /// The state in a word, for people.
    pub fn word(self) -> &'static str {
        match self {
            SlotState::Launching => "starting",
            SlotState::Connected => "connected",
            SlotState::Scanning => "scanning",
            SlotState::Assigned => "joining",
            SlotState::Joined => "training",
            SlotState::Done => "done",
            SlotState::Gone => "gone",
        }
    }
}

/// One start of a worker.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Container it runs in.
    pub container: String,
    /// Host of the container.
    pub host: String,
    /// Where its logs can be read.
    pub log_url: Option<String>,
    /// How far it has come.
    pub state: SlotState,
    /// `host:port` of its ring listener.
    pub ring_address: String,
    /// Rank in the ring.
    pub rank: Option<usize>,
    /// When the container became ours.
    pub allocated_at: Duration,
    /// When it was last heard of.
    pub heard_at: Duration,
    /// Steps it has committed.
    pub step: u64,
    /// Its memory, bytes.
    pub resident_bytes: u64,
    /// What it says it does.
    pub doing: String,
    /// Whether it has reported a failure: its end is then no news.
    pub failed: bool,
    /// Whether its connection has ended while it was needed.
    pub disconnected: bool,
    /// Whether it has made all steps, whatever became of it afterwards.
    pub done: bool,
    /// While workers are waited for: what was seen of its loss, and when that has to do as the cause.
    pub(super) symptom: Option<(String, Duration)>,
}

impl Slot {
    /// A container that has just become ours.
    pub(super) fn new(container: String, host: String, log_url: Option<String>, now: Duration) -> Self {
        Slot {
            container,
            host,
            log_url,
            state: SlotState::Launching,
            ring_address: String::new(),
            rank: None,
            allocated_at: now,
            heard_at: now,
            step: 0,
            resident_bytes: 0,
            doing: String::new(),
            failed: false,
            disconnected: false,
            done: false,
            symptom: None,
        }
    }

    /// Whether something can be said to it.
    pub fn is_reachable(&self) -> bool {
        self.state.is_connected() && !self.disconnected
    }

    /// `rank 1 on node2 (container_…)`.
    pub fn describe(&self) -> String {
        self.named(&self.container)
    }

    /// The same with the place of its log: what a diagnosis calls it.
    pub fn describe_with_log(&self) -> String {
        match &self.log_url {
            Some(url) => self.named(&format!("{}, log: {url}", self.container)),
            None => self.describe(),
        }
    }

    fn named(&self, container: &str) -> String {
        match self.rank {
            Some(rank) => format!("rank {rank} on {} ({container})", self.host),
            None => format!("worker on {} ({container})", self.host),
        }
    }
}
