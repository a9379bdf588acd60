//! The `ringspin` executable as a user has it: found beside the tests, run with a limit.

use crate::cluster::{Finished, Result, Running};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What a local run of a small job may take on a loaded machine.
pub const LOCAL_LIMIT: Duration = Duration::from_secs(60);

/// Exit statuses, as `ringspin --help` documents them.
pub mod status {
    /// Bad usage.
    pub const USAGE: Option<i32> = Some(2);
    /// Refused before anything ran.
    pub const REFUSED: Option<i32> = Some(3);
    /// The job failed.
    pub const FAILED: Option<i32> = Some(4);
    /// The job was killed.
    pub const KILLED: Option<i32> = Some(5);
}

/// The executable: what `RINGSPIN_TEST_EXECUTABLE` names, else the one that cargo built beside these tests.
///
/// # Panics
/// There is none.
pub fn executable() -> PathBuf {
    if let Some(named) = std::env::var_os("RINGSPIN_TEST_EXECUTABLE") {
        return named.into();
    }
    let tests = std::env::current_exe().expect("this test is a file");
    let built = tests.ancestors().nth(2).expect("tests lie in target/<profile>/deps").join("ringspin");
    assert!(built.exists(), "{} is missing: cargo build --package ringspin", built.display());
    built
}

/// A program of `examples/`, built together with the tests.
///
/// # Panics
/// There is none.
pub fn example(name: &str) -> PathBuf {
    let tests = std::env::current_exe().expect("this test is a file");
    let built = tests.ancestors().nth(2).expect("tests lie in target/<profile>/deps");
    let built = built.join("examples").join(name);
    assert!(built.exists(), "{} is missing: cargo build --examples", built.display());
    built
}

/// `ringspin` with these arguments in `folder`, without any Hadoop in its environment.
pub fn ringspin<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Command {
    program(&executable(), folder, arguments)
}

/// The same with another executable.
pub fn program<S: AsRef<OsStr>>(executable: &Path, folder: &Path, arguments: &[S]) -> Command {
    let mut command = Command::new(executable);
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    for name in ["HADOOP_CONF_DIR", "YARN_CONF_DIR", "HADOOP_USER_NAME", "HADOOP_TOKEN_FILE_LOCATION"] {
        command.env_remove(name);
    }
    // What a run leaves behind is then in `folder`.
    command.env("TMPDIR", folder);
    command
}

/// Runs it to its end.
///
/// # Errors
/// It takes longer than [`LOCAL_LIMIT`].
pub fn run<S: AsRef<OsStr>>(folder: &Path, arguments: &[S]) -> Result<Finished> {
    Running::start(ringspin(folder, arguments))?.wait(LOCAL_LIMIT)
}

/// Names of what lies in `folder`, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>());
    let mut names: Vec<String> = entries
        .unwrap_or_default()
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
