//! A real Hadoop cluster for one test or one test binary, by way of `scripts/hadoop`.
//!
//! A [`Cluster`] goes when it is dropped; and because the script watches this process, it also goes when the
//! process is killed, or ends without dropping it, as test binaries do with statics.

mod process;

pub use process::{Finished, Running};

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Starting takes about 10 s, the first time a minute for the jars; a loaded machine needs several times that.
const UP_LIMIT: Duration = Duration::from_secs(400);
/// What a command on a host may take when the test does not say.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);
/// Between two looks in [`eventually`].
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Why a cluster did not start or a command on it did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The program could not be started, or its output not be read.
    #[error("{command}: {source}")]
    Io {
        /// The command line.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended with another status than 0.
    #[error("{command} ended with {}:\n{}{}", .finished.status, .finished.stdout, .finished.stderr)]
    Failed {
        /// The command line.
        command: String,
        /// Status and output.
        finished: Finished,
    },
    /// It was killed because it took too long.
    #[error("{command} was killed after {limit:?}; it had printed:\n{}{}", .finished.stdout, .finished.stderr)]
    TimedOut {
        /// The command line.
        command: String,
        /// What it was allowed.
        limit: Duration,
        /// What it had printed until then.
        finished: Finished,
    },
    /// The ResourceManager's answer is not JSON.
    #[error("{path} answered what is no JSON: {source}")]
    Json {
        /// What was asked for.
        path: String,
        /// Where it stops being JSON.
        source: serde_json::Error,
    },
}

/// A result of this fixture.
pub type Result<T> = std::result::Result<T, ClusterError>;

/// How a cluster is to be. The default is what most tests want: two nodes, Hadoop 3.4.2 or what
/// `RINGSPIN_TEST_HADOOP` names (`scripts/test --hadoop`).
#[derive(Clone, Debug)]
pub struct Options {
    /// Hadoop version.
    pub version: String,
    /// Nodes with DataNode and NodeManager, named `node1`, `node2`, ...
    pub nodes: usize,
    /// Own host names instead: the master, then the nodes. Empty for the usual ones.
    pub hosts: Vec<String>,
    /// Extra properties, `FILE:KEY=VALUE` or `FILE@HOST:KEY=VALUE`, such as `hdfs-site:dfs.replication=1`.
    pub settings: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        let version = std::env::var("RINGSPIN_TEST_HADOOP").unwrap_or_else(|_| "3.4.2".into());
        Options { version, nodes: 2, hosts: Vec::new(), settings: Vec::new() }
    }
}

/// A running Hadoop with hosts `edge` (for clients), `master`, `node1`, `node2`, ...
#[derive(Debug)]
pub struct Cluster {
    name: String,
    conf_dir: PathBuf,
}

