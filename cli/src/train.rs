//! `ringspin train`: here or on a cluster. Either way the job is resolved and checked once, run by the same
//! ApplicationMaster logic, and ends with a result on stdout and an exit status.

use crate::args::{Format, TrainArgs};
use crate::check::{self, Checked};
use crate::exit::{CommandError, Exit};
use crate::follow;
use crate::job_args;
use crate::progress::Progress;
use crate::results::Results;
use crate::submit;
use crate::surroundings::{Base, Hadoop, Surroundings};
use ringspin_am::bundle::{SECRET_ALIAS, may_travel};
use ringspin_am::local::{LocalCluster, LocalOptions};
use ringspin_am::machine::{Event, Job};
use ringspin_am::planner::Planner;
use ringspin_am::run::{Attempt, Cluster, event_channel, now_ms};
use ringspin_am::web::Access;
use ringspin_container::model_file::hex;
use ringspin_control::messages::JobContext;
use ringspin_control::status::{Outcome, Status};
use ringspin_data::storage::Storage;
use ringspin_hadoop::credentials::{FileVersion, Secret};
use ringspin_job::{JobSecret, JobSpec};
use ringspin_nn::Registry;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// How long a signal waits for what the client tries before the job.
const CHECK_GRACE: Duration = Duration::from_secs(5);

/// Where a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Master {
    /// This machine, with so many threads in all.
    Local(usize),
    /// A YARN cluster.
    Yarn,
}

fn master(text: &str) -> Result<Master, CommandError> {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    match text {
        "yarn" => return Ok(Master::Yarn),
        "local" => return Ok(Master::Local(1)),
        "local[*]" => return Ok(Master::Local(cores())),
        _ => {}
    }
    text.strip_prefix("local[")
        .and_then(|rest| rest.strip_suffix(']')?.parse().ok())
        .filter(|threads| *threads > 0)
        .map(Master::Local)
        .ok_or_else(|| {
            CommandError::usage(format!("--master {text}: expected local, local[N], local[*] or yarn"))
        })
}

/// `ringspin train`.
///
/// # Errors
/// The job is wrong, can not be started, or nobody answers about it any more.
pub async fn train(
    args: TrainArgs,
    surroundings: &Surroundings,
    registry: &Registry,
) -> Result<Exit, CommandError> {
    let master = master(&args.master)?;
    if args.detach && master != Master::Yarn {
        return Err(CommandError::usage("--detach needs --master yarn: a local job ends with its command"));
    }
    let typed = job_args::read(&args.job)?;
    let format = args.format.or(typed.format).unwrap_or(Format::Text);
    let mut job = check::resolve(typed.settings, registry)?;
    let flag = args.cluster.hadoop_conf_dir.as_deref();
    let mut signals = Signals::listen()?;
    match master {
        Master::Local(threads) => {
            let hadoop = surroundings.hadoop(flag)?;
            let storage = surroundings.storage(hadoop.as_ref(), Base::Local)?;
            absolute(&storage, &mut job)?;
            job.workers.container.vcores = (threads / job.workers.max).max(1);
            let checked = checked((&storage, &job), registry, &mut signals).await?;
            local(job, checked, (surroundings, hadoop.as_ref()), storage, (signals, format)).await
        }
        Master::Yarn => {
            let hadoop = surroundings.require_hadoop(flag)?;
            let storage = surroundings.storage(Some(&hadoop), Base::Cluster)?;
            absolute(&storage, &mut job)?;
            let checked = checked((&storage, &job), registry, &mut signals).await?;
            check::container_size(registry, &job, &checked.model)?;
            yarn(job, (&hadoop, &storage), args.detach, (signals, format)).await
        }
    }
}

/// Looks at the data and tries the output. That leaves nothing behind when it may end: a signal waits for it, for a
/// while.
async fn checked(
    (storage, job): (&Storage, &JobSpec),
    registry: &Registry,
    signals: &mut Signals,
) -> Result<Checked, CommandError> {
    let mut checking = std::pin::pin!(check::against_data(storage, job, registry));
    tokio::select! {
        checked = &mut checking => checked,
        by = signals.next() => {
            let _ = tokio::time::timeout(CHECK_GRACE, checking).await;
            Err(CommandError::new(Exit::Killed, format!("{by} before the job began")))
        }
    }
}

/// Paths mean the same everywhere once they are absolute.
fn absolute(storage: &Storage, job: &mut JobSpec) -> Result<(), CommandError> {
    let mut paths = vec![&mut job.input.path, &mut job.output.path];
    paths.extend(job.validation.as_mut().map(|validation| &mut validation.input.path));
    for path in paths {
        *path = storage.locate(path).map_err(|error| CommandError::usage(error.to_string()))?.to_string();
    }
    Ok(())
}

