//! [`Settings`] to [`JobSpec`]: every key read once, contradictions between keys found.

use crate::described::described;
use crate::spec::*;
use crate::{Component, Origin, Problems, Settings, Value, parse_bytes, parse_duration};
use std::time::Duration;

/// More lanes than this, or workers, are a typing mistake: ApplicationMaster and workers keep something for each.
const MAX_LANES: usize = 1 << 16;
/// More batches are not summed for one step: fixed-point sums need room for all of them.
const MAX_ACCUMULATED: u64 = 1 << 20;
/// Lanes of a reproducible job of up to so many workers: dealt evenly to 1, 2, 3, 4 and 6 of them.
const REPRODUCIBLE_LANES: usize = 12;

/// Reads checked settings; what [`Settings`] accepted has the right type, so a miss here is a missing key.
struct Reader<'a> {
    settings: &'a Settings,
    problems: Problems,
}

impl Reader<'_> {
    fn value(&self, key: &str) -> Option<Value> {
        self.settings.get(key).map(|setting| setting.value)
    }

    fn text(&self, key: &str) -> String {
        self.optional_text(key).unwrap_or_default()
    }

    fn optional_text(&self, key: &str) -> Option<String> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    fn required_text(&mut self, key: &str, what: &str) -> String {
        let text = self.text(key);
        if text.is_empty() {
            self.problems.add(&self.origin(key), key, format!("is required: {what}"));
        }
        text
    }

    fn origin(&self, key: &str) -> Origin {
        self.settings.get(key).map_or(Origin::Default, |setting| setting.origin)
    }

    fn count(&self, key: &str) -> u64 {
        match self.value(key) {
            Some(Value::Int(n)) => n.unsigned_abs(),
            _ => 0,
        }
    }

    fn number(&self, key: &str) -> Option<f64> {
        match self.value(key) {
            Some(Value::Int(n)) => Some(n as f64),
            Some(Value::Float(n)) => Some(n),
            _ => None,
        }
    }

    fn flag(&self, key: &str) -> bool {
        self.value(key) == Some(Value::Bool(true))
    }

    fn bytes(&self, key: &str) -> u64 {
        parse_bytes(&self.text(key)).unwrap_or_default()
    }

    fn duration(&self, key: &str) -> Duration {
        parse_duration(&self.text(key)).unwrap_or_default()
    }

    fn list<T>(&self, key: &str, convert: impl Fn(Value) -> Option<T>) -> Vec<T> {
        match self.value(key) {
            Some(Value::List(items)) => items.into_iter().filter_map(convert).collect(),
            Some(single) => convert(single).into_iter().collect(),
            None => Vec::new(),
        }
    }

    fn numbers(&self, key: &str) -> Vec<f32> {
        self.list(key, |value| match value {
            Value::Int(n) => Some(n as f32),
            Value::Float(n) => Some(n as f32),
            _ => None,
        })
    }

    fn counts(&self, key: &str) -> Vec<usize> {
        self.list(key, |value| match value {
            Value::Int(n) => usize::try_from(n).ok(),
            _ => None,
        })
    }

    fn texts(&self, key: &str) -> Vec<String> {
        self.list(key, |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }

    fn component(&mut self, path: &str, selector: &str, default: &str) -> Component {
        self.settings.component(path, selector, default).unwrap_or_else(|(origin, message)| {
            self.problems.add(&origin, format!("{path}.{selector}"), message);
            Component::new(path, default)
        })
    }
}

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

/// Two lanes a worker, so that two of three can share the lanes of a third. Where bits count, a number that does
/// not follow from the workers: bits are those of the lanes.
fn default_lanes(mode: NumericsMode, workers_max: usize) -> usize {
    match mode {
        NumericsMode::Fast => workers_max.saturating_mul(2),
        NumericsMode::Reproducible => {
            let doublings = workers_max.div_ceil(REPRODUCIBLE_LANES).max(1).checked_next_power_of_two();
            doublings.unwrap_or(usize::MAX).saturating_mul(REPRODUCIBLE_LANES)
        }
    }
}

