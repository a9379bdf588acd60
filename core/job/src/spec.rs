//! The specification of a job: what the user asked for, typed and checked.
//!
//! A [`JobSpec`] is resolved once, by the client, and travels to the AM and the workers as it is; nobody else
//! parses what users write. [`crate::keys`] says what every field means, its unit and its default.

use crate::Component;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One job, from input to output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name shown in YARN and in logs.
    pub name: String,
    /// Seed of initial weights, permutations and dropout.
    pub seed: u64,
    /// Passes over the training data.
    pub epochs: u64,
    /// Records of one batch over all workers.
    pub batch_size: usize,
    /// Lanes the data is dealt to: the unit of work that never depends on the number of workers.
    pub lanes: usize,
    /// Stop the job when loss or gradients are not finite.
    pub stop_on_nan: bool,
    /// Training data.
    pub input: InputSpec,
    /// Data that measures the model after each `every_epochs`.
    pub validation: Option<ValidationSpec>,
    /// Layers, in the order of the forward pass; a named model arrives here as its layers.
    pub model: ModelSpec,
    /// Loss.
    pub loss: Component,
    /// Optimizer.
    pub optimizer: Component,
    /// Learning-rate schedule.
    pub schedule: Component,
    /// What becomes of gradients and weights, whatever the optimizer.
    pub updates: UpdatesSpec,
    /// What follows from validations.
    pub selection: SelectionSpec,
    /// Where the model is written.
    pub output: OutputSpec,
    /// Workers.
    pub workers: WorkersSpec,
    /// ApplicationMaster container.
    pub am: ContainerSpec,
    /// Submission to YARN.
    pub yarn: YarnSpec,
    /// How numbers are summed.
    pub numerics: NumericsSpec,
    /// Timeouts, chunk sizes and wire precision.
    pub network: NetworkSpec,
}

/// Data to read: where it lies and what its bytes mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// Folder or file: `hdfs://…`, `viewfs://…`, `file://…` or a plain path (`fs.defaultFS` on YARN, this
    /// machine's files in local mode).
    pub path: String,
    /// What the bytes mean.
    pub format: InputFormat,
    /// Subtracted from each channel, after bytes have become 0..1; empty: nothing. One value, or one a channel.
    pub mean: Vec<f32>,
    /// What each channel is divided by afterwards; empty: nothing. One value, or one a channel.
    pub std: Vec<f32>,
    /// Batches a lane reads ahead of the training thread.
    pub prefetch: usize,
    /// Bytes of decoded-from records a worker may keep between epochs, so that later epochs need no reads.
    pub cache_bytes: u64,
    /// Records are shuffled within windows of this many bytes of the file (whole input: one window).
    pub shuffle_bytes: u64,
    /// The target of a record is the record itself; labels are not looked at.
    #[serde(default)]
    pub reconstruct: bool,
}

/// What the bytes of an input file mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum InputFormat {
    /// IDX as MNIST uses it: a file (or glob) of images or vectors and one of labels, below `path`.
    Idx {
        /// Images: file name or glob below `path`.
        images: String,
        /// Labels: file name or glob below `path`, paired with the images in sorted order.
        labels: String,
    },
    /// Text, one record a line, fields as RFC 4180 except that a field can not hold a line break.
    Csv {
        /// File name or glob below `path`; empty: every file that starts with neither `.` nor `_`.
        files: String,
        /// Whether the first line of every file is names.
        header: bool,
        /// Field separator.
        delimiter: u8,
        /// Columns of the targets, names (which need `header`) or indices from 0; empty: records have none.
        label: Vec<String>,
        /// Columns of the features, names or indices; empty: all but the label.
        features: Vec<String>,
        /// Shape of a record, channels last, when features are not a flat vector.
        shape: Vec<usize>,
        /// Whether the target is a class index (true) or a number (false).
        classes: bool,
    },
    /// Binary records of one fixed length: a label of `label_bytes` bytes (big endian, may be 0), then values.
    Raw {
        /// File name or glob below `path`; empty: every file that starts with neither `.` nor `_`.
        files: String,
        /// Bytes at the start of each file that are no records.
        header_bytes: u64,
        /// Bytes of the label in front of the values: 0, 1, 2 or 4.
        label_bytes: usize,
        /// Type of the values: `u8` (becomes 0..1) or `f32` (little endian).
        dtype: RawDtype,
        /// Shape of the values as they lie in the file.
        shape: Vec<usize>,
        /// Order of `shape`: `hwc` (channels last) or `chw` (as CIFAR's binary files).
        layout: RawLayout,
    },
}

