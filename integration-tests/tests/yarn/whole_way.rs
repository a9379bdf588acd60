//! From files in HDFS to a model in HDFS, and the commands beside it.

use crate::site::{JOB_LIMIT, SOON, Site, application_of};
use ringspin_integration_tests::cluster::{Running, eventually};
use ringspin_integration_tests::program::{run, status};
use serde_json::Value;
use std::path::Path;

#[test]
fn a_job_goes_from_hdfs_to_hdfs_with_the_bits_of_a_local_run() {
    let site = Site::new();
    let options = [
        "--workers",
        "2",
        "-D",
        "numerics=reproducible",
        "--output",
        "json",
        "--tag",
        "etl",
        "--tag",
        "nightly",
        "--queue",
        "other",
        "--priority",
        "3",
        "--name",
        "whole way",
    ];
    let finished = site.run(&options).successful().unwrap();
    let result: Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(result["finalStatus"], "SUCCEEDED");
    assert!(result["accuracy"].as_f64().unwrap() > 0.95, "{result}");
    let id = result["applicationId"].as_str().unwrap();
    // Airflow and others find the id by a pattern: on its line, as a word, once.
    let once = finished.stderr.split_whitespace().filter(|word| *word == id).count();
    assert_eq!(once, 1, "{}", finished.stderr);

    let app = site.report(id);
    assert_eq!((&app["state"], &app["finalStatus"]), (&"FINISHED".into(), &"SUCCEEDED".into()));
    assert_eq!(app["name"], "whole way");
    assert_eq!(app["applicationType"], "RINGSPIN");
    // Hadoop 3.3 names the leaf alone.
    assert_eq!(app["queue"].as_str().unwrap().trim_start_matches("root."), "other");
    // As it is without `yarn.cluster.max-application-priority`; what was asked for is cut to that.
    assert_eq!(app["priority"], 0);
    let tags: Vec<&str> = app["applicationTags"].as_str().unwrap().split(',').collect();
    assert!(tags.contains(&"etl") && tags.contains(&"nightly"), "{tags:?}");

    let output = site.output();
    let left = site.assert_clean();
    for name in ["_SUCCESS", "manifest.json", "weights.safetensors"] {
        assert!(left.contains(&format!("{output}/{name}")), "{left:?}");
    }
    site.cluster.fs(&["-get", &format!("{output}/weights.safetensors"), &site.file("yarn")]).unwrap();
    let folder = site.file("job.toml");
    let folder = Path::new(&folder).parent().unwrap();
    let local = [
        "train",
        "-c",
        "job.toml",
        "-D",
        "input.path=.",
        "--output",
        "local",
        "--workers",
        "3",
        "-D",
        "numerics=reproducible",
    ];
    run(folder, &local).unwrap().successful().unwrap();
    let bits = |name: &str| std::fs::read(site.file(name)).unwrap();
    assert!(
        bits("yarn") == bits("local/weights.safetensors"),
        "YARN trained another model than this machine"
    );

    for workers in ["1", "3"] {
        let again = ["--workers", workers, "-D", "numerics=reproducible", "--overwrite"];
        site.run(&again).successful().unwrap();
        let file = format!("yarn{workers}");
        site.cluster.fs(&["-get", &format!("{output}/weights.safetensors"), &site.file(&file)]).unwrap();
        assert!(bits("yarn") == bits(&file), "{workers} workers on YARN trained another model than 2");
    }

    let model = format!("hdfs://{output}");
    let evaluated = site.ringspin(&["evaluate", "--model", &model, "--format", "json"]).successful();
    let evaluated: Value = serde_json::from_str(&evaluated.unwrap().stdout).unwrap();
    assert_eq!(evaluated["accuracy"], result["accuracy"]);

    let refused = site.run(&[]);
    assert_eq!(refused.status.code(), status::REFUSED, "{}", refused.stderr);
    assert!(refused.stderr.contains("exists already"), "{}", refused.stderr);
    site.run(&["--overwrite"]).successful().unwrap();

    let logs = site.ringspin(&["logs", id]).successful().unwrap().stdout;
    assert!(logs.contains("validation loss"), "the AM's log is missing: {logs}");
    assert!(logs.matches("_000002").count() > 0, "a worker's log is missing: {logs}");
    site.assert_clean();
}

