//! The AM at work: events in, decisions from the machine, actions out to the edges.

use crate::local::LocalCluster;
use crate::machine::{Action, Event, Job, Machine};
use crate::planner::Planner;
use crate::web::{self, Access};
use crate::workers::{self, Workers};
use crate::yarn::YarnCluster;
use ringspin_control::status::{Outcome, Phase, Status};
use ringspin_job::JobSecret;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

/// Events that may wait for the machine; it is quick, and who sends too much waits.
const EVENT_QUEUE: usize = 1024;
/// How often time passes for the machine.
const TICK: Duration = Duration::from_millis(100);
/// How often observers and the page see a new status at most.
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
/// How long observers get to read the last status.
const LAST_STATUS_GRACE: Duration = Duration::from_millis(300);

/// Where workers come from.
pub enum Cluster {
    /// Processes of this machine.
    Local(LocalCluster),
    /// Containers of a YARN application.
    Yarn(Box<YarnCluster>),
}

/// Everything one attempt needs.
pub struct Attempt {
    /// The job.
    pub job: Job,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// What workers and observers prove.
    pub secret: JobSecret,
    /// The workers' door.
    pub door: TcpListener,
    /// The page's listener and who may look.
    pub page: Option<(TcpListener, Access)>,
    /// Looks at the input and moves the output.
    pub planner: Planner,
    /// What happened before this process began: `(what, milliseconds since 1970)`.
    pub marks: Vec<(String, u64)>,
}

/// The channel that a cluster reports on; made before the cluster is.
pub fn event_channel() -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
    mpsc::channel(EVENT_QUEUE)
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// How the job ended.
    pub outcome: Outcome,
    /// Whether the cluster knows: otherwise it may start another attempt.
    pub told: bool,
}

/// Runs one attempt to its end. `on_status` sees every published status.
pub async fn run(
    attempt: Attempt,
    mut cluster: Cluster,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    mut on_status: impl FnMut(&Status),
) -> Ended {
    let (sender, mut receiver) = events;
    let begun = Instant::now();
    let mut machine = Machine::new(attempt.job, begun.elapsed());
    for (what, at_ms) in &attempt.marks {
        machine.mark(what, *at_ms);
    }
    let planner = Arc::new(attempt.planner);
    let (status, watcher) = watch::channel(machine.status());
    let workers = Workers::default();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(workers::serve(
        attempt.door,
        attempt.secret,
        attempt.attempt,
        workers.clone(),
        sender.clone(),
        watcher.clone(),
    ));
    if let Some((listener, access)) = attempt.page {
        tasks.spawn(async move {
            if let Err(error) = web::serve(listener, access, watcher).await {
                tracing::warn!("the status page has ended: {error}");
            }
        });
    }
    let mut actions = machine.begin();
    let mut ticks = tokio::time::interval(TICK);
    let mut published = Instant::now();
    let mut phase = machine.phase();
    loop {
        for action in actions.drain(..) {
            match action {
                Action::Plan | Action::Commit => planner.act(action, sender.clone()),
                // Awaited: what is left of the output must be gone before the job has ended.
                Action::Discard => planner.discard().await,
                Action::Send { slot, message } => workers.send(slot, *message),
                Action::Log(text) => tracing::info!("{text}"),
                Action::Finish(outcome) => {
                    let last = machine.status();
                    on_status(&last);
                    status.send_replace(last);
                    let told = cluster.finish(&outcome).await;
                    tokio::time::sleep(LAST_STATUS_GRACE).await;
                    return Ended { outcome, told };
                }
                action => cluster.act(action).await,
            }
        }
        if published.elapsed() >= STATUS_INTERVAL || machine.phase() != phase {
            phase = machine.phase();
            let now = machine.status();
            on_status(&now);
            cluster.progress(machine.progress());
            status.send_replace(now);
            published = Instant::now();
        }
        let event = tokio::select! {
            event = receiver.recv() => event.unwrap_or(Event::Tick),
            _ = ticks.tick() => Event::Tick,
        };
        note(&mut machine, &event);
        actions = machine.handle(begun.elapsed(), event);
        note_phase(&mut machine);
    }
}

/// The breakdown of a start.
fn note(machine: &mut Machine, event: &Event) {
    match event {
        Event::Registered => machine.mark("registered", now_ms()),
        Event::Planned(_) => machine.mark("planned", now_ms()),
        Event::Allocated { .. } => machine.mark("first container", now_ms()),
        Event::Connected { .. } => machine.mark("first worker", now_ms()),
        _ => {}
    }
}

fn note_phase(machine: &mut Machine) {
    match machine.phase() {
        Phase::Joining => machine.mark("all workers", now_ms()),
        Phase::Training => machine.mark("ring", now_ms()),
        _ => {}
    }
    if let Some(at_ms) = machine.first_step_ms() {
        machine.mark("first step", at_ms);
    }
}

impl Cluster {
    async fn act(&mut self, action: Action) {
        match self {
            Cluster::Local(local) => local.act(action).await,
            Cluster::Yarn(yarn) => yarn.act(action).await,
        }
    }

    fn progress(&mut self, progress: f32) {
        if let Cluster::Yarn(yarn) = self {
            yarn.progress(progress);
        }
    }

    async fn finish(&mut self, outcome: &Outcome) -> bool {
        match self {
            Cluster::Yarn(yarn) => yarn.finish(outcome).await,
            Cluster::Local(_) => true,
        }
    }
}