/// Type of the values of raw records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawDtype {
    /// Unsigned bytes, read as 0..1.
    U8,
    /// 32-bit floats, little endian.
    F32,
}

/// Order of the dimensions of raw records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawLayout {
    /// Height, width, channels; also any flat vector.
    Hwc,
    /// Channels, height, width.
    Chw,
}

/// Data the model is measured on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationSpec {
    /// Where and what.
    pub input: InputSpec,
    /// Epochs between measurements.
    pub every_epochs: u64,
    /// What is measured besides the loss.
    #[serde(default)]
    pub metrics: Vec<Component>,
}

/// A model: its layers, and the name it was asked for by.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Registered name and parameters, or `custom` where the job lists its layers.
    pub model: Component,
    /// Layers listed in the job; empty for a named model.
    pub layers: Vec<Component>,
}

/// Where the trained model goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// Folder.
    pub path: String,
    /// Replace an existing folder.
    pub overwrite: bool,
}

/// How many workers, and the size of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkersSpec {
    /// Training starts when this many are there.
    pub min: usize,
    /// No more than this many are asked for.
    pub max: usize,
    /// How long to wait for `min` before the job gives up.
    pub wait: Duration,
    /// Each worker's container.
    pub container: ContainerSpec,
}

/// Size of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Memory, bytes; YARN gets it in whole MiB.
    pub memory_bytes: u64,
    /// Virtual cores: threads that compute.
    pub vcores: usize,
}

/// What YARN is asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct YarnSpec {
    /// Queue, leaf name or full path.
    pub queue: String,
    /// Priority within the queue.
    pub priority: Option<i32>,
    /// Node label of all containers.
    pub node_label: Option<String>,
    /// Tags, lower case; schedulers find and kill applications by them.
    pub tags: Vec<String>,
    /// Folder in HDFS for the staging folders and the cached executable; empty: `.ringspin` in the user's home.
    pub staging: String,
    /// Local files put into each container's working folder.
    pub files: Vec<String>,
    /// Local archives (zip, tar, tar.gz) unpacked into each container's working folder.
    pub archives: Vec<String>,
    /// AM attempts YARN may start; failures older than `attempt_failures_validity` do not count.
    pub max_attempts: u32,
    /// Failures older than this do not count.
    pub attempt_failures_validity: Duration,
    /// Environment of AM and workers, `NAME=value`.
    pub env: Vec<String>,
}

/// How numbers are summed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NumericsSpec {
    /// What is promised about the bits.
    pub mode: NumericsMode,
    /// Bits behind the binary point of gradients that are summed as integers.
    pub fraction_bits: u32,
    /// Whether convolutions may use Winograd's algorithm.
    pub winograd: bool,
    /// The widest instructions that kernels may use: `avx512`, `avx2` or `portable`.
    pub isa: String,
    /// What operands of matrix products and convolutions are rounded to.
    pub compute: ComputePrecision,
}

/// As a job without the keys has them: models that were saved before a key was there name no value.
impl Default for NumericsSpec {
    fn default() -> Self {
        NumericsSpec {
            mode: NumericsMode::Fast,
            fraction_bits: 40,
            winograd: true,
            isa: "avx512".into(),
            compute: ComputePrecision::F32,
        }
    }
}

/// Precision of the operands of matrix products and convolutions; their sums, and everything else, are f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputePrecision {
    /// Not rounded.
    F32,
    /// To nearest, ties to even.
    Bf16,
}

