//! The cluster of a YARN application: asks to the ResourceManager, starts on NodeManagers, their news as events.

use crate::bundle::EXECUTABLE;
use crate::machine::{Action, Event, Exit, ExitKind};
use crate::plan::NearHost;
use ringspin_control::status::Outcome;
use ringspin_hadoop::ids::{ApplicationAttemptId, ApplicationId, ContainerId};
use ringspin_hadoop::yarn::am::{
    Ask, AskId, Completion, Container, ContainerExit, FinalReport, Locality, Pace, Place, Registration,
    RmCommand, RmEndpoint, RmEvent, RmSession,
};
use ringspin_hadoop::yarn::command::Command;
use ringspin_hadoop::yarn::launch::LaunchContext;
use ringspin_hadoop::yarn::nm::{NmError, NmOptions, NodeManagers};
use ringspin_hadoop::yarn::report::FinalStatus;
use ringspin_hadoop::yarn::resource::Resource;
use ringspin_hadoop::yarn::web::ResourceManagerWeb;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Commands that may wait for the session with the ResourceManager.
const COMMAND_QUEUE: usize = 1024;
/// How long the ResourceManager may take to store the end of the application.
const FINISH_DEADLINE: Duration = Duration::from_secs(60);
/// Between two questions why containers do not come: the scheduler records some seconds after the first.
const WHY_INTERVAL: Duration = Duration::from_secs(2);
/// Priority of workers among the application's own asks.
const WORKER_PRIORITY: u32 = 1;
/// The ResourceManager cuts diagnostics at 64 KiB by default; a cause that needs more is none.
const MAX_DIAGNOSTICS_BYTES: usize = 16 << 10;

/// What is needed to run workers on YARN.
pub struct YarnOptions {
    /// The ResourceManager and this attempt's token.
    pub endpoint: RmEndpoint,
    /// This attempt.
    pub attempt: ApplicationAttemptId,
    /// Where this AM can be reached.
    pub registration: Registration,
    /// How often to talk to the ResourceManager.
    pub pace: Pace,
    /// Deadlines towards NodeManagers.
    pub nodes: NmOptions,
    /// What every worker is started with, but for its command.
    pub launch: LaunchContext,
    /// Arguments of every worker, but for its slot.
    pub worker_arguments: Vec<String>,
    /// Size of a worker's container.
    pub resource: Resource,
    /// Node label of workers.
    pub node_label: Option<String>,
    /// The ResourceManager's web services, which tell why containers do not come.
    pub web: Option<ResourceManagerWeb>,
    /// User of the application, for log addresses.
    pub user: String,
}

/// Containers that are ours, by id as text.
type Containers = Arc<Mutex<BTreeMap<String, Container>>>;

/// A YARN application's containers.
pub struct YarnCluster {
    commands: mpsc::Sender<RmCommand>,
    session: JoinHandle<bool>,
    nodes: NodeManagers,
    containers: Containers,
    events: mpsc::Sender<Event>,
    ask: AskId,
    worker: Worker,
    application: ApplicationId,
    web: Option<ResourceManagerWeb>,
    /// Asks the scheduler why containers do not come, while some are waited for.
    asking_why: Option<JoinHandle<()>>,
    /// Containers still to come.
    outstanding: usize,
}

/// How a worker is asked for and started.
struct Worker {
    launch: LaunchContext,
    arguments: Vec<String>,
    resource: Resource,
    node_label: Option<String>,
}

impl Drop for YarnCluster {
    fn drop(&mut self) {
        if let Some(task) = self.asking_why.take() {
            task.abort();
        }
    }
}

impl YarnCluster {
    /// Registers in the background; [`Event::Registered`] tells when that is done.
    pub fn start(options: YarnOptions, events: mpsc::Sender<Event>) -> Self {
        let (commands, command_queue) = mpsc::channel(COMMAND_QUEUE);
        let (news_sender, news) = mpsc::unbounded_channel();
        let nodes = NodeManagers::new(options.nodes);
        let containers = Containers::default();
        let translator = Translator {
            nodes: nodes.clone(),
            containers: Arc::clone(&containers),
            commands: commands.clone(),
            events: events.clone(),
            user: options.user,
        };
        tokio::spawn(translator.run(news));
        let mut session = RmSession::new(options.endpoint, options.attempt, options.registration);
        let gone = events.clone();
        let session = tokio::spawn(async move {
            match session.run(options.pace, command_queue, news_sender).await {
                Ok(unregistered) => unregistered,
                Err(error) => {
                    tracing::error!("the session with the ResourceManager has ended: {error}");
                    // Nobody takes it when the job is ending anyway.
                    let _ = gone.try_send(Event::ClusterGone(error.to_string()));
                    false
                }
            }
        });
        YarnCluster {
            commands,
            session,
            nodes,
            containers,
            events,
            ask: AskId::first(options.attempt),
            application: options.attempt.application,
            web: options.web,
            asking_why: None,
            outstanding: 0,
            worker: Worker {
                launch: options.launch,
                arguments: options.worker_arguments,
                resource: options.resource,
                node_label: options.node_label,
            },
        }
    }

