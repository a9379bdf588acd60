//! Mishaps while a job runs: the true cause reaches the user and YARN, and nothing is left.

use crate::site::{JOB_LIMIT, SOON, Site, application_of};
use ringspin_integration_tests::cluster::{Running, eventually};
use ringspin_integration_tests::data;
use ringspin_integration_tests::program::{example, status};
use std::process::Command;

fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args(["-s", signal, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_killed_worker_ends_the_job_with_its_name() {
    let site = Site::new();
    let long = site.start_long(2, &[]);
    let workers = site.roles("container");
    assert_eq!(workers.len(), 2);
    kill("KILL", workers[1].1);
    let finished = long.client.wait(SOON).unwrap();
    let host = format!("on {}", workers[1].0);
    let parts = ["rank ", host.as_str(), "container_", "SIGKILL", "containerlogs"];
    site.assert_ended(&finished, status::FAILED, &parts);
    site.assert_failed_in_yarn(&long.application, &parts);
}

#[test]
fn a_panic_in_a_users_code_ends_the_job_with_its_words() {
    let site = Site::new();
    std::fs::write(site.file("job.toml"), data::FAILING_JOB).unwrap();
    let command = site.train_by(&example("failing_layer"), &["--workers", "2"]);
    let finished = Running::start(command).unwrap().wait(JOB_LIMIT).unwrap();
    let parts = ["rank ", "container_", "panic", "a mistake of the user's", "containerlogs"];
    site.assert_ended(&finished, status::FAILED, &parts);
    site.assert_failed_in_yarn(&application_of(&finished.stderr), &parts);
}

#[test]
fn a_full_hdfs_is_told() {
    let site = Site::new();
    // Less than a block, which is what the NameNode counts for a file that is written.
    site.cluster.fs(&["-mkdir", "-p", "/full"]).unwrap();
    site.cluster.hdfs(&["dfsadmin", "-setSpaceQuota", "1k", "/full"]).unwrap();
    let failed = site.run(&["--output", "/full/model"]);
    let parts = ["/full/", "quota"];
    site.assert_ended(&failed, status::FAILED, &parts);
    site.assert_failed_in_yarn(&application_of(&failed.stderr), &parts);
    assert_eq!(site.cluster.fs(&["-ls", "-C", "/full"]).unwrap(), "");
}

#[test]
fn a_full_disk_of_a_node_is_told() {
    let site = Site::new();
    let local = |host: &str| site.cluster.conf_dir().with_file_name("data").join(host).join("local");
    let restart = |arguments: &[&str]| {
        for host in ["node1", "node2"] {
            site.cluster.kill_daemon(host, "nodemanager", "KILL").unwrap();
            let folder = local(host).display().to_string();
            let command: Vec<&str> = arguments.iter().copied().chain([folder.as_str()]).collect();
            site.cluster.on(host, &command).unwrap().successful().unwrap();
            site.cluster.start_daemon(host, "nodemanager").unwrap();
        }
        site.nodes_register_again();
    };
    // Less than the executable.
    restart(&["mount", "-t", "tmpfs", "-o", "size=4m", "full"]);
    let failed = site.run(&[]);
    let parts = ["No space left on device"];
    site.assert_ended(&failed, status::FAILED, &parts);
    let (_, end, diagnostics) = site.end_of(&application_of(&failed.stderr));
    assert!(end == "FAILED" && diagnostics.contains(parts[0]), "{end}: {diagnostics}");
    restart(&["umount"]);
    site.run(&[]).successful().unwrap();
}

#[test]
fn a_worker_over_its_memory_is_told_so() {
    let site = Site::new();
    // Memory that nobody could foresee: a layer of the user's own takes it.
    let job = data::FAILING_JOB.replace("step = 3", "step = 3\ntakes_mib = 60");
    std::fs::write(site.file("job.toml"), job).unwrap();
    let command = site.train_by(&example("failing_layer"), &["--worker-memory", "128m", "--epochs", "100"]);
    let failed = Running::start(command).unwrap().wait(JOB_LIMIT).unwrap();
    let parts = ["memory", "workers.memory"];
    site.assert_ended(&failed, status::FAILED, &parts);
    site.assert_failed_in_yarn(&application_of(&failed.stderr), &parts);
}

#[test]
fn a_container_too_small_for_its_model_is_refused() {
    let site = Site::new();
    // 64 MiB of container, and a network whose weights alone need more.
    let refused = site.run(&["--worker-memory", "64m", "-D", "model.hidden=[3000, 3000]"]);
    site.assert_ended(&refused, status::REFUSED, &["9039003 parameters", "workers.memory is 64 MiB"]);
}

#[test]
fn numbers_that_are_none_end_the_job() {
    let site = Site::new();
    let failed = site.run(&["--workers", "2", "-D", "optimizer.lr=1e30"]);
    let parts = ["step ", "not finite", "layer", "rank "];
    site.assert_ended(&failed, status::FAILED, &parts);
    site.assert_failed_in_yarn(&application_of(&failed.stderr), &parts);
}

#[test]
fn a_killed_application_master_ends_the_job() {
    let site = Site::new();
    let long = site.start_long(2, &[]);
    let masters = site.roles("am");
    assert_eq!(masters.len(), 1);
    kill("KILL", masters[0].1);
    let finished = long.client.wait(JOB_LIMIT).unwrap();
    let (state, end, diagnostics) = site.end_of(&long.application);
    assert_eq!((state.as_str(), end.as_str()), ("FAILED", "FAILED"), "{diagnostics}");
    assert!(diagnostics.contains("137"), "{diagnostics}");
    site.assert_ended(&finished, status::FAILED, &["137"]);
}

#[test]
fn an_application_that_others_kill_leaves_nothing() {
    let site = Site::new();
    let forever =
        ["--epochs", "10000000", "-D", "validation.every_epochs=10000000", "--workers", "2", "--detach"];
    let id = site.run(&forever).successful().unwrap().stdout.trim().to_string();
    eventually("it trains", JOB_LIMIT, || (site.roles("container").len() == 2).then_some(()));
    // Hadoop's own client, which knows nothing of our folders.
    site.cluster.yarn(&["application", "-kill", &id]).unwrap();
    assert_eq!(site.end_of(&id).1, "KILLED");
    let left = site.assert_clean();
    assert!(!left.iter().any(|path| path.starts_with(&site.output())), "{left:?}");
}

/// `host:port` of everything that a process on a host listens on.
fn ports(site: &Site, host: &str, pid: u32) -> Vec<u16> {
    let printed = site.cluster.on(host, &["ss", "-ltnpH"]).unwrap().successful().unwrap().stdout;
    let own = printed.lines().filter(|line| line.contains(&format!("pid={pid},")));
    own.filter_map(|line| line.split_whitespace().nth(3)?.rsplit_once(':')?.1.parse().ok()).collect()
}

/// Sends garbage, HTTP, a frame of 4 GiB and pretended handshakes, and holds the connections for a while.
const STRANGER: &str = r#"
garbage=$(head -c 3000 /dev/urandom | base64 -w 0)
for text in "$garbage" 'GET / HTTP/1.1\r\n\r\n' '\xff\xff\xff\xff\xff\xff' "RINGSPNC$garbage" "RINGSPIN$garbage"; do
  (exec 3<>"/dev/tcp/$1/$2" && printf "$text" >&3; sleep 2) 2>/dev/null &
done
wait
"#;

#[test]
fn strangers_on_any_port_do_no_harm() {
    let site = Site::new();
    let long = site.start_long(2, &[]);
    let mut doors = Vec::new();
    let mut processes = site.roles("am");
    processes.extend(site.roles("container"));
    for (host, pid, _) in &processes {
        doors.extend(ports(&site, host, *pid).into_iter().map(|port| (host.clone(), port)));
    }
    assert!(doors.len() >= 4, "the AM's two ports and one of each worker: {doors:?}");
    for (host, port) in &doors {
        let argv = ["bash", "-c", STRANGER, "stranger", host, &port.to_string()];
        site.cluster.on("edge", &argv).unwrap();
    }
    let step =
        || site.cluster.rest(&format!("/proxy/{}/status.json", long.application)).unwrap()["step"].as_u64();
    let before = step();
    eventually("the job goes on", SOON, || (step() > before).then_some(()));
    assert_eq!(site.roles("container").len(), 2);
    long.client.signal("INT");
    let finished = long.client.wait(SOON).unwrap();
    assert_eq!(finished.status.code(), status::KILLED, "{}", finished.stderr);
    site.assert_clean();
}
