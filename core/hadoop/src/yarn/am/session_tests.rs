//! The session against single answers, and against a model of the ResourceManager that loses messages,
//! restarts and over-allocates.

use super::super::asks::{Locality, Place};
use super::super::exit::ContainerExit;
use super::*;
use crate::ids::ApplicationId;
use proptest::prelude::*;

const APP: ApplicationId = ApplicationId { cluster_timestamp: 1_700_000_000_000, id: 7 };
const ATTEMPT: ApplicationAttemptId = ApplicationAttemptId { application: APP, attempt: 1 };

fn container_id(id: i64) -> ContainerId {
    ContainerId { attempt: ATTEMPT, id }
}

fn container(id: i64, ask: AskId) -> proto::Container {
    proto::Container {
        id: Some(container_id(id).into()),
        node_id: Some(proto::NodeId { host: Some("h1".into()), port: Some(45454) }),
        container_token: Some(proto::Token::default()),
        allocation_request_id: Some(ask.0),
        ..Default::default()
    }
}

fn completed(id: i64, exit_status: i32) -> proto::ContainerStatus {
    proto::ContainerStatus {
        container_id: Some(container_id(id).into()),
        exit_status: Some(exit_status),
        ..Default::default()
    }
}

fn answer(response_id: i32) -> proto::AllocateResponse {
    proto::AllocateResponse {
        response_id: Some(response_id),
        num_cluster_nodes: Some(9),
        ..Default::default()
    }
}

fn exception(class: &str, message: &str) -> RemoteException {
    let class = format!("org.apache.hadoop.yarn.exceptions.{class}");
    RemoteException { class, message: message.into(), stack: String::new() }
}

fn registered() -> (AllocateSession, AskId) {
    let mut session = AllocateSession::new(ATTEMPT);
    session.registered(Default::default());
    session.request();
    session.response(answer(1));
    (session, AskId::first(ATTEMPT))
}

fn small(count: u32) -> Ask {
    Ask::anywhere(1, Resource::new(64, 1), count)
}

fn ids(events: &[RmEvent]) -> Vec<String> {
    let told = |event: &RmEvent| match event {
        RmEvent::Allocated(c) => Some(format!("allocated {}", c.id.id)),
        RmEvent::Surplus(c) => Some(format!("surplus {}", c.id.id)),
        RmEvent::Recovered(c) => Some(format!("recovered {}", c.id.id)),
        RmEvent::Completed(c) => Some(format!("completed {}", c.id.id)),
        _ => None,
    };
    events.iter().filter_map(told).collect()
}

#[test]
fn a_lost_answer_is_asked_for_with_the_same_request() {
    let (mut session, ask) = registered();
    session.ask(ask, small(1)).unwrap();
    let first = session.request();
    assert_eq!((first.response_id, first.ask.len()), (Some(1), 1));
    session.ask(ask.following(), small(1)).unwrap();
    session.set_progress(0.5);
    let second = session.request();
    assert_eq!((second.response_id, &second.ask), (Some(1), &first.ask));
    assert_eq!(second.progress, Some(0.5));
    session.response(answer(2));
    let third = session.request();
    assert_eq!((third.response_id, third.ask.len()), (Some(2), 1));
    assert_ne!(third.ask, first.ask, "what was said meanwhile");
}

#[test]
fn response_numbers_wrap_as_hadoops() {
    let (mut session, _) = registered();
    session.last_response = i32::MAX;
    session.request();
    session.response(answer(0));
    assert_eq!(session.last_response(), 0);
}

#[test]
fn a_wrong_number_is_corrected_once() {
    let (mut session, ask) = registered();
    session.ask(ask, small(1)).unwrap();
    session.request();
    let text = "Invalid responseId in AllocateRequest from application attempt: appattempt_1_0001_000001, \
                expect responseId to be 7 but get 1";
    let wrong = exception("InvalidApplicationMasterRequestException", text);
    assert_eq!(session.refused(&wrong), (vec![], Reaction::Again));
    let again = session.request();
    assert_eq!((again.response_id, again.ask.len()), (Some(7), 1), "with the asks that may be lost");
    assert!(matches!(session.refused(&wrong).1, Reaction::Gone(_)));
}

