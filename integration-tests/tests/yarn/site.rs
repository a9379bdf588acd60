//! The cluster with a small data set in HDFS, jobs on it, and what must not be left of them.

use ringspin_integration_tests::cluster::{Cluster, Finished, Running, Shared, eventually};
use ringspin_integration_tests::data;
use ringspin_integration_tests::program::executable;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// What a small job may take from submission to end on a loaded machine; nothing may hang longer.
pub const JOB_LIMIT: Duration = Duration::from_secs(90);
/// For what takes a second or two.
pub const SOON: Duration = Duration::from_secs(30);
/// Records of the data set in HDFS.
pub const RECORDS: usize = 400;

/// The cluster, and a folder on this machine.
pub struct Site {
    pub cluster: Shared,
    folder: TempDir,
    name: String,
}

impl Site {
    /// Has the cluster to itself; `hdfs:///data/small` is there, and `hdfs:///models` for outputs.
    pub fn new() -> Site {
        static PREPARED: Mutex<Option<PathBuf>> = Mutex::new(None);
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let cluster = Cluster::shared();
        let folder = tempfile::tempdir().unwrap();
        data::write_raw(folder.path(), RECORDS).unwrap();
        let mut prepared = PREPARED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if prepared.as_deref() != Some(cluster.conf_dir()) {
            cluster.fs(&["-mkdir", "-p", "/data/small", "/models"]).unwrap();
            let file = |name: &str| folder.path().join(name).display().to_string();
            cluster.fs(&["-put", &file("train.raw"), &file("check.raw"), "/data/small"]).unwrap();
            *prepared = Some(cluster.conf_dir().to_path_buf());
        }
        let name = format!("trial{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Site { cluster, folder, name }
    }

    /// A file of this machine.
    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Folder in HDFS for this test's model.
    pub fn output(&self) -> String {
        format!("/models/{}", self.name)
    }

    /// A copy of the cluster's configuration with more properties in core-site.xml.
    pub fn conf_with(&self, properties: &[(&str, &str)]) -> String {
        let folder = self.file("conf");
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(self.cluster.conf_dir()).unwrap().flatten() {
            let mut text = std::fs::read_to_string(entry.path()).unwrap();
            if entry.file_name() == "core-site.xml" {
                let property =
                    |(key, value)| format!("<property><name>{key}</name><value>{value}</value></property>");
                let more: String = properties.iter().copied().map(property).collect();
                text = text.replace("</configuration>", &format!("{more}</configuration>"));
            }
            std::fs::write(format!("{folder}/{}", entry.file_name().display()), text).unwrap();
        }
        folder
    }

    /// `ringspin` on `edge`.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.command_by(&executable(), arguments)
    }

    fn command_by(&self, executable: &Path, arguments: &[&str]) -> Command {
        let program = executable.display().to_string();
        let argv: Vec<&str> = std::iter::once(program.as_str()).chain(arguments.iter().copied()).collect();
        self.cluster.command("edge", &argv)
    }

    /// Runs `ringspin` on `edge` to its end.
    pub fn ringspin(&self, arguments: &[&str]) -> Finished {
        Running::start(self.command(arguments)).unwrap().wait(JOB_LIMIT).unwrap()
    }

    /// `ringspin train --master yarn` of the small job with small containers, and `more` on top.
    pub fn train(&self, more: &[&str]) -> Command {
        self.train_by(&executable(), more)
    }

    /// The same by another executable.
    pub fn train_by(&self, executable: &Path, more: &[&str]) -> Command {
        let (conf, output) = (self.file("job.toml"), self.output());
        let mut arguments = vec!["train", "--master", "yarn", "--conf", &conf, "--output", &output];
        arguments.extend(["-D", "input.path=/data/small", "-D", "am.memory=128 MiB"]);
        arguments.extend(["-D", "workers.memory=256 MiB"]);
        arguments.extend(more);
        self.command_by(executable, &arguments)
    }

    /// Runs it to its end.
    pub fn run(&self, more: &[&str]) -> Finished {
        Running::start(self.train(more)).unwrap().wait(JOB_LIMIT).unwrap()
    }

