//! Honest endings on this machine: for each mistake and mishap the message, the exit status, nothing that looks like
//! a model, no process left, and no waiting for ever (every run has a limit).
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_integration_tests::cluster::{Finished, Running, eventually};
use ringspin_integration_tests::data;
use ringspin_integration_tests::program::{example, names, program, ringspin, run, status};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Soon, for what happens on this machine alone, loaded as it may be.
const SOON: Duration = Duration::from_secs(20);

fn raw_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    data::write_raw(folder.path(), 400).unwrap();
    folder
}

fn train(folder: &Path, more: &[&str]) -> Finished {
    let mut arguments = vec!["train", "--conf", "job.toml", "-D", "input.path=.", "--output", "model"];
    arguments.extend(more);
    run(folder, &arguments).unwrap()
}

/// The run ended with `code`, its last words hold all `parts`, and there is no output, also no half of one.
fn assert_ended(folder: &Path, finished: &Finished, code: Option<i32>, parts: &[&str]) {
    assert_eq!(finished.status.code(), code, "{}{}", finished.stdout, finished.stderr);
    let last: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with("ringspin: ")).collect();
    let last = last.join("\n");
    for part in parts {
        assert!(last.contains(part), "{part:?} is not in {last:?}");
    }
    let litter: Vec<String> = names(folder).into_iter().filter(|name| name.contains("model")).collect();
    assert_eq!(litter, Vec::<String>::new(), "output of a job that did not succeed");
    // Nothing but the workers' logs of a failed job, without its credentials.
    for name in names(folder).iter().filter(|name| name.starts_with("ringspin_")) {
        assert!(names(&folder.join(name)).iter().all(|name| name.starts_with("local_")), "{name}");
    }
    eventually("no process of the run is left", SOON, || processes(folder).is_empty().then_some(()));
}

/// Worker processes whose environment says that they belong to a run in `folder`.
fn processes(folder: &Path) -> Vec<(u32, String)> {
    let mark = format!("TMPDIR={}", folder.display());
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', " ");
        let command = text(read("cmdline"));
        if text(read("environ")).contains(&mark) && command.contains(" container ") {
            found.push((pid, command));
        }
    }
    found.sort();
    found
}

/// A job that would go on for hours, as soon as `workers` train.
fn start_long(folder: &Path, workers: usize, more: &[&str]) -> (Running, Vec<(u32, String)>) {
    let count = workers.to_string();
    let mut arguments = vec![
        "train",
        "--conf",
        "job.toml",
        "--input",
        ".",
        "--output",
        "model",
        "--epochs",
        "10000000",
        "--workers",
        &count,
        "-D",
        "validation.every_epochs=10000000",
    ];
    arguments.extend(more);
    let running = Running::start(ringspin(folder, &arguments)).unwrap();
    eventually("the job trains", SOON, || running.stderr().contains("training on").then_some(()));
    let workers_found = processes(folder);
    assert_eq!(workers_found.len(), workers);
    (running, workers_found)
}

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn wrong_input_is_refused_before_anything_runs() {
    let folder = raw_folder();
    let folder = folder.path();
    let raw = data::raw(400);
    std::fs::write(folder.join("cut.raw"), &raw[..905]).unwrap();
    std::fs::write(folder.join("empty.raw"), []).unwrap();
    let refused = |more: &[&str], parts: &[&str]| {
        let begun = Instant::now();
        assert_ended(folder, &train(folder, more), status::REFUSED, parts);
        assert!(begun.elapsed() < SOON);
    };
    refused(&["--input", "nowhere"], &["/nowhere", "no such file"]);
    refused(&["-D", "input.files=nothing*"], &["nothing*"]);
    refused(&["-D", "input.files=cut.raw"], &["cut.raw", "byte 900", "truncated"]);
    refused(&["-D", "input.files=empty.raw"], &["has no records"]);
    refused(&["-D", "validation.files=empty.raw"], &["has no records"]);
}

#[test]
fn wrong_idx_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let images = data::idx_images(400);
    std::fs::write(folder.join("job.toml"), data::IDX_JOB).unwrap();
    std::fs::write(folder.join("train-images"), &images).unwrap();
    std::fs::write(folder.join("train-labels"), data::idx_labels(400)).unwrap();
    std::fs::write(folder.join("cut-images"), &images[..3000]).unwrap();
    std::fs::write(folder.join("few-labels"), data::idx_labels(300)).unwrap();
    let refused = |more: &[&str], parts: &[&str]| {
        assert_ended(folder, &train(folder, more), status::REFUSED, parts);
    };
    refused(&["-D", "input.images=cut-images"], &["cut-images", "byte 3000", "truncated", "3216"]);
    refused(&["-D", "input.labels=few-labels"], &["few-labels", "400 images", "300 labels"]);
    refused(&["-D", "input.labels=train-images"], &["train-images"]);
}