#[test]
fn commands_about_a_running_application() {
    let site = Site::new();
    let detached = site.run(&[
        "--detach",
        "--epochs",
        "10000000",
        "--workers",
        "2",
        "--tag",
        "mine",
        "-D",
        "validation.every_epochs=10000000",
    ]);
    let id = detached.successful().unwrap().stdout.trim().to_string();
    assert_eq!(id, application_of(&id));
    let status_of = |id: &str| {
        let printed = site.ringspin(&["status", id, "--output", "json"]).successful().unwrap().stdout;
        serde_json::from_str::<Value>(&printed).unwrap()
    };
    let seen = eventually("the job trains", JOB_LIMIT, || {
        let seen = status_of(&id);
        seen["step"].as_u64().is_some_and(|step| step > 0).then_some(seen)
    });
    assert_eq!(seen["state"], "RUNNING");
    assert_eq!(seen["phase"], "training");

    let page = site.cluster.rest(&format!("/proxy/{id}/status.json")).unwrap();
    assert_eq!(page["application"], id.as_str());
    let ranks: Vec<u64> =
        page["workers"].as_array().unwrap().iter().filter_map(|worker| worker["rank"].as_u64()).collect();
    assert_eq!(ranks, [0, 1]);
    assert!(page["training"]["loss"].is_number(), "{page}");

    let listed = site.ringspin(&["list", "--tag", "mine"]).successful().unwrap().stdout;
    assert!(listed.contains(&id), "{listed}");
    assert!(!site.ringspin(&["list", "--tag", "yours"]).successful().unwrap().stdout.contains(&id));
    let logs = site.ringspin(&["logs", &id]).successful().unwrap().stdout;
    assert!(logs.contains("training starts"), "{logs}");

    let killed = site.ringspin(&["kill", &id]).successful().unwrap();
    assert!(killed.stdout.contains("KILLED"), "{}", killed.stdout);
    assert_eq!(status_of(&id)["finalStatus"], "KILLED");
    assert!(!site.ringspin(&["list"]).successful().unwrap().stdout.contains(&id));
    assert!(site.ringspin(&["list", "--all"]).successful().unwrap().stdout.contains(&id));
    let unknown = site.ringspin(&["status", "application_1700000000000_0001"]);
    assert_eq!(unknown.status.code(), status::REFUSED);
    assert!(unknown.stderr.contains("does not know it"), "{}", unknown.stderr);
    site.assert_clean();
}

#[test]
fn ctrl_c_kills_the_application() {
    let site = Site::new();
    let long = site.start_long(2, &[]);
    long.client.signal("INT");
    let finished = long.client.wait(SOON).unwrap();
    assert_eq!(finished.status.code(), status::KILLED, "{}", finished.stderr);
    let (state, end, _) = site.end_of(&long.application);
    assert_eq!((state.as_str(), end.as_str()), ("KILLED", "KILLED"));
    let left = site.assert_clean();
    assert!(!left.iter().any(|path| path.starts_with(&site.output())), "{left:?}");

    // Also while it is being submitted: whatever has become of it is taken back.
    for wait_ms in [30, 80, 130, 200, 300] {
        let submitting = Running::start(site.train(&["--epochs", "10000000"])).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        submitting.signal("TERM");
        submitting.wait(SOON).unwrap();
    }
    eventually("nothing runs", SOON, || {
        let apps = site
            .cluster
            .rest("/ws/v1/cluster/apps?states=NEW,NEW_SAVING,SUBMITTED,ACCEPTED,RUNNING")
            .unwrap();
        apps["apps"]["app"].is_null().then_some(())
    });
    site.assert_clean();

    // Also before the ApplicationMaster is there.
    let early = Running::start(site.train(&["--epochs", "10000000"])).unwrap();
    eventually("it is submitted", JOB_LIMIT, || early.stderr().contains("Submitted").then_some(()));
    let id = application_of(&early.stderr());
    early.signal("TERM");
    assert_eq!(early.wait(SOON).unwrap().status.code(), status::KILLED);
    assert_eq!(site.end_of(&id).1, "KILLED");
    site.assert_clean();
}