fn read_input(reader: &mut Reader<'_>) -> InputSpec {
    let path = reader.required_text("input.path", "the folder or file with the training data (--input)");
    InputSpec {
        path,
        format: read_format(reader),
        mean: reader.numbers("input.mean"),
        std: reader.numbers("input.std"),
        prefetch: reader.count("input.prefetch") as usize,
        cache_bytes: reader.bytes("input.cache"),
        shuffle_bytes: reader.bytes("input.shuffle_window"),
    }
}

fn read_format(reader: &mut Reader<'_>) -> InputFormat {
    let format = reader.text("input.format");
    let mut foreign = vec![];
    for (prefix, owner) in
        [("input.csv.", "csv"), ("input.raw.", "raw"), ("input.images", "idx"), ("input.labels", "idx")]
    {
        if owner != format {
            foreign.extend(
                crate::keys::KEYS.iter().filter(|key| key.name.starts_with(prefix)).map(|key| key.name),
            );
        }
    }
    if format == "idx" {
        foreign.push("input.files");
    }
    for key in foreign.into_iter().filter(|key| reader.settings.differs(key)) {
        let origin = reader.origin(key);
        reader.problems.add(&origin, key, format!("does not apply to input.format = \"{format}\""));
    }
    match format.as_str() {
        "csv" => {
            let delimiter = reader.text("input.csv.delimiter");
            if delimiter.len() != 1 || "\"\r\n".contains(&delimiter) {
                let origin = reader.origin("input.csv.delimiter");
                let message =
                    format!("expected one ASCII character, not a quote or line break, found \"{delimiter}\"");
                reader.problems.add(&origin, "input.csv.delimiter", message);
            }
            InputFormat::Csv {
                files: reader.text("input.files"),
                header: reader.flag("input.csv.header"),
                delimiter: delimiter.bytes().next().unwrap_or(b','),
                label: reader
                    .texts("input.csv.label")
                    .into_iter()
                    .filter(|label| !label.is_empty())
                    .collect(),
                features: reader.texts("input.csv.features"),
                shape: reader.counts("input.csv.shape"),
                classes: reader.text("input.csv.target") == "class",
            }
        }
        "raw" => {
            let label_bytes = reader.count("input.raw.label_bytes") as usize;
            if ![0, 1, 2, 4].contains(&label_bytes) {
                let origin = reader.origin("input.raw.label_bytes");
                reader.problems.add(
                    &origin,
                    "input.raw.label_bytes",
                    format!("expected 0, 1, 2 or 4, found {label_bytes}"),
                );
            }
            let shape = reader.counts("input.raw.shape");
            if shape.is_empty() {
                let origin = reader.origin("input.raw.shape");
                reader.problems.add(
                    &origin,
                    "input.raw.shape",
                    "is required for raw input: the shape of a record",
                );
            }
            let layout = match reader.text("input.raw.layout").as_str() {
                "chw" => RawLayout::Chw,
                _ => RawLayout::Hwc,
            };
            if layout == RawLayout::Chw && shape.len() != 3 {
                let origin = reader.origin("input.raw.layout");
                reader.problems.add(
                    &origin,
                    "input.raw.layout",
                    "\"chw\" needs a shape of three: channels, height, width",
                );
            }
            InputFormat::Raw {
                files: reader.text("input.files"),
                header_bytes: reader.bytes("input.raw.header"),
                label_bytes,
                dtype: match reader.text("input.raw.dtype").as_str() {
                    "f32" => RawDtype::F32,
                    _ => RawDtype::U8,
                },
                shape,
                layout,
            }
        }
        _ => InputFormat::Idx { images: reader.text("input.images"), labels: reader.text("input.labels") },
    }
}

