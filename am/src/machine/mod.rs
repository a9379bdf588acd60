//! The ApplicationMaster's decisions: `(now, state, event) -> (state, actions)`, without clock or sockets.
//!
//! ```text
//! Planning -> Waiting -> [Scanning] -> Joining -> Training -> Committing -> Ended
//!     \___________\___________\____________\__________\___________\______-> Ending -> Ended
//! ```
//! * Planning: the input is looked at while the cluster accepts us.
//! * Waiting: containers are asked for, started and awaited; what fails here is replaced.
//! * Scanning: inputs whose records must be counted (text) are counted by the workers.
//! * Joining: ranks and lanes are dealt, the ring forms.
//! * Training: until every worker is done. A worker that is lost ends the job with its true cause.
//! * Committing: the model is moved to its place.
//! * Ending: everything is stopped; the outcome is already decided.
//!
//! Every action is carried out by an edge (YARN or local processes, the workers' connections, storage) that
//! answers with further events. The machine never asks the time: `now` comes with each event.

mod failure;
mod slot;
mod view;

#[cfg(test)]
mod tests;

pub use failure::{Exit, ExitKind};
pub use slot::{Slot, SlotState};

use crate::plan::{InputPlan, NearHost};
use failure::Suspicion;
use ringspin_control::messages::{Assignment, FailureKind, JobContext, ToAm, ToWorker};
use ringspin_control::status::{Mark, Metrics, Outcome, Phase};
use ringspin_data::index::{DatasetIndex, IndexPart};
use ringspin_job::JobSpec;
use std::collections::BTreeMap;
use std::time::Duration;

/// A started container that has not connected after this long is stopped and replaced.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(120);
/// With `workers.min` there, the rest gets this long before training starts without them.
pub const SETTLE: Duration = Duration::from_secs(3);
/// How long the true cause of a lost connection is waited for: a container's exit status travels through the
/// NodeManager and the ResourceManager, which takes up to two heartbeats of a second each.
pub const CAUSE_GRACE: Duration = Duration::from_secs(4);
/// Workers get this long to end by themselves before they are stopped.
pub const EXIT_GRACE: Duration = Duration::from_secs(2);
/// Starts that may fail for each worker asked for before the job gives up.
pub const START_FAILURES_PER_WORKER: usize = 3;

/// Something that happened.
#[derive(Debug)]
pub enum Event {
    /// The cluster accepts asks.
    Registered,
    /// The input was looked at.
    Planned(Box<InputPlan>),
    /// The job can not be done as it is: the input, the output or the model.
    Refused(String),
    /// A container is ours.
    Allocated {
        /// Its id.
        container: String,
        /// Host it is on.
        host: String,
        /// Where its logs can be read.
        log_url: Option<String>,
    },
    /// A container could not be started.
    LaunchFailed {
        /// The start.
        slot: u64,
        /// Why.
        reason: String,
        /// Whether neither the job nor the host is to blame.
        passing: bool,
    },
    /// A container has ended.
    Exited {
        /// Its id.
        container: String,
        /// How.
        exit: Exit,
    },
    /// A worker has proven the secret and said who it is.
    Connected {
        /// The start.
        slot: u64,
        /// `host:port` of its ring listener.
        ring_address: String,
    },
    /// A worker has said something.
    Said {
        /// The start.
        slot: u64,
        /// What.
        message: ToAm,
    },
    /// A worker's connection has ended.
    Disconnected {
        /// The start.
        slot: u64,
        /// How the connection ended.
        reason: String,
    },
    /// What the cluster says about asks that are still open.
    StillWaiting(String),
    /// The model is in its place.
    Committed,
    /// It could not be moved there.
    CommitFailed(String),
    /// Somebody wants the job to end.
    KillRequested(String),
    /// The cluster has given up this attempt.
    ClusterGone(String),
    /// Time has passed.
    Tick,
}

/// Something to do.
#[derive(Debug, PartialEq)]
pub enum Action {
    /// Look at the input.
    Plan,
    /// Have this many containers asked for in all, near the hosts that hold most of the input.
    Ask {
        /// Containers that are still to be allocated.
        count: usize,
        /// Hosts by preference.
        hosts: Vec<NearHost>,
    },
    /// Ask for nothing on this host any more.
    Avoid {
        /// Its name.
        host: String,
    },
    /// Give a container back that was never started.
    Release {
        /// Its id.
        container: String,
    },
    /// Start a worker.
    Launch {
        /// Number of the start.
        slot: u64,
        /// Where.
        container: String,
    },
    /// Stop a container.
    Stop {
        /// Its id.
        container: String,
    },
    /// Tell a worker.
    Send {
        /// Which.
        slot: u64,
        /// What.
        message: Box<ToWorker>,
    },
    /// Move the model to its place.
    Commit,
    /// Remove what was written of the output.
    Discard,
    /// Tell the cluster how it ended, and end.
    Finish(Outcome),
    /// For the log, with the reason for a decision.
    Log(String),
}

