//! The worker: connects to its ApplicationMaster, does what it says, trains.
//!
//! Two kinds of threads: the control runtime (this module, [`link`], reading ahead) on tokio, and the training
//! thread ([`train`]) with its team and its ring, which never waits for tokio. Between them lie queues.
//!
//! What is absent here: decisions about who does what; they come with the assignment.

pub mod cadence;
mod chosen;
pub mod failure;
pub mod gradients;
pub mod inference;
pub mod link;
pub mod measure;
pub mod memory;
pub mod model_file;
mod report;
pub mod row_exchange;
#[cfg(test)]
mod row_step_tests;
mod selection;
pub mod step;
pub mod step_sums;
#[cfg(test)]
mod step_tests;
pub mod storage;
pub mod train;
mod validation;
#[cfg(test)]
mod worker_tests;

pub use failure::Misfortune;

use link::{AmAddress, Link, Orders};
use ringspin_control::messages::{Assignment, FailureKind, JobContext, ToAm, ToWorker, WorkerHello};
use ringspin_control::{EXIT_ABORTED, EXIT_LOST_AM};
use ringspin_data::index::{IndexPart, IndexTask, run_task};
use ringspin_hadoop::credentials::Credentials;
use ringspin_nn::Registry;
use ringspin_ring::Abort;
use std::net::TcpListener;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads for control, reading ahead and decoding; training has its own.
const CONTROL_THREADS: usize = 2;
/// Before its first assignment a worker only opens connections.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A failed worker gets this long to have its last message sent.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// What a worker is started with.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its ApplicationMaster.
    pub am: AmAddress,
    /// Number of this start.
    pub slot: u64,
    /// Tokens for HDFS.
    pub credentials: Credentials,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Silence after which the ApplicationMaster counts as gone.
    pub silence: Duration,
}

/// Random bytes from the operating system.
///
/// # Panics
/// When the operating system has none, which it always has once it has started.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// Works until the ApplicationMaster says that it is enough; gives the process's exit status.
pub fn run(options: WorkerOptions, registry: &Registry) -> i32 {
    let runtime = match Builder::new_multi_thread().worker_threads(CONTROL_THREADS).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("no threads: {error}");
            return EXIT_LOST_AM;
        }
    };
    let handle = runtime.handle().clone();
    let status = std::thread::scope(|scope| runtime.block_on(work(options, registry, scope, handle)));
    // Reads that are still under way are of no use to anybody.
    runtime.shutdown_background();
    status
}

async fn work<'scope, 'env>(
    options: WorkerOptions,
    registry: &'env Registry,
    scope: &'scope std::thread::Scope<'scope, 'env>,
    runtime: Handle,
) -> i32 {
    let (link, mut orders, listener) = match connect(&options).await {
        Ok(connected) => connected,
        Err(error) => {
            tracing::error!("ApplicationMaster at {}: {error}", options.am.address);
            return EXIT_LOST_AM;
        }
    };
    link.pulse.set_state("waiting");
    loop {
        match orders.next().await {
            Ok(ToWorker::Scan { context, tasks }) => {
                link.pulse.set_state("scanning");
                match scan(&context, &options.credentials, tasks).await {
                    Ok(parts) => link.send(ToAm::Scanned(parts)),
                    Err(misfortune) => return last_words(&link, &misfortune).await,
                }
                link.pulse.set_state("waiting");
            }
            Ok(ToWorker::Assign(assignment)) => {
                let part =
                    Part { options: &options, registry, listener: &listener, link: &link, runtime: &runtime };
                return part.train(*assignment, &mut orders, scope).await;
            }
            Ok(ToWorker::Heartbeat) => {}
            Ok(ToWorker::Abort { reason }) => {
                tracing::warn!("the ApplicationMaster says to end: {reason}");
                return EXIT_ABORTED;
            }
            Ok(ToWorker::Exit) => return 0,
            Err(reason) => {
                tracing::error!("ApplicationMaster lost: {reason}");
                return EXIT_LOST_AM;
            }
        }
    }
}

