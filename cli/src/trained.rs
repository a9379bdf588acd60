//! Commands that use a trained model: `evaluate` and `predict`.

use crate::args::{EvaluateArgs, Format, JobArgs, PredictArgs};
use crate::check::check_output;
use crate::exit::{CommandError, Exit};
use crate::job_args;
use crate::results::Results;
use crate::surroundings::{Base, Surroundings};
use ringspin_container::Misfortune;
use ringspin_container::inference::{Inference, Loaded};
use ringspin_data::index::Survey;
use ringspin_data::output::{Begun, Output, Owner, SUCCESS};
use ringspin_data::storage::Storage;
use ringspin_job::{Component, InputFormat, InputSpec, OutputSpec, Problems, Value, resolve_metrics};
use ringspin_nn::Registry;
use std::path::Path;
use tokio::runtime::Handle;

/// `ringspin evaluate`.
///
/// # Errors
/// The model or the data can not be read, or do not fit each other.
pub async fn evaluate(
    args: EvaluateArgs,
    surroundings: &Surroundings,
    registry: &Registry,
) -> Result<Exit, CommandError> {
    let (storage, loaded, format) =
        load(&args.model, args.cluster.hadoop_conf_dir.as_deref(), surroundings, registry)
            .await
            .map(|(s, l)| (s, l, args.format))?;
    let Data { input, metrics, format: typed_format, .. } = data(&args.job, &loaded, &storage)?;
    let threads = threads(args.threads);
    let measurer = loaded.measurer(registry, &metrics).map_err(|wrong| CommandError::usage(wrong.message))?;
    let mut inference =
        Inference::open(&storage, loaded, &input, threads, Handle::current()).await.map_err(refused)?;
    let metrics = wait(move || inference.evaluate(measurer)).await?;
    let results = Results::new()
        .with("records", metrics.records)
        .with("loss", metrics.loss)
        .with_some("accuracy", metrics.top1)
        .with_some("top5", metrics.top5)
        .with_metrics(&metrics.others);
    let text = format!("{} records: {metrics}", metrics.records);
    results.print(format.or(typed_format).unwrap_or(Format::Text), &text)?;
    Ok(Exit::Success)
}

/// `ringspin predict`.
///
/// # Errors
/// As [`evaluate`], or the predictions can not be written.
pub async fn predict(
    args: PredictArgs,
    surroundings: &Surroundings,
    registry: &Registry,
) -> Result<Exit, CommandError> {
    let (storage, loaded) =
        load(&args.model, args.cluster.hadoop_conf_dir.as_deref(), surroundings, registry).await?;
    let Data { input, format: typed_format, output, .. } = data(&args.job, &loaded, &storage)?;
    let Some(path) = output else {
        return Err(CommandError::usage("predict needs a folder for the predictions: --output"));
    };
    let input = without_labels(&storage, input, &loaded.manifest.input).await?;
    let mut read = Survey::take(&storage, &input).await.map_err(refused)?.files_read();
    let model = storage.locate(&args.model).map_err(refused)?;
    read.push(model.join(SUCCESS));
    let spec = OutputSpec { path, overwrite: args.job.overwrite };
    check_output(&storage, &spec, read).await?;
    let target = storage.locate(&spec.path).map_err(refused)?;
    let owner = Owner { job: format!("predict-{}", std::process::id()), attempt: 1 };
    let begun = Output::begin(&storage, &target, args.job.overwrite, owner).await.map_err(refused)?;
    let Begun::Fresh(output) = begun else {
        return Err(CommandError::internal("another process of the same number has written this output"));
    };
    let written = write(&storage, loaded, &input, threads(args.threads), &output).await;
    let records = match written {
        Ok(records) => {
            output.commit().await.map_err(refused)?;
            records
        }
        Err(error) => {
            if let Err(litter) = output.abort().await {
                tracing::warn!("{litter}");
            }
            return Err(error);
        }
    };
    let target = target.to_string();
    let results = Results::new().with("records", records).with("output", target.as_str());
    results.print(
        args.format.or(typed_format).unwrap_or(Format::Text),
        &format!("{records} predictions are in {target}"),
    )?;
    Ok(Exit::Success)
}

