//! `ringspin model`: what models are and need, without running a job.

pub mod profile;

use crate::args::{ModelArgs, ModelListArgs};
use crate::check::resolve;
use crate::exit::{CommandError, Exit};
use crate::job_args;
use crate::results::Results;
use ringspin_container::train::with_numerics;
use ringspin_job::{Component, JobSpec, Origin, Value, format_bytes};
use ringspin_nn::{Model, Registry, Shape};
use std::thread::available_parallelism;

/// What stands for a model's data and results where only the model is looked at.
const NOWHERE: &str = "nowhere";

/// A model as it was asked for.
struct Asked {
    name: String,
    job: JobSpec,
    model: Model,
    batch: usize,
    threads: usize,
}

/// `ringspin model list`.
///
/// # Errors
/// stdout can not be written.
pub fn list(args: &ModelListArgs, registry: &Registry) -> Result<Exit, CommandError> {
    let (mut text, mut results) = (String::new(), Results::new());
    for entry in registry.models().entries() {
        text.push_str(&format!("{:<16} {}\n", entry.name(), entry.doc()));
        results = results.with(entry.name(), entry.doc());
    }
    results.print(args.format, &text)?;
    Ok(Exit::Success)
}

/// `ringspin model show`.
///
/// # Errors
/// The model is wrong, or its input is not known.
pub fn show(args: &ModelArgs, registry: &Registry) -> Result<Exit, CommandError> {
    let Asked { name, model, batch, threads, .. } = asked(args, registry)?;
    let (training, inference) = (model.memory_bytes(batch, threads), model.inference_bytes(batch, threads));
    let text = format!(
        "{name}, input {}\n\n{}\nmemory for micro-batches of {batch} on {threads} threads: {} to train, before what the \
         optimizer keeps; {} to predict\n",
        model.input(),
        model.summary(),
        format_bytes(training),
        format_bytes(inference),
    );
    let flops: u64 = model.layers().iter().map(|layer| layer.flops).sum();
    let results = Results::new()
        .with("model", name)
        .with("input", model.input().dims().to_vec())
        .with("output", model.output().dims().to_vec())
        .with("parameters", model.learned_count())
        .with("flops", flops)
        .with("batch", batch)
        .with("threads", threads)
        .with("trainingBytes", training)
        .with("inferenceBytes", inference);
    results.print(args.format, &text)?;
    Ok(Exit::Success)
}

/// Finds and builds the model.
fn asked(args: &ModelArgs, registry: &Registry) -> Result<Asked, CommandError> {
    let mut settings = job_args::read(&args.job)?.settings;
    if let Some(name) = &args.model {
        settings.flag("the model's name", "model.name", Value::Text(name.clone()));
    }
    let own_loss = settings.is_set("loss.name");
    let defaults = [
        ("input.path", NOWHERE),
        ("output.path", NOWHERE),
        ("loss.name", "cross_entropy"),
        ("optimizer.name", "sgd"),
        ("schedule.name", "constant"),
    ];
    if !settings.is_set("optimizer.name") {
        settings.flag("default", "optimizer.lr", Value::Float(0.001));
    }
    for (key, value) in defaults {
        if !settings.is_set(key) {
            settings.flag("default", key, Value::Text(value.into()));
        }
    }
    let mut job = resolve(settings, registry)?;
    let component = job.model.model.clone();
    let shape = match &args.shape {
        Some(text) => shape(text)?,
        None => published(&component, registry)?,
    };
    let built = Model::build(registry, &job.model, &shape, &job.loss);
    let built = match built {
        Err(_) if !own_loss => {
            // Outputs that are no classes: numbers.
            job.loss = Component { origin: Origin::Default, ..Component::new("loss", "mse") };
            Model::build(registry, &job.model, &shape, &job.loss)
        }
        built => built,
    };
    let model = built.map_err(|problems| CommandError::usage(problems.to_string()))?;
    let model = with_numerics(model, &job);
    let threads = args.threads.unwrap_or_else(|| available_parallelism().map_or(1, usize::from)).max(1);
    let name = if job.model.layers.is_empty() { component.name } else { job.name.clone() };
    Ok(Asked { name, job, model, batch: args.batch.max(1), threads })
}

/// A shape as it is typed: `224x224x3`.
fn shape(text: &str) -> Result<Shape, CommandError> {
    let wrong = |why: String| {
        CommandError::usage(format!("--shape {text}: {why}; expected sizes such as 224x224x3, channels last"))
    };
    let dims: Result<Vec<usize>, _> = text.split(['x', '×']).map(|dim| dim.trim().parse::<usize>()).collect();
    Shape::new(&dims.map_err(|error| wrong(error.to_string()))?).map_err(wrong)
}

/// The shape that a model was published for.
fn published(model: &Component, registry: &Registry) -> Result<Shape, CommandError> {
    let entry = registry.models().entries().iter().find(|entry| entry.name() == model.name);
    match entry.map(|entry| entry.input()).filter(|input| !input.is_empty()) {
        Some(input) => Shape::new(input).map_err(CommandError::internal),
        None => Err(CommandError::usage(
            "the model takes records of any shape: give one with --shape, such as --shape 28x28x1",
        )),
    }
}