async fn connect(
    options: &WorkerOptions,
) -> Result<(Link, Orders, TcpListener), ringspin_control::ControlError> {
    let listener = TcpListener::bind("0.0.0.0:0")?;
    let ring_port = listener.local_addr()?.port();
    let hello = WorkerHello { slot: options.slot, ring_port, pid: std::process::id() };
    let stream = link::connect(&options.am, hello, CONNECT_TIMEOUT).await?;
    let (link, orders) = link::open(stream, options.heartbeat, options.silence);
    Ok((link, orders, listener))
}

async fn scan(
    context: &JobContext,
    credentials: &Credentials,
    tasks: Vec<(u32, IndexTask)>,
) -> Result<Vec<(u32, IndexPart)>, Misfortune> {
    let job = train::job(context)?;
    let storage = storage::open(context, &job, credentials, "scan")?;
    let mut parts = Vec::with_capacity(tasks.len());
    for (number, task) in tasks {
        parts.push((number, run_task(&storage, &task).await?));
    }
    Ok(parts)
}

/// Reports what ended this worker and gives the message time to leave.
async fn last_words(link: &Link, misfortune: &Misfortune) -> i32 {
    tracing::error!("{misfortune}");
    link.send(ToAm::Failed(misfortune.report()));
    tokio::time::sleep(LAST_WORDS).await;
    misfortune.exit_status()
}

/// What a worker has when it is assigned its part.
struct Part<'a, 'env> {
    options: &'a WorkerOptions,
    registry: &'env Registry,
    listener: &'a TcpListener,
    link: &'a Link,
    runtime: &'a Handle,
}

impl<'env> Part<'_, 'env> {
    /// Trains on a thread of its own while orders are listened to.
    async fn train<'scope>(
        self,
        assignment: Assignment,
        orders: &mut Orders,
        scope: &'scope std::thread::Scope<'scope, 'env>,
    ) -> i32 {
        let abort = Abort::new();
        let (done, mut ended) = oneshot::channel();
        let listener = match self.listener.try_clone() {
            Ok(listener) => listener,
            Err(error) => {
                let misfortune = Misfortune::new(FailureKind::Environment, format!("ring listener: {error}"));
                return last_words(self.link, &misfortune).await;
            }
        };
        let training = train::Training {
            assignment,
            attempt: self.options.am.attempt,
            secret: self.options.am.secret.clone(),
            slot: self.options.slot,
            credentials: self.options.credentials.clone(),
            link: self.link.clone(),
            runtime: self.runtime.clone(),
            listener,
            abort: abort.clone(),
        };
        let registry = self.registry;
        let thread = std::thread::Builder::new().name("train".into()).spawn_scoped(scope, move || {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| training.run(registry)));
            let _ = done.send(result.unwrap_or_else(|panic| Err(panicked(&*panic))));
        });
        if let Err(error) = thread {
            let misfortune =
                Misfortune::new(FailureKind::Environment, format!("no training thread: {error}"));
            return last_words(self.link, &misfortune).await;
        }
        let mut finished = false;
        loop {
            tokio::select! {
                result = &mut ended, if !finished => match result {
                    Ok(Ok(())) => {
                        finished = true;
                        self.link.pulse.set_state("done");
                        self.link.send(ToAm::Done);
                    }
                    Ok(Err(misfortune)) => return last_words(self.link, &misfortune).await,
                    Err(_) => return last_words(self.link, &panicked(&"the training thread vanished")).await,
                },
                order = orders.next() => match order {
                    Ok(ToWorker::Exit) if finished => return 0,
                    Ok(ToWorker::Abort { reason }) => {
                        tracing::warn!("the ApplicationMaster says to end: {reason}");
                        abort.abort(reason);
                        exit(EXIT_ABORTED);
                    }
                    Ok(_) => {}
                    Err(reason) => {
                        tracing::error!("ApplicationMaster lost: {reason}");
                        abort.abort(format!("ApplicationMaster lost: {reason}"));
                        exit(EXIT_LOST_AM);
                    }
                },
            }
        }
    }
}

/// Ends the process although the training thread may be in the middle of a step.
fn exit(status: i32) -> ! {
    std::process::exit(status)
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Misfortune {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| text.to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".into());
    Misfortune::new(FailureKind::Panic, format!("panic in training: {text}"))
}