/// The state of one attempt of a job.
pub struct Machine {
    spec: JobSpec,
    context: JobContext,
    phase: Phase,
    registered: bool,
    plan: Option<InputPlan>,
    slots: BTreeMap<u64, Slot>,
    next_slot: u64,
    generation: u64,
    start_failures: usize,
    last_start_failure: String,
    waiting_since: Duration,
    min_since: Option<Duration>,
    last_heard_waiting: String,
    scanned: Vec<(u32, IndexPart)>,
    datasets: Option<(DatasetIndex, Option<DatasetIndex>)>,
    suspicion: Option<Suspicion>,
    outcome: Option<Outcome>,
    ending_since: Option<Duration>,
    finished: bool,
    progress: view::TrainingView,
    marks: Vec<Mark>,
}

/// The parts of a [`Machine`] that are known from the start.
#[derive(Clone, Debug)]
pub struct Job {
    /// The resolved job.
    pub spec: JobSpec,
    /// What workers are told of it.
    pub context: JobContext,
}

impl Machine {
    /// A machine that has not begun; [`Machine::begin`] gives its first actions.
    pub fn new(job: Job, now: Duration) -> Self {
        Machine {
            spec: job.spec,
            context: job.context,
            phase: Phase::Planning,
            registered: false,
            plan: None,
            slots: BTreeMap::new(),
            next_slot: 0,
            generation: 0,
            start_failures: 0,
            last_start_failure: String::new(),
            waiting_since: now,
            min_since: None,
            last_heard_waiting: String::new(),
            scanned: Vec::new(),
            datasets: None,
            suspicion: None,
            outcome: None,
            ending_since: None,
            finished: false,
            progress: view::TrainingView::default(),
            marks: Vec::new(),
        }
    }

    /// What to do first.
    pub fn begin(&mut self) -> Vec<Action> {
        vec![Action::Plan]
    }

    /// Notes when something happened first, for the breakdown of a start.
    pub fn mark(&mut self, what: &str, at_ms: u64) {
        if self.marks.iter().all(|mark| mark.what != what) {
            self.marks.push(Mark { what: what.into(), at_ms });
        }
    }

    /// Takes one event in and says what to do.
    pub fn handle(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let out = &mut actions;
        match event {
            Event::Registered => self.registered = true,
            Event::Planned(plan) => self.plan = Some(*plan),
            Event::Refused(reason) => self.fail(now, reason, out),
            Event::Allocated { container, host, log_url } => {
                self.allocated(now, container, host, log_url, out)
            }
            Event::LaunchFailed { slot, reason, passing } => {
                self.launch_failed(now, slot, (&reason, passing), out);
            }
            Event::Exited { container, exit } => self.exited(now, &container, exit, out),
            Event::Connected { slot, ring_address } => self.connected(now, slot, ring_address, out),
            Event::Said { slot, message } => self.said(now, slot, message, out),
            Event::Disconnected { slot, reason } => self.disconnected(now, slot, &reason),
            Event::StillWaiting(reason) => self.last_heard_waiting = reason,
            Event::Committed => self.committed(now, out),
            Event::CommitFailed(reason) => {
                self.fail(now, format!("the model could not be moved to its place: {reason}"), out);
            }
            Event::KillRequested(by) => self.end(now, Outcome::Killed { diagnostics: by }, out),
            Event::ClusterGone(reason) => {
                self.end(now, Outcome::Failed { diagnostics: reason }, out);
            }
            Event::Tick => self.check_silence(now, out),
        }
        self.advance(now, out);
        actions
    }

