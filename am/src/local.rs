//! The cluster of local mode: this machine. Containers are processes; everything else is as on YARN.

use crate::machine::{Action, Event, Exit, ExitKind};
use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

/// Bytes of a worker's log that go into a diagnosis.
const LOG_TAIL_BYTES: u64 = 2048;

/// How workers are started.
#[derive(Clone, Debug)]
pub struct LocalOptions {
    /// The executable: this one.
    pub executable: PathBuf,
    /// Folder for the workers' folders and logs.
    pub folder: PathBuf,
    /// Credentials file that holds the job's secret.
    pub credentials: PathBuf,
    /// Arguments of every worker, but for its slot.
    pub worker_arguments: Vec<String>,
    /// Environment of the workers, on top of this process's.
    pub env: Vec<(String, String)>,
}

/// Starts and watches worker processes.
pub struct LocalCluster {
    options: LocalOptions,
    events: mpsc::Sender<Event>,
    next_container: u64,
    stops: HashMap<String, oneshot::Sender<()>>,
}

impl LocalCluster {
    /// A cluster of one machine without processes yet.
    pub fn new(options: LocalOptions, events: mpsc::Sender<Event>) -> Self {
        LocalCluster { options, events, next_container: 0, stops: HashMap::new() }
    }

    /// Carries out an action of the machine that is the cluster's.
    pub async fn act(&mut self, action: Action) {
        match action {
            Action::Ask { count, .. } => self.allocate(count).await,
            Action::Launch { slot, container } => self.launch(slot, container).await,
            Action::Stop { container } => {
                if let Some(stop) = self.stops.remove(&container) {
                    let _ = stop.send(());
                }
            }
            _ => {}
        }
    }

    fn folder(&self, container: &str) -> PathBuf {
        self.options.folder.join(container)
    }

    async fn allocate(&mut self, count: usize) {
        for _ in 0..count {
            self.next_container += 1;
            let container = format!("local_{:02}", self.next_container);
            let log_url = Some(format!("file://{}", self.folder(&container).join("stderr").display()));
            let event = Event::Allocated { container, host: "localhost".into(), log_url };
            let _ = self.events.send(event).await;
        }
    }

    async fn launch(&mut self, slot: u64, container: String) {
        match self.spawn(slot, &container) {
            Ok(child) => {
                let (stop, stopped) = oneshot::channel();
                self.stops.insert(container.clone(), stop);
                let log = self.folder(&container).join("stderr");
                tokio::spawn(watch(child, container, log, stopped, self.events.clone()));
            }
            Err(error) => {
                let reason = format!("{}: {error}", self.options.executable.display());
                let _ = self.events.send(Event::LaunchFailed { slot, reason, passing: false }).await;
            }
        }
    }

    fn spawn(&self, slot: u64, container: &str) -> std::io::Result<Child> {
        let folder = self.folder(container);
        std::fs::create_dir_all(&folder)?;
        let log = |name: &str| std::fs::File::create(folder.join(name));
        Command::new(&self.options.executable)
            .args(&self.options.worker_arguments)
            .args(["--slot", &slot.to_string()])
            .env("HADOOP_TOKEN_FILE_LOCATION", &self.options.credentials)
            .envs(self.options.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log("stdout")?)
            .stderr(log("stderr")?)
            // A terminal's Ctrl-C goes to the whole foreground group; workers end when the AM tells them.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Waits for a worker's end, or ends it, and reports it.
async fn watch(
    mut child: Child,
    container: String,
    log: PathBuf,
    stopped: oneshot::Receiver<()>,
    events: mpsc::Sender<Event>,
) {
    let status = tokio::select! {
        status = child.wait() => status,
        _ = stopped => {
            let _ = child.start_kill();
            let _ = child.wait().await;
            let exit = Exit { kind: ExitKind::Ours, diagnostics: String::new() };
            let _ = events.send(Event::Exited { container, exit }).await;
            return;
        }
    };
    let kind = status.map_or(ExitKind::Unknown, kind_of);
    let diagnostics = if kind == ExitKind::Code(0) { String::new() } else { tail(&log) };
    let _ = events.send(Event::Exited { container, exit: Exit { kind, diagnostics } }).await;
}

fn kind_of(status: ExitStatus) -> ExitKind {
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitKind::Code(code),
        (None, Some(signal)) => ExitKind::Signal(signal),
        (None, None) => ExitKind::Unknown,
    }
}

/// The last lines of a log; empty when it can not be read.
fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).trim().to_string()
}