#[test]
fn exceptions_and_commands_tell_what_to_do() {
    let (mut session, _) = registered();
    let not_registered = exception("ApplicationMasterNotRegisteredException", "AM is not registered");
    assert_eq!(session.refused(&not_registered).1, Reaction::Register);
    let gone = exception("ApplicationAttemptNotFoundException", "doesn't exist");
    assert_eq!(session.refused(&gone).1, Reaction::Gone("doesn't exist".into()));
    let command = |am_command| proto::AllocateResponse { am_command: Some(am_command), ..answer(2) };
    assert_eq!(session.response(command(1)).1, Reaction::Register);
    assert!(matches!(session.response(command(2)).1, Reaction::Gone(_)));
}

#[test]
fn a_resync_says_everything_anew() {
    let (mut session, ask) = registered();
    let place = Place { host: "h1".into(), rack: "/r".into() };
    session.ask(ask, Ask { places: vec![place], ..small(3) }).unwrap();
    session.request();
    session.response(proto::AllocateResponse { allocated_containers: vec![container(2, ask)], ..answer(2) });
    session.release(container_id(2));
    session.blacklist("bad");
    session.set_tracking_url("http://h:1/");
    let said = session.request();
    assert_eq!(said.release.len(), 1);
    assert_eq!(said.blacklist_request.unwrap().blacklist_additions, ["bad"]);

    session.registered(Default::default());
    let anew = session.request();
    assert_eq!(anew.response_id, Some(0));
    let counts: Vec<_> =
        anew.ask.iter().map(|r| (r.resource_name.as_deref().unwrap(), r.num_containers)).collect();
    assert_eq!(counts, [("h1", Some(2)), ("/r", Some(2)), ("*", Some(2))]);
    assert_eq!(anew.release.len(), 1, "no completed status has come");
    assert_eq!(anew.blacklist_request.unwrap().blacklist_additions, ["bad"]);
    assert_eq!(anew.tracking_url.as_deref(), Some("http://h:1/"));
    let (events, _) = session.response(proto::AllocateResponse {
        completed_container_statuses: vec![completed(2, -100)],
        ..answer(1)
    });
    assert_eq!(ids(&events), ["completed 2"]);
    session.registered(Default::default());
    assert!(session.request().release.is_empty());
}

#[test]
fn containers_that_nobody_waits_for_go_back() {
    let (mut session, ask) = registered();
    session.ask(ask, small(1)).unwrap();
    session.request();
    let lot = vec![container(2, ask), container(3, ask), container(4, AskId(99)), container(2, ask)];
    let without_node = proto::Container { node_id: None, ..container(5, ask) };
    let allocated_containers = lot.into_iter().chain([without_node]).collect();
    let (events, _) = session.response(proto::AllocateResponse { allocated_containers, ..answer(2) });
    assert_eq!(ids(&events), ["allocated 2", "surplus 3", "surplus 4"]);
    let released: Vec<_> = session.request().release.iter().map(|id| id.id.unwrap()).collect();
    assert_eq!(released, [3, 4, 5]);
    assert!(session.is_urgent());
}

#[test]
fn each_end_is_told_once_and_tokens_come_first() {
    let (mut session, ask) = registered();
    session.ask(ask, small(1)).unwrap();
    session.request();
    let node = proto::NodeId { host: Some("h1".into()), port: Some(45454) };
    let token = |id: u8| proto::Token { identifier: vec![id], ..Default::default() };
    let nm_tokens = vec![proto::NmToken { node_id: Some(node), token: Some(token(1)) }];
    let (events, _) = session.response(proto::AllocateResponse {
        allocated_containers: vec![container(2, ask)],
        nm_tokens: nm_tokens.clone(),
        am_rm_token: Some(token(9)),
        ..answer(2)
    });
    let [RmEvent::AmRmToken(_), RmEvent::NodeToken { node, .. }, RmEvent::Allocated(_)] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(session.node_token(node).unwrap().identifier, [1]);
    session.request();
    let statuses = vec![completed(2, 0), completed(2, 0)];
    let (events, _) = session.response(proto::AllocateResponse {
        completed_container_statuses: statuses.clone(),
        am_rm_token: Some(token(9)),
        ..answer(3)
    });
    assert_eq!(ids(&events), ["completed 2"]);
    assert!(!events.iter().any(|e| matches!(e, RmEvent::AmRmToken(_))), "the same token is no news");
    let RmEvent::Completed(end) = &events[0] else { panic!("{events:?}") };
    assert_eq!(end.exit, ContainerExit::Succeeded);
    session.request();
    let (events, _) =
        session.response(proto::AllocateResponse { completed_container_statuses: statuses, ..answer(4) });
    assert_eq!(ids(&events), Vec::<String>::new());
    assert_eq!(session.held().count(), 0);
}

