//! A job checked before it runs: every mistake of the job file together, then those that only the data shows.

use crate::args::{Format, JobShowArgs};
use crate::exit::{CommandError, Exit};
use crate::job_args;
use crate::results::{Results, print_line};
use ringspin_container::memory::worker_bytes;
use ringspin_container::train::{build_model, check_training};
use ringspin_data::formats::{self, RecordSchema};
use ringspin_data::index::Survey;
use ringspin_data::output::{Begun, Output, Owner};
use ringspin_data::storage::{Location, Storage, StorageErrorKind};
use ringspin_job::{InputSpec, JobSpec, Monitor, OutputSpec, Problems, Settings, format_bytes, keys};
use ringspin_nn::{GROUP_PARAMS, Model, ParamDoc, Registry, THEN_PARAMS, Table, TargetKind};

/// Resolves a job, components included.
///
/// # Errors
/// All mistakes, one a line.
pub fn resolve(settings: Settings, registry: &Registry) -> Result<JobSpec, CommandError> {
    JobSpec::resolve_checked(settings, |spec, problems| {
        let schedule = registry.build_schedule(&spec.schedule);
        check_monitors(
            spec,
            &schedule.as_ref().map(|schedule| schedule.monitors()).unwrap_or_default(),
            problems,
        );
        let found = [registry.build_optimizers(&spec.optimizer).err(), schedule.err()];
        problems.0.extend(found.into_iter().flatten().flat_map(|found| found.0));
        let metrics = spec.validation.as_ref().map(|validation| validation.metrics.as_slice());
        problems.0.extend(registry.check_metrics(metrics.unwrap_or_default()).0);
        // What the job itself lacks has been said.
        let named =
            !spec.model.model.name.is_empty() && spec.model.layers.iter().all(|layer| !layer.name.is_empty());
        if named {
            problems.0.extend(registry.check(&spec.model, &spec.loss).0);
        }
    })
    .map_err(|problems| CommandError::usage(problems.to_string()))
}

/// Whether what the schedule looks at is measured.
fn check_monitors(spec: &JobSpec, monitors: &[Monitor], problems: &mut Problems) {
    let origin = &spec.schedule.origin;
    match &spec.validation {
        None if !monitors.is_empty() => problems.add(
            origin,
            "schedule",
            "looks at validations, but no validation data is given (validation.path, .images, .files)",
        ),
        None => {}
        Some(validation) => {
            for message in monitors.iter().filter_map(|monitor| monitor.check(&validation.metrics).err()) {
                problems.add(origin, "schedule.monitor", message);
            }
        }
    }
}

/// What the data shows of a job before it runs.
pub struct Checked {
    /// The model, built for the input's records.
    pub model: Model,
    /// Records of the training data, where they are known without counting.
    pub survey: Survey,
}

/// Looks at input and output, and builds the model.
///
/// # Errors
/// The input is missing or wrong, the output is there already, the model does not fit.
pub async fn against_data(
    storage: &Storage,
    job: &JobSpec,
    registry: &Registry,
) -> Result<Checked, CommandError> {
    let survey = look_at(storage, &job.input).await?;
    let (mut validation_files, mut validation_schema) = (Vec::new(), None);
    if let Some(validation) = &job.validation {
        let other = look_at(storage, &validation.input).await?;
        if other.schema.shape != survey.schema.shape {
            let message = format!(
                "validation data has records of shape {:?}, training data of {:?}",
                other.schema.shape, survey.schema.shape
            );
            return Err(CommandError::refused(message));
        }
        validation_files = other.files_read();
        validation_schema = Some(other.schema);
    }
    let model = build_model(registry, job, &survey.schema.shape)
        .map_err(|error| CommandError::usage(error.message))?;
    check_training(registry, job, &model).map_err(|error| CommandError::usage(error.message))?;
    check_targets(job, &model, &job.input.path, &survey.schema)?;
    if let (Some(validation), Some(schema)) = (&job.validation, &validation_schema) {
        check_targets(job, &model, &validation.input.path, schema)?;
        registry
            .build_metrics(&validation.metrics, &model.scored())
            .map_err(|problems| CommandError::usage(problems.to_string()))?;
    }
    let mut read: Vec<Location> = survey.files_read();
    read.extend(validation_files);
    check_output(storage, &job.output, read).await?;
    Ok(Checked { model, survey })
}