#[test]
fn a_bad_record_is_named_by_its_place() {
    let folder = raw_folder();
    let folder = folder.path();
    let mut bytes = data::raw(400);
    bytes[9 * 77] = 7;
    std::fs::write(folder.join("range.raw"), bytes).unwrap();
    let failed = train(folder, &["-D", "input.files=range.raw"]);
    assert_ended(folder, &failed, status::FAILED, &["range.raw", "record 77 ", "label 7", "0 to 2"]);

    std::fs::write(folder.join("job.toml"), data::CSV_JOB).unwrap();
    std::fs::write(folder.join("check.csv"), data::csv(0, 90)).unwrap();
    std::fs::write(folder.join("train-a.csv"), data::csv(0, 200)).unwrap();
    let lines = data::csv(200, 250);
    let bad = lines.lines().enumerate().map(|(number, line)| match number {
        30 => line.replacen("0.", "zero.", 1) + "\n",
        _ => format!("{line}\n"),
    });
    std::fs::write(folder.join("train-b.csv"), bad.collect::<String>()).unwrap();
    let failed = train(folder, &["--workers", "2"]);
    let parts = ["train-b.csv", "line 31", "column", "\"zero.", "is not a number"];
    assert_ended(folder, &failed, status::FAILED, &parts);
}

#[test]
fn an_output_that_exists_is_left_alone() {
    let folder = raw_folder();
    let folder = folder.path();
    std::fs::create_dir(folder.join("taken")).unwrap();
    std::fs::write(folder.join("taken/thesis"), "years of work").unwrap();
    let refused = train(folder, &["--output", "taken"]);
    assert_ended(folder, &refused, status::REFUSED, &["/taken exists already", "--overwrite"]);
    assert_eq!(names(&folder.join("taken")), ["thesis"]);
    train(folder, &["--output", "taken", "--overwrite"]).successful().unwrap();
    assert_eq!(names(&folder.join("taken")), ["_SUCCESS", "manifest.json", "weights.safetensors"]);
}

#[test]
fn an_output_never_replaces_what_is_read() {
    let folder = raw_folder();
    let folder = folder.path();
    std::fs::create_dir_all(folder.join("deep/data")).unwrap();
    for name in ["train.raw", "check.raw"] {
        std::fs::rename(folder.join(name), folder.join("deep/data").join(name)).unwrap();
    }
    let read = ["-D", "input.path=deep/data", "--overwrite"];
    for output in ["deep/data", "deep", "deep/data/train.raw", "deep/../deep"] {
        let refused = train(folder, &[&read[..], &["--output", output]].concat());
        assert_ended(folder, &refused, status::REFUSED, &["the output", "deep"]);
    }
    assert_eq!(names(&folder.join("deep/data")), ["check.raw", "train.raw"]);
    let beside = train(folder, &[&read[..], &["--output", "deep/data/model"]].concat());
    beside.successful().unwrap();
    // Predictions replace neither their input nor their model.
    for output in ["deep/data", "deep/data/model"] {
        let predict = ["predict", "--model", "deep/data/model", "--overwrite", "--output", output];
        assert_eq!(run(folder, &predict).unwrap().status.code(), status::REFUSED);
    }
    assert_eq!(names(&folder.join("deep/data")), ["check.raw", "model", "train.raw"]);
}

#[test]
fn a_loss_that_does_not_fit_the_data_is_refused() {
    let folder = raw_folder();
    let refused = train(folder.path(), &["-D", "loss.name=mse"]);
    assert_ended(
        folder.path(),
        &refused,
        status::USAGE,
        &["loss.name", "mse", "3 numbers", "one class a record"],
    );
}

#[test]
fn numbers_that_are_none_end_the_job_with_step_and_layer() {
    let folder = raw_folder();
    let folder = folder.path();
    let failed = train(folder, &["-D", "optimizer.lr=1e30", "--workers", "2"]);
    let parts = ["step ", "not finite", "layer", "optimizer.lr", "stop_on_nan"];
    assert_ended(folder, &failed, status::FAILED, &parts);
    let reproducible = ["-D", "optimizer.lr=1e30", "-D", "numerics=reproducible"];
    let failed = train(folder, &reproducible);
    assert_ended(folder, &failed, status::FAILED, &["step ", "not finite", "optimizer.lr"]);
    let went_on = train(folder, &["-D", "optimizer.lr=1e30", "-D", "stop_on_nan=false"]);
    went_on.successful().unwrap();
    assert!(folder.join("model/_SUCCESS").exists());
}

#[test]
fn a_cluster_that_is_not_there_is_said_so() {
    let folder = raw_folder();
    let folder = folder.path();
    let refused = train(folder, &["--master", "yarn"]);
    assert_ended(folder, &refused, status::USAGE, &["HADOOP_CONF_DIR", "yarn-site.xml"]);
    let refused = train(folder, &["--master", "mesos"]);
    assert_ended(folder, &refused, status::USAGE, &["--master mesos", "yarn"]);
    let refused = train(folder, &["--master", "yarn", "--hadoop-conf-dir", "nowhere"]);
    assert_ended(folder, &refused, status::USAGE, &["nowhere"]);
}