#[test]
fn containers_of_earlier_attempts_are_recovered_once() {
    let mut session = AllocateSession::new(ApplicationAttemptId { attempt: 2, ..ATTEMPT });
    let old = proto::Container { container_token: None, ..container(5, AskId(7)) };
    let events = session.registered(proto::RegisterApplicationMasterResponse {
        containers_from_previous_attempts: vec![container(4, AskId(7))],
        ..Default::default()
    });
    assert_eq!(ids(&events), ["recovered 4"]);
    session.request();
    let again = vec![container(4, AskId(7)), old];
    let (events, _) =
        session.response(proto::AllocateResponse { containers_from_previous_attempts: again, ..answer(1) });
    assert_eq!(ids(&events), ["recovered 5"]);
}

#[test]
fn foreign_releases_are_given_up() {
    let (mut session, _) = registered();
    let foreign = ContainerId { attempt: ApplicationAttemptId { attempt: 9, ..ATTEMPT }, id: 1 };
    session.release(foreign);
    session.release(container_id(2));
    assert_eq!(session.request().release.len(), 2);
    let refused = exception("InvalidContainerReleaseException", "Cannot release container");
    assert_eq!(session.refused(&refused).1, Reaction::Again);
    let release: Vec<_> = session.request().release.iter().filter_map(|id| id.plain()).collect();
    assert_eq!(release, [container_id(2)]);
}

#[test]
fn a_refused_ask_is_dropped_and_told() {
    let (mut session, ask) = registered();
    session.ask(ask, small(1)).unwrap();
    session.request();
    let refused = exception("InvalidLabelResourceRequestException", "no such label");
    let (events, reaction) = session.refused(&refused);
    assert_eq!(reaction, Reaction::Continue);
    assert!(matches!(&events[..], [RmEvent::AskRefused(id, AskError::Refused(_))] if *id == ask));
    assert_eq!((session.waiting(), session.request().ask.len()), (0, 0));
    let (events, _) = session.refused(&refused);
    assert!(matches!(&events[..], [RmEvent::Refused(_)]));
}

#[test]
fn preemption_and_news_of_the_cluster() {
    let (mut session, _) = registered();
    session.request();
    let preempted = |id: i64| proto::PreemptionContainer { id: Some(container_id(id).into()) };
    let row = proto::ResourceRequest {
        capability: Some((&Resource::new(64, 1)).into()),
        num_containers: Some(2),
        ..Default::default()
    };
    let preempt = proto::PreemptionMessage {
        strict_contract: Some(proto::StrictPreemptionContract { container: vec![preempted(2)] }),
        contract: Some(proto::PreemptionContract {
            resource: vec![proto::PreemptionResourceRequest { resource: Some(row) }],
            container: vec![preempted(3), preempted(4)],
        }),
    };
    let limit = Some((&Resource::new(4096, 8)).into());
    let (events, _) =
        session.response(proto::AllocateResponse { preempt: Some(preempt), limit, ..answer(2) });
    let expected = Preemption {
        strict: vec![container_id(2)],
        negotiable: vec![container_id(3), container_id(4)],
        resources: vec![(Resource::new(64, 1), 2)],
    };
    assert_eq!(
        events,
        [RmEvent::Preemption(expected), RmEvent::Cluster { nodes: 9, headroom: Resource::new(4096, 8) }]
    );
}

#[test]
fn progress_is_a_number_from_0_to_1() {
    let (mut session, _) = registered();
    for (given, sent) in [(f32::NAN, 0.0), (-1.0, 0.0), (0.25, 0.25), (7.0, 1.0)] {
        session.set_progress(given);
        assert_eq!(session.request().progress, Some(sent));
    }
}

// ---- against a model of the ResourceManager

/// As much of `ApplicationMasterService` and the scheduler's ask table as the session relies on.
#[derive(Default)]
struct Model {
    registered: bool,
    last: proto::AllocateResponse,
    table: BTreeMap<i64, BTreeMap<String, (i32, bool)>>,
    live: BTreeMap<i64, i64>,
    allocated: Vec<proto::Container>,
    ended: Vec<proto::ContainerStatus>,
    next_container: i64,
}