    /// Starts a job that would go on for hours, and waits until it trains on `workers`.
    pub fn start_long(&self, workers: usize, more: &[&str]) -> Long {
        let count = workers.to_string();
        let mut arguments = vec!["--epochs", "10000000", "--workers", &count];
        arguments.extend(["-D", "validation.every_epochs=10000000"]);
        arguments.extend(more);
        let client = Running::start(self.train(&arguments)).unwrap();
        let training = format!("training on {workers} workers");
        eventually("the job trains", JOB_LIMIT, || {
            let said = client.stderr();
            assert!(!said.contains("ringspin: "), "{said}");
            said.contains(&training).then_some(())
        });
        let application = application_of(&client.stderr());
        Long { client, application }
    }

    /// Waits until all NodeManagers have told the ResourceManager that they are there, from now on.
    pub fn nodes_register_again(&self) {
        let begun_ms = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
        eventually("all nodes register again", JOB_LIMIT, || {
            let nodes = self.cluster.rest("/ws/v1/cluster/nodes").unwrap();
            let nodes = nodes["nodes"]["node"].as_array()?.clone();
            let is_new = |node: &Value| {
                node["state"] == "RUNNING"
                    && node["lastHealthUpdate"].as_u64().is_some_and(|at| at > begun_ms)
            };
            (nodes.len() == 2 && nodes.iter().all(is_new)).then_some(())
        });
    }

    /// What the ResourceManager says about an application.
    pub fn report(&self, application: &str) -> Value {
        self.cluster.rest(&format!("/ws/v1/cluster/apps/{application}")).unwrap()["app"].clone()
    }

    /// Processes of the role `am` or `container`, with their hosts.
    pub fn roles(&self, role: &str) -> Vec<(String, u32, String)> {
        let mut found = Vec::new();
        for host in ["node1", "node2"] {
            for (pid, command) in self.cluster.processes(host).unwrap() {
                if command.starts_with(&format!("./ringspin {role} ")) {
                    found.push((host.to_string(), pid, command));
                }
            }
        }
        found
    }

    /// Nothing is left: no process, no staging folder, no temporary output. Tells the paths below `/models`.
    pub fn assert_clean(&self) -> Vec<String> {
        eventually("no container is left", SOON, || {
            let left = |host| self.cluster.processes(host).unwrap().is_empty();
            (left("node1") && left("node2")).then_some(())
        });
        let paths = self.cluster.fs(&["-ls", "-R", "-C", "/user", "/models"]).unwrap();
        for path in paths.lines().filter(|path| path.contains("/.ringspin/")) {
            assert!(path.contains("/.ringspin/cache"), "staging was left: {path}");
        }
        assert!(!paths.contains(".tmp"), "a temporary output was left:\n{paths}");
        let models = paths.lines().filter(|path| path.starts_with("/models/")).map(str::to_string);
        models.collect()
    }

    /// The client ended with `code` and its last words hold `parts`; no output, nothing left. Where an application
    /// ran, YARN has the same cause.
    pub fn assert_ended(&self, finished: &Finished, code: Option<i32>, parts: &[&str]) {
        let said = format!("{}{}", finished.stdout, finished.stderr);
        assert_eq!(finished.status.code(), code, "{said}");
        let last: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("ringspin: ")).collect();
        let last = last.join("\n");
        for part in parts {
            assert!(last.contains(part), "{part:?} is not in {last:?}");
        }
        let left = self.assert_clean();
        assert!(!left.iter().any(|path| path.starts_with(&self.output())), "{left:?}");
    }

    /// The ResourceManager's end of an application: state, final status, diagnostics.
    pub fn end_of(&self, application: &str) -> (String, String, String) {
        let app = eventually("the application has ended", SOON, || {
            let app = self.report(application);
            ["FINISHED", "FAILED", "KILLED"].iter().any(|state| app["state"] == *state).then_some(app)
        });
        let text = |key: &str| app[key].as_str().unwrap_or_default().to_string();
        (text("state"), text("finalStatus"), text("diagnostics"))
    }

    /// YARN says FAILED, with `parts` in the diagnostics.
    pub fn assert_failed_in_yarn(&self, application: &str, parts: &[&str]) {
        let (state, end, diagnostics) = self.end_of(application);
        assert_eq!((state.as_str(), end.as_str()), ("FINISHED", "FAILED"), "{diagnostics}");
        for part in parts {
            assert!(diagnostics.contains(part), "{part:?} is not in {diagnostics:?}");
        }
    }
}

/// A job that trains.
pub struct Long {
    pub client: Running,
    pub application: String,
}

/// The application id: a word of its own.
pub fn application_of(said: &str) -> String {
    let id = said.split_whitespace().find(|word| word.starts_with("application_"));
    id.unwrap_or_else(|| panic!("no application id in {said:?}")).to_string()
}
