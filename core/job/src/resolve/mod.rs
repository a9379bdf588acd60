//! [`Settings`] to [`JobSpec`]: every key read once, contradictions between keys found.

mod input;
mod limits;
mod reader;
#[cfg(test)]
mod tests;

use crate::described::described;
use crate::spec::*;
use crate::{Component, Origin, Problems, Settings, Value};

/// Lanes of a reproducible job of up to so many workers: dealt evenly to 1, 2, 3, 4 and 6 of them.
const REPRODUCIBLE_LANES: usize = 12;

use input::{read_input, read_metrics, read_validation};
use limits::{contradictions, selection, stray_layers};
use reader::Reader;

impl JobSpec {
    /// Resolves a job.
    ///
    /// # Errors
    /// Every syntax error, unknown key, ill-typed value, missing key and contradiction.
    pub fn resolve(settings: Settings) -> Result<JobSpec, Problems> {
        JobSpec::resolve_checked(settings, |_, _| {})
    }

    /// The same with the mistakes that `check` finds, such as those in components' parameters.
    ///
    /// # Errors
    /// As [`JobSpec::resolve`].
    pub fn resolve_checked(
        mut settings: Settings,
        check: impl FnOnce(&JobSpec, &mut Problems),
    ) -> Result<JobSpec, Problems> {
        let problems = settings.take_problems();
        let mut reader = Reader { settings: &settings, problems };
        let spec = read(&mut reader);
        contradictions(&spec, &mut reader);
        selection(&spec, &mut reader);
        check(&spec, &mut reader.problems);
        reader.problems.or(spec)
    }
}

impl InputSpec {
    /// The data of a command that uses a trained model: `trained` is what that model was measured on, and what
    /// somebody wrote replaces it key by key; with another `input.format`, also the path and all that belongs to the format.
    ///
    /// # Errors
    /// As [`JobSpec::resolve`], for the keys of the input.
    pub fn resolve(mut settings: Settings, trained: &InputSpec) -> Result<InputSpec, Problems> {
        let (format, of_format, of_data) = described(trained);
        let other = settings.is_set("input.format")
            && settings.get("input.format").is_some_and(|setting| setting.value != format);
        let base = if other { of_data } else { [of_data, of_format].concat() };
        for (key, value) in base {
            settings.fill(key, value);
        }
        let problems = settings.take_problems();
        let mut reader = Reader { settings: &settings, problems };
        let input = read_input(&mut reader);
        reader.problems.or(input)
    }
}

/// The metrics of a command that uses a trained model: those that somebody wrote, or those of `trained`.
///
/// # Errors
/// Everything that is wrong with the former.
pub fn resolve_metrics(settings: &Settings, trained: &[Component]) -> Result<Vec<Component>, Problems> {
    if !settings.is_set("validation.metrics") {
        return Ok(trained.to_vec());
    }
    let mut reader = Reader { settings, problems: Problems::new() };
    let metrics = read_metrics(&mut reader);
    reader.problems.or(metrics)
}

fn read(reader: &mut Reader<'_>) -> JobSpec {
    let workers_max = reader.count("workers.max") as usize;
    let mode = match reader.text("numerics.mode").as_str() {
        "reproducible" => NumericsMode::Reproducible,
        _ => NumericsMode::Fast,
    };
    let lanes = match reader.count("lanes") as usize {
        0 => default_lanes(mode, workers_max),
        lanes => lanes,
    };
    let input = read_input(reader);
    let validation = read_validation(reader, &input);
    JobSpec {
        name: reader.text("name"),
        seed: reader.count("seed"),
        epochs: reader.count("epochs"),
        batch_size: reader.count("batch_size") as usize,
        lanes,
        stop_on_nan: reader.flag("stop_on_nan"),
        input,
        validation,
        model: read_model(reader),
        loss: reader.component("loss", "name", "cross_entropy"),
        optimizer: reader.component("optimizer", "name", "sgd"),
        schedule: reader.component("schedule", "name", "constant"),
        updates: UpdatesSpec {
            accumulate_steps: reader.count("accumulate_steps"),
            clip_value: reader.number("clip_value"),
            clip_norm: reader.number("clip_norm"),
            ema_decay: reader.number("ema_decay"),
        },
        selection: SelectionSpec {
            monitor: Monitor::new(
                &reader.text("early_stopping.monitor"),
                &reader.text("early_stopping.mode"),
            ),
            patience: reader
                .value("early_stopping.patience")
                .map(|_| reader.count("early_stopping.patience")),
            min_delta: reader.number("early_stopping.min_delta").unwrap_or_default(),
            keep_best: reader.flag("keep_best"),
        },
        output: OutputSpec {
            path: reader.required_text("output.path", "the folder for the trained model (--output)"),
            overwrite: reader.flag("output.overwrite"),
        },
        workers: WorkersSpec {
            min: reader.count("workers.min") as usize,
            max: workers_max,
            wait: reader.duration("workers.wait"),
            container: ContainerSpec {
                memory_bytes: reader.bytes("workers.memory"),
                vcores: reader.count("workers.vcores") as usize,
            },
        },
        am: ContainerSpec {
            memory_bytes: reader.bytes("am.memory"),
            vcores: reader.count("am.vcores") as usize,
        },
        yarn: read_yarn(reader),
        numerics: NumericsSpec {
            mode,
            fraction_bits: u32::try_from(reader.count("numerics.fraction_bits")).unwrap_or(u32::MAX),
            winograd: reader.flag("numerics.winograd"),
            isa: reader.text("numerics.isa"),
            compute: match reader.text("numerics.compute").as_str() {
                "bf16" => ComputePrecision::Bf16,
                _ => ComputePrecision::F32,
            },
        },
        network: NetworkSpec {
            wire: match reader.text("network.wire").as_str() {
                "bf16" => WirePrecision::Bf16,
                _ => WirePrecision::F32,
            },
            bucket_bytes: reader.bytes("network.bucket"),
            chunk_bytes: reader.bytes("network.chunk"),
            shared_memory: reader.flag("network.shared_memory"),
            heartbeat: reader.duration("network.heartbeat"),
            heartbeat_timeout: reader.duration("network.heartbeat_timeout"),
            connect_timeout: reader.duration("network.connect_timeout"),
            rpc_timeout: reader.duration("network.rpc_timeout"),
        },
    }
}

