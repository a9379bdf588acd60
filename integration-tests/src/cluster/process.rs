//! Child processes that can be waited for with a limit, and that never outlive a test unnoticed.

use super::{ClusterError, Result};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two looks at whether a process has ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// A process that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Finished {
    /// Itself when the status is 0.
    pub fn successful(self) -> Result<Finished> {
        if self.status.success() {
            Ok(self)
        } else {
            Err(ClusterError::Failed { command: self.command.clone(), finished: self })
        }
    }
}

/// A running process, the head of a process group of its own. Killed with its group when dropped.
#[derive(Debug)]
pub struct Running {
    command: String,
    child: Child,
    stdout: Output,
    stderr: Output,
    reaped: bool,
}

impl Running {
    /// Starts a command.
    pub fn start(mut command: Command) -> Result<Running> {
        let line = command_line(&command);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child =
            command.spawn().map_err(|source| ClusterError::Io { command: line.clone(), source })?;
        let stdout = Output::collect(child.stdout.take().expect("stdout is piped"));
        let stderr = Output::collect(child.stderr.take().expect("stderr is piped"));
        Ok(Running { command: line, child, stdout, stderr, reaped: false })
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        self.stdout.so_far()
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        self.stderr.so_far()
    }

    /// Sends a signal, such as `TERM`, to the process alone.
    pub fn signal(&self, signal: &str) {
        send(signal, &self.pid().to_string());
    }

    /// Waits for its end; kills it and its group when that takes longer than `limit`.
    pub fn wait(mut self, limit: Duration) -> Result<Finished> {
        let deadline = Instant::now() + limit;
        let mut in_time = true;
        let status = loop {
            let looked = self.child.try_wait();
            let looked =
                looked.map_err(|source| ClusterError::Io { command: self.command.clone(), source })?;
            if let Some(status) = looked {
                break status;
            }
            if in_time && Instant::now() >= deadline {
                in_time = false;
                self.kill_group();
            }
            std::thread::sleep(LOOK_INTERVAL);
        };
        self.reaped = true;
        // Whoever inherited its output would keep the readers waiting for ever: they get until the same deadline.
        let stdout = self.stdout.finish(deadline);
        let stderr = self.stderr.finish(deadline);
        let finished = Finished { command: self.command.clone(), status, stdout, stderr };
        if in_time {
            Ok(finished)
        } else {
            Err(ClusterError::TimedOut { command: self.command.clone(), limit, finished })
        }
    }

    fn kill_group(&self) {
        send("KILL", &format!("-{}", self.pid()));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            self.kill_group();
            // Only reaps: it was just killed.
            let _ = self.child.wait();
        }
    }
}

/// A stream that a thread reads to its end.
#[derive(Debug)]
struct Output {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Output {
    fn collect(mut stream: impl Read + Send + 'static) -> Output {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = bytes.clone();
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 8192];
            while let Ok(count @ 1..) = stream.read(&mut piece) {
                lock(&sink).extend_from_slice(&piece[..count]);
            }
        });
        Output { bytes, reader }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&lock(&self.bytes)).into_owned()
    }

    fn finish(&self, deadline: Instant) -> String {
        while !self.reader.is_finished() && Instant::now() < deadline {
            std::thread::sleep(LOOK_INTERVAL);
        }
        self.so_far()
    }
}

fn lock(bytes: &Mutex<Vec<u8>>) -> std::sync::MutexGuard<'_, Vec<u8>> {
    bytes.lock().expect("readers do not panic")
}

/// By the program `kill`, which a process that has just ended does not upset.
fn send(signal: &str, target: &str) {
    let _ = Command::new("kill").args(["-s", signal, "--", target]).stderr(Stdio::null()).status();
}

fn command_line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