    /// Carries out an action of the machine that is the cluster's.
    pub async fn act(&mut self, action: Action) {
        match action {
            Action::Ask { count, hosts } => self.ask(count, hosts).await,
            Action::Avoid { host } => self.command(RmCommand::Blacklist(host)).await,
            Action::Release { container } => {
                if let Some(container) = lock(&self.containers).remove(&container) {
                    let _ = self.commands.try_send(RmCommand::Release(container.id));
                }
            }
            Action::Launch { slot, container } => {
                self.outstanding = self.outstanding.saturating_sub(1);
                self.ask_why();
                self.launch(slot, &container);
            }
            Action::Stop { container } => self.stop(&container),
            _ => {}
        }
    }

    /// Shows in the ResourceManager how far the job is, 0 to 1.
    pub fn progress(&mut self, progress: f32) {
        let _ = self.commands.try_send(RmCommand::Progress(progress));
    }

    /// Unregisters; returns when the ResourceManager has stored the end, or will not in time. Whether it has.
    pub async fn finish(&mut self, outcome: &Outcome) -> bool {
        let (status, diagnostics) = match outcome {
            Outcome::Succeeded { .. } => (FinalStatus::Succeeded, ""),
            Outcome::Failed { diagnostics } => (FinalStatus::Failed, diagnostics.as_str()),
            Outcome::Killed { diagnostics } => (FinalStatus::Killed, diagnostics.as_str()),
        };
        let end = diagnostics.floor_char_boundary(MAX_DIAGNOSTICS_BYTES);
        let report =
            FinalReport { status, diagnostics: diagnostics[..end].to_string(), tracking_url: String::new() };
        self.command(RmCommand::Finish(report, FINISH_DEADLINE)).await;
        // The session's own calls may each be tried for much longer.
        match tokio::time::timeout(FINISH_DEADLINE, &mut self.session).await {
            Ok(Ok(unregistered)) => unregistered,
            Ok(Err(error)) => {
                tracing::error!("the session with the ResourceManager ended badly: {error}");
                false
            }
            Err(_) => {
                tracing::error!("the ResourceManager has not stored the end within {FINISH_DEADLINE:?}");
                false
            }
        }
    }

    async fn command(&self, command: RmCommand) {
        // The session has ended when nobody takes commands: that is an event of its own.
        let _ = self.commands.send(command).await;
    }

    /// States anew how many containers are wanted: the old ask is withdrawn, what it still brings is surplus.
    async fn ask(&mut self, count: usize, hosts: Vec<NearHost>) {
        self.outstanding = count;
        self.ask_why();
        self.command(RmCommand::Withdraw(self.ask, u32::MAX)).await;
        if count == 0 {
            return;
        }
        self.ask = self.ask.following();
        let place = |near: NearHost| Place { host: near.host, rack: near.rack };
        let ask = Ask {
            priority: WORKER_PRIORITY,
            resource: self.worker.resource.clone(),
            count: u32::try_from(count).unwrap_or(u32::MAX),
            places: hosts.into_iter().map(place).collect(),
            locality: Locality::Preferred,
            node_label: self.worker.node_label.clone(),
        };
        self.command(RmCommand::Ask(self.ask, ask)).await;
    }

    /// Starts or ends the questions why containers do not come.
    fn ask_why(&mut self) {
        let Some(web) = self.web.clone().filter(|_| self.outstanding > 0) else {
            if let Some(task) = self.asking_why.take() {
                task.abort();
            }
            return;
        };
        if self.asking_why.is_some() {
            return;
        }
        let (application, events) = (self.application, self.events.clone());
        self.asking_why = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(WHY_INTERVAL).await;
                let reasons = match web.waiting_reasons(application).await {
                    Ok(reasons) => reasons,
                    Err(error) => {
                        tracing::debug!("why containers do not come: {error}");
                        continue;
                    }
                };
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                if !reasons.is_empty() && events.send(Event::StillWaiting(reasons.join("; "))).await.is_err()
                {
                    return;
                }
            }
        }));
    }

    fn launch(&self, slot: u64, container: &str) {
        let Some(container) = lock(&self.containers).get(container).cloned() else { return };
        let slot_text = slot.to_string();
        let command = Command::new(format!("./{EXECUTABLE}"))
            .args(self.worker.arguments.iter().cloned())
            .args(["--slot", slot_text.as_str()]);
        let launch = self.worker.launch.clone().command(command);
        let (nodes, events) = (self.nodes.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Err(error) = nodes.start(&container, &launch).await {
                let passing = matches!(error, NmError::PreviousResourceManager(_) | NmError::Expired { .. });
                let reason = error.to_string();
                let _ = events.send(Event::LaunchFailed { slot, reason, passing }).await;
            }
        });
    }

    /// The NodeManager ends the process at once; the release tells the ResourceManager.
    fn stop(&self, container: &str) {
        let Some(container) = lock(&self.containers).get(container).cloned() else { return };
        let (nodes, commands) = (self.nodes.clone(), self.commands.clone());
        tokio::spawn(async move {
            if let Err(error) = nodes.stop(&container.node, container.id).await {
                tracing::warn!("{} could not be stopped: {error}", container.id);
            }
            let _ = commands.send(RmCommand::Release(container.id)).await;
        });
    }
}

