//! The fixture itself: that what the other tests stand on is a real cluster, that its faults are real, and that
//! nothing is left of it.
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_integration_tests::cluster::{Cluster, ClusterError, Options, eventually};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::{Duration, Instant};

fn states(node1: &str, node2: &str) -> Vec<(String, String)> {
    vec![("node1".into(), node1.into()), ("node2".into(), node2.into())]
}

#[test]
fn files_go_to_hdfs_and_come_back_in_blocks_on_both_nodes() {
    let cluster = Cluster::shared();
    let folder = tempfile::tempdir().unwrap();
    // 2.5 blocks of 1 MiB, no two alike.
    let content: Vec<u8> = (0..2_621_440u32).map(|i| (i ^ (i >> 8).wrapping_mul(31)) as u8).collect();
    let (sent, received) = (folder.path().join("sent"), folder.path().join("received"));
    std::fs::write(&sent, &content).unwrap();
    cluster.fs(&["-put", sent.to_str().unwrap(), "/tmp/fixture-file"]).unwrap();
    cluster.fs(&["-get", "/tmp/fixture-file", received.to_str().unwrap()]).unwrap();
    assert!(std::fs::read(&received).unwrap() == content, "what came back is not what was sent");
    assert_eq!(cluster.fs(&["-stat", "%b %o %r", "/tmp/fixture-file"]).unwrap().trim(), "2621440 1048576 2");
    assert!(matches!(cluster.fs(&["-cat", "/tmp/no-such-file"]), Err(ClusterError::Failed { .. })));
}

#[test]
fn nodes_are_hosts_of_their_own() {
    let cluster = Cluster::shared();
    assert_eq!(cluster.node_states().unwrap(), states("RUNNING", "RUNNING"));
    for host in ["edge", "master", "node1", "node2"] {
        let told = cluster.on(host, &["hostname"]).unwrap().successful().unwrap();
        assert_eq!(told.stdout.trim(), host);
    }
    let conf = cluster.on("edge", &["sh", "-c", "echo $HADOOP_CONF_DIR"]).unwrap().stdout;
    assert_eq!(Path::new(conf.trim()), cluster.conf_dir());
    assert!(cluster.conf_dir().join("core-site.xml").exists());
}

#[test]
fn a_cut_host_is_lost_and_comes_back() {
    let cluster = Cluster::shared();
    cluster.cut("node2").unwrap();
    eventually("node2 is lost", Duration::from_secs(30), || {
        (cluster.node_states().unwrap() == states("RUNNING", "LOST")).then_some(())
    });
    cluster.heal("node2").unwrap();
    eventually("node2 is back", Duration::from_secs(30), || {
        (cluster.node_states().unwrap() == states("RUNNING", "RUNNING")).then_some(())
    });
}

#[test]
fn a_killed_daemon_can_be_started_again() {
    let cluster = Cluster::shared();
    cluster.kill_daemon("node1", "nodemanager", "KILL").unwrap();
    let twice = cluster.kill_daemon("node1", "nodemanager", "KILL");
    assert!(twice.unwrap_err().to_string().contains("not running"));
    let killed = Instant::now();
    cluster.start_daemon("node1", "nodemanager").unwrap();
    eventually("node1 registers again", Duration::from_secs(60), || {
        let nodes = cluster.rest("/ws/v1/cluster/nodes").unwrap();
        let node1 = nodes["nodes"]["node"].as_array()?.iter().find(|node| node["nodeHostName"] == "node1")?;
        let age = Duration::from_millis(
            std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64
                - node1["lastHealthUpdate"].as_u64().unwrap(),
        );
        (node1["state"] == "RUNNING" && age < killed.elapsed()).then_some(())
    });
}

#[test]
fn signals_and_status_are_those_of_the_command_itself() {
    let cluster = Cluster::shared();
    assert_eq!(cluster.on("edge", &["sh", "-c", "exit 7"]).unwrap().status.code(), Some(7));
    let sleeping = cluster.spawn_on("node1", &["sleep", "60"]).unwrap();
    eventually("the shell has become the command", Duration::from_secs(10), || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", sleeping.pid())).ok()?;
        (name.trim() == "sleep").then_some(())
    });
    assert_eq!(cluster.processes("node1").unwrap(), [(sleeping.pid(), "sleep 60".to_string())]);
    assert_eq!(cluster.processes("node2").unwrap(), []);
    sleeping.signal("TERM");
    assert_eq!(sleeping.wait(Duration::from_secs(10)).unwrap().status.signal(), Some(15));
    // A grandchild holds the output open: the limit holds all the same.
    let slow = cluster.spawn_on("node1", &["sh", "-c", "echo started; sleep 60 & wait"]).unwrap();
    let started = Instant::now();
    let error = slow.wait(Duration::from_secs(1)).unwrap_err();
    assert!(
        matches!(&error, ClusterError::TimedOut { finished, .. } if finished.stdout == "started\n"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn settings_and_host_names_reach_the_daemons_and_nothing_is_left() {
    let cluster = Cluster::start(&Options {
        hosts: vec!["head.example.test".into(), "worker-a.example.test".into()],
        settings: vec!["yarn-site:yarn.nodemanager.resource.memory-mb=1536".into()],
        ..Options::default()
    })
    .unwrap();
    let metrics = cluster.rest("/ws/v1/cluster/metrics").unwrap();
    assert_eq!(metrics["clusterMetrics"]["totalMB"], 1536);
    assert_eq!(
        cluster.node_states().unwrap(),
        [("worker-a.example.test".to_string(), "RUNNING".to_string())]
    );
    let orphan = cluster.spawn_on("worker-a.example.test", &["sleep", "600"]).unwrap();
    let folder = cluster.conf_dir().parent().unwrap().to_path_buf();
    drop(cluster);
    assert!(!folder.exists(), "{} is still there", folder.display());
    // Also what a test itself had running on a host.
    let ended = orphan.wait(Duration::from_secs(5)).unwrap();
    assert_eq!(ended.status.signal(), Some(9));
}

#[test]
fn a_cluster_that_can_not_start_says_why() {
    let options = Options {
        settings: vec!["yarn-site:yarn.resourcemanager.scheduler.class=no.such.Scheduler".into()],
        ..Options::default()
    };
    let error = Cluster::start(&options).unwrap_err().to_string();
    assert!(error.contains("no.such.Scheduler"), "{error}");
}
