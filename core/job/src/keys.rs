//! Every key of a job file, in one list: name, type, default and what it means.
//!
//! Job files are checked against this list, `conf/defaults.toml` is printed from it, and nothing else knows a
//! key's default. Tables that are chosen by name (`model`, `loss`, `optimizer`, `schedule`) are open here: their
//! parameters belong to the component that is named.

use crate::MODES;

/// What a key accepts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Text.
    Text,
    /// `true` or `false`.
    Bool,
    /// A whole number of at least this much.
    Count(u64),
    /// Any whole number.
    Int,
    /// A number of at least the first and at most the second.
    Number(f64, f64),
    /// A size of at least this many bytes.
    Bytes(u64),
    /// A duration of at least this many milliseconds.
    Duration(u64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A number or a list of numbers.
    Numbers,
    /// A whole number or a list of whole numbers of at least 1.
    Counts,
    /// Text or a list of texts.
    Texts,
}

impl Kind {
    /// What it accepts, for an error message.
    pub fn expected(&self) -> String {
        match self {
            Kind::Text => "text in quotes".into(),
            Kind::Bool => "true or false".into(),
            Kind::Count(min) => format!("a whole number of at least {min}"),
            Kind::Int => "a whole number".into(),
            Kind::Number(min, f64::MAX) => format!("a number of at least {min}"),
            Kind::Number(min, max) => format!("a number from {min} to {max}"),
            Kind::Bytes(min) => format!("a size of at least {}", crate::format_bytes(*min)),
            Kind::Duration(min) => {
                format!(
                    "a duration of at least {}",
                    crate::format_duration(std::time::Duration::from_millis(*min))
                )
            }
            Kind::Choice(words) => format!("one of \"{}\"", words.join("\", \"")),
            Kind::Numbers => "a number or a list of numbers".into(),
            Kind::Counts => "a whole number or a list of whole numbers of at least 1".into(),
            Kind::Texts => "text or a list of texts".into(),
        }
    }
}

/// One key of a job file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Full name, such as `workers.max`.
    pub name: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// Default as TOML, or `None` where there is none.
    pub default: Option<&'static str>,
    /// What it means, with unit.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>, doc: &'static str) -> Key {
    Key { name, kind, default, doc }
}

/// Tables whose parameters belong to the component that their `name` (or, for layers, `type`) chooses.
pub const COMPONENT_TABLES: [&str; 4] = ["model", "loss", "optimizer", "schedule"];

/// Lists of tables within them: what stands in the second `[[model.layers]]` is `model.layers[1].type` and so on.
pub const COMPONENT_LISTS: [&str; 3] = ["model.layers", "optimizer.groups", "schedule.then"];

const MIB: u64 = 1 << 20;

