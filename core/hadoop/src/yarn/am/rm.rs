//! Carries an [`AllocateSession`] over IPC: one call at a time, registration when it is needed, the last report.

use super::asks::{Ask, AskId};
use super::event::RmEvent;
use super::session::{AllocateSession, Reaction};
use crate::credentials::Token;
use crate::ids::{ApplicationAttemptId, ContainerId};
use crate::ipc::{Auth, FailoverClient, IpcError, IpcOptions, Protocol, RemoteException, RetryPolicy};
use crate::yarn::proto;
use crate::yarn::report::FinalStatus;
use std::time::Duration;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The protocol, at `yarn.resourcemanager.scheduler.address` (port 8030).
pub const PROTOCOL: Protocol =
    Protocol { name: "org.apache.hadoop.yarn.api.ApplicationMasterProtocolPB", version: 1 };
/// Corrections in a row (new number, new registration) after which a heartbeat gives up: more is a quarrel.
const MAX_CORRECTIONS: u32 = 4;
/// Tries with a token that is refused: the newest one may be on its way into the connection.
const MAX_TOKEN_TRIES: u32 = 3;
/// Between these tries.
const TOKEN_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Between two questions whether the ResourceManager has stored the end (3 to 5 are needed, 50 to 95 ms).
const FINISH_POLL: Duration = Duration::from_millis(20);

/// Why the ResourceManager is of no use any more.
#[derive(Clone, Debug, Error)]
pub enum RmError {
    /// This attempt is over: another one may run already. Stop, and exit without unregistering.
    #[error("this ApplicationMaster's attempt is over: {0}")]
    AttemptGone(String),
    /// A request is wrong and would be refused again.
    #[error("the ResourceManager refuses the request: {0}")]
    Refused(String),
    /// The ResourceManager did not say in time that the end is stored.
    #[error("the ResourceManager has not stored the end of the application within {:.0} s", .0.as_secs_f64())]
    FinishTimeout(Duration),
    /// No answer.
    #[error(transparent)]
    Ipc(#[from] IpcError),
}

/// How an AM can be reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// Host name.
    pub host: String,
    /// A port of the AM's choice; `None`: none.
    pub port: Option<u16>,
    /// Web page, `http://host:port/`; empty: none.
    pub tracking_url: String,
}

/// The last thing an AM says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalReport {
    /// How the application ended. An application that ended as failed is not tried again.
    pub status: FinalStatus,
    /// Why, for users.
    pub diagnostics: String,
    /// Where the history of the application is; empty: nowhere.
    pub tracking_url: String,
}

/// How often to talk to the ResourceManager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// While containers are to come or something is to be said.
    pub urgent: Duration,
    /// Otherwise; at most a third of `yarn.am.liveness-monitor.expiry-interval-ms`.
    pub calm: Duration,
}

impl Default for Pace {
    /// Faster than 100 ms buys nothing where NodeManagers report once a second.
    fn default() -> Self {
        Pace { urgent: Duration::from_millis(100), calm: Duration::from_secs(1) }
    }
}

impl Pace {
    /// Time from one heartbeat to the next.
    pub fn interval(&self, urgent: bool) -> Duration {
        if urgent { self.urgent } else { self.calm }
    }
}

/// What an AM wants of a running [`RmSession`].
#[derive(Clone, Debug, PartialEq)]
pub enum RmCommand {
    /// Containers, under a number larger than all before. [`RmEvent::AskRefused`] when they cannot be had.
    Ask(AskId, Ask),
    /// So many containers less of an ask.
    Withdraw(AskId, u32),
    /// Give a container back.
    Release(ContainerId),
    /// Forget a container that a restarted ResourceManager does not know.
    Forget(ContainerId),
    /// No containers on this host.
    Blacklist(String),
    /// Containers on this host again.
    Unblacklist(String),
    /// Progress, 0 to 1.
    Progress(f32),
    /// New tracking URL.
    TrackingUrl(String),
    /// Unregister within this time: the last command.
    Finish(FinalReport, Duration),
}

/// Where the ResourceManager is and how to talk to it.
#[derive(Clone, Debug)]
pub struct RmEndpoint {
    /// Scheduler addresses, `host:port`: one, or all of a highly available cluster.
    pub addresses: Vec<String>,
    /// The AMRM token of this attempt.
    pub token: Token,
    /// Deadlines of one call.
    pub options: IpcOptions,
    /// How long a ResourceManager may be away.
    pub policy: RetryPolicy,
}

/// A registered (or soon registered) AM's session with the ResourceManager.
pub struct RmSession {
    rm: FailoverClient,
    session: AllocateSession,
    registration: Registration,
    registered: bool,
    /// A registration was taken before: the next one is a resync.
    known: bool,
    /// What has happened and was not handed out yet: nothing is lost when a call is dropped half-way.
    events: Vec<RmEvent>,
}

enum Call {
    Register(proto::RegisterApplicationMasterRequest),
    Allocate(proto::AllocateRequest),
}