/// Turns the ResourceManager's news into the machine's events.
struct Translator {
    nodes: NodeManagers,
    containers: Containers,
    commands: mpsc::Sender<RmCommand>,
    events: mpsc::Sender<Event>,
    user: String,
}

impl Translator {
    async fn run(self, mut news: mpsc::UnboundedReceiver<Vec<RmEvent>>) {
        while let Some(news) = news.recv().await {
            for event in news {
                if let Some(event) = self.translate(event)
                    && self.events.send(event).await.is_err()
                {
                    return;
                }
            }
        }
    }

    fn translate(&self, event: RmEvent) -> Option<Event> {
        match event {
            RmEvent::Registered(_) => Some(Event::Registered),
            RmEvent::NodeToken { node, token } => {
                self.nodes.set_token(&node, token);
                None
            }
            RmEvent::AskRefused(_, error) => {
                Some(Event::Refused(format!("the workers' containers: {error}")))
            }
            RmEvent::Refused(reason) => Some(Event::Refused(reason)),
            RmEvent::Allocated(container) => Some(self.allocated(container)),
            RmEvent::Completed(completion) => Some(self.completed(completion)),
            RmEvent::Recovered(container) => {
                tracing::info!("{} of an earlier attempt still runs: stopped", container.id);
                self.stop_foreign(container);
                None
            }
            RmEvent::Resynced => {
                tracing::warn!("the ResourceManager was restarted and has taken this application up again");
                None
            }
            RmEvent::Preemption(preemption) => {
                tracing::warn!("YARN asks containers back: {preemption:?}");
                None
            }
            RmEvent::NodeChanged(report) => {
                tracing::info!("node {}: {}", report.id, report.state);
                None
            }
            RmEvent::AmRmToken(_) | RmEvent::Surplus(_) | RmEvent::Cluster { .. } => None,
        }
    }

    fn allocated(&self, container: Container) -> Event {
        let (id, host) = (container.id.to_string(), container.node.host.clone());
        let log_url =
            Some(format!("http://{}/node/containerlogs/{id}/{}", container.http_address, self.user));
        lock(&self.containers).insert(id.clone(), container);
        Event::Allocated { container: id, host, log_url }
    }

    fn completed(&self, completion: Completion) -> Event {
        let container = completion.id.to_string();
        lock(&self.containers).remove(&container);
        let kind = exit_kind(completion.exit);
        Event::Exited { container, exit: Exit { kind, diagnostics: completion.diagnostics } }
    }

    fn stop_foreign(&self, container: Container) {
        let (nodes, commands) = (self.nodes.clone(), self.commands.clone());
        tokio::spawn(async move {
            let id: ContainerId = container.id;
            if let Err(error) = nodes.stop(&container.node, id).await {
                tracing::warn!("{id} could not be stopped: {error}");
            }
            let _ = commands.send(RmCommand::Release(id)).await;
        });
    }
}

fn exit_kind(exit: ContainerExit) -> ExitKind {
    match exit {
        ContainerExit::Succeeded => ExitKind::Code(0),
        ContainerExit::Failed { code } => ExitKind::Code(code),
        ContainerExit::KilledForMemory { .. } => ExitKind::OverMemory,
        ContainerExit::Preempted | ContainerExit::ByNodeScheduler => ExitKind::Preempted,
        ContainerExit::NodeLost | ContainerExit::DisksFailed => ExitKind::NodeLost,
        ContainerExit::Expired => ExitKind::Expired,
        ContainerExit::LocalizationFailed => ExitKind::Localization,
        ContainerExit::Released | ContainerExit::ByApplicationMaster => ExitKind::Ours,
        ContainerExit::KilledForLogs
        | ContainerExit::Aborted
        | ContainerExit::ByResourceManager
        | ContainerExit::AfterApplication
        | ContainerExit::Unknown => ExitKind::Unknown,
    }
}

fn lock(containers: &Containers) -> MutexGuard<'_, BTreeMap<String, Container>> {
    containers.lock().unwrap_or_else(PoisonError::into_inner)
}