/// Whether a worker's container has room for what the model needs at least.
///
/// # Errors
/// It has not.
pub fn container_size(registry: &Registry, job: &JobSpec, model: &Model) -> Result<(), CommandError> {
    let needed =
        worker_bytes(registry, job, model).map_err(|problems| CommandError::usage(problems.to_string()))?;
    let given = job.workers.container.memory_bytes;
    if needed <= given {
        return Ok(());
    }
    // Whole MiB, as YARN counts.
    let message = format!(
        "a worker needs at least {} MiB for {} parameters and micro-batches of {} records, workers.memory is {}; raise it \
         (--worker-memory), or make micro-batches smaller (batch_size, lanes)",
        needed.div_ceil(1 << 20),
        model.parameter_count(),
        job.batch_size.div_ceil(job.lanes.max(1)),
        format_bytes(given),
    );
    Err(CommandError::refused(message))
}

/// Whether the data has the targets that the loss compares outputs with.
fn check_targets(
    job: &JobSpec,
    model: &Model,
    path: &str,
    schema: &RecordSchema,
) -> Result<(), CommandError> {
    let count = |one: &str, several: &str| match schema.targets {
        1 => format!("one {one} a record"),
        count => format!("{count} {several} a record"),
    };
    let has = match schema.target {
        formats::TargetKind::None => "no target".into(),
        formats::TargetKind::Class => count("class", "classes"),
        formats::TargetKind::Value => count("number", "numbers"),
        formats::TargetKind::Record => {
            format!("records that are their own targets, of {} numbers", schema.targets)
        }
    };
    let kind = match (model.targets(), schema.target) {
        (_, formats::TargetKind::None)
        | (TargetKind::Values { .. }, formats::TargetKind::Class)
        | (TargetKind::Classes { .. }, formats::TargetKind::Value | formats::TargetKind::Record) => false,
        (TargetKind::Classes { .. } | TargetKind::Binary { .. }, formats::TargetKind::Class)
        | (
            TargetKind::Values { .. } | TargetKind::Binary { .. },
            formats::TargetKind::Value | formats::TargetKind::Record,
        ) => true,
    };
    if kind && model.targets().per_record() == schema.targets {
        return Ok(());
    }
    let message = format!(
        "loss.name: {} needs {}, the data has {has} ({path}); choose another loss, other outputs of the model, or \
         other targets (input.csv.target, input.csv.label, input.raw.label_bytes)",
        job.loss.name,
        model.targets(),
    );
    Err(CommandError::usage(message))
}