/// Validation data has the training data's format; only its place and file names differ.
fn read_validation(reader: &mut Reader<'_>, input: &InputSpec) -> Option<ValidationSpec> {
    let places = ["validation.path", "validation.images", "validation.labels", "validation.files"];
    if !places.iter().any(|key| reader.settings.is_set(key)) {
        for (key, what) in
            [("validation.every_epochs", "how often to validate"), ("validation.metrics", "what to measure")]
        {
            if reader.settings.differs(key) {
                let message = format!(
                    "says {what}, but no validation data is given (validation.path, .images, .files)"
                );
                reader.problems.add(&reader.origin(key), key, message);
            }
        }
        return None;
    }
    let mut validation = input.clone();
    if let Some(path) = reader.optional_text("validation.path") {
        validation.path = path;
    }
    let replace = |reader: &mut Reader<'_>, key: &str, target: Option<&mut String>| {
        if let Some(text) = reader.optional_text(key) {
            match target {
                Some(target) => *target = text,
                None => {
                    let origin = reader.origin(key);
                    reader.problems.add(&origin, key, "does not apply to the input's format");
                }
            }
        }
    };
    match &mut validation.format {
        InputFormat::Idx { images, labels } => {
            replace(reader, "validation.images", Some(images));
            replace(reader, "validation.labels", Some(labels));
            replace(reader, "validation.files", None);
        }
        InputFormat::Csv { files, .. } | InputFormat::Raw { files, .. } => {
            replace(reader, "validation.files", Some(files));
            replace(reader, "validation.images", None);
            replace(reader, "validation.labels", None);
        }
    }
    let metrics = read_metrics(reader);
    Some(ValidationSpec { input: validation, every_epochs: reader.count("validation.every_epochs"), metrics })
}

fn read_metrics(reader: &mut Reader<'_>) -> Vec<Component> {
    let (texts, origin) = (reader.texts("validation.metrics"), reader.origin("validation.metrics"));
    let mut metrics = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let path = format!("validation.metrics[{i}]");
        match Component::from_call(&path, text, &origin) {
            Ok(metric) => metrics.push(metric),
            Err(message) => reader.problems.add(&origin, path, message),
        }
    }
    metrics
}

/// Keys of layers that there are not.
fn stray_layers(reader: &mut Reader<'_>, layer_count: usize) {
    let strays: Vec<(String, Origin)> = reader
        .settings
        .iter()
        .filter(|(key, _)| {
            key.strip_prefix("model.layers").is_some_and(|rest| {
                let number = rest.strip_prefix('[').and_then(|rest| rest.split_once("]."));
                number.and_then(|(number, _)| number.parse().ok()).is_none_or(|i: usize| i >= layer_count)
            })
        })
        .map(|(key, setting)| (key, setting.origin))
        .collect();
    for (key, origin) in strays {
        let message = format!(
            "no such layer: the job lists {layer_count} as [[model.layers]]; theirs are model.layers[0].out_features \
             and the like"
        );
        reader.problems.add(&origin, key, message);
    }
}

