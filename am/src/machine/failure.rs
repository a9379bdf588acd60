//! Finding the first cause: a lost connection is a symptom, the container's exit status is the cause, and the
//! two arrive by different ways in any order.

use super::{Action, CAUSE_GRACE, CONNECT_LIMIT, Event, Machine, Slot, SlotState};
use ringspin_control::{REPORTED_EXITS, status::Phase};
use std::time::Duration;

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// What it means for the job.
    pub kind: ExitKind,
    /// What the cluster says about it, and the last lines of its log where they are known.
    pub diagnostics: String,
}

/// What the end of a container means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitKind {
    /// It ended by itself with this status.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It used more memory than its container has.
    OverMemory,
    /// YARN gave its place to somebody else.
    Preempted,
    /// Its node is gone, or its disks are.
    NodeLost,
    /// YARN took it back because it was not started in time.
    Expired,
    /// Its files could not be brought to the node.
    Localization,
    /// We stopped it or gave it back.
    Ours,
    /// Nobody knows.
    Unknown,
}

impl Exit {
    /// The end in a sentence.
    pub fn describe(&self) -> String {
        let what = match self.kind {
            ExitKind::Code(137) => "was killed (SIGKILL)".into(),
            ExitKind::Code(143) => "was ended by signal 15".into(),
            ExitKind::Code(code) => format!("ended with exit status {code}"),
            ExitKind::Signal(9) => "was killed (SIGKILL)".into(),
            ExitKind::Signal(signal) => format!("was ended by signal {signal}"),
            ExitKind::OverMemory => {
                "was killed by the NodeManager for using more memory than its container has; raise workers.memory"
                    .into()
            }
            ExitKind::Preempted => "was preempted by YARN".into(),
            ExitKind::NodeLost => "was lost with its node".into(),
            ExitKind::Expired => "was not started in time".into(),
            ExitKind::Localization => "could not be given its files".into(),
            ExitKind::Ours => "was stopped".into(),
            ExitKind::Unknown => "ended, how is not known".into(),
        };
        match self.diagnostics.trim() {
            "" => what,
            diagnostics => format!("{what}: {diagnostics}"),
        }
    }
}

/// A loss whose cause is not known yet.
#[derive(Debug)]
pub(super) struct Suspicion {
    /// Who is thought to be the cause.
    slot: u64,
    /// What was seen.
    symptom: String,
    /// Whether the AM saw it itself; what other workers say is hearsay.
    seen: bool,
    /// When the symptom has to do as the cause.
    until: Duration,
}

impl Machine {
    /// Notes a loss. What the AM saw itself replaces hearsay; otherwise the earlier suspicion stands.
    fn suspect(&mut self, now: Duration, slot: u64, symptom: String, seen: bool) {
        let replaces = self.suspicion.as_ref().is_none_or(|earlier| seen && !earlier.seen);
        if self.outcome.is_none() && replaces {
            self.suspicion = Some(Suspicion { slot, symptom, seen, until: now + CAUSE_GRACE });
        }
    }

    /// A worker says that another one has left the ring. The other one may only have left because of a third:
    /// when the accused accuses in turn, the suspicion moves on.
    pub(super) fn suspect_rank(&mut self, now: Duration, witness: u64, rank: usize, message: &str) {
        let accused = self.slots.iter().find(|(_, slot)| slot.rank == Some(rank)).map(|(id, _)| *id);
        let by = self.slots.get(&witness).map(Slot::describe).unwrap_or_default();
        self.suspicion.take_if(|earlier| !earlier.seen && earlier.slot == witness);
        self.suspect(now, accused.unwrap_or(witness), format!("{by} lost it: {message}"), false);
    }

    pub(super) fn disconnected(&mut self, now: Duration, slot: u64, reason: &str) {
        self.lost(now, slot, format!("its connection to the ApplicationMaster ended: {reason}"));
    }

    /// The AM saw itself that a worker is not there any more.
    fn lost(&mut self, now: Duration, slot: u64, symptom: String) {
        let Some(worker) = self.slots.get_mut(&slot).filter(|slot| slot.is_reachable()) else { return };
        worker.disconnected = true;
        if worker.state == SlotState::Done || worker.failed {
            return;
        }
        if self.phase == Phase::Waiting {
            worker.symptom = Some((symptom, now + CAUSE_GRACE));
        } else {
            self.suspect(now, slot, symptom, true);
        }
    }

