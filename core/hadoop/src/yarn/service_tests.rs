//! The sessions over real sockets, against servers that lose answers, restart and refuse on command.

use super::am::{
    AskId, Container, FinalReport, Pace, Registration, RmCommand, RmEndpoint, RmError, RmEvent, RmSession,
};
use super::client::{Wait, YarnClient, YarnError};
use super::command::Command;
use super::launch::LaunchContext;
use super::nm::{NmError, NmOptions, NodeManagers};
use super::report::FinalStatus;
use super::resource::{NodeId, Resource};
use super::submission::Submission;
use super::{am::Ask, proto};
use crate::ids::{ApplicationAttemptId, ApplicationId, ContainerId};
use crate::ipc::tests::fake::{FakeServer, token};
use crate::ipc::{Auth, IpcOptions, RetryPolicy};
use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;

const APP: ApplicationId = ApplicationId { cluster_timestamp: 1_700_000_000_000, id: 7 };
const ATTEMPT: ApplicationAttemptId = ApplicationAttemptId { application: APP, attempt: 1 };

/// What a server does with a call.
enum Reply {
    Answer(Vec<u8>),
    Exception(&'static str, &'static str),
    /// Closes the connection without an answer.
    HangUp,
    /// Says nothing, ever.
    Silence,
}

fn answer(message: &impl Message) -> Reply {
    Reply::Answer(message.encode_to_vec())
}

/// A message that is encoded already.
#[derive(Debug, Default)]
struct Encoded(Vec<u8>);