impl Model {
    fn restart(&mut self) {
        let next_container = self.next_container;
        *self = Model { next_container, live: std::mem::take(&mut self.live), ..Default::default() };
        // Nothing of this test's is ever started: all is lost.
        self.live.clear();
    }

    fn allocate(
        &mut self,
        request: &proto::AllocateRequest,
    ) -> Result<proto::AllocateResponse, RemoteException> {
        if !self.registered {
            return Err(exception("ApplicationMasterNotRegisteredException", "resync"));
        }
        let (sent, last) = (request.response_id.unwrap(), self.last.response_id.unwrap());
        if next(sent) == last {
            return Ok(self.last.clone());
        }
        assert_eq!(sent, last, "the session must know where the talk stands");
        for row in &request.ask {
            let name = row.resource_name.clone().unwrap();
            let rows = self.table.entry(row.allocation_request_id.unwrap()).or_default();
            rows.insert(name, (row.num_containers.unwrap(), row.relax_locality.unwrap()));
        }
        for (id, rows) in &self.table {
            assert!(rows.contains_key("*"), "ask {id} has no row for anywhere");
        }
        for id in &request.release {
            let id = id.id.unwrap();
            if self.live.remove(&id).is_some() {
                self.allocated.retain(|c| c.id.as_ref().unwrap().id != Some(id));
                self.ended.push(completed(id, -100));
            }
        }
        self.last = proto::AllocateResponse {
            allocated_containers: std::mem::take(&mut self.allocated),
            completed_container_statuses: std::mem::take(&mut self.ended),
            ..answer(next(last))
        };
        Ok(self.last.clone())
    }

    /// One scheduling opportunity: a container for the first key that is not satisfied; every other one lands
    /// off all wanted hosts, and then only `*` is counted down.
    fn schedule(&mut self) {
        let Some((id, rows)) = self.table.iter_mut().find(|(_, rows)| rows["*"].0 > 0) else { return };
        self.next_container += 1;
        let off_switch = self.next_container % 2 == 0 && rows["*"].1;
        let host = rows.iter().find(|(name, row)| row.0 > 0 && !name.starts_with(['*', '/']));
        let host = host.map(|(name, _)| name.clone()).filter(|_| !off_switch);
        for (name, row) in rows.iter_mut() {
            let counts =
                name == "*" || (host.is_some() && (name.starts_with('/') || Some(name) == host.as_ref()));
            row.0 -= i32::from(counts);
        }
        self.live.insert(self.next_container, *id);
        self.allocated.push(container(self.next_container, AskId(*id)));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ask { count: u32, hosts: usize, required: bool },
    Withdraw { nth: usize, count: u32 },
    Release { nth: usize },
    Complete { nth: usize },
    Schedule { times: usize },
    Beat { request_lost: bool, answer_lost: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1u32..4, 0usize..3, any::<bool>()).prop_map(|(count, hosts, required)| Step::Ask { count, hosts, required }),
        1 => (0usize..8, 1u32..4).prop_map(|(nth, count)| Step::Withdraw { nth, count }),
        1 => (0usize..8).prop_map(|nth| Step::Release { nth }),
        1 => (0usize..8).prop_map(|nth| Step::Complete { nth }),
        4 => (1usize..4).prop_map(|times| Step::Schedule { times }),
        6 => (any::<bool>(), any::<bool>()).prop_map(|(request_lost, answer_lost)| Step::Beat { request_lost, answer_lost }),
        1 => Just(Step::Restart),
    ]
}

/// The AM of the test: what it has asked for and got.
struct Master {
    session: AllocateSession,
    model: Model,
    next_ask: AskId,
    wanted: BTreeMap<AskId, u32>,
    got: BTreeMap<i64, AskId>,
}

impl Master {
    fn new() -> Self {
        let (session, model) = (AllocateSession::new(ATTEMPT), Model::default());
        let mut master = Master {
            session,
            model,
            next_ask: AskId::first(ATTEMPT),
            wanted: BTreeMap::new(),
            got: BTreeMap::new(),
        };
        master.register();
        master
    }