enum Answer {
    Register(Result<proto::RegisterApplicationMasterResponse, IpcError>),
    Allocate(Result<proto::AllocateResponse, IpcError>),
}

impl RmSession {
    /// A session of `attempt`; nothing is sent yet.
    pub fn new(endpoint: RmEndpoint, attempt: ApplicationAttemptId, registration: Registration) -> Self {
        let RmEndpoint { addresses, token, options, policy } = endpoint;
        RmSession {
            rm: FailoverClient::new(addresses, PROTOCOL, Auth::Token { token }, options, policy),
            session: AllocateSession::new(attempt),
            registration,
            registered: false,
            known: false,
            events: Vec::new(),
        }
    }

    /// The state, to ask, release and so on between heartbeats.
    pub fn state(&mut self) -> &mut AllocateSession {
        &mut self.session
    }

    /// Registers, unless that has been done.
    ///
    /// This and the calls below may be dropped half-way and made again.
    pub async fn register(&mut self) -> Result<Vec<RmEvent>, RmError> {
        if !self.registered {
            let answer = perform(&self.rm, self.next_call_register()).await;
            self.take(answer)?;
        }
        Ok(std::mem::take(&mut self.events))
    }

    /// Makes one allocate call, and whatever it takes to have it answered.
    pub async fn heartbeat(&mut self) -> Result<Vec<RmEvent>, RmError> {
        for _ in 0..MAX_CORRECTIONS {
            let call = self.next_call();
            let answer = perform(&self.rm, call).await;
            if self.take(answer)? {
                return Ok(std::mem::take(&mut self.events));
            }
        }
        Err(quarrel())
    }

    /// Unregisters, and waits until the ResourceManager has stored the end. Exit soon afterwards; containers
    /// that still run are killed when this process is gone, not before.
    pub async fn finish(&mut self, report: &FinalReport, deadline: Duration) -> Result<(), RmError> {
        let request = proto::FinishApplicationMasterRequest {
            diagnostics: Some(report.diagnostics.clone()),
            tracking_url: Some(report.tracking_url.clone()),
            final_application_status: Some(report.status.number()),
        };
        let begun = Instant::now();
        loop {
            self.events = self.register().await?;
            let answer: Result<proto::FinishApplicationMasterResponse, _> =
                call(&self.rm, "finishApplicationMaster", &request).await;
            match answer {
                Ok(answer) if answer.is_unregistered == Some(true) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.is_exception("ApplicationMasterNotRegisteredException") => {
                    self.registered = false;
                }
                Err(error) => return Err(ended(error)),
            }
            if begun.elapsed() >= deadline {
                return Err(RmError::FinishTimeout(deadline));
            }
            tokio::time::sleep(FINISH_POLL).await;
        }
    }

    /// Drives the session: a heartbeat at every interval of `pace`, commands at any time, events out, until
    /// [`RmCommand::Finish`] or the end of either channel. `Ok(true)`: unregistered.
    ///
    /// Events go to a channel without bound: a receiver that is itself waiting to send a command can not stop
    /// the heartbeat, and the ResourceManager sets their rate.
    pub async fn run(
        &mut self,
        pace: Pace,
        mut commands: mpsc::Receiver<RmCommand>,
        events: mpsc::UnboundedSender<Vec<RmEvent>>,
    ) -> Result<bool, RmError> {
        let mut last_beat: Option<Instant> = None;
        let mut corrections = 0;
        loop {
            let due = match last_beat {
                Some(beat) if corrections == 0 => beat + pace.interval(self.session.is_urgent()),
                _ => Instant::now(),
            };
            tokio::select! {
                command = commands.recv() => match command {
                    None => return Ok(false),
                    Some(RmCommand::Finish(report, deadline)) => {
                        return self.finish(&report, deadline).await.map(|()| true);
                    }
                    Some(command) => self.apply(command),
                },
                () = tokio::time::sleep_until(due) => {
                    last_beat = Some(Instant::now());
                    let rm = self.rm.clone();
                    let mut answer = Box::pin(perform(&rm, self.next_call()));
                    // Commands go on being taken while the ResourceManager is slow or away.
                    let answer = loop {
                        tokio::select! {
                            answer = &mut answer => break answer,
                            command = commands.recv() => match command {
                                None => return Ok(false),
                                Some(RmCommand::Finish(report, deadline)) => {
                                    drop(answer);
                                    return self.finish(&report, deadline).await.map(|()| true);
                                }
                                Some(command) => self.apply(command),
                            },
                        }
                    };
                    corrections = if self.take(answer)? { 0 } else { corrections + 1 };
                    if corrections >= MAX_CORRECTIONS {
                        return Err(quarrel());
                    }
                }
            }
            if !self.events.is_empty() && events.send(std::mem::take(&mut self.events)).is_err() {
                return Ok(false);
            }
        }
    }

    fn next_call_register(&self) -> Call {
        Call::Register(proto::RegisterApplicationMasterRequest {
            host: Some(self.registration.host.clone()),
            rpc_port: Some(self.registration.port.map_or(-1, i32::from)),
            tracking_url: Some(self.registration.tracking_url.clone()),
        })
    }

