//! The allocate protocol as a pure state machine: no clock, no sockets.
//!
//! Each request carries the number of the last response that was read; the ResourceManager answers with the
//! next number, and answers a repeated number with the response that was lost. So there is at most one request
//! on its way, and after a lost answer *the same request* goes out again, byte for byte (only the progress may
//! differ): whichever copy was processed, its answer acknowledges exactly these asks, releases and blacklist
//! changes. What is said meanwhile waits for the next request. Sources: `ApplicationMasterService`,
//! `AMRMClientImpl`, and the failure table of the project's notes on real clusters.

use super::asks::{Ask, AskError, AskId, AskTable};
use super::blacklist::{Blacklist, Delta};
use super::event::{Completion, Container, Preemption, Registered, RmEvent};
use crate::credentials::Token;
use crate::ids::{ApplicationAttemptId, ContainerId};
use crate::ipc::RemoteException;
use crate::yarn::proto;
use crate::yarn::report::NodeReport;
use crate::yarn::resource::{NodeId, Resource};
use std::collections::{BTreeMap, BTreeSet};

/// `AMCommandProto.AM_RESYNC`: ResourceManagers before 2.6 said so instead of throwing.
const AM_RESYNC: i32 = 1;
/// `AMCommandProto.AM_SHUTDOWN`.
const AM_SHUTDOWN: i32 = 2;

/// What to do after a refused call or an answer that is a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Go on.
    Continue,
    /// Make the next request at once.
    Again,
    /// Register again, then make the next request: everything will be said anew.
    Register,
    /// Stop: this attempt is over. Exit without unregistering.
    Gone(String),
}

/// The request on its way.
struct InFlight {
    request: proto::AllocateRequest,
    blacklist: Delta,
    tracking_url: Option<String>,
}

/// What was asked, what came, and what must be said next.
pub struct AllocateSession {
    attempt: ApplicationAttemptId,
    last_response: i32,
    in_flight: Option<InFlight>,
    asks: AskTable,
    /// To be released; said in the next request.
    releases: BTreeSet<ContainerId>,
    /// Released, not completed yet; said again after a resync.
    releasing: BTreeSet<ContainerId>,
    blacklist: Blacklist,
    /// Held, as far as we know: allocated or recovered and not completed.
    held: BTreeSet<ContainerId>,
    completed: BTreeSet<ContainerId>,
    node_tokens: BTreeMap<NodeId, Token>,
    amrm_token: Option<Token>,
    maximum: Option<Resource>,
    cluster: Option<(u32, Resource)>,
    progress: f32,
    /// A new tracking URL, until it has been taken.
    tracking_url: Option<String>,
    /// The server has corrected our response number once; a second time in a row is an error.
    renumbered: bool,
}

impl AllocateSession {
    /// The session of one attempt, before its registration.
    pub fn new(attempt: ApplicationAttemptId) -> Self {
        AllocateSession {
            attempt,
            last_response: 0,
            in_flight: None,
            asks: AskTable::new(AskId::first(attempt)),
            releases: BTreeSet::new(),
            releasing: BTreeSet::new(),
            blacklist: Blacklist::default(),
            held: BTreeSet::new(),
            completed: BTreeSet::new(),
            node_tokens: BTreeMap::new(),
            amrm_token: None,
            maximum: None,
            cluster: None,
            progress: 0.0,
            tracking_url: None,
            renumbered: false,
        }
    }

    // ---- what the application wants

    /// Asks for containers, under a number that is larger than all before.
    pub fn ask(&mut self, id: AskId, ask: Ask) -> Result<(), AskError> {
        self.asks.add(id, ask, self.maximum.as_ref())
    }

    /// Wants `count` containers of an ask less; tells how many less it has become. Containers that come
    /// nevertheless are released.
    pub fn withdraw(&mut self, ask: AskId, count: u32) -> u32 {
        self.asks.withdraw(ask, count)
    }