/// Whether the output may be written, before anything runs for it; `read` is what must not be lost by that.
///
/// # Errors
/// It is there already, holds what is read, or can not be written.
pub async fn check_output(
    storage: &Storage,
    output: &OutputSpec,
    read: impl IntoIterator<Item = Location>,
) -> Result<(), CommandError> {
    let at = storage.locate(&output.path).map_err(refused)?;
    let real = storage.resolve(&at).map_err(refused)?;
    for file in read {
        let file = storage.resolve(&file).map_err(refused)?;
        if file == real || file.is_below(&real) {
            let message = format!("the output {at} holds {file}, which is read; choose another (--output)");
            return Err(CommandError::refused(message));
        }
    }
    match storage.stat(&at).await {
        Ok(status) if !status.is_dir => {
            return Err(CommandError::refused(format!(
                "the output {at} is a file; choose a folder (--output)"
            )));
        }
        Ok(_) if !output.overwrite => {
            let message =
                format!("the output {at} exists already; choose another (--output) or give --overwrite");
            return Err(CommandError::refused(message));
        }
        Err(error) if error.kind != StorageErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    // As the job will begin it.
    let owner = Owner { job: format!("check-{}", std::process::id()), attempt: 1 };
    match Output::begin(storage, &at, output.overwrite, owner).await.map_err(refused)? {
        Begun::Fresh(begun) => begun.abort().await.map_err(refused),
        Begun::Committed => Ok(()),
    }
}

/// Looks at an input; one of which names and sizes alone tell that it has no records is refused.
async fn look_at(storage: &Storage, input: &InputSpec) -> Result<Survey, CommandError> {
    let survey = Survey::take(storage, input).await.map_err(refused)?;
    if survey.tasks().is_empty() {
        survey.clone().merge(Vec::new()).map_err(refused)?;
    }
    Ok(survey)
}

fn refused(error: impl std::fmt::Display) -> CommandError {
    CommandError::refused(error.to_string())
}

/// `ringspin job show`.
///
/// # Errors
/// The job is wrong, or stdout can not be written.
pub fn show(args: JobShowArgs, registry: &Registry) -> Result<Exit, CommandError> {
    let typed = job_args::read(&args.job)?;
    let rows: Vec<_> = typed.settings.iter().collect();
    resolve(typed.settings, registry)?;
    let format = typed.format.unwrap_or(args.format);
    let width =
        rows.iter().map(|(key, setting)| key.len() + setting.value.to_string().len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut results = Results::new();
    for (key, setting) in rows {
        let line = format!("{key} = {}", setting.value);
        text.push_str(&format!("{line:<width$}  # {}\n", setting.origin, width = width.min(60) + 3));
        let value =
            serde_json::json!({ "value": setting.value.to_string(), "origin": setting.origin.to_string() });
        results = match format {
            Format::Json => results.with(&key, value),
            _ => results.with(&key, setting.value.to_string()),
        };
    }
    results.print(format, &text)?;
    Ok(Exit::Success)
}

/// `ringspin job defaults`.
///
/// # Errors
/// stdout can not be written.
pub fn defaults(registry: &Registry) -> Result<Exit, CommandError> {
    print_line(keys::defaults_toml(&component_docs(registry)).trim_end())?;
    Ok(Exit::Success)
}

/// The parameters of everything that is chosen by name, as comments of a job file.
pub fn component_docs(registry: &Registry) -> String {
    let mut text = String::new();
    document(&mut text, ("[model]", "name"), registry.models());
    document(&mut text, ("[[model.layers]]", "type"), registry.layers());
    document(&mut text, ("[loss]", "name"), registry.losses());
    document(&mut text, ("[optimizer]", "name"), registry.optimizers());
    text.push_str(
        "# parameters that are updated in another way, as PyTorch's parameter groups; what is not given here, but for\n\
         # these keys, is as in [optimizer], or with a name as another optimizer has it\n# [[optimizer.groups]]\n",
    );
    document_params(&mut text, GROUP_PARAMS);
    document(&mut text, ("[schedule]", "name"), registry.schedules());
    text.push_str(
        "# a schedule that takes over from the one before, and counts from there (PyTorch SequentialLR)\n\
         # [[schedule.then]]\n",
    );
    document_params(&mut text, THEN_PARAMS);
    document_metrics(&mut text, registry);
    text
}

/// Metrics are items of a list, with their parameters in brackets.
fn document_metrics(text: &mut String, registry: &Registry) {
    for entry in registry.metrics().entries() {
        let params: Vec<String> =
            entry.params().iter().map(|param| format!("{} = ...", param.name)).collect();
        let params = if params.is_empty() { String::new() } else { format!("({})", params.join(", ")) };
        text.push_str(&format!(
            "# {}\n# [validation]\n# metrics = [\"{}{params}\"]\n",
            entry.doc(),
            entry.name()
        ));
        for ParamDoc { name, default, doc } in entry.params() {
            text.push_str(&format!("# {name} = {default}  # {doc}\n"));
        }
        text.push('\n');
    }
}

fn document<B: ?Sized>(text: &mut String, (header, selector): (&str, &str), table: &Table<B>) {
    for entry in table.entries() {
        text.push_str(&format!("# {}\n# {header}\n# {selector} = \"{}\"\n", entry.doc(), entry.name()));
        document_params(text, entry.params());
    }
}

fn document_params(text: &mut String, params: &[ParamDoc]) {
    for ParamDoc { name, default, doc } in params {
        text.push_str(&format!("# {name} = {default}  # {doc}\n"));
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_defaults_is_what_is_printed() {
        let printed = keys::defaults_toml(&component_docs(&Registry::standard()));
        let file = include_str!("../../conf/defaults.toml");
        assert!(file.trim_end() == printed.trim_end(), "ringspin job defaults > conf/defaults.toml");
    }
}