/// Two lanes a worker, so that two of three can share the lanes of a third; one where there is nobody to share with:
/// micro-batches are then as large as batches. Where bits count, a number that does not follow from the workers: bits are
/// those of the lanes.
fn default_lanes(mode: NumericsMode, workers_max: usize) -> usize {
    match mode {
        NumericsMode::Fast if workers_max == 1 => 1,
        NumericsMode::Fast => workers_max.saturating_mul(2),
        NumericsMode::Reproducible => {
            let doublings = workers_max.div_ceil(REPRODUCIBLE_LANES).max(1).checked_next_power_of_two();
            doublings.unwrap_or(usize::MAX).saturating_mul(REPRODUCIBLE_LANES)
        }
    }
}

fn read_model(reader: &mut Reader<'_>) -> ModelSpec {
    let layer_count = reader.settings.layer_count();
    stray_layers(reader, layer_count);
    let model = reader.component("model", "name", if layer_count > 0 { "custom" } else { "" });
    let layers: Vec<Component> =
        (0..layer_count).map(|i| reader.component(&format!("model.layers[{i}]"), "type", "")).collect();
    for layer in layers.iter().filter(|layer| layer.name.is_empty()) {
        let origin = layer.params.0.values().next().map_or(Origin::Default, |setting| setting.origin.clone());
        reader.problems.add(&origin, format!("{}.type", layer.path), "is required: the kind of layer");
    }
    match (model.name.as_str(), layer_count) {
        ("", _) => {
            let message =
                "is required: a model by name (model.name = \"lenet5\") or a list of [[model.layers]]";
            reader.problems.add(&Origin::Default, "model", message);
        }
        ("custom", 0) => {
            let message = "\"custom\" needs its layers: [[model.layers]]";
            reader.problems.add(&model.origin, "model.name", message);
        }
        (name, 1..) if name != "custom" => {
            let message = format!("both a named model (\"{name}\") and [[model.layers]]; give one of them");
            reader.problems.add(&model.origin, "model.name", message);
        }
        _ => {}
    }
    ModelSpec { model, layers }
}

fn read_yarn(reader: &mut Reader<'_>) -> YarnSpec {
    let env = reader.texts("yarn.env");
    for entry in env.iter().filter(|entry| entry.split_once('=').is_none_or(|(name, _)| name.is_empty())) {
        let origin = reader.origin("yarn.env");
        reader.problems.add(&origin, "yarn.env", format!("expected \"NAME=value\", found \"{entry}\""));
    }
    YarnSpec {
        queue: reader.text("yarn.queue"),
        priority: match reader.value("yarn.priority") {
            Some(Value::Int(n)) => i32::try_from(n).ok(),
            _ => None,
        },
        node_label: reader.optional_text("yarn.node_label"),
        tags: reader.texts("yarn.tags"),
        staging: reader.text("yarn.staging"),
        files: reader.texts("yarn.files"),
        archives: reader.texts("yarn.archives"),
        max_attempts: u32::try_from(reader.count("yarn.max_attempts")).unwrap_or(u32::MAX),
        attempt_failures_validity: reader.duration("yarn.attempt_failures_validity"),
        env,
    }
}