    fn ask(&mut self, count: u32, hosts: usize, required: bool) {
        let places =
            (0..hosts).map(|i| Place { host: format!("h{i}"), rack: format!("/r{}", i % 2) }).collect();
        let locality = if required && hosts > 0 { Locality::Required } else { Locality::Preferred };
        self.session.ask(self.next_ask, Ask { places, locality, ..small(count) }).unwrap();
        self.wanted.insert(self.next_ask, count);
        self.next_ask = self.next_ask.following();
    }

    fn register(&mut self) {
        self.model.registered = true;
        self.model.last.response_id = Some(0);
        self.session.registered(Default::default());
        // Containers that were never started are lost with the old ResourceManager: ask anew.
        for (id, ask) in std::mem::take(&mut self.got) {
            self.session.forget(container_id(id));
            *self.wanted.get_mut(&ask).unwrap() -= 1;
            self.ask(1, 1, false);
        }
    }

    fn beat(&mut self, request_lost: bool, answer_lost: bool) {
        let request = self.session.request();
        if request_lost {
            return;
        }
        let outcome = self.model.allocate(&request);
        if answer_lost {
            return;
        }
        match outcome {
            Ok(answer) => {
                let (events, reaction) = self.session.response(answer);
                assert_eq!(reaction, Reaction::Continue);
                events.iter().for_each(|event| self.take(event));
            }
            Err(exception) => {
                assert_eq!(self.session.refused(&exception), (vec![], Reaction::Register));
                self.register();
            }
        }
    }

    fn take(&mut self, event: &RmEvent) {
        match event {
            RmEvent::Allocated(c) => assert_eq!(self.got.insert(c.id.id, c.ask), None, "told twice"),
            RmEvent::Completed(c) => {
                if let Some(ask) = self.got.remove(&c.id.id) {
                    *self.wanted.get_mut(&ask).unwrap() -= 1;
                }
            }
            _ => {}
        }
    }

    fn apply(&mut self, step: &Step) {
        match *step {
            Step::Ask { count, hosts, required } => self.ask(count, hosts, required),
            Step::Withdraw { nth, count } => {
                let Some(ask) = self.wanted.keys().nth(nth).copied() else { return };
                let less = self.session.withdraw(ask, count);
                *self.wanted.get_mut(&ask).unwrap() -= less;
            }
            Step::Release { nth } => {
                let Some(id) = self.got.keys().nth(nth).copied() else { return };
                self.session.release(container_id(id));
            }
            Step::Complete { nth } => {
                let Some(id) = self.got.keys().nth(nth).copied() else { return };
                if self.model.live.remove(&id).is_some() {
                    self.model.ended.push(completed(id, 0));
                }
            }
            Step::Schedule { times } => (0..times).for_each(|_| self.model.schedule()),
            Step::Beat { request_lost, answer_lost } => self.beat(request_lost, answer_lost),
            Step::Restart => self.model.restart(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever is lost and restarted: in the end each ask has exactly the containers it wants, nothing is
    /// held that is not wanted, nothing is left in the ResourceManager's table.
    #[test]
    fn everything_asked_for_comes_exactly_once(steps in prop::collection::vec(step(), 0..60)) {
        let mut master = Master::new();
        steps.iter().for_each(|step| master.apply(step));
        for _ in 0..40 {
            (0..8).for_each(|_| master.model.schedule());
            master.beat(false, false);
        }
        let mut have: BTreeMap<AskId, u32> = BTreeMap::new();
        master.got.values().for_each(|ask| *have.entry(*ask).or_default() += 1);
        let wanted: BTreeMap<_, _> = master.wanted.iter().map(|(k, v)| (*k, *v)).filter(|(_, n)| *n > 0).collect();
        prop_assert_eq!(have, wanted);
        let held: Vec<i64> = master.session.held().map(|id| id.id).collect();
        prop_assert_eq!(&held, &master.got.keys().copied().collect::<Vec<_>>());
        prop_assert_eq!(&held, &master.model.live.keys().copied().collect::<Vec<_>>());
        let left: Vec<_> = master.model.table.values().flatten().filter(|(_, row)| row.0 != 0).collect();
        prop_assert!(left.is_empty(), "rows left at the ResourceManager: {:?}", left);
        prop_assert_eq!(master.session.waiting(), 0);
        prop_assert!(!master.session.is_urgent());
    }
}