    /// Moves on where everything needed is there.
    fn advance(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.resolve_suspicion(now, out);
        match self.phase {
            Phase::Planning if self.registered && self.plan.is_some() => {
                self.phase = Phase::Waiting;
                self.waiting_since = now;
                self.ask(out);
            }
            Phase::Waiting => self.check_waiting(now, out),
            Phase::Joining
                if self.ranked().all(|slot| matches!(slot.state, SlotState::Joined | SlotState::Done)) =>
            {
                self.phase = Phase::Training;
                out.push(Action::Log(format!(
                    "ring of generation {} stands, training starts",
                    self.generation
                )));
            }
            Phase::Joining | Phase::Training if self.ranked().all(|slot| slot.done) => {
                self.phase = Phase::Committing;
                self.suspicion = None;
                out.push(Action::Commit);
            }
            Phase::Ended => self.check_ending(now, out),
            _ => {}
        }
    }

    /// Slots whose container is not known to have ended.
    fn live(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().filter(|slot| slot.state != SlotState::Gone)
    }

    /// Slots that were dealt a rank, whatever has become of them: the job is theirs to finish.
    fn ranked(&self) -> impl Iterator<Item = &Slot> {
        self.slots.values().filter(|slot| slot.rank.is_some())
    }

    fn connected_count(&self) -> usize {
        self.slots.values().filter(|slot| slot.is_reachable()).count()
    }

    /// (Re)states how many containers are still wanted.
    fn ask(&self, out: &mut Vec<Action>) {
        let count = self.spec.workers.max.saturating_sub(self.live().count());
        let hosts = self.plan.as_ref().map(|plan| plan.hosts.clone()).unwrap_or_default();
        out.push(Action::Ask { count, hosts });
    }

    fn allocated(
        &mut self,
        now: Duration,
        container: String,
        host: String,
        log_url: Option<String>,
        out: &mut Vec<Action>,
    ) {
        if self.phase != Phase::Waiting || self.live().count() >= self.spec.workers.max {
            out.push(Action::Log(format!(
                "{container} on {host} came too late or is one too many: released"
            )));
            out.push(Action::Release { container });
            return;
        }
        let slot = self.next_slot;
        self.next_slot += 1;
        out.push(Action::Launch { slot, container: container.clone() });
        self.slots.insert(slot, Slot::new(container, host, log_url, now));
    }

    fn launch_failed(
        &mut self,
        now: Duration,
        slot: u64,
        (reason, passing): (&str, bool),
        out: &mut Vec<Action>,
    ) {
        let Some(failed) = self.slots.get_mut(&slot).filter(|slot| slot.state != SlotState::Gone) else {
            return;
        };
        failed.state = SlotState::Gone;
        let what = format!("{} could not be started: {reason}", failed.describe_with_log());
        let (container, host) = (failed.container.clone(), failed.host.clone());
        // A container whose start was refused stays allocated until it is given back.
        out.push(Action::Release { container });
        self.start_failed(now, (!passing).then_some(host), what, out);
    }

    /// A worker that never got to work: replaced, elsewhere than on the host to blame, until too many have failed.
    /// Without one it was the cluster's doing, and counts for nothing.
    fn start_failed(&mut self, now: Duration, host: Option<String>, what: String, out: &mut Vec<Action>) {
        if self.phase != Phase::Waiting {
            self.fail(now, what, out);
            return;
        }
        self.start_failures += usize::from(host.is_some());
        if self.start_failures >= START_FAILURES_PER_WORKER * self.spec.workers.max {
            self.fail(
                now,
                format!("{} starts of workers failed; the last: {what}", self.start_failures),
                out,
            );
            return;
        }
        out.push(Action::Log(format!("{what}; asking for another")));
        self.last_start_failure = what;
        out.extend(host.map(|host| Action::Avoid { host }));
        self.ask(out);
    }

    fn connected(&mut self, now: Duration, slot: u64, ring_address: String, out: &mut Vec<Action>) {
        match self.slots.get_mut(&slot) {
            Some(worker) if worker.state == SlotState::Launching && self.phase == Phase::Waiting => {
                worker.state = SlotState::Connected;
                worker.ring_address = ring_address;
                worker.heard_at = now;
                out.push(Action::Log(format!("{} is there", worker.describe())));
            }
            _ => {
                let reason = "this job does not wait for this worker (any more)".to_string();
                out.push(Action::Send { slot, message: Box::new(ToWorker::Abort { reason }) });
            }
        }
    }