    pub(super) fn exited(&mut self, now: Duration, container: &str, exit: Exit, out: &mut Vec<Action>) {
        let Some((id, slot)) = self.slots.iter_mut().find(|(_, slot)| slot.container == container) else {
            return;
        };
        let (id, before) = (*id, slot.state);
        if before == SlotState::Gone {
            return;
        }
        slot.state = SlotState::Gone;
        if self.outcome.is_some() {
            return;
        }
        let reported = slot.failed;
        let (host, what) = (slot.host.clone(), format!("{} {}", slot.describe_with_log(), exit.describe()));
        match (self.phase, before) {
            // Its part of the work is done and the ring needs it no more.
            (Phase::Training | Phase::Committing, SlotState::Done) if exit.kind == ExitKind::Code(0) => {}
            // Starting it again would end the same.
            (Phase::Waiting, _) if exit.kind == ExitKind::Localization => self.fail(now, what, out),
            (Phase::Waiting, _) => {
                let passing =
                    matches!(exit.kind, ExitKind::Preempted | ExitKind::NodeLost | ExitKind::Expired);
                self.start_failed(now, (!passing).then_some(host), what, out);
            }
            // A worker that blames another one ends as well: the other one's end is the cause.
            _ if reported => {}
            // It has said why on its connection, which may be slower than the news of its end.
            _ if matches!(exit.kind, ExitKind::Code(code) if REPORTED_EXITS.contains(&code)) => {
                self.suspect(now, id, exit.describe(), false);
            }
            _ => self.fail(now, what, out),
        }
    }

    /// A suspicion whose cause never came becomes the cause.
    pub(super) fn resolve_suspicion(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.phase == Phase::Waiting {
            return self.replace_lost(now, out);
        }
        let Some(suspicion) = self.suspicion.take_if(|suspicion| now >= suspicion.until) else { return };
        let Some(slot) = self.slots.get(&suspicion.slot) else { return };
        let what = format!("{} was lost; {}", slot.describe_with_log(), suspicion.symptom);
        self.fail(now, what, out);
    }

    /// While workers are waited for, each that is lost is replaced.
    fn replace_lost(&mut self, now: Duration, out: &mut Vec<Action>) {
        let mut lost = Vec::new();
        for slot in self.slots.values_mut().filter(|slot| slot.state != SlotState::Gone) {
            if let Some((symptom, _)) = slot.symptom.take_if(|(_, until)| now >= *until) {
                slot.state = SlotState::Gone;
                out.push(Action::Stop { container: slot.container.clone() });
                lost.push((slot.host.clone(), format!("{} was lost; {symptom}", slot.describe_with_log())));
            }
        }
        for (host, what) in lost {
            self.start_failed(now, Some(host), what, out);
        }
    }

    /// Workers that say nothing, and containers that never become workers.
    pub(super) fn check_silence(&mut self, now: Duration, out: &mut Vec<Action>) {
        if self.outcome.is_some() {
            return;
        }
        let timeout = self.spec.network.heartbeat_timeout;
        let mut late = Vec::new();
        let mut silent = Vec::new();
        for (id, slot) in self.slots.iter() {
            match slot.state {
                SlotState::Launching if now >= slot.allocated_at + CONNECT_LIMIT => late.push(*id),
                _ if slot.is_reachable() && now >= slot.heard_at + timeout => silent.push(*id),
                _ => {}
            }
        }
        let timeout = ringspin_job::format_duration(timeout);
        for slot in silent {
            self.lost(now, slot, format!("no heartbeat for {timeout} (network.heartbeat_timeout)"));
        }
        for slot in late {
            if let Some(container) = self.slots.get(&slot).map(|slot| slot.container.clone()) {
                out.push(Action::Stop { container });
            }
            let reason = format!("it did not connect within {CONNECT_LIMIT:?}");
            out.extend(self.handle(now, Event::LaunchFailed { slot, reason, passing: false }));
        }
    }
}