    /// Gives a container back, started or not. Its process may run until its NodeManager's next heartbeat:
    /// stop it there first when that matters.
    pub fn release(&mut self, container: ContainerId) {
        if !self.completed.contains(&container) {
            self.releases.insert(container);
        }
    }

    /// Forgets a container that a restarted ResourceManager does not know any more; nothing is sent.
    pub fn forget(&mut self, container: ContainerId) {
        self.held.remove(&container);
    }

    /// Wants no containers on `host`. At most a third of the nodes, the newest ones first.
    pub fn blacklist(&mut self, host: &str) {
        self.blacklist.add(host);
    }

    /// Takes containers on `host` again.
    pub fn unblacklist(&mut self, host: &str) {
        self.blacklist.remove(host);
    }

    /// Progress from 0 to 1, as the ResourceManager shows it.
    pub fn set_progress(&mut self, progress: f32) {
        self.progress = if progress.is_nan() { 0.0 } else { progress.clamp(0.0, 1.0) };
    }

    /// Changes the tracking URL.
    pub fn set_tracking_url(&mut self, url: impl Into<String>) {
        self.tracking_url = Some(url.into());
    }

    // ---- what it may want to know

    /// Containers still to come for an ask.
    pub fn outstanding(&self, ask: AskId) -> u32 {
        self.asks.outstanding(ask)
    }

    /// Containers still to come in all.
    pub fn waiting(&self) -> u64 {
        self.asks.waiting()
    }

    /// Whether the next request is worth sending soon: containers are to come, or there is something to say.
    pub fn is_urgent(&self) -> bool {
        let nodes = self.cluster.as_ref().map_or(0, |(nodes, _)| *nodes);
        self.asks.waiting() > 0
            || self.asks.is_dirty()
            || !self.releases.is_empty()
            || self.in_flight.is_some()
            || self.blacklist.delta(nodes) != Delta::default()
    }

