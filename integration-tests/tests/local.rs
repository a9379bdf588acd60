//! Training on this machine: what a job leaves, that the commands agree about it, and that the bits of a model do
//! not depend on the number of workers.
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_integration_tests::cluster::Finished;
use ringspin_integration_tests::data;
use ringspin_integration_tests::program::{names, run};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

fn raw_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    data::write_raw(folder.path(), 400).unwrap();
    folder
}

/// Trains `job.toml` of `folder` into `model`.
fn train(folder: &Path, model: &str, more: &[&str]) -> Finished {
    let mut arguments = vec!["train", "--conf", "job.toml", "--input", ".", "--output", model];
    arguments.extend(["--output", "json"]);
    arguments.extend(more);
    run(folder, &arguments).unwrap().successful().unwrap()
}

fn json(finished: &Finished) -> Value {
    assert_eq!(finished.stdout.lines().count(), 1, "stdout is the result alone: {}", finished.stdout);
    serde_json::from_str(&finished.stdout).unwrap()
}

fn weights(folder: &Path, model: &str) -> Vec<u8> {
    std::fs::read(folder.join(model).join("weights.safetensors")).unwrap()
}

#[test]
fn a_job_leaves_a_model_that_all_commands_agree_about() {
    let folder = raw_folder();
    let folder = folder.path();
    let result = json(&train(folder, "model", &["--workers", "2"]));
    assert_eq!(result["finalStatus"], "SUCCEEDED");
    // 4 epochs of 13 steps: 400 records by 32, the last batch is a short one.
    assert_eq!(result["steps"], 52);
    assert!(result["accuracy"].as_f64().unwrap() > 0.95, "{result}");
    assert_eq!(result["output"], format!("file://{}/model", folder.display()));
    assert_eq!(names(&folder.join("model")), ["_SUCCESS", "manifest.json", "weights.safetensors"]);
    // Neither a temporary output nor the workers' folders are left.
    assert_eq!(names(folder), ["check.raw", "job.toml", "model", "train.raw"]);

    let manifest = std::fs::read(folder.join("model/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["input"], serde_json::json!([8]));
    assert_eq!(manifest["steps"], 52);
    assert_eq!(manifest["training"]["records"], 400);
    assert_eq!(manifest["validation"]["records"], 90);
    assert_eq!(manifest["validation"]["loss"], result["validationLoss"]);
    assert_eq!(manifest["weights_bytes"], weights(folder, "model").len());

    let evaluated = run(folder, &["evaluate", "--model", "model", "--format", "json"]).unwrap();
    let evaluated = json(&evaluated.successful().unwrap());
    assert_eq!(evaluated["records"], 90);
    assert_eq!(evaluated["accuracy"], result["accuracy"]);
    let loss = |value: &Value| value.as_f64().unwrap();
    // The same numbers, added in another order.
    assert!((loss(&evaluated["loss"]) - loss(&result["validationLoss"])).abs() < 1e-6, "{evaluated}");

    let predicted = run(folder, &["predict", "--model", "model", "--output", "predicted"]).unwrap();
    predicted.successful().unwrap();
    assert_eq!(names(&folder.join("predicted")), ["_SUCCESS", "part-00000.csv"]);
    let table = std::fs::read_to_string(folder.join("predicted/part-00000.csv")).unwrap();
    let mut lines = table.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let class = header.iter().position(|name| *name == "class").unwrap();
    let right = lines
        .enumerate()
        .filter(|(number, line)| line.split(',').nth(class).unwrap() == data::record(*number).1.to_string())
        .count();
    assert_eq!(right as f64 / 90.0, loss(&result["accuracy"]));
}

#[test]
fn reproducible_models_have_the_same_bits_for_any_number_of_workers() {
    let folder = raw_folder();
    let folder = folder.path();
    let reproducible = |model: &str, workers: &str| {
        train(folder, model, &["--workers", workers, "-D", "lanes=0", "-D", "numerics=reproducible"]);
        weights(folder, model)
    };
    let one = reproducible("one", "1");
    assert!(one == reproducible("two", "2"), "2 workers trained another model than 1");
    assert!(one == reproducible("three", "3"), "3 workers trained another model than 1");
    assert!(one == reproducible("again", "2"), "the second run trained another model");
    train(folder, "other", &["-D", "lanes=0", "-D", "numerics=reproducible", "-D", "seed=4"]);
    assert!(one != weights(folder, "other"), "the seed does not matter");
}

#[test]
fn several_csv_files_are_one_data_set() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("job.toml"), data::CSV_JOB).unwrap();
    for (name, from, to) in [("train-a.csv", 0, 170), ("train-b.csv", 170, 171), ("train-c.csv", 171, 400)] {
        std::fs::write(folder.join(name), data::csv(from, to)).unwrap();
    }
    std::fs::write(folder.join("check.csv"), data::csv(0, 90)).unwrap();
    let result = json(&train(folder, "model", &["--workers", "2"]));
    assert_eq!(result["steps"], 52, "{result}");
    assert!(result["accuracy"].as_f64().unwrap() > 0.95, "{result}");
    // What is to be predicted has no labels; the settings of the training hold but for what is given anew.
    let bare: String =
        data::csv(0, 50).lines().map(|line| line.rsplit_once(',').unwrap().0.to_string() + "\n").collect();
    std::fs::write(folder.join("bare.csv"), bare).unwrap();
    let predict =
        ["predict", "--model", "model", "--input", "bare.csv", "-D", "input.files=", "--output", "predicted"];
    run(folder, &predict).unwrap().successful().unwrap();
    let table = std::fs::read_to_string(folder.join("predicted/part-00000.csv")).unwrap();
    let class =
        |(number, line): (usize, &str)| line.split(',').nth(1) == Some(&*data::record(number).1.to_string());
    let right = table.lines().skip(1).enumerate().filter(|one| class(*one)).count();
    assert!(right > 45 && table.lines().count() == 51, "{right} of 50 right");
    let manifest = std::fs::read_to_string(folder.join("model/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["training"]["records"], 400);
}

#[test]
fn idx_files_and_a_network_written_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("job.toml"), data::IDX_JOB).unwrap();
    std::fs::write(folder.join("train-images"), data::idx_images(400)).unwrap();
    std::fs::write(folder.join("train-labels"), data::idx_labels(400)).unwrap();
    let result = json(&train(folder, "model", &[]));
    assert_eq!(result["steps"], 52, "{result}");
    let evaluated = run(folder, &["evaluate", "--model", "model", "--format", "json"]).unwrap();
    let evaluated = json(&evaluated.successful().unwrap());
    assert_eq!(evaluated["records"], 400);
    assert!(evaluated["accuracy"].as_f64().unwrap() > 0.9, "{evaluated}");
}

#[test]
fn results_come_as_properties_and_progress_goes_to_stderr() {
    let folder = raw_folder();
    let arguments =
        ["train", "-c", "job.toml", "--input", ".", "--output", "model", "--output", "properties"];
    let finished = run(folder.path(), &arguments).unwrap().successful().unwrap();
    let lines: Vec<(&str, &str)> =
        finished.stdout.lines().map(|line| line.split_once('=').unwrap()).collect();
    assert!(lines.contains(&("finalStatus", "SUCCEEDED")), "{lines:?}");
    assert!(lines.contains(&("steps", "52")), "{lines:?}");
    assert!(finished.stderr.contains("accuracy"), "{}", finished.stderr);
}