    /// While waiting: enough workers, or too long.
    fn check_waiting(&mut self, now: Duration, out: &mut Vec<Action>) {
        let there = self.connected_count();
        let starting = self.live().count() - there;
        let (min, max) = (self.spec.workers.min, self.spec.workers.max);
        self.min_since = if there >= min { self.min_since.or(Some(now)) } else { None };
        let settled = self.min_since.is_some_and(|since| now >= since + SETTLE) && starting == 0;
        let late = now >= self.waiting_since + self.spec.workers.wait;
        if there >= max || settled || (late && there >= min) {
            if there < max {
                let why = if settled {
                    format!("no more came for {SETTLE:?}")
                } else {
                    format!("workers.wait is over, {starting} had not connected")
                };
                out.push(Action::Log(format!("starting with {there} of {max} workers: {why}")));
                out.push(Action::Ask { count: 0, hosts: Vec::new() });
            }
            self.leave_behind(out);
            self.start_scan(now, out);
        } else if late {
            let said = match (self.last_heard_waiting.as_str(), self.last_start_failure.as_str()) {
                ("", "") => String::new(),
                ("", failure) => format!("; last failure: {failure}"),
                (waiting, _) => format!("; the cluster says: {waiting}"),
            };
            let message = format!(
                "only {there} of at least {min} workers (workers.min) after {} (workers.wait){said}",
                ringspin_job::format_duration(self.spec.workers.wait)
            );
            self.fail(now, message, out);
        }
    }

    /// The job goes on without those that have not connected, or have lost their connection.
    fn leave_behind(&mut self, out: &mut Vec<Action>) {
        for slot in self.slots.values_mut() {
            if slot.state != SlotState::Gone && !slot.is_reachable() {
                slot.state = SlotState::Gone;
                out.push(Action::Stop { container: slot.container.clone() });
            }
        }
    }

    fn start_scan(&mut self, now: Duration, out: &mut Vec<Action>) {
        let tasks = self.plan.as_ref().map(InputPlan::scan_tasks).unwrap_or_default();
        if tasks.is_empty() {
            self.phase = Phase::Scanning;
            self.finish_scan(now, out);
            return;
        }
        self.phase = Phase::Scanning;
        let slots: Vec<u64> = self.connected_slots();
        let mut shares = vec![Vec::new(); slots.len()];
        for (i, task) in tasks.into_iter().enumerate() {
            shares[i % slots.len()].push(task);
        }
        for (slot, tasks) in slots.into_iter().zip(shares) {
            if let Some(worker) = self.slots.get_mut(&slot) {
                worker.state = SlotState::Scanning;
            }
            let message = Box::new(ToWorker::Scan { context: Box::new(self.context.clone()), tasks });
            out.push(Action::Send { slot, message });
        }
    }

    fn connected_slots(&self) -> Vec<u64> {
        self.slots.iter().filter(|(_, slot)| slot.is_reachable()).map(|(id, _)| *id).collect()
    }

    fn finish_scan(&mut self, now: Duration, out: &mut Vec<Action>) {
        let parts = std::mem::take(&mut self.scanned);
        let completed = match &self.plan {
            Some(plan) => plan.complete(parts),
            None => Err("the input was never looked at".into()),
        };
        match completed {
            Ok(datasets) => {
                self.datasets = Some(datasets);
                self.assign(now, out);
            }
            Err(reason) => self.fail(now, reason, out),
        }
    }

    /// Deals ranks and lanes, and tells everybody.
    fn assign(&mut self, now: Duration, out: &mut Vec<Action>) {
        let Some((train, validation)) = self.datasets.clone() else { return };
        self.phase = Phase::Joining;
        self.generation += 1;
        let slots = self.connected_slots();
        let hosts: Vec<String> =
            slots.iter().filter_map(|id| self.slots.get(id)).map(|slot| slot.host.clone()).collect();
        let Some(plan) = &self.plan else { return };
        let output = plan.output.clone();
        let (deal, lanes) = match plan.deal_lanes(&train, &hosts) {
            Ok(dealt) => dealt,
            Err(reason) => return self.fail(now, reason, out),
        };
        let peers: Vec<String> =
            slots.iter().filter_map(|id| self.slots.get(id)).map(|slot| slot.ring_address.clone()).collect();
        for (rank, slot) in slots.into_iter().enumerate() {
            if let Some(worker) = self.slots.get_mut(&slot) {
                worker.state = SlotState::Assigned;
                worker.rank = Some(rank);
                out.push(Action::Log(format!("{} has lanes {:?}", worker.describe(), lanes[rank])));
            }
            let assignment = Assignment {
                context: self.context.clone(),
                generation: self.generation,
                rank,
                peers: peers.clone(),
                lanes: lanes.clone(),
                deal: deal.clone(),
                train: train.clone(),
                validation: validation.clone(),
                output: output.clone(),
            };
            out.push(Action::Send { slot, message: Box::new(ToWorker::Assign(Box::new(assignment))) });
        }
    }