#[test]
fn a_killed_worker_ends_the_job_with_its_name() {
    for (signal, part) in [("KILL", "was killed (SIGKILL)"), ("ABRT", "was ended by signal 6")] {
        let folder = raw_folder();
        let (running, workers) = start_long(folder.path(), 3, &[]);
        kill(signal, workers[1].0);
        let finished = running.wait(SOON).unwrap();
        assert_ended(folder.path(), &finished, status::FAILED, &["rank ", "local_", "log: ", part]);
    }
}

#[test]
fn a_panic_in_a_users_code_ends_the_job_with_its_words() {
    let folder = raw_folder();
    std::fs::write(folder.path().join("job.toml"), data::FAILING_JOB).unwrap();
    let arguments = ["train", "-c", "job.toml", "--input", ".", "--output", "model", "--workers", "2"];
    let command = program(&example("failing_layer"), folder.path(), &arguments);
    let finished = Running::start(command).unwrap().wait(SOON).unwrap();
    let parts = ["rank ", "local_", "panic", "a mistake of the user's", "log: "];
    assert_ended(folder.path(), &finished, status::FAILED, &parts);
}

#[test]
fn a_full_disk_is_told_and_nothing_looks_complete() {
    let folder = raw_folder();
    std::fs::create_dir(folder.path().join("disk")).unwrap();
    // A disk of its own for this process: 128 KiB, of which the weights need more.
    let script = "mount -t tmpfs -o size=128k disk disk && { \"$@\"; code=$?; ls -A disk; exit $code; }";
    let train = [
        "train",
        "-c",
        "job.toml",
        "-D",
        "input.path=.",
        "--output",
        "disk/model",
        "-D",
        "model.hidden=[9000]",
    ];
    let train = ringspin(folder.path(), &train);
    let mut command = program(Path::new("unshare"), folder.path(), &["-rm", "sh", "-c", script, "sh"]);
    command.arg(train.get_program()).args(train.get_args());
    let finished = Running::start(command).unwrap().wait(SOON).unwrap();
    assert_ended(
        folder.path(),
        &finished,
        status::FAILED,
        &["disk/", "weights.safetensors", "no space left on device"],
    );
    assert_eq!(finished.stdout, "", "something was left on the disk");
}

#[test]
fn a_silent_worker_ends_the_job() {
    let folder = raw_folder();
    let (running, workers) = start_long(folder.path(), 2, &["-D", "network.heartbeat_timeout=2 s"]);
    kill("STOP", workers[1].0);
    let finished = running.wait(SOON).unwrap();
    assert_ended(folder.path(), &finished, status::FAILED, &["rank ", "local_"]);
}

#[test]
fn interrupting_or_killing_the_client_ends_everything() {
    for signal in ["INT", "TERM"] {
        let folder = raw_folder();
        let (running, _) = start_long(folder.path(), 2, &[]);
        running.signal(signal);
        let finished = running.wait(SOON).unwrap();
        let part = format!("the client got SIG{signal}");
        assert_ended(folder.path(), &finished, status::KILLED, &[&part]);
    }
    let folder = raw_folder();
    let (running, _) = start_long(folder.path(), 2, &[]);
    running.signal("KILL");
    running.wait(SOON).unwrap();
    eventually("the workers notice that they are alone", SOON, || {
        processes(folder.path()).is_empty().then_some(())
    });
}

/// Ports that a process listens on.
fn ports(pid: u32) -> Vec<u16> {
    let printed = Command::new("ss").args(["-ltnpH"]).output().unwrap();
    let printed = String::from_utf8(printed.stdout).unwrap();
    let own = printed.lines().filter(|line| line.contains(&format!("pid={pid},")));
    own.filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':')?.1.parse().ok()).collect()
}

/// What strangers may send: nothing sensible, another protocol, 4 GiB announced, the magic words without the
/// secret.
fn strangers() -> Vec<Vec<u8>> {
    let garbage: Vec<u8> = (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let announced = [&[0xff; 4][..], &[0; 64]].concat();
    let pretender = |magic: &[u8]| [magic, &[7; 256]].concat();
    vec![
        garbage,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        announced,
        pretender(b"RINGSPNC"),
        pretender(b"RINGSPIN"),
        Vec::new(),
    ]
}

#[test]
fn strangers_on_any_port_do_no_harm() {
    let folder = raw_folder();
    let folder = folder.path();
    let (running, workers) = start_long(folder, 2, &[]);
    let mut doors = ports(running.pid());
    assert_eq!(doors.len(), 2, "the door for workers and the status page");
    workers.iter().for_each(|(pid, _)| doors.extend(ports(*pid)));
    let mut held = Vec::new();
    for port in doors {
        for bytes in strangers() {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { continue };
            // Whoever hangs up at once is as good as one who answers: only the job counts.
            let _ = stream.write_all(&bytes);
            held.push(stream);
        }
    }
    let steps = running.stderr();
    eventually("the job goes on", SOON, || (running.stderr() != steps).then_some(()));
    assert_eq!(processes(folder), workers, "workers were restarted or ended");
    for mut stream in held {
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.len() < 64 << 10, "a stranger got {} bytes", answer.len());
    }
    running.signal("INT");
    let finished = running.wait(SOON).unwrap();
    assert_ended(folder, &finished, status::KILLED, &[]);
}
