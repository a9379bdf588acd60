//! Files in a real HDFS, by their own names and behind a mount table.

use crate::site::Site;
use ringspin_integration_tests::program::example;

/// A mount table named `views`, of which two folders lead to the cluster's.
const MOUNTS: [(&str, &str); 2] = [
    ("fs.viewfs.mounttable.views.link./inputs", "hdfs://master:9000/data"),
    ("fs.viewfs.mounttable.views.link./outputs", "hdfs://master:9000/models"),
];

#[test]
fn storage_and_outputs_keep_their_promises_on_hdfs() {
    let site = Site::new();
    let conf = format!("HADOOP_CONF_DIR={}", site.conf_with(&MOUNTS));
    let program = example("storage_conformance").display().to_string();
    for uri in ["hdfs:///models/conformance", "viewfs://views/outputs/conformance"] {
        let run = site.cluster.on("edge", &["env", &conf, &program, uri]).unwrap().successful().unwrap();
        assert_eq!(run.stdout.matches("every promise kept").count(), 2, "{}", run.stdout);
    }
    site.assert_clean();
}

#[test]
fn a_job_reads_and_writes_behind_a_mount_table() {
    let site = Site::new();
    let conf = site.conf_with(&MOUNTS);
    let output = format!("viewfs://views/outputs{}", site.output().trim_start_matches("/models"));
    let options = ["--hadoop-conf-dir", &conf, "--input", "viewfs://views/inputs/small", "--output", &output];
    site.run(&[&options[..], &["--workers", "2"]].concat()).successful().unwrap();
    let left = site.assert_clean();
    assert!(left.contains(&format!("{}/_SUCCESS", site.output())), "{left:?}");
    let evaluate = ["evaluate", "--hadoop-conf-dir", &conf, "--model", &output];
    site.ringspin(&evaluate).successful().unwrap();
}