/// What is promised about the bits of a trained model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NumericsMode {
    /// f32 sums in whatever order is fastest.
    Fast,
    /// The same bits for any number of workers: gradients are summed as integers.
    Reproducible,
}

/// Timeouts, chunk sizes and wire precision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Precision of gradients on the wire; sums are f32.
    pub wire: WirePrecision,
    /// Bytes of gradient reduced together; the ring starts on a bucket while backward still runs.
    pub bucket_bytes: u64,
    /// Bytes a ring step sends before it looks at what arrived.
    pub chunk_bytes: u64,
    /// Whether workers of one host exchange gradients through shared memory.
    pub shared_memory: bool,
    /// Heartbeats between AM and workers.
    pub heartbeat: Duration,
    /// Silence after which a worker or the AM counts as gone.
    pub heartbeat_timeout: Duration,
    /// Limit for opening any connection.
    pub connect_timeout: Duration,
    /// Limit for one call to HDFS or the ResourceManager.
    pub rpc_timeout: Duration,
}

/// Precision of gradients on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WirePrecision {
    /// As computed.
    F32,
    /// bfloat16, rounded to nearest even: half the bytes.
    Bf16,
}

/// What becomes of gradients and weights, whatever the optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdatesSpec {
    /// Batches that one update learns from.
    pub accumulate_steps: u64,
    /// Largest magnitude of a gradient.
    pub clip_value: Option<f64>,
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// What a running average of the weights keeps of itself in an update.
    pub ema_decay: Option<f64>,
}

/// What follows from validations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectionSpec {
    /// What tells whether one is better than another.
    pub monitor: Monitor,
    /// Validations in a row that may be no better before training ends; none: it goes on.
    pub patience: Option<u64>,
    /// How much better counts as better for `patience`.
    pub min_delta: f64,
    /// Write the weights of the best one.
    pub keep_best: bool,
}

/// What every validation measures: the mean loss, and for classes the shares of records whose target is the largest
/// output, or one of the five largest.
pub const ALWAYS_MEASURED: [&str; 3] = ["loss", "top1", "top5"];
/// Metrics of which less is better; of all others, more is.
pub const LESS_IS_BETTER: [&str; 4] = ["loss", "mae", "mse", "perplexity"];
/// Which values of it are better.
pub const MODES: [&str; 3] = ["auto", "min", "max"];

/// What tells whether one validation is better than another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Monitor {
    /// Name of the metric that is compared.
    pub metric: String,
    /// Whether more is better.
    pub maximize: bool,
}

impl Monitor {
    /// From the name of a metric and one of [`MODES`].
    pub fn new(metric: &str, mode: &str) -> Monitor {
        let less = match mode {
            "min" => true,
            "max" => false,
            _ => LESS_IS_BETTER.contains(&metric),
        };
        Monitor { metric: metric.into(), maximize: !less }
    }

    /// Whether validations measure it, those of `metrics` beside what they always do.
    ///
    /// # Errors
    /// Says what there is.
    pub fn check(&self, metrics: &[Component]) -> Result<(), String> {
        let measured =
            || ALWAYS_MEASURED.into_iter().chain(metrics.iter().map(|metric| metric.name.as_str()));
        if measured().any(|name| name == self.metric) {
            return Ok(());
        }
        let measured: Vec<&str> = measured().collect();
        Err(format!(
            "validations do not measure \"{}\", but {}; list it in validation.metrics",
            self.metric,
            measured.join(", ")
        ))
    }

    /// What every value is better than.
    pub fn worst(&self) -> f64 {
        if self.maximize { f64::NEG_INFINITY } else { f64::INFINITY }
    }

    /// Whether `value` is better than `best` by more than `delta`; a value that is not a number never is.
    pub fn is_better(&self, value: f64, best: f64, delta: f64) -> bool {
        if self.maximize { value > best + delta } else { value < best - delta }
    }
}
