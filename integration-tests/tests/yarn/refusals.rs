//! Jobs that a cluster can not run: said before anything is submitted where that can be known, and clearly.

use crate::site::{JOB_LIMIT, Site, application_of};
use ringspin_integration_tests::cluster::Running;
use ringspin_integration_tests::program::status;

#[test]
fn what_can_be_known_is_refused_before_submission() {
    let site = Site::new();
    let submitted =
        || site.cluster.rest("/ws/v1/cluster/metrics").unwrap()["clusterMetrics"]["appsSubmitted"].clone();
    let before = submitted();
    let refused = |more: &[&str], parts: &[&str]| {
        site.assert_ended(&site.run(more), status::REFUSED, parts);
    };
    refused(&["--input", "/data/nowhere"], &["/data/nowhere", "no such file"]);
    refused(&["--queue", "fast-lane"], &["fast-lane", "yarn.queue"]);
    refused(&["--queue", "root"], &["root", "default", "other"]);
    refused(&["--worker-memory", "8g"], &["workers.memory", "8192", "4096"]);
    refused(&["--worker-cores", "1000"], &["workers.vcores", "1000"]);
    assert_eq!(submitted(), before);
}

#[test]
fn permissions_of_hdfs_are_respected() {
    let site = Site::new();
    site.cluster.fs(&["-mkdir", "-p", "/private", "/user/alice"]).unwrap();
    site.cluster.fs(&["-chmod", "700", "/private"]).unwrap();
    site.cluster.fs(&["-chown", "alice", "/user/alice"]).unwrap();
    let as_alice = |more: &[&str]| {
        let mut command = site.train(more);
        command.env("HADOOP_USER_NAME", "alice");
        Running::start(command).unwrap().wait(JOB_LIMIT).unwrap()
    };
    let denied = as_alice(&["--output", "/private/model"]);
    site.assert_ended(&denied, status::REFUSED, &["/private", "alice", "ermission"]);
    let denied = as_alice(&["--input", "/private"]);
    site.assert_ended(&denied, status::REFUSED, &["/private", "alice", "ermission"]);
    // The folder may be seen, but not written to: only the attempt shows it.
    let denied = as_alice(&["--output", "/data/model"]);
    let code = denied.status.code();
    assert!(code == status::REFUSED || code == status::FAILED, "{}", denied.stderr);
    site.assert_ended(&denied, code, &["/data", "alice", "ermission"]);
    if code == status::FAILED {
        site.assert_failed_in_yarn(&application_of(&denied.stderr), &["/data", "alice"]);
    }
}

#[test]
fn too_small_a_cluster_is_waited_for_and_given_up() {
    let site = Site::new();
    let failed = site.run(&["--workers", "3", "--worker-memory", "4g", "-D", "workers.wait=5 s"]);
    assert!(failed.stderr.contains("waiting for workers: "), "{}", failed.stderr);
    let parts = ["of at least 3 workers", "workers.min", "5 s", "workers.wait"];
    site.assert_ended(&failed, status::FAILED, &parts);
    site.assert_failed_in_yarn(&application_of(&failed.stderr), &parts);
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let site = Site::new();
    let folder = site.file("conf");
    let conf = |file: &str, from: &str, to: &str| {
        std::fs::create_dir_all(&folder).unwrap();
        for entry in std::fs::read_dir(site.cluster.conf_dir()).unwrap().flatten() {
            let mut text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            if entry.file_name() == file {
                assert!(text.contains(from), "{from} is not in {text}");
                text = text.replace(from, to);
            }
            std::fs::write(format!("{folder}/{}", entry.file_name().display()), text).unwrap();
        }
    };
    let refused = |parts: &[&str]| {
        site.assert_ended(&site.run(&["--hadoop-conf-dir", &folder]), status::REFUSED, parts);
    };
    let default = site.ringspin(&["doctor"]).stdout;
    let core = std::fs::read_to_string(site.cluster.conf_dir().join("core-site.xml")).unwrap();
    let hdfs = core.split("hdfs://").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
    assert!(default.contains("hdfs"), "{default}");
    conf("core-site.xml", hdfs, "master:1");
    refused(&["master:1", "refused"]);
    conf("core-site.xml", hdfs, "no-such-host:8020");
    refused(&["no-such-host"]);
    conf("core-site.xml", &format!("hdfs://{hdfs}"), "gopher://there");
    let finished = site.run(&["--hadoop-conf-dir", &folder]);
    assert!([status::USAGE, status::REFUSED].contains(&finished.status.code()), "{}", finished.stderr);
    assert!(finished.stderr.contains("gopher"), "{}", finished.stderr);
    conf("core-site.xml", hdfs, hdfs);
    let yarn = std::fs::read_to_string(site.cluster.conf_dir().join("yarn-site.xml")).unwrap();
    let at =
        yarn.find("<name>yarn.resourcemanager.address</name>").or(yarn.find("yarn.resourcemanager.hostname"));
    assert!(at.is_some(), "{yarn}");
    if yarn.contains("<name>yarn.resourcemanager.address</name>") {
        let rest = &yarn[at.unwrap()..];
        let address = rest.split("<value>").nth(1).and_then(|rest| rest.split('<').next()).unwrap();
        conf("yarn-site.xml", address, "master:1");
        refused(&["ResourceManager", "master:1"]);
    } else {
        let property =
            "<property><name>yarn.resourcemanager.address</name><value>master:1</value></property>";
        conf("yarn-site.xml", "</configuration>", &format!("{property}</configuration>"));
        refused(&["ResourceManager", "master:1"]);
    }
}