    fn said(&mut self, now: Duration, slot: u64, message: ToAm, out: &mut Vec<Action>) {
        let Some(worker) = self.slots.get_mut(&slot) else { return };
        worker.heard_at = now;
        match message {
            ToAm::Heartbeat(beat) => {
                worker.step = beat.step;
                worker.resident_bytes = beat.resident_bytes;
                worker.doing = beat.state;
                out.push(Action::Send { slot, message: Box::new(ToWorker::Heartbeat) });
            }
            ToAm::Scanned(parts) => {
                worker.state = SlotState::Connected;
                self.scanned.extend(parts);
                if self.phase == Phase::Scanning && self.live().all(|slot| slot.state == SlotState::Connected)
                {
                    self.finish_scan(now, out);
                }
            }
            ToAm::Joined { generation } if generation == self.generation => worker.state = SlotState::Joined,
            ToAm::Joined { .. } => {}
            ToAm::Progress(progress) => {
                worker.step = progress.step;
                self.progress.report(&progress);
            }
            ToAm::Validated { epoch, metrics } => self.validated(epoch, metrics, out),
            ToAm::Note(text) => out.push(Action::Log(text)),
            ToAm::Done => (worker.state, worker.done) = (SlotState::Done, true),
            ToAm::Failed(failure) => {
                worker.failed = true;
                match failure.kind {
                    FailureKind::PeerLost { rank } => self.suspect_rank(now, slot, rank, &failure.message),
                    _ => {
                        let message = format!("{}: {}", worker.describe_with_log(), failure.message);
                        self.fail(now, message, out);
                    }
                }
            }
        }
    }

    fn validated(&mut self, epoch: u64, metrics: Metrics, out: &mut Vec<Action>) {
        out.push(Action::Log(format!("epoch {}: validation {metrics}", epoch + 1)));
        self.progress.validation = Some(metrics);
    }

    fn committed(&mut self, now: Duration, out: &mut Vec<Action>) {
        // In planning: an earlier attempt had published the model before it was lost.
        if matches!(self.phase, Phase::Committing | Phase::Planning) {
            let output = self.spec.output.path.clone();
            self.end(now, Outcome::Succeeded { output }, out);
        }
    }

    fn fail(&mut self, now: Duration, diagnostics: String, out: &mut Vec<Action>) {
        self.end(now, Outcome::Failed { diagnostics }, out);
    }

    /// The outcome is decided; the first decision stands.
    fn end(&mut self, now: Duration, outcome: Outcome, out: &mut Vec<Action>) {
        if self.outcome.is_some() {
            return;
        }
        let reason = match &outcome {
            Outcome::Succeeded { output } => format!("succeeded, the model is in {output}"),
            Outcome::Failed { diagnostics } => format!("failed: {diagnostics}"),
            Outcome::Killed { diagnostics } => format!("killed: {diagnostics}"),
        };
        out.push(Action::Log(reason.clone()));
        out.push(Action::Ask { count: 0, hosts: Vec::new() });
        let success = matches!(outcome, Outcome::Succeeded { .. });
        for slot in self.connected_slots() {
            let message = if success {
                ToWorker::Exit
            } else {
                ToWorker::Abort { reason: format!("the job has {reason}") }
            };
            out.push(Action::Send { slot, message: Box::new(message) });
        }
        if !success {
            // A worker without a connection can not be told; it is stopped now.
            for slot in self.live().filter(|slot| !slot.is_reachable()) {
                out.push(Action::Stop { container: slot.container.clone() });
            }
            out.push(Action::Discard);
        }
        self.outcome = Some(outcome);
        self.phase = Phase::Ended;
        self.ending_since = Some(now);
    }

    /// Once all workers have gone, or had their time, the cluster is told.
    fn check_ending(&mut self, now: Duration, out: &mut Vec<Action>) {
        let (Some(since), Some(outcome)) = (self.ending_since, &self.outcome) else { return };
        if self.finished {
            return;
        }
        let remaining: Vec<String> = self.live().map(|slot| slot.container.clone()).collect();
        if !remaining.is_empty() && now < since + EXIT_GRACE {
            return;
        }
        for container in remaining {
            out.push(Action::Stop { container });
        }
        out.push(Action::Finish(outcome.clone()));
        self.finished = true;
    }
}