/// All keys, in the order of `conf/defaults.toml`.
pub const KEYS: &[Key] = &[
    key("name", Kind::Text, Some("\"ringspin\""), "Name of the job in YARN and in logs."),
    key("seed", Kind::Count(0), Some("1"), "Seed of initial weights, permutations and dropout."),
    key("epochs", Kind::Count(1), Some("1"), "Passes over the training data."),
    key(
        "batch_size",
        Kind::Count(1),
        Some("128"),
        "Records of one batch, over all workers: of one step, unless accumulate_steps says otherwise.",
    ),
    key(
        "lanes",
        Kind::Count(0),
        Some("0"),
        "Lanes the data is dealt to: same lanes and seed, same order of records, whatever the number of workers. \
         0: twice workers.max, 1 for a single worker; with reproducible numerics 12, from 13 workers on 24, from 25 on 48 ... \
         More lanes have smaller micro-batches, which take less memory.",
    ),
    key(
        "stop_on_nan",
        Kind::Bool,
        Some("true"),
        "End the job when loss or gradients are not finite; false: go on and report it.",
    ),
    key(
        "accumulate_steps",
        Kind::Count(1),
        Some("1"),
        "Batches that one step learns from, as from one batch of all their records; the last step of an epoch takes \
         what is left. A step stays one update: schedules, warm-up and reports count updates.",
    ),
    key(
        "clip_value",
        Kind::Number(0.0, f64::MAX),
        None,
        "Largest magnitude of each gradient; larger ones are cut to it (PyTorch clip_grad_value_).",
    ),
    key(
        "clip_norm",
        Kind::Number(0.0, f64::MAX),
        None,
        "Largest norm of all gradients together, after clip_value; larger ones are scaled down (PyTorch \
         clip_grad_norm_).",
    ),
    key(
        "ema_decay",
        Kind::Number(0.0, 1.0),
        None,
        "Keep a running average of the weights, of which so much stays in each step; validation measures it and the \
         written model has it (PyTorch get_ema_multi_avg_fn).",
    ),
    key(
        "keep_best",
        Kind::Bool,
        Some("false"),
        "Write the weights of the best validation, by early_stopping.monitor, instead of the last ones.",
    ),
    key(
        "input.path",
        Kind::Text,
        None,
        "Folder or file with the training data: hdfs://, viewfs://, file:// or a plain path (this machine's files \
         in local mode, fs.defaultFS on YARN). Flag: --input.",
    ),
    key(
        "input.format",
        Kind::Choice(&["idx", "csv", "raw"]),
        Some("\"idx\""),
        "idx: image and label files as MNIST's. csv: one record a line. raw: binary records of one length.",
    ),
    key(
        "input.images",
        Kind::Text,
        Some("\"train-images*\""),
        "idx: image or vector files below the path; a name or a glob.",
    ),
    key(
        "input.labels",
        Kind::Text,
        Some("\"train-labels*\""),
        "idx: label files, paired with the images in sorted order; a name or a glob.",
    ),
    key(
        "input.files",
        Kind::Text,
        Some("\"\""),
        "csv, raw: files below the path; a name or a glob; empty: all that start with neither . nor _.",
    ),
    key(
        "input.mean",
        Kind::Numbers,
        Some("[]"),
        "Subtracted from each value (bytes are read as 0 to 1): one number, or one a channel; empty: nothing.",
    ),
    key(
        "input.std",
        Kind::Numbers,
        Some("[]"),
        "Each value is divided by it afterwards: one number, or one a channel; empty: nothing.",
    ),
    key("input.prefetch", Kind::Count(1), Some("4"), "Batches that are read ahead of training, a worker."),
    key(
        "input.cache",
        Kind::Bytes(0),
        Some("\"256 MiB\""),
        "Input a worker may keep in memory between epochs, so that later epochs need no reads.",
    ),
    key(
        "input.shuffle_window",
        Kind::Bytes(4096),
        Some("\"64 MiB\""),
        "Records are shuffled within windows of this much input; a lane that fits is shuffled as a whole.",
    ),
    key(
        "input.reconstruct",
        Kind::Bool,
        Some("false"),
        "The target of a record is the record itself, as an autoencoder needs it; labels are not looked at.",
    ),
    key("input.csv.header", Kind::Bool, Some("false"), "csv: the first line of every file is column names."),
    key("input.csv.delimiter", Kind::Text, Some("\",\""), "csv: one character between fields."),
    key(
        "input.csv.label",
        Kind::Texts,
        Some("\"0\""),
        "csv: column of the target, by name (needs the header) or by index from 0; a list where records have several \
         targets; empty: records have none.",
    ),
    key(
        "input.csv.features",
        Kind::Texts,
        Some("[]"),
        "csv: columns of the features, names or indices; empty: all but the label.",
    ),
    key(
        "input.csv.shape",
        Kind::Counts,
        Some("[]"),
        "csv: shape of a record, channels last ([28, 28, 1]); empty: a flat vector.",
    ),
    key(
        "input.csv.target",
        Kind::Choice(&["class", "number"]),
        Some("\"class\""),
        "csv: whether the target is a class index from 0 or a number.",
    ),
    key(
        "input.raw.header",
        Kind::Bytes(0),
        Some("\"0 B\""),
        "raw: bytes before the first record of each file.",
    ),
    key(
        "input.raw.label_bytes",
        Kind::Count(0),
        Some("1"),
        "raw: bytes of the class index in front of each record: 0, 1, 2 or 4, big endian.",
    ),
    key(
        "input.raw.dtype",
        Kind::Choice(&["u8", "f32"]),
        Some("\"u8\""),
        "raw: type of the values; u8 is read as 0 to 1, f32 is little endian.",
    ),
    key(
        "input.raw.shape",
        Kind::Counts,
        Some("[]"),
        "raw: shape of a record as it lies in the file ([3, 32, 32]).",
    ),
    key(
        "input.raw.layout",
        Kind::Choice(&["hwc", "chw"]),
        Some("\"hwc\""),
        "raw: order of that shape: channels last (hwc) or first (chw, as in CIFAR's binary files).",
    ),
    key("validation.path", Kind::Text, None, "Folder or file with the validation data; default: input.path."),
    key("validation.images", Kind::Text, None, "idx: image files of the validation data."),
    key("validation.labels", Kind::Text, None, "idx: label files of the validation data."),
    key("validation.files", Kind::Text, None, "csv, raw: files of the validation data."),
    key("validation.every_epochs", Kind::Count(1), Some("1"), "Epochs between two validations."),
    key(
        "validation.metrics",
        Kind::Texts,
        Some("[]"),
        "What validations and evaluate measure besides the loss and, for classes, top1 and top5: names with their \
         parameters, such as \"f1\", \"top3\", \"roc_auc(positive = 2)\", \"hr@10(group = 100)\". The list is below.",
    ),
    key(
        "early_stopping.patience",
        Kind::Count(1),
        None,
        "Validations in a row that may be no better before training ends; without it, training goes on.",
    ),
    key(
        "early_stopping.monitor",
        Kind::Text,
        Some("\"loss\""),
        "What of a validation is compared: loss (the mean), for classes top1 and top5 (the share of targets whose class \
         had the largest, or one of the five largest outputs), or a name of validation.metrics.",
    ),
    key(
        "early_stopping.mode",
        Kind::Choice(&MODES),
        Some("\"auto\""),
        "Whether less (min) or more (max) is better; auto: min for loss, mae, mse and perplexity, max for all others.",
    ),
    key(
        "early_stopping.min_delta",
        Kind::Number(0.0, f64::MAX),
        Some("0"),
        "How much better than the best a validation must be to count as better.",
    ),
    key("output.path", Kind::Text, None, "Folder for the trained model. Flag: --output."),
    key("output.overwrite", Kind::Bool, Some("false"), "Replace an existing folder. Flag: --overwrite."),
    key(
        "workers.min",
        Kind::Count(1),
        Some("1"),
        "Training starts when this many workers are there. Flag: --workers.",
    ),
    key("workers.max", Kind::Count(1), Some("1"), "No more workers than this. Flag: --workers."),
    key(
        "workers.wait",
        Kind::Duration(1000),
        Some("\"10 min\""),
        "How long to wait for workers.min before the job gives up.",
    ),
    key(
        "workers.memory",
        Kind::Bytes(64 * MIB),
        Some("\"1 GiB\""),
        "Memory of a worker's container. Flag: --worker-memory.",
    ),
    key(
        "workers.vcores",
        Kind::Count(1),
        Some("1"),
        "Virtual cores of a worker's container: its compute threads. Local mode divides the machine instead. \
         Flag: --worker-cores.",
    ),
    key(
        "am.memory",
        Kind::Bytes(32 * MIB),
        Some("\"256 MiB\""),
        "Memory of the ApplicationMaster's container.",
    ),
    key("am.vcores", Kind::Count(1), Some("1"), "Virtual cores of the ApplicationMaster's container."),
    key("yarn.queue", Kind::Text, Some("\"default\""), "Queue, by leaf name or full path. Flag: --queue."),
    key("yarn.priority", Kind::Int, None, "Priority of the application within its queue. Flag: --priority."),
    key("yarn.node_label", Kind::Text, None, "Node label of all containers. Flag: --node-label."),
    key("yarn.tags", Kind::Texts, Some("[]"), "Application tags, at most 10 of 100 characters. Flag: --tag."),
    key(
        "yarn.staging",
        Kind::Text,
        Some("\"\""),
        "Folder in HDFS for staging and the cached executable; empty: .ringspin in the user's home.",
    ),
    key(
        "yarn.files",
        Kind::Texts,
        Some("[]"),
        "Files put into each container's working folder. Flag: --files.",
    ),
    key(
        "yarn.archives",
        Kind::Texts,
        Some("[]"),
        "Archives unpacked into each container's working folder. Flag: --archives.",
    ),
    key("yarn.max_attempts", Kind::Count(1), Some("1"), "ApplicationMaster attempts that YARN may start."),
    key(
        "yarn.attempt_failures_validity",
        Kind::Duration(1000),
        Some("\"10 min\""),
        "ApplicationMaster failures older than this do not count.",
    ),
    key("yarn.env", Kind::Texts, Some("[]"), "Environment of ApplicationMaster and workers: \"NAME=value\"."),
    key(
        "numerics.mode",
        Kind::Choice(&["fast", "reproducible"]),
        Some("\"fast\""),
        "fast: f32 sums. reproducible: the same bits for any number of workers (gradients are summed as \
         integers; twice the bytes on the wire). Short form: numerics = \"reproducible\".",
    ),
    key(
        "numerics.fraction_bits",
        Kind::Count(8),
        Some("40"),
        "reproducible: bits behind the binary point of summed gradients; fewer bits allow larger gradients.",
    ),
    key(
        "numerics.winograd",
        Kind::Bool,
        Some("true"),
        "Convolutions of 3 x 3 with stride 1 by Winograd's F(4x4, 3x3): less than half the time, a few times the rounding.",
    ),
    key(
        "numerics.isa",
        Kind::Choice(&["avx512", "avx2", "portable"]),
        Some("\"avx512\""),
        "The widest instructions that kernels may use; a CPU without them uses the widest it has. The bits are the same.",
    ),
    key(
        "numerics.compute",
        Kind::Choice(&["f32", "bf16"]),
        Some("\"f32\""),
        "bf16: linear, attention, recurrent layers and convolutions of 16 channels and more round what they multiply to bf16; \
         sums, weights and all else stay f32. Faster on CPUs with AMX, slower on all others; same bits on all.",
    ),
    key(
        "network.wire",
        Kind::Choice(&["f32", "bf16"]),
        Some("\"f32\""),
        "Precision of gradients on the wire; bf16 halves the bytes, sums stay f32.",
    ),
    key(
        "network.bucket",
        Kind::Bytes(4096),
        Some("\"4 MiB\""),
        "Gradient reduced together; a bucket starts while backward still runs.",
    ),
    key(
        "network.chunk",
        Kind::Bytes(4096),
        Some("\"256 KiB\""),
        "Pieces a bucket is cut into, so that sending, receiving and adding overlap.",
    ),
    key(
        "network.shared_memory",
        Kind::Bool,
        Some("true"),
        "Workers of one host exchange gradients through memory that they share, where containers let them.",
    ),
    key("network.heartbeat", Kind::Duration(10), Some("\"500 ms\""), "Between AM and workers."),
    key(
        "network.heartbeat_timeout",
        Kind::Duration(100),
        Some("\"10 s\""),
        "Silence after which a worker, or for a worker the AM, counts as gone.",
    ),
    key("network.connect_timeout", Kind::Duration(100), Some("\"10 s\""), "For opening any connection."),
    key(
        "network.rpc_timeout",
        Kind::Duration(100),
        Some("\"60 s\""),
        "For one call to a NameNode, DataNode or ResourceManager.",
    ),
];