async fn yarn(
    job: JobSpec,
    (hadoop, storage): (&Hadoop, &Storage),
    detach: bool,
    (mut signals, format): (Signals, Format),
) -> Result<Exit, CommandError> {
    for path in [&job.input.path, &job.output.path] {
        if path.starts_with("file:") {
            tracing::warn!("{path}: every node must have this path");
        }
    }
    let output = job.output.path.clone();
    let begun_ms = now_ms();
    let (submitted, early) = {
        // A submission that has begun is finished before it is taken back: half of one would be lost.
        let mut submitting = std::pin::pin!(submit::submit(hadoop, storage, job));
        tokio::select! {
            submitted = &mut submitting => (submitted?, None),
            by = signals.next() => (submitting.await?, Some(by)),
        }
    };
    let id = submitted.application.to_string();
    let mut progress = Progress::new();
    if let Some(by) = early {
        progress.line(&format!("{by} during the submission: killing application {id}"));
        follow::kill(&submitted, &format!("the client got {by}")).await;
        return Ok(Exit::Killed);
    }
    let uploaded = match submitted.uploaded_bytes {
        0 => String::new(),
        bytes => format!(", {} MiB of executable uploaded", bytes >> 20),
    };
    progress.line(&format!("Submitted application {id} in {} ms{uploaded}", now_ms() - begun_ms));
    if detach {
        let results = Results::new().with("applicationId", id.as_str());
        results.print(format, &id)?;
        return Ok(Exit::Success);
    }
    let followed = tokio::select! {
        followed = follow::follow(&submitted, &mut progress) => followed?,
        by = signals.next() => {
            progress.finish();
            progress.line(&format!("{by}: killing the application"));
            follow::kill(&submitted, &format!("the client got {by}")).await;
            return Ok(Exit::Killed);
        }
    };
    progress.finish();
    let (exit, cause) = followed.exit();
    if exit != Exit::Success {
        submitted.remove_remains().await;
    }
    let status = followed.status.as_ref();
    if let Some(status) = status {
        progress.line(&timeline(status));
    }
    let url = followed.report.tracking_url.clone();
    let results = Results::new().with("applicationId", id).with("trackingUrl", url);
    conclude(results, (exit, cause), status, output, format)
}

async fn local(
    job: JobSpec,
    checked: Checked,
    (surroundings, hadoop): (&Surroundings, Option<&Hadoop>),
    storage: Storage,
    (mut signals, format): (Signals, Format),
) -> Result<Exit, CommandError> {
    drop(checked);
    let output = job.output.path.clone();
    let folder = WorkFolder::new()?;
    let application = folder.name.clone();
    let secret = JobSecret::new(ringspin_am::random_bytes());
    let credentials = folder.path.join("credentials");
    write_credentials(surroundings, &credentials, &secret)?;
    let door = listen().await?;
    let am_address = address(&door)?;
    let page = listen().await?;
    let proof = hex(&ringspin_am::random_bytes::<16>());
    let mut progress = Progress::new();
    progress.line(&format!("Status page: http://{}/?proof={proof}", address(&page)?));
    let (sender, receiver) = event_channel();
    let options = LocalOptions {
        executable: std::env::current_exe().map_err(internal)?,
        folder: folder.path.clone(),
        credentials,
        worker_arguments: ringspin_am::worker_arguments(&job, &am_address, 1),
        env: submit::environment(&surroundings.user, &job),
    };
    let cluster = Cluster::Local(LocalCluster::new(options, sender.clone()));
    let _ = sender.send(Event::Registered).await;
    let killer = sender.clone();
    tokio::spawn(async move {
        let by = signals.next().await;
        let _ = killer.send(Event::KillRequested(format!("the client got {by}"))).await;
    });
    let context = JobContext {
        job: serde_json::to_string(&job).map_err(internal)?,
        application: application.clone(),
        hadoop: hadoop
            .map(|hadoop| hadoop.conf.resolved().into_iter().filter(|(key, _)| may_travel(key)).collect()),
        user: surroundings.user.clone(),
    };
    let attempt = Attempt {
        planner: Planner::new(storage, job.clone(), &application, 1),
        job: Job { context, spec: job },
        attempt: 1,
        secret,
        door,
        page: Some((page, Access { proxies: Vec::new(), proxy_url: None, proof })),
        marks: vec![("started".into(), now_ms())],
    };
    let mut last = None;
    let ended = ringspin_am::run::run(attempt, cluster, (sender, receiver), |status| {
        progress.show(status);
        last = Some(status.clone());
    })
    .await;
    progress.finish();
    let (exit, cause) = match ended.outcome {
        Outcome::Succeeded { .. } => (Exit::Success, String::new()),
        Outcome::Failed { diagnostics } => (Exit::Failed, diagnostics),
        Outcome::Killed { diagnostics } => (Exit::Killed, diagnostics),
    };
    if exit == Exit::Failed {
        progress.line(&format!("The workers' logs are in {}", folder.keep().display()));
    }
    conclude(Results::new(), (exit, cause), last.as_ref(), output, format)
}