    /// Containers that the application holds, as far as was told.
    pub fn held(&self) -> impl Iterator<Item = ContainerId> + '_ {
        self.held.iter().copied()
    }

    /// Number of the last response that was read.
    pub fn last_response(&self) -> i32 {
        self.last_response
    }

    // ---- the protocol

    /// The registration was taken. After a resync everything will be said anew.
    pub fn registered(&mut self, answer: proto::RegisterApplicationMasterResponse) -> Vec<RmEvent> {
        self.start_over();
        self.maximum = answer.maximum_capability.as_ref().map(Resource::from);
        let mut events = vec![RmEvent::Registered(Registered {
            maximum: self.maximum.clone(),
            queue: answer.queue.unwrap_or_default(),
            // CPU = 1 in SchedulerResourceTypes
            counts_vcores: answer.scheduler_resource_types.contains(&1),
        })];
        self.take_node_tokens(answer.nm_tokens_from_previous_attempts, &mut events);
        self.take_recovered(answer.containers_from_previous_attempts, &mut events);
        events
    }

    /// The registration was refused because there is one: the answer to an earlier try was lost.
    pub fn already_registered(&mut self) -> Vec<RmEvent> {
        self.start_over();
        vec![RmEvent::Registered(Registered { maximum: self.maximum.clone(), ..Default::default() })]
    }

    fn start_over(&mut self) {
        self.last_response = 0;
        self.renumbered = false;
        if let Some(InFlight { tracking_url, .. }) = self.in_flight.take() {
            self.tracking_url = self.tracking_url.take().or(tracking_url);
        }
        self.asks.forgotten();
        self.blacklist.forgotten();
        let releasing = std::mem::take(&mut self.releasing);
        self.releases.extend(releasing);
    }

    /// The next request: the one on its way if its answer has not come, else a new one.
    pub fn request(&mut self) -> proto::AllocateRequest {
        let nodes = self.cluster.as_ref().map_or(0, |(nodes, _)| *nodes);
        let in_flight = self.in_flight.get_or_insert_with(|| {
            let blacklist = self.blacklist.delta(nodes);
            let releases = std::mem::take(&mut self.releases);
            let request = proto::AllocateRequest {
                ask: self.asks.take_rows(),
                release: releases.iter().map(|id| (*id).into()).collect(),
                blacklist_request: (blacklist != Delta::default()).then(|| proto::ResourceBlacklistRequest {
                    blacklist_additions: blacklist.add.clone(),
                    blacklist_removals: blacklist.remove.clone(),
                }),
                response_id: Some(self.last_response),
                progress: None,
                tracking_url: self.tracking_url.clone(),
            };
            self.releasing.extend(releases);
            InFlight { request, blacklist, tracking_url: self.tracking_url.take() }
        });
        in_flight.request.progress = Some(self.progress);
        in_flight.request.clone()
    }

    /// The answer to the request on its way.
    pub fn response(&mut self, answer: proto::AllocateResponse) -> (Vec<RmEvent>, Reaction) {
        match answer.am_command {
            Some(AM_RESYNC) => return (Vec::new(), Reaction::Register),
            Some(AM_SHUTDOWN) => return (Vec::new(), Reaction::Gone("the ResourceManager says so".into())),
            _ => {}
        }
        let number = answer.response_id.unwrap_or(0);
        if number == next(self.last_response) {
            self.asks.taken();
            if let Some(in_flight) = self.in_flight.take() {
                self.blacklist.taken(&in_flight.blacklist);
            }
        } else {
            // Not the answer to our request, but the ResourceManager's newest state: take what it carries, and
            // say ours again.
            self.not_taken();
        }
        self.last_response = number;
        self.renumbered = false;
        (self.take(answer), Reaction::Continue)
    }

    fn take(&mut self, answer: proto::AllocateResponse) -> Vec<RmEvent> {
        let mut events = Vec::new();
        if let Some(token) =
            answer.am_rm_token.map(Token::from).filter(|t| self.amrm_token.as_ref() != Some(t))
        {
            self.amrm_token = Some(token.clone());
            events.push(RmEvent::AmRmToken(token));
        }
        self.take_node_tokens(answer.nm_tokens, &mut events);
        events
            .extend(answer.updated_nodes.iter().filter_map(NodeReport::from_proto).map(RmEvent::NodeChanged));
        self.take_recovered(answer.containers_from_previous_attempts, &mut events);
        for container in answer.allocated_containers {
            self.take_allocated(container, &mut events);
        }
        for status in answer.completed_container_statuses {
            let Some(completion) = Completion::from_proto(status) else { continue };
            self.held.remove(&completion.id);
            self.releases.remove(&completion.id);
            self.releasing.remove(&completion.id);
            if self.completed.insert(completion.id) {
                events.push(RmEvent::Completed(completion));
            }
        }
        if let Some(preempt) = &answer.preempt {
            events.push(RmEvent::Preemption(Preemption::from_proto(preempt)));
        }
        let nodes = u32::try_from(answer.num_cluster_nodes.unwrap_or(0)).unwrap_or(0);
        let cluster = (nodes, answer.limit.as_ref().map(Resource::from).unwrap_or_default());
        if self.cluster.as_ref() != Some(&cluster) {
            self.cluster = Some(cluster.clone());
            events.push(RmEvent::Cluster { nodes: cluster.0, headroom: cluster.1 });
        }
        events
    }

    fn take_allocated(&mut self, message: proto::Container, events: &mut Vec<RmEvent>) {
        let id = message.id.as_ref().and_then(|id| id.plain());
        let Some(container) = Container::from_proto(message) else {
            // Without node it cannot be started; without id it cannot even be given back.
            self.releases.extend(id);
            return;
        };
        let id = &container.id;
        if [&self.completed, &self.held, &self.releases, &self.releasing].iter().any(|set| set.contains(id)) {
            return;
        }
        if container.token.is_some() && self.asks.allocated(container.ask) {
            self.held.insert(container.id);
            events.push(RmEvent::Allocated(container));
        } else {
            self.releases.insert(container.id);
            events.push(RmEvent::Surplus(container));
        }
    }

    fn take_recovered(&mut self, messages: Vec<proto::Container>, events: &mut Vec<RmEvent>) {
        for container in messages.into_iter().filter_map(Container::from_proto) {
            if !self.completed.contains(&container.id) && self.held.insert(container.id) {
                events.push(RmEvent::Recovered(container));
            }
        }
    }

    fn take_node_tokens(&mut self, messages: Vec<proto::NmToken>, events: &mut Vec<RmEvent>) {
        for message in messages {
            let node = NodeId::from_proto(message.node_id.as_ref());
            let (Some(node), Some(token)) = (node, message.token.map(Token::from)) else { continue };
            self.node_tokens.insert(node.clone(), token.clone());
            events.push(RmEvent::NodeToken { node, token });
        }
    }

    /// The newest token of a node's NodeManager.
    pub fn node_token(&self, node: &NodeId) -> Option<&Token> {
        self.node_tokens.get(node)
    }

    /// What was on its way must be said anew.
    fn not_taken(&mut self) {
        let Some(in_flight) = self.in_flight.take() else { return };
        self.asks.lost();
        let releases = in_flight.request.release.iter().filter_map(|id| id.plain());
        for id in releases.filter(|id| self.releasing.contains(id)).collect::<Vec<_>>() {
            self.releasing.remove(&id);
            self.releases.insert(id);
        }
        self.tracking_url = self.tracking_url.take().or(in_flight.tracking_url);
    }

    /// The ResourceManager has answered the request with an exception.
    pub fn refused(&mut self, exception: &RemoteException) -> (Vec<RmEvent>, Reaction) {
        let reaction = match exception.short_class() {
            "ApplicationMasterNotRegisteredException" => Reaction::Register,
            "ApplicationAttemptNotFoundException" => Reaction::Gone(exception.message.clone()),
            "InvalidApplicationMasterRequestException" => match expected_response(&exception.message) {
                Some(expected) if !self.renumbered => {
                    self.not_taken();
                    self.last_response = expected;
                    self.renumbered = true;
                    Reaction::Again
                }
                _ => Reaction::Gone(exception.message.clone()),
            },
            // A container of an attempt whose containers we do not keep: the whole call is refused. Without
            // those the rest of it can be taken.
            "InvalidContainerReleaseException" => {
                self.not_taken();
                let ours: BTreeSet<_> =
                    self.releases.iter().filter(|id| id.attempt == self.attempt).copied().collect();
                self.releases = if ours.len() < self.releases.len() { ours } else { BTreeSet::new() };
                Reaction::Again
            }
            _ => return (self.request_refused(exception), Reaction::Continue),
        };
        (Vec::new(), reaction)
    }

    /// Asks, blacklist and so on are checked before any of them is taken, and the number does not advance.
    fn request_refused(&mut self, exception: &RemoteException) -> Vec<RmEvent> {
        let with_asks = self.in_flight.as_ref().is_some_and(|f| !f.request.ask.is_empty());
        let culprit = self.asks.refused();
        self.not_taken();
        match culprit {
            Some(id) => vec![RmEvent::AskRefused(id, AskError::Refused(exception.to_string()))],
            None if with_asks => Vec::new(),
            None => vec![RmEvent::Refused(exception.to_string())],
        }
    }
}

/// The number after `id`; the ResourceManager keeps it positive.
fn next(id: i32) -> i32 {
    id.wrapping_add(1) & i32::MAX
}

/// N of `... expect responseId to be N but get M`.
fn expected_response(message: &str) -> Option<i32> {
    let (_, rest) = message.split_once("expect responseId to be ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