impl Cluster {
    /// Starts a cluster of its own and waits until all nodes serve HDFS and YARN.
    ///
    /// When `RINGSPIN_TEST_LOGS` names a folder, the logs of daemons and containers stay there.
    pub fn start(options: &Options) -> Result<Cluster> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", std::process::id());
        let mut up = script(&name);
        up.args(["up", "--version", &options.version, "--nodes", &options.nodes.to_string()]);
        up.args(["--owner-pid", &std::process::id().to_string()]);
        if !options.hosts.is_empty() {
            up.args(["--hosts", &options.hosts.join(",")]);
        }
        for setting in &options.settings {
            up.args(["--set", setting]);
        }
        if let Some(logs) = std::env::var_os("RINGSPIN_TEST_LOGS") {
            up.arg("--log-dir").arg(Path::new(&logs).join(&name));
        }
        let printed = Running::start(up)?.wait(UP_LIMIT)?.successful()?.stdout;
        let conf_dir = printed.lines().find_map(|line| line.strip_prefix("HADOOP_CONF_DIR="));
        let conf_dir = conf_dir.expect("`scripts/hadoop up` prints HADOOP_CONF_DIR").into();
        Ok(Cluster { name, conf_dir })
    }

    /// The cluster that all tests of this binary share, one at a time; started by the first of them.
    ///
    /// A test that failed may have left it with dead daemons or cut cables: the next one gets a new cluster.
    ///
    /// # Panics
    /// When it can not be started: what needs it has then not been tested.
    pub fn shared() -> Shared {
        static SHARED: Mutex<Option<Cluster>> = Mutex::new(None);
        let mut slot = SHARED.lock().unwrap_or_else(|poisoned| {
            SHARED.clear_poison();
            let mut slot = poisoned.into_inner();
            *slot = None;
            slot
        });
        if slot.is_none() {
            match Cluster::start(&Options::default()) {
                Ok(cluster) => *slot = Some(cluster),
                Err(error) => panic!("no Hadoop to test with: {error}"),
            }
        }
        Shared(slot)
    }

    /// `HADOOP_CONF_DIR` for clients; [`Cluster::on`] sets it by itself.
    pub fn conf_dir(&self) -> &Path {
        &self.conf_dir
    }

    /// A command on a host, to be given an environment or input. It becomes the process itself, not its child, so
    /// that signals to it and its exit status are the command's own.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, host: &str, argv: &[S]) -> Command {
        let mut command = script(&self.name);
        command.args(["on", host]).args(argv);
        command
    }

    /// Runs a command on a host to its end, whatever its status; at most two minutes.
    pub fn on<S: AsRef<std::ffi::OsStr>>(&self, host: &str, argv: &[S]) -> Result<Finished> {
        self.spawn_on(host, argv)?.wait(COMMAND_LIMIT)
    }

    /// Starts a command on a host.
    pub fn spawn_on<S: AsRef<std::ffi::OsStr>>(&self, host: &str, argv: &[S]) -> Result<Running> {
        Running::start(self.command(host, argv))
    }

    /// Hadoop's own file system shell in Java, such as `["-cat", "/x"]`: what it prints; an error unless it succeeds.
    pub fn fs(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.manage("fs", arguments)?.stdout)
    }

    /// Another of HDFS's tools in Java, such as `["dfsadmin", "-report"]`: what it prints; an error unless it succeeds.
    pub fn hdfs(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.manage("hdfs", arguments)?.stdout)
    }

    /// YARN's tools in Java, such as `["application", "-kill", id]`: what it prints; an error unless it succeeds.
    pub fn yarn(&self, arguments: &[&str]) -> Result<String> {
        Ok(self.manage("yarn", arguments)?.stdout)
    }

    /// GET from the ResourceManager's web services, such as `/ws/v1/cluster/nodes`; from other daemons with the
    /// whole address, such as `http://node1:8042/ws/v1/node/containers`.
    pub fn rest(&self, path: &str) -> Result<serde_json::Value> {
        let body = self.manage("rest", &[path])?.stdout;
        serde_json::from_str(&body).map_err(|source| ClusterError::Json { path: path.into(), source })
    }

    /// Sends a signal, such as `KILL`, `TERM`, `STOP`, to a daemon: `namenode`, `resourcemanager`, `datanode` or
    /// `nodemanager`. Returns when a deadly signal has done its work.
    pub fn kill_daemon(&self, host: &str, daemon: &str, signal: &str) -> Result<()> {
        self.manage("kill", &[host, daemon, signal]).map(drop)
    }

    /// Starts a killed daemon again; does not wait until it serves.
    pub fn start_daemon(&self, host: &str, daemon: &str) -> Result<()> {
        self.manage("start", &[host, daemon]).map(drop)
    }

    /// Pulls a host's network cable: packets vanish, no connection is closed.
    pub fn cut(&self, host: &str) -> Result<()> {
        self.manage("cut", &[host]).map(drop)
    }

    /// Plugs the cable in again.
    pub fn heal(&self, host: &str) -> Result<()> {
        self.manage("heal", &[host]).map(drop)
    }

    /// Limits what a host sends and receives, such as `100mbit`; `off` ends it.
    pub fn limit(&self, host: &str, rate: &str) -> Result<()> {
        self.manage("limit", &[host, rate]).map(drop)
    }

    /// What else runs on a host than Hadoop's daemons, such as containers: process id and command line.
    pub fn processes(&self, host: &str) -> Result<Vec<(u32, String)>> {
        let printed = self.manage("ps", &[host])?.stdout;
        let parse = |line: &str| {
            let (pid, command) = line.split_once(' ')?;
            Some((pid.parse().ok()?, command.to_string()))
        };
        Ok(printed.lines().map(|line| parse(line).expect("`scripts/hadoop ps` prints PID COMMAND")).collect())
    }

    /// States of the nodes as the ResourceManager sees them: host name and `RUNNING`, `LOST` ..., sorted.
    pub fn node_states(&self) -> Result<Vec<(String, String)>> {
        let nodes = self.rest("/ws/v1/cluster/nodes")?;
        let text = |node: &serde_json::Value, key: &str| node[key].as_str().unwrap_or_default().to_string();
        let nodes = nodes["nodes"]["node"].as_array().cloned().unwrap_or_default();
        let mut states: Vec<_> =
            nodes.iter().map(|node| (text(node, "nodeHostName"), text(node, "state"))).collect();
        states.sort();
        Ok(states)
    }

    fn manage(&self, command: &str, arguments: &[&str]) -> Result<Finished> {
        let mut all = script(&self.name);
        all.arg(command).args(arguments);
        Running::start(all)?.wait(COMMAND_LIMIT)?.successful()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.manage("down", &[]) {
            eprintln!("cluster {} could not be taken down: {error}", self.name);
        }
    }
}

/// The shared cluster, while one test has it.
#[derive(Debug)]
pub struct Shared(MutexGuard<'static, Option<Cluster>>);

impl Deref for Shared {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.0.as_ref().expect("a shared cluster is handed out only when it was started")
    }
}

/// Looks again and again until `look` finds something.
///
/// # Panics
/// When it has not within `limit`; `what` says what was waited for.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK_INTERVAL);
    }
}

fn script(name: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/hadoop"));
    command.args(["--name", name]).stdin(Stdio::null());
    command
}