/// What hangs on validations needs some, and what belongs to early stopping needs that.
fn selection(spec: &JobSpec, reader: &mut Reader<'_>) {
    let mut idle: Vec<(&str, &str)> = Vec::new();
    if let Some(validation) = &spec.validation
        && let Err(message) = spec.selection.monitor.check(&validation.metrics)
    {
        let origin = reader.origin("early_stopping.monitor");
        reader.problems.add(&origin, "early_stopping.monitor", message);
    }
    if spec.validation.is_none() {
        let needs = "needs validation data (validation.path, .images, .files)";
        idle.extend(spec.selection.patience.map(|_| ("early_stopping.patience", needs)));
        idle.extend(spec.selection.keep_best.then_some(("keep_best", needs)));
    }
    if spec.selection.patience.is_none() {
        idle.push(("early_stopping.min_delta", "does nothing without early_stopping.patience"));
        if !spec.selection.keep_best {
            for key in ["early_stopping.monitor", "early_stopping.mode"] {
                idle.push((key, "does nothing without early_stopping.patience or keep_best"));
            }
        }
    }
    for (key, message) in idle.into_iter().filter(|(key, _)| reader.settings.differs(key)) {
        let origin = reader.origin(key);
        reader.problems.add(&origin, key, message);
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

/// Values that are right by themselves and wrong together.
fn contradictions(spec: &JobSpec, reader: &mut Reader<'_>) {
    let mut wrong = |key: &str, message: String| {
        let origin = reader.settings.get(key).map_or(Origin::Default, |setting| setting.origin);
        reader.problems.add(&origin, key, message);
    };
    if spec.workers.min > spec.workers.max {
        wrong("workers.min", format!("is {} but workers.max is {}", spec.workers.min, spec.workers.max));
    }
    if spec.lanes < spec.workers.max {
        wrong(
            "lanes",
            format!(
                "{} lanes leave some of {} workers without work; use at least workers.max",
                spec.lanes, spec.workers.max
            ),
        );
    }
    if spec.lanes > MAX_LANES {
        wrong("lanes", format!("is {}; at most {MAX_LANES} can be dealt to", spec.lanes));
    }
    if spec.numerics.mode == NumericsMode::Reproducible && spec.network.wire == WirePrecision::Bf16 {
        wrong(
            "network.wire",
            "\"bf16\" rounds on the way, numerics.mode = \"reproducible\" must not; choose one".into(),
        );
    }
    if spec.numerics.fraction_bits > 52 {
        wrong("numerics.fraction_bits", "at most 52: an f64 has no more".into());
    }
    if spec.network.heartbeat_timeout < spec.network.heartbeat * 2 {
        wrong("network.heartbeat_timeout", "must be at least twice network.heartbeat".into());
    }
    for (key, limit) in [("clip_value", spec.updates.clip_value), ("clip_norm", spec.updates.clip_norm)] {
        if limit == Some(0.0) {
            wrong(key, "must be greater than 0: nothing would be learned".into());
        }
    }
    if spec.updates.ema_decay == Some(1.0) {
        wrong("ema_decay", "must be less than 1: the average would stay as it began".into());
    }
    if spec.updates.accumulate_steps > MAX_ACCUMULATED {
        let message = format!("is {}; at most {MAX_ACCUMULATED}", spec.updates.accumulate_steps);
        wrong("accumulate_steps", message);
    }
    if spec.input.std.iter().any(|std| *std <= 0.0) {
        wrong("input.std", "must be greater than 0".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys;

    const MINIMAL: &str = "[input]\npath = \"data\"\n[output]\npath = \"out\"\n[model]\nname = \"lenet5\"\n";

    fn resolve(text: &str, defines: &[&str]) -> Result<JobSpec, String> {
        let mut settings = Settings::new();
        settings.file("job.toml", text);
        for define in defines {
            settings.define(define);
        }
        JobSpec::resolve(settings).map_err(|problems| problems.to_string())
    }

    #[test]
    fn later_layers_win_and_origins_are_kept() {
        let mut settings = Settings::new();
        settings.file("job.toml", &format!("epochs = 3\nnumerics = \"reproducible\"\n{MINIMAL}"));
        settings.define("epochs=5");
        settings.define("workers.memory=2g");
        settings.define("optimizer.lr=0.5");
        settings.flag("--queue", "yarn.queue", Value::Text("ml".into()));
        assert_eq!(settings.get("epochs").unwrap().origin, Origin::Define);
        assert_eq!(settings.get("input.path").unwrap().origin.to_string(), "job.toml:4");
        let spec = JobSpec::resolve(settings).unwrap();
        assert_eq!((spec.epochs, spec.yarn.queue.as_str()), (5, "ml"));
        assert_eq!(spec.workers.container.memory_bytes, 2 << 30);
        assert_eq!(spec.numerics.mode, NumericsMode::Reproducible);
        assert_eq!(spec.optimizer.params.0["lr"].value, Value::Float(0.5));
        assert_eq!(spec.lanes, 12);
        assert!(spec.validation.is_none());
    }

    #[test]
    fn what_hangs_on_validations_needs_some() {
        let validated = format!("{MINIMAL}[validation]\nimages = \"t10k*\"\n");
        let selection = |defines: &[&str]| resolve(&validated, defines).map(|spec| spec.selection);
        let chosen = selection(&["early_stopping.patience=3", "early_stopping.monitor=top1"]).unwrap();
        assert_eq!((chosen.patience, chosen.monitor.maximize, chosen.keep_best), (Some(3), true, false));
        let perplexity = ["keep_best=true", "early_stopping.monitor=perplexity"];
        let chosen =
            selection(&[&perplexity[..], &["validation.metrics=[\"perplexity\"]"]].concat()).unwrap();
        assert!(!chosen.monitor.maximize);
        let text = selection(&perplexity).unwrap_err();
        assert!(text.contains("do not measure \"perplexity\", but loss, top1, top5; list it"), "{text}");
        let chosen = selection(&["keep_best=true", "early_stopping.mode=max"]).unwrap();
        assert!(chosen.keep_best && chosen.monitor.maximize && chosen.patience.is_none());
        let text = resolve(MINIMAL, &["keep_best=true", "early_stopping.patience=1"]).unwrap_err();
        for key in ["keep_best", "early_stopping.patience"] {
            assert!(text.contains(&format!("-D: {key}: needs validation data")), "{text}");
        }
        let text = selection(&["early_stopping.min_delta=0.1", "early_stopping.monitor=top5"]).unwrap_err();
        assert!(
            text.contains("early_stopping.min_delta: does nothing without early_stopping.patience"),
            "{text}"
        );
        assert!(text.contains("early_stopping.monitor: does nothing without"), "{text}");
    }

    #[test]
    fn updates_have_limits() {
        let spec =
            resolve(MINIMAL, &["clip_norm=1", "clip_value=0.5", "ema_decay=0.999", "accumulate_steps=4"]);
        let expected = UpdatesSpec {
            accumulate_steps: 4,
            clip_value: Some(0.5),
            clip_norm: Some(1.0),
            ema_decay: Some(0.999),
        };
        assert_eq!(spec.unwrap().updates, expected);
        let text =
            resolve(MINIMAL, &["clip_norm=0", "clip_value=-1", "ema_decay=1", "accumulate_steps=2000000"]);
        let text = text.unwrap_err();
        for expected in [
            "-D: clip_norm: must be greater than 0",
            "-D: clip_value: expected a number of at least 0, found -1",
            "-D: ema_decay: must be less than 1",
            "-D: accumulate_steps: is 2000000; at most 1048576",
        ] {
            assert!(text.contains(expected), "missing: {expected}\nin:\n{text}");
        }
    }

    #[test]
    fn groups_and_sequences_are_components_of_their_tables() {
        let text = format!(
            "{MINIMAL}[optimizer]\nlr = 0.1\n[[optimizer.groups]]\nmatch = \"a.*\"\n[[optimizer.groups]]\n\
             match = \"*\"\nfreeze = true\n[schedule]\nthen = [{{ name = \"cosine\", from_epoch = 2 }}]\n"
        );
        let spec = resolve(&text, &["optimizer.lr=0.2", "optimizer.groups[1].lr=3"]).unwrap();
        let names: Vec<&String> = spec.optimizer.params.0.keys().collect();
        let expected = ["groups[0].match", "groups[1].freeze", "groups[1].lr", "groups[1].match", "lr"];
        assert_eq!(names, expected);
        assert_eq!(spec.optimizer.params.0["lr"].value, Value::Float(0.2));
        assert_eq!(spec.schedule.params.0["then[0].name"].value, Value::Text("cosine".into()));
    }

    #[test]
    fn reproducible_lanes_do_not_follow_from_the_workers() {
        let lanes = |mode: &str, workers: &str| {
            let defines = [format!("numerics={mode}"), format!("workers.max={workers}")];
            resolve(MINIMAL, &[&defines[0], &defines[1]]).unwrap().lanes
        };
        assert_eq!([lanes("fast", "1"), lanes("fast", "5")], [2, 10]);
        assert_eq!(
            ["1", "3", "12", "13", "24", "100"].map(|n| lanes("reproducible", n)),
            [12, 12, 12, 24, 24, 192]
        );
    }

    #[test]
    fn keys_of_layers_that_there_are_not_are_mistakes() {
        let text = "[input]\npath = \"d\"\n[output]\npath = \"o\"\n[[model.layers]]\ntype = \"relu\"\n";
        for key in [
            "model.layers[1].type=relu2",
            "model.layers[7].x=1",
            "model.layers.0.x=1",
            "model.layers[-1].x=1",
        ] {
            let told = resolve(text, &[key]).map(|spec| spec.model.layers.len());
            match key {
                "model.layers[1].type=relu2" => assert_eq!(told, Ok(2)),
                _ => assert!(told.unwrap_err().contains("no such layer"), "{key}"),
            }
        }
    }

    #[test]
    fn metrics_are_read_with_their_parameters() {
        let metrics = "validation.metrics=[\"top5\", \"hr@10(group = 50)\"]";
        let spec = resolve(MINIMAL, &["validation.path=v", metrics]).unwrap();
        let found = spec.validation.unwrap().metrics;
        assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("top5", "hr@10"));
        assert_eq!(found[1].params.0["group"].value, Value::Int(50));
        assert_eq!(found[1].path, "validation.metrics[1]");
        let text = resolve(MINIMAL, &["validation.path=v", "validation.metrics=[\"top 5\"]"]).unwrap_err();
        assert!(
            text.contains("-D: validation.metrics[0]: expected a name, with its parameters in brackets"),
            "{text}"
        );
        let text = resolve(MINIMAL, &[metrics]).unwrap_err();
        assert!(text.contains("validation.metrics: says what to measure, but no validation data"), "{text}");
        let mut settings = Settings::new();
        assert_eq!(resolve_metrics(&settings, &found), Ok(found.clone()));
        settings.define("validation.metrics=f1");
        let other = resolve_metrics(&settings, &found).unwrap();
        assert_eq!(other.iter().map(|metric| metric.name.as_str()).collect::<Vec<_>>(), ["f1"]);
    }

    #[test]
    fn columns_are_names_or_numbers() {
        let text = "[input]\npath = \"d\"\nformat = \"csv\"\ncsv.label = 2\ncsv.features = [0, 1]\n[output]\n\
                    path = \"o\"\n[model]\nname = \"mlp\"\n";
        let InputFormat::Csv { label, features, .. } = resolve(text, &[]).unwrap().input.format else {
            panic!()
        };
        assert_eq!((label, features), (vec!["2".to_string()], vec!["0".to_string(), "1".to_string()]));
        let several = resolve(text, &["input.csv.label=[2, \"y\"]"]).unwrap().input.format;
        assert!(matches!(several, InputFormat::Csv { label, .. } if label == ["2", "y"]));
    }

    #[test]
    fn inputs_of_trained_models_are_overridden_key_by_key() {
        let text = "[input]\npath = \"d\"\nformat = \"csv\"\nfiles = \"a*\"\nmean = 0.5\ncsv.header = true\n\
                    csv.label = \"kind\"\ncsv.delimiter = \";\"\ncsv.features = [\"x\", \"y\"]\n[output]\npath = \"o\"\n\
                    [model]\nname = \"mlp\"\n";
        let trained = resolve(text, &["input.cache=3m"]).unwrap().input;
        let with = |defines: &[&str]| {
            let mut settings = Settings::new();
            defines.iter().for_each(|define| settings.define(define));
            InputSpec::resolve(settings, &trained).map_err(|problems| problems.to_string())
        };
        assert_eq!(with(&[]).unwrap(), trained);
        let path = with(&["input.path=e", "input.prefetch=9"]).unwrap();
        assert_eq!(path, InputSpec { path: "e".into(), prefetch: 9, ..trained.clone() });
        let InputFormat::Csv { label, header, .. } = with(&["input.csv.label="]).unwrap().format else {
            panic!()
        };
        assert_eq!((label.len(), header), (0, true));
        let other = with(&["input.format=idx", "input.path=e"]).unwrap();
        assert!(matches!(other.format, InputFormat::Idx { .. }) && other.mean == [0.5]);
        assert!(with(&["input.raw.shape=[3]"]).unwrap_err().contains("does not apply"));
    }

    #[test]
    fn every_mistake_is_named_in_one_go() {
        let text = "epcohs = 3\nbatch_size = \"many\"\nseed = 1.5\n[workers]\nmin = 4\nmax = 2\nmemory = \"512\"\n\
                    [network]\nwire = \"f16\"\n[input]\nformat = \"csv\"\nimages = \"x\"\n";
        let text = resolve(text, &["yarn.queu=x", "nonsense"]).unwrap_err();
        for expected in [
            "job.toml:1: epcohs: unknown key; did you mean \"epochs\"?",
            "job.toml:2: batch_size: expected a whole number of at least 1, found \"many\"",
            "job.toml:3: seed: expected a whole number of at least 0, found 1.5",
            "job.toml:5: workers.min: is 4 but workers.max is 2",
            "job.toml:7: workers.memory: \"512\" has no unit",
            "job.toml:9: network.wire: expected one of \"f32\", \"bf16\", found \"f16\"",
            "job.toml:12: input.images: does not apply to input.format = \"csv\"",
            "-D: yarn.queu: unknown key; did you mean \"yarn.queue\"?",
            "-D: nonsense: expected -D key=value",
            "input.path: is required",
            "output.path: is required",
            "model: is required",
        ] {
            assert!(text.contains(expected), "missing: {expected}\nin:\n{text}");
        }
    }

    #[test]
    fn syntax_errors_carry_their_line() {
        let text = resolve("epochs = 3\nname = \n[input\n", &[]).unwrap_err();
        assert!(text.contains("job.toml:2: syntax"), "{text}");
        assert!(text.contains("job.toml:3: syntax"), "{text}");
    }

    #[test]
    fn layers_are_components_in_order_and_can_be_overridden() {
        let text = "[input]\npath = \"d\"\n[output]\npath = \"o\"\n[[model.layers]]\ntype = \"linear\"\nout = 10\n\
                    [[model.layers]]\ntype = \"relu\"\n";
        let spec = resolve(text, &["model.layers[0].out=20"]).unwrap();
        assert_eq!(spec.model.model.name, "custom");
        assert_eq!(spec.model.layers.len(), 2);
        assert_eq!(spec.model.layers[0].params.0["out"].value, Value::Int(20));
        assert_eq!(spec.model.layers[1].name, "relu");
        let both = resolve(&format!("{text}[model]\nname = \"lenet5\"\n"), &[]).unwrap_err();
        assert!(both.contains("both a named model"), "{both}");
    }

    #[test]
    fn validation_takes_over_the_format_of_the_input() {
        let spec = resolve(&format!("{MINIMAL}[validation]\nimages = \"t10k-images*\"\n"), &[]).unwrap();
        let validation = spec.validation.unwrap();
        assert_eq!(validation.input.path, "data");
        assert_eq!(
            validation.input.format,
            InputFormat::Idx { images: "t10k-images*".into(), labels: "train-labels*".into() }
        );
        let text = resolve(&format!("{MINIMAL}[validation]\nfiles = \"x\"\n"), &[]).unwrap_err();
        assert!(text.contains("validation.files: does not apply"), "{text}");
    }

    #[test]
    fn a_trained_model_knows_its_data_unless_told_otherwise() {
        let trained = resolve(MINIMAL, &[]).unwrap().input;
        let with = |defines: &[&str]| {
            let mut settings = Settings::new();
            defines.iter().for_each(|define| settings.define(define));
            InputSpec::resolve(settings, &trained)
        };
        assert_eq!(with(&[]).unwrap(), trained);
        assert_eq!(
            with(&["input=elsewhere"]).unwrap(),
            InputSpec { path: "elsewhere".into(), ..trained.clone() }
        );
        let csv = with(&["input=x", "input.format=csv"]).unwrap();
        assert!(matches!(csv.format, InputFormat::Csv { .. }));
        assert!(with(&["input.format=csv"]).unwrap_err().to_string().contains("input.path: is required"));
    }

    #[test]
    fn the_list_of_keys_is_sound_and_its_defaults_resolve() {
        for (i, key) in keys::KEYS.iter().enumerate() {
            assert!(
                keys::KEYS[..i].iter().all(|other| other.name != key.name),
                "{} is listed twice",
                key.name
            );
        }
        let mut settings = Settings::new();
        settings.file("defaults.toml", &keys::defaults_toml(""));
        settings.file("job.toml", MINIMAL);
        let spec = JobSpec::resolve(settings).unwrap();
        assert_eq!(spec, resolve(MINIMAL, &[]).unwrap(), "a copy of the defaults changes nothing");
    }

    #[test]
    fn a_resolved_job_travels_unchanged() {
        let spec = resolve(MINIMAL, &["optimizer.momentum=0.9"]).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<JobSpec>(&text).unwrap(), spec);
    }
}