/// The result on stdout, the cause of a failure as the last line on stderr.
fn conclude(
    results: Results,
    (exit, cause): (Exit, String),
    status: Option<&Status>,
    output: String,
    format: Format,
) -> Result<Exit, CommandError> {
    let (word, verb) = match exit {
        Exit::Success => ("SUCCEEDED", "has succeeded"),
        Exit::Killed => ("KILLED", "was killed"),
        _ => ("FAILED", "has failed"),
    };
    let validation = status.and_then(|status| status.validation.as_ref());
    let training = status.and_then(|status| status.training.as_ref());
    let results = results
        .with("finalStatus", word)
        .with_some("steps", status.map(|status| status.step))
        .with_some("loss", training.map(|metrics| metrics.loss))
        .with_some("validationLoss", validation.map(|metrics| metrics.loss))
        .with_some("accuracy", validation.and_then(|metrics| metrics.top1))
        .with_metrics(validation.map_or(&[], |metrics| &metrics.others))
        .with_some("output", (exit == Exit::Success).then_some(output.as_str()))
        .with_some("diagnostics", (exit != Exit::Success).then_some(cause.as_str()));
    let measured = validation.map(|metrics| format!(" (validation {metrics})")).unwrap_or_default();
    let text = match exit {
        Exit::Success => format!("The model is in {output}{measured}"),
        _ => String::new(),
    };
    if !(text.is_empty() && format == Format::Text) {
        results.print(format, &text)?;
    }
    if exit == Exit::Success {
        Ok(exit)
    } else {
        Err(CommandError::new(exit, format!("the job {verb}: {cause}")))
    }
}

/// How the start went, from the first mark on.
fn timeline(status: &Status) -> String {
    let mut marks = status.marks.clone();
    marks.sort_by_key(|mark| mark.at_ms);
    let Some(begun_ms) = marks.first().map(|mark| mark.at_ms) else { return String::new() };
    let times: Vec<String> = marks
        .iter()
        .skip(1)
        .map(|mark| format!("{} {:.2} s", mark.what, (mark.at_ms - begun_ms) as f64 / 1e3))
        .collect();
    format!("Start: {}", times.join(", "))
}

/// The signals that ask a client to end. Once listened to, none of them ends it by itself.
struct Signals([(Signal, &'static str); 3]);

impl Signals {
    fn listen() -> Result<Self, CommandError> {
        let listen = |kind, name| signal(kind).map(|signal| (signal, name)).map_err(internal);
        Ok(Signals([
            listen(SignalKind::interrupt(), "SIGINT")?,
            listen(SignalKind::terminate(), "SIGTERM")?,
            listen(SignalKind::hangup(), "SIGHUP")?,
        ]))
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        let [(interrupt, int), (terminate, term), (hangup, hup)] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => int,
            _ = terminate.recv() => term,
            _ = hangup.recv() => hup,
        }
    }
}

/// Folder of a local run: credentials, the workers' folders and logs. Removed unless it is kept.
struct WorkFolder {
    path: PathBuf,
    name: String,
    folder: Option<tempfile::TempDir>,
}

impl WorkFolder {
    fn new() -> Result<Self, CommandError> {
        let folder = tempfile::Builder::new().prefix("ringspin_").tempdir().map_err(internal)?;
        let name =
            folder.path().file_name().and_then(|name| name.to_str()).unwrap_or("ringspin_local").to_string();
        Ok(WorkFolder { path: folder.path().to_path_buf(), name, folder: Some(folder) })
    }

    fn keep(mut self) -> PathBuf {
        // The secret is of no use any more, and nothing secret is left behind.
        let _ = std::fs::remove_file(self.path.join("credentials"));
        self.folder.take().map_or_else(|| self.path.clone(), tempfile::TempDir::keep)
    }
}

fn write_credentials(
    surroundings: &Surroundings,
    path: &Path,
    secret: &JobSecret,
) -> Result<(), CommandError> {
    let mut credentials = surroundings.credentials()?;
    credentials.secrets.insert(SECRET_ALIAS.into(), Secret(secret.as_bytes().to_vec()));
    credentials.write(path, FileVersion::Writable).map_err(internal)
}

async fn listen() -> Result<TcpListener, CommandError> {
    TcpListener::bind("127.0.0.1:0").await.map_err(internal)
}

fn address(listener: &TcpListener) -> Result<String, CommandError> {
    listener.local_addr().map(|address| address.to_string()).map_err(internal)
}

fn internal(error: impl std::fmt::Display) -> CommandError {
    CommandError::internal(error.to_string())
}