    fn next_call(&mut self) -> Call {
        if self.registered { Call::Allocate(self.session.request()) } else { self.next_call_register() }
    }

    /// Takes an answer; true when it was that of an allocate call and nothing needs to be said at once.
    fn take(&mut self, answer: Answer) -> Result<bool, RmError> {
        let (news, reaction) = match answer {
            Answer::Register(answer) => {
                let news = match answer {
                    Ok(answer) => self.session.registered(answer),
                    Err(IpcError::Remote { exception, .. }) if is_already_registered(&exception) => {
                        self.session.already_registered()
                    }
                    Err(error) => return Err(ended(error)),
                };
                self.registered = true;
                self.events.extend(news);
                if std::mem::replace(&mut self.known, true) {
                    self.events.push(RmEvent::Resynced);
                }
                return Ok(false);
            }
            Answer::Allocate(Ok(answer)) => self.session.response(answer),
            Answer::Allocate(Err(IpcError::Remote { exception, .. })) => self.session.refused(&exception),
            Answer::Allocate(Err(error)) => return Err(ended(error)),
        };
        for event in &news {
            if let RmEvent::AmRmToken(token) = event {
                self.rm.set_token(token.clone());
            }
        }
        self.events.extend(news);
        match reaction {
            Reaction::Continue => Ok(true),
            Reaction::Again => Ok(false),
            Reaction::Register => {
                self.registered = false;
                Ok(false)
            }
            Reaction::Gone(why) => Err(RmError::AttemptGone(why)),
        }
    }

    fn apply(&mut self, command: RmCommand) {
        match command {
            RmCommand::Ask(id, ask) => {
                if let Err(error) = self.session.ask(id, ask) {
                    self.events.push(RmEvent::AskRefused(id, error));
                }
            }
            RmCommand::Withdraw(ask, count) => {
                self.session.withdraw(ask, count);
            }
            RmCommand::Release(container) => self.session.release(container),
            RmCommand::Forget(container) => self.session.forget(container),
            RmCommand::Blacklist(host) => self.session.blacklist(&host),
            RmCommand::Unblacklist(host) => self.session.unblacklist(&host),
            RmCommand::Progress(progress) => self.session.set_progress(progress),
            RmCommand::TrackingUrl(url) => self.session.set_tracking_url(url),
            RmCommand::Finish(..) => unreachable!("the loop takes Finish itself"),
        }
    }
}

async fn perform(rm: &FailoverClient, request: Call) -> Answer {
    match request {
        Call::Register(request) => Answer::Register(call(rm, "registerApplicationMaster", &request).await),
        Call::Allocate(request) => Answer::Allocate(call(rm, "allocate", &request).await),
    }
}

/// One call; repeating any of this protocol's does no harm.
async fn call<Q, R>(rm: &FailoverClient, method: &'static str, request: &Q) -> Result<R, IpcError>
where
    Q: prost::Message,
    R: prost::Message + Default,
{
    let mut tries = 1;
    loop {
        match crate::yarn::call(rm, method, request, true).await {
            Err(IpcError::InvalidToken { .. }) if tries < MAX_TOKEN_TRIES => {
                tries += 1;
                tokio::time::sleep(TOKEN_RETRY_DELAY).await;
            }
            answer => return answer,
        }
    }
}

fn quarrel() -> RmError {
    RmError::Refused(format!("{MAX_CORRECTIONS} corrections in a row did not settle the session"))
}

fn is_already_registered(exception: &RemoteException) -> bool {
    exception.short_class() == "InvalidApplicationMasterRequestException"
        && exception.message.contains("already registered")
}

fn refused(exception: &RemoteException) -> RmError {
    match exception.short_class() {
        "ApplicationAttemptNotFoundException" => RmError::AttemptGone(exception.message.clone()),
        _ => RmError::Refused(exception.to_string()),
    }
}

fn ended(error: IpcError) -> RmError {
    match &error {
        IpcError::InvalidToken { exception, .. } => RmError::AttemptGone(exception.message.clone()),
        IpcError::Remote { exception, .. } => refused(exception),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_fast_while_something_is_pending() {
        let pace = Pace::default();
        assert_eq!(pace.interval(true), Duration::from_millis(100));
        assert_eq!(pace.interval(false), Duration::from_secs(1));
    }

    #[test]
    fn refusals_tell_the_reaction() {
        let exception = |class: &str, message: &str| RemoteException {
            class: format!("org.apache.hadoop.yarn.exceptions.{class}"),
            message: message.into(),
            stack: String::new(),
        };
        let gone = exception("ApplicationAttemptNotFoundException", "unknown");
        assert!(matches!(refused(&gone), RmError::AttemptGone(_)));
        assert!(matches!(refused(&exception("InvalidResourceRequestException", "x")), RmError::Refused(_)));
        let again = "Application Master is already registered : application_1_0001";
        assert!(is_already_registered(&exception("InvalidApplicationMasterRequestException", again)));
        assert!(!is_already_registered(&exception("InvalidApplicationMasterRequestException", "expect")));
    }
}