/// Other spellings of a key that users bring from elsewhere, and short forms.
pub const ALIASES: &[(&str, &str)] =
    &[("numerics", "numerics.mode"), ("input", "input.path"), ("output", "output.path")];

/// The key of that name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// `conf/defaults.toml`: every key with its default and meaning. `components` documents the open tables.
pub fn defaults_toml(components: &str) -> String {
    let mut text = String::from(
        "# Every key of a job, with its default. Generated: `ringspin job defaults`.\n\
         # A key without a default is commented out. Sizes: B, KiB, MiB, GiB, TiB (k, m, g, t too).\n\
         # Durations: us, ms, s, min, h, d. Any key can be set with -D key=value.\n",
    );
    let mut section = "";
    for key in KEYS {
        let (table, name) = key.name.rsplit_once('.').unwrap_or(("", key.name));
        if table != section {
            section = table;
            text.push_str(&format!("\n[{table}]\n"));
        }
        for line in wrap(key.doc, 108) {
            text.push_str(&format!("# {line}\n"));
        }
        match key.default {
            Some(default) => text.push_str(&format!("{name} = {default}\n")),
            None => text.push_str(&format!("# {name} = ({})\n", key.kind.expected())),
        }
    }
    text.push('\n');
    text.push_str(components);
    text
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_string());
        }
    }
    lines
}