impl Message for Encoded {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        unreachable!("only sent")
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

/// A server whose calls `handle` answers by method name and request.
async fn serve(with_token: bool, handle: impl FnMut(&str, &[u8]) -> Reply + Send + 'static) -> FakeServer {
    let handle = Arc::new(Mutex::new(handle));
    FakeServer::start(move |mut peer, _| {
        let handle = handle.clone();
        async move {
            match with_token {
                true => drop(peer.accept_token("auth").await),
                false => drop(peer.accept().await),
            }
            while let Some(call) = peer.call().await {
                let mut body = call.body.clone();
                let length = prost::decode_length_delimiter(&mut body).unwrap();
                let reply = (handle.lock().unwrap())(&call.method.method, &body[..length]);
                match reply {
                    Reply::Answer(bytes) => peer.reply(call.id, &Encoded(bytes)).await,
                    Reply::Exception(class, text) => {
                        let class = format!("org.apache.hadoop.yarn.exceptions.{class}");
                        peer.fail(call.id, &class, text).await;
                    }
                    Reply::HangUp => return,
                    Reply::Silence => {}
                }
            }
        }
    })
    .await
}

fn policy() -> RetryPolicy {
    RetryPolicy {
        base_delay: Duration::from_millis(5),
        max_delay: Duration::from_millis(20),
        deadline: Duration::from_secs(30),
        ..RetryPolicy::default()
    }
}

fn session(server: &FakeServer) -> RmSession {
    let endpoint = RmEndpoint {
        addresses: vec![server.address.clone()],
        token: token(),
        options: IpcOptions::default(),
        policy: policy(),
    };
    RmSession::new(endpoint, ATTEMPT, Registration { host: "h".into(), ..Default::default() })
}

/// As much of the ResourceManager as the sessions need: numbers, replay, registration.
#[derive(Default)]
struct Rm {
    registered: bool,
    last: proto::AllocateResponse,
    /// Asks taken, in order.
    asks: Vec<proto::ResourceRequest>,
    requests: Vec<proto::AllocateRequest>,
    finish_calls: u32,
}

const NOT_REGISTERED: Reply =
    Reply::Exception("ApplicationMasterNotRegisteredException", "AM is not registered");

impl Rm {
    fn take(&mut self, method: &str, body: &[u8]) -> Reply {
        match method {
            "registerApplicationMaster" if self.registered => Reply::Exception(
                "InvalidApplicationMasterRequestException",
                "Application Master is already registered : application_1700000000000_0007",
            ),
            "registerApplicationMaster" => {
                let (requests, finish_calls) = (std::mem::take(&mut self.requests), self.finish_calls);
                *self = Rm { registered: true, requests, finish_calls, ..Rm::default() };
                self.last.response_id = Some(0);
                answer(&proto::RegisterApplicationMasterResponse::default())
            }
            _ if !self.registered => NOT_REGISTERED,
            "finishApplicationMaster" => {
                self.finish_calls += 1;
                answer(&proto::FinishApplicationMasterResponse {
                    is_unregistered: Some(self.finish_calls > 2),
                })
            }
            "allocate" => {
                let request = proto::AllocateRequest::decode(body).unwrap();
                let (sent, last) = (request.response_id.unwrap(), self.last.response_id.unwrap());
                if sent == last {
                    self.asks.extend(request.ask.iter().cloned());
                    self.last.response_id = Some(last + 1);
                } else {
                    assert_eq!(sent + 1, last);
                }
                self.requests.push(request);
                answer(&self.last)
            }
            other => panic!("{other}"),
        }
    }
}

fn shared_rm() -> Arc<Mutex<Rm>> {
    Arc::default()
}

fn small() -> Ask {
    Ask::anywhere(1, Resource::new(64, 1), 1)
}

#[tokio::test]
async fn a_lost_answer_costs_nothing_and_doubles_nothing() {
    let rm = shared_rm();
    let (state, mut calls) = (rm.clone(), 0);
    let server = serve(true, move |method, body| {
        let reply = state.lock().unwrap().take(method, body);
        calls += 1;
        // The second call, the first allocate, is processed and its answer lost.
        if calls == 2 { Reply::HangUp } else { reply }
    })
    .await;
    let mut session = session(&server);
    session.register().await.unwrap();
    session.state().ask(AskId::first(ATTEMPT), small()).unwrap();
    session.heartbeat().await.unwrap();
    let rm = rm.lock().unwrap();
    assert_eq!(rm.requests.len(), 2);
    assert_eq!(rm.requests[0], rm.requests[1]);
    assert_eq!(rm.asks.len(), 1);
}

#[tokio::test]
async fn a_heartbeat_given_up_half_way_is_made_again_as_it_was() {
    let rm = shared_rm();
    let (state, mut calls) = (rm.clone(), 0);
    let server = serve(true, move |method, body| {
        let reply = state.lock().unwrap().take(method, body);
        calls += 1;
        if calls == 2 { Reply::Silence } else { reply }
    })
    .await;
    let mut session = session(&server);
    session.register().await.unwrap();
    session.state().ask(AskId::first(ATTEMPT), small()).unwrap();
    tokio::time::timeout(Duration::from_millis(300), session.heartbeat()).await.unwrap_err();
    session.state().ask(AskId::first(ATTEMPT).following(), small()).unwrap();
    session.heartbeat().await.unwrap();
    session.heartbeat().await.unwrap();
    let numbers: Vec<_> = rm.lock().unwrap().requests.iter().map(|r| (r.response_id, r.ask.len())).collect();
    assert_eq!(numbers, [(Some(0), 1), (Some(0), 1), (Some(1), 1)]);
}

#[tokio::test]
async fn a_restarted_resource_manager_is_told_everything_again() {
    let rm = shared_rm();
    let (state, mut calls) = (rm.clone(), 0);
    let server = serve(true, move |method, body| {
        calls += 1;
        let mut rm = state.lock().unwrap();
        match calls {
            // It dies with the second allocate in hand, refuses for a while, comes back with nothing.
            3 => {
                rm.registered = false;
                Reply::HangUp
            }
            4 | 5 => Reply::HangUp,
            _ => rm.take(method, body),
        }
    })
    .await;
    let mut session = session(&server);
    session.state().ask(AskId::first(ATTEMPT), small()).unwrap();
    let events = session.heartbeat().await.unwrap();
    assert!(matches!(events[..], [RmEvent::Registered(_), RmEvent::Cluster { .. }]), "{events:?}");
    let events = session.heartbeat().await.unwrap();
    assert!(matches!(events[..], [RmEvent::Registered(_), RmEvent::Resynced]), "{events:?}");
    let rm = rm.lock().unwrap();
    assert_eq!(rm.asks.len(), 1, "the new one knows the ask");
    assert_eq!(rm.requests.last().unwrap().response_id, Some(0));
}

#[tokio::test]
async fn a_registration_whose_answer_was_lost_counts() {
    let rm = shared_rm();
    let (state, mut calls) = (rm.clone(), 0);
    let server = serve(true, move |method, body| {
        let reply = state.lock().unwrap().take(method, body);
        calls += 1;
        if calls == 1 { Reply::HangUp } else { reply }
    })
    .await;
    let mut session = session(&server);
    let events = session.register().await.unwrap();
    assert!(matches!(&events[..], [RmEvent::Registered(r)] if r.maximum.is_none()), "{events:?}");
    session.heartbeat().await.unwrap();
}

#[tokio::test]
async fn an_attempt_that_is_over_ends_the_session() {
    let server =
        serve(true, |_, _| Reply::Exception("ApplicationAttemptNotFoundException", "not in cache")).await;
    let error = session(&server).heartbeat().await.unwrap_err();
    assert!(matches!(&error, RmError::AttemptGone(why) if why == "not in cache"), "{error}");
    let report = FinalReport {
        status: FinalStatus::Succeeded,
        diagnostics: String::new(),
        tracking_url: String::new(),
    };
    let error = session(&server).finish(&report, Duration::from_secs(5)).await.unwrap_err();
    assert!(matches!(error, RmError::AttemptGone(_)), "{error}");
}

#[tokio::test]
async fn run_takes_commands_and_finishes_when_the_end_is_stored() {
    let rm = shared_rm();
    let state = rm.clone();
    let server = serve(true, move |method, body| {
        let mut rm = state.lock().unwrap();
        if method == "finishApplicationMaster" && rm.finish_calls == 1 {
            // A restart in the middle of the end.
            *rm = Rm { finish_calls: 2, ..Rm::default() };
            return NOT_REGISTERED;
        }
        rm.take(method, body)
    })
    .await;
    let mut session = session(&server);
    let (commands, for_session) = mpsc::channel(8);
    let (events, mut from_session) = mpsc::unbounded_channel();
    let pace = Pace { urgent: Duration::from_millis(5), calm: Duration::from_secs(600) };
    let runner = tokio::spawn(async move { session.run(pace, for_session, events).await });
    assert!(matches!(from_session.recv().await.unwrap()[0], RmEvent::Registered(_)));
    let ask = AskId::first(ATTEMPT);
    commands.send(RmCommand::Ask(ask, small())).await.unwrap();
    commands.send(RmCommand::Ask(ask, small())).await.unwrap();
    loop {
        let news = from_session.recv().await.unwrap();
        if matches!(news[..], [RmEvent::AskRefused(id, _)] if id == ask) {
            break;
        }
    }
    while rm.lock().unwrap().asks.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report =
        FinalReport { status: FinalStatus::Failed, diagnostics: "x".into(), tracking_url: String::new() };
    commands.send(RmCommand::Finish(report, Duration::from_secs(20))).await.unwrap();
    assert!(runner.await.unwrap().unwrap(), "unregistered");
    assert_eq!(rm.lock().unwrap().finish_calls, 3);
}

// ---- the client

fn client(server: &FakeServer) -> YarnClient {
    let auth = Auth::Simple { user: "alice".into(), real_user: None };
    YarnClient::new(vec![server.address.clone()], auth, IpcOptions::default(), policy())
}

fn submission() -> Submission {
    Submission::new("job", Resource::new(64, 1), LaunchContext::new(Command::new("./x")))
}

fn wait() -> Wait {
    Wait { poll: Duration::from_millis(2), deadline: Duration::from_secs(20) }
}

fn report(state: i32, diagnostics: &str) -> Reply {
    answer(&proto::GetApplicationReportResponse {
        application_report: Some(proto::ApplicationReport {
            application_id: Some(APP.into()),
            yarn_application_state: Some(state),
            diagnostics: Some(diagnostics.into()),
            ..Default::default()
        }),
    })
}

#[tokio::test]
async fn a_forgotten_submission_is_made_again() {
    let submitted = Arc::new(Mutex::new(0));
    let (count, mut reports) = (submitted.clone(), 0);
    let server = serve(false, move |method, body| match method {
        "submitApplication" => {
            let request = proto::SubmitApplicationRequest::decode(body).unwrap();
            let context = request.application_submission_context.unwrap();
            assert_eq!(context.application_id.unwrap().plain(), Some(APP));
            *count.lock().unwrap() += 1;
            answer(&proto::SubmitApplicationResponse {})
        }
        _ => {
            reports += 1;
            match reports {
                1 => report(2, ""),
                2 => {
                    Reply::Exception("ApplicationNotFoundException", "Application with id ... doesn't exist")
                }
                3 => report(3, ""),
                _ => report(4, "waiting"),
            }
        }
    })
    .await;
    let accepted = client(&server).submit(APP, &submission(), wait()).await.unwrap();
    assert_eq!(accepted.diagnostics, "waiting");
    assert_eq!(*submitted.lock().unwrap(), 2);
}

#[tokio::test]
async fn refused_and_stuck_submissions_say_why() {
    let server = serve(false, |method, _| match method {
        "submitApplication" => Reply::Exception("YarnException", "submitted to unknown queue: x"),
        _ => Reply::HangUp,
    })
    .await;
    let error = client(&server).submit(APP, &submission(), wait()).await.unwrap_err();
    assert!(
        matches!(&error, YarnError::Refused { message, .. } if message.contains("unknown queue")),
        "{error}"
    );

    let failing = |state| {
        move |method: &str, _: &[u8]| match method {
            "submitApplication" => answer(&proto::SubmitApplicationResponse {}),
            _ => report(state, "Failed to renew token"),
        }
    };
    let server = serve(false, failing(7)).await;
    let error = client(&server).submit(APP, &submission(), wait()).await.unwrap_err();
    assert!(
        matches!(&error, YarnError::Refused { message, .. } if message == "Failed to renew token"),
        "{error}"
    );

    let server = serve(false, failing(2)).await;
    let short = Wait { deadline: Duration::from_millis(30), ..wait() };
    let error = client(&server).submit(APP, &submission(), short).await.unwrap_err();
    assert!(matches!(&error, YarnError::Timeout { last, .. } if last.contains("NEW_SAVING")), "{error}");
}

#[tokio::test]
async fn a_kill_is_repeated_until_it_is_done() {
    let mut calls = 0;
    let server = serve(false, move |method, _| {
        assert_eq!(method, "forceKillApplication");
        calls += 1;
        answer(&proto::KillApplicationResponse { is_kill_completed: Some(calls == 3) })
    })
    .await;
    client(&server).kill(APP, "enough", wait()).await.unwrap();
}

// ---- NodeManagers

fn container(server: &FakeServer) -> Container {
    let (host, port) = server.address.rsplit_once(':').unwrap();
    Container {
        id: ContainerId { attempt: ATTEMPT, id: 2 },
        node: NodeId::new(host, port.parse().unwrap()),
        http_address: String::new(),
        resource: Resource::new(64, 1),
        ask: AskId(1),
        token: Some(token()),
    }
}

fn nodes(container: &Container, retry_for: Duration) -> NodeManagers {
    let options = NmOptions { retry_for, retry_delay: Duration::from_millis(5), ..NmOptions::default() };
    let nodes = NodeManagers::new(options);
    nodes.set_token(&container.node, token());
    nodes
}

fn failed(class: &str, message: &str) -> Reply {
    answer(&proto::StartContainersResponse {
        failed_requests: vec![proto::ContainerException {
            container_id: Some(ContainerId { attempt: ATTEMPT, id: 2 }.into()),
            exception: Some(proto::SerializedException {
                class_name: Some(class.into()),
                message: Some(message.into()),
                ..Default::default()
            }),
        }],
        ..Default::default()
    })
}

const RELAUNCH: &str =
    "Unauthorized request to start container.\n Attempt to relaunch the same container with id x";

async fn start(
    mut replies: impl FnMut(u32) -> Reply + Send + 'static,
    retry_for: Duration,
) -> Result<(), NmError> {
    let mut calls = 0;
    let server = serve(true, move |method, _| {
        assert_eq!(method, "startContainers");
        calls += 1;
        replies(calls)
    })
    .await;
    let container = container(&server);
    nodes(&container, retry_for).start(&container, &LaunchContext::new(Command::new("./x"))).await
}

#[tokio::test]
async fn a_start_whose_answer_was_lost_is_believed_when_the_node_says_so() {
    let long = Duration::from_secs(30);
    let lost = |call| if call == 1 { Reply::HangUp } else { failed("YarnException", RELAUNCH) };
    start(lost, long).await.unwrap();
    let error = start(|_| failed("YarnException", RELAUNCH), long).await.unwrap_err();
    assert!(matches!(error, NmError::Refused { .. }), "a second start is an error: {error}");
}

#[tokio::test]
async fn a_node_that_is_not_ready_is_tried_again_and_not_for_ever() {
    let not_ready = || Reply::Exception("NMNotYetReadyException", "not yet connected with ResourceManager");
    let done = || answer(&proto::StartContainersResponse::default());
    start(move |call| if call < 4 { not_ready() } else { done() }, Duration::from_secs(30)).await.unwrap();
    let error = start(move |_| not_ready(), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, NmError::Ipc(_)), "{error}");
}

#[tokio::test]
async fn stopping_what_is_gone_succeeds() {
    let server = serve(true, |method, _| {
        assert_eq!(method, "stopContainers");
        let text = "Container x is not handled by this NodeManager";
        let Reply::Answer(bytes) = failed("YarnException", text) else { unreachable!("an answer") };
        let failed_requests = proto::StartContainersResponse::decode(&bytes[..]).unwrap().failed_requests;
        answer(&proto::StopContainersResponse { failed_requests, ..Default::default() })
    })
    .await;
    let container = container(&server);
    nodes(&container, Duration::from_secs(5)).stop(&container.node, container.id).await.unwrap();
}