/// The input as it is, or as text whose records have no label, where that is what fits the model: nobody knows the
/// labels of what is to be predicted.
async fn without_labels(
    storage: &Storage,
    input: InputSpec,
    shape: &[usize],
) -> Result<InputSpec, CommandError> {
    let fits = |survey: &Survey| survey.schema.shape == shape;
    let labelled = Survey::take(storage, &input).await;
    if labelled.as_ref().is_ok_and(fits) {
        return Ok(input);
    }
    if let InputFormat::Csv { label, .. } = &input.format
        && !label.is_empty()
    {
        let mut bare = input.clone();
        if let InputFormat::Csv { label, .. } = &mut bare.format {
            label.clear();
        }
        if Survey::take(storage, &bare).await.as_ref().is_ok_and(fits) {
            return Ok(bare);
        }
    }
    labelled.map(|_| input).map_err(refused)
}

async fn write(
    storage: &Storage,
    loaded: Loaded,
    input: &InputSpec,
    threads: usize,
    output: &Output,
) -> Result<u64, CommandError> {
    let mut inference =
        Inference::open(storage, loaded, input, threads, Handle::current()).await.map_err(refused)?;
    let (parts, mut ready) = tokio::sync::mpsc::channel(2);
    let predicting =
        tokio::task::spawn_blocking(move || inference.predict(|part| parts.blocking_send(part).is_ok()));
    let mut number = 0;
    while let Some(part) = ready.recv().await {
        output.write(&format!("part-{number:05}.csv"), part).await.map_err(refused)?;
        number += 1;
    }
    predicting.await.map_err(|error| CommandError::internal(error.to_string()))?.map_err(refused_misfortune)
}

async fn load(
    model: &str,
    conf_dir: Option<&Path>,
    surroundings: &Surroundings,
    registry: &Registry,
) -> Result<(Storage, Loaded), CommandError> {
    let hadoop = surroundings.hadoop(conf_dir)?;
    let storage = surroundings.storage(hadoop.as_ref(), Base::Local)?;
    let folder = storage.locate(model).map_err(refused)?;
    let loaded = Loaded::read(&storage, &folder, registry).await.map_err(refused_misfortune)?;
    Ok((storage, loaded))
}

/// What the flags say.
struct Data {
    /// The data to use.
    input: InputSpec,
    /// What to measure besides the loss.
    metrics: Vec<Component>,
    /// Format of the result.
    format: Option<Format>,
    /// Output folder.
    output: Option<String>,
}

fn data(args: &JobArgs, loaded: &Loaded, storage: &Storage) -> Result<Data, CommandError> {
    let typed = job_args::read(args)?;
    let output = typed.settings.get("output.path").and_then(|setting| match setting.value {
        Value::Text(text) => Some(text),
        _ => None,
    });
    let job = &loaded.manifest.job;
    let wrong = |problems: Problems| CommandError::usage(problems.to_string());
    let (trained, metrics) = match &job.validation {
        Some(validation) => (&validation.input, &validation.metrics[..]),
        None => (&job.input, &[][..]),
    };
    let metrics = resolve_metrics(&typed.settings, metrics).map_err(wrong)?;
    let mut input = InputSpec::resolve(typed.settings, trained).map_err(wrong)?;
    input.path = storage.locate(&input.path).map_err(refused)?.to_string();
    Ok(Data { input, metrics, format: typed.format, output })
}

fn threads(asked: Option<usize>) -> usize {
    asked.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
}

async fn wait<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Misfortune> + Send + 'static,
) -> Result<T, CommandError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| CommandError::internal(error.to_string()))?.map_err(refused_misfortune)
}

fn refused(error: impl std::fmt::Display) -> CommandError {
    CommandError::refused(error.to_string())
}

fn refused_misfortune(misfortune: Misfortune) -> CommandError {
    CommandError::refused(misfortune.message)
}
