//! The command line: one flat list of flags, each with its documentation beside it.

use crate::exit::EXIT_STATUS_HELP;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Trains neural networks on Hadoop clusters, on CPUs, without a JVM.
#[derive(Parser, Debug)]
#[command(version, about, after_help = EXIT_STATUS_HELP, max_term_width = 110)]
pub struct CommandLine {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train a model, here or on a cluster
    Train(TrainArgs),
    /// Measure a trained model on data
    Evaluate(EvaluateArgs),
    /// Write a trained model's predictions for data
    Predict(PredictArgs),
    /// How an application stands
    Status(ApplicationArgs),
    /// Ringspin's applications on the cluster
    List(ListArgs),
    /// Logs of an application, running or finished
    Logs(LogsArgs),
    /// End an application
    Kill(ApplicationArgs),
    /// Check configuration, cluster, permissions, queue and clocks; says what to mend
    Doctor(DoctorArgs),
    /// Look at jobs without running them
    #[command(subcommand)]
    Job(JobCommand),
    /// Look at models: their layers, what they need, where their time goes
    #[command(subcommand)]
    Model(ModelCommand),
    /// The ApplicationMaster's role; YARN starts it
    #[command(hide = true)]
    Am(AmArgs),
    /// A worker's role; the ApplicationMaster starts it
    #[command(hide = true)]
    Container(ContainerArgs),
}

/// `ringspin job …`.
#[derive(Subcommand, Debug)]
pub enum JobCommand {
    /// The resolved job: every key with its value and where that came from
    Show(Box<JobShowArgs>),
    /// Every key with its default and meaning, as a job file
    Defaults,
}

/// `ringspin model …`.
#[derive(Subcommand, Debug)]
pub enum ModelCommand {
    /// The models that have a name
    List(ModelListArgs),
    /// Layers, output shapes, parameters, operations, and the memory that training needs
    Show(Box<ModelArgs>),
    /// Train (or only run) the model on made-up data here, and see where the time goes, layer by layer
    Profile(Box<ProfileArgs>),
}

/// How results are written to stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// One JSON document on one line
    Json,
    /// Java properties, for Oozie's capture-output
    Properties,
}

/// Flags that say what the job is; they stand above `-D`, which stands above the job files.
#[derive(Args, Debug, Clone, Default)]
pub struct JobArgs {
    /// Job file (TOML); given several times, later files win
    #[arg(long = "conf", short = 'c', value_name = "FILE")]
    pub conf: Vec<PathBuf>,
    /// Set any key of the job: -D optimizer.lr=0.05
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub define: Vec<String>,
    /// Training data [input.path]
    #[arg(long, value_name = "PATH")]
    pub input: Option<String>,
    /// Folder for the model [output.path]; the words json and properties choose the format of the result instead
    #[arg(long, value_name = "PATH|json|properties")]
    pub output: Vec<String>,
    /// Replace an existing output folder [output.overwrite]
    #[arg(long)]
    pub overwrite: bool,
    /// Name of the job [name]
    #[arg(long)]
    pub name: Option<String>,
    /// Number of workers: N, or MIN..MAX [workers.min, workers.max]
    #[arg(long, visible_alias = "num-executors", value_name = "N|MIN..MAX")]
    pub workers: Option<String>,
    /// Memory of each worker, such as 2g [workers.memory]
    #[arg(long, visible_alias = "executor-memory", value_name = "SIZE")]
    pub worker_memory: Option<String>,
    /// Virtual cores of each worker [workers.vcores]
    #[arg(long, visible_alias = "executor-cores", value_name = "N")]
    pub worker_cores: Option<u32>,
    /// Passes over the data [epochs]
    #[arg(long, value_name = "N")]
    pub epochs: Option<u64>,
    /// YARN queue [yarn.queue]
    #[arg(long)]
    pub queue: Option<String>,
    /// YARN priority [yarn.priority]
    #[arg(long, allow_hyphen_values = true)]
    pub priority: Option<i32>,
    /// YARN node label [yarn.node_label]
    #[arg(long)]
    pub node_label: Option<String>,
    /// YARN application tag; may be repeated [yarn.tags]
    #[arg(long = "tag", visible_alias = "app-tag")]
    pub tags: Vec<String>,
    /// Files for the containers' working folders, separated by commas [yarn.files]
    #[arg(long, value_delimiter = ',', value_name = "FILE,...")]
    pub files: Vec<String>,
    /// Archives to unpack in the containers' working folders, separated by commas [yarn.archives]
    #[arg(long, value_delimiter = ',', value_name = "ARCHIVE,...")]
    pub archives: Vec<String>,
}

/// Which cluster.
#[derive(Args, Debug, Clone, Default)]
pub struct ClusterArgs {
    /// Folder with core-site.xml, hdfs-site.xml and yarn-site.xml [default: $HADOOP_CONF_DIR, $YARN_CONF_DIR]
    #[arg(long, value_name = "FOLDER")]
    pub hadoop_conf_dir: Option<PathBuf>,
}

/// `ringspin train`.
#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The job
    #[command(flatten)]
    pub job: JobArgs,
    /// Where to run: yarn, or here: local[N] with N threads in all, * for all cores. They are one worker's unless
    /// --workers divides them, which is slower for small models and no faster for large ones
    #[arg(long, default_value = "local[*]")]
    pub master: String,
    /// Submit, print the application id, and leave the job to itself (yarn only)
    #[arg(long, visible_alias = "no-wait")]
    pub detach: bool,
    /// Format of the result on stdout
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ringspin evaluate`.
#[derive(Args, Debug)]
pub struct EvaluateArgs {
    /// Folder of the trained model
    #[arg(long, value_name = "PATH")]
    pub model: String,
    /// The data, described as a job's input: -D input.format=csv …; default: the model's validation data
    #[command(flatten)]
    pub job: JobArgs,
    /// Threads [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Format of the result on stdout
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ringspin predict`.
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// Folder of the trained model
    #[arg(long, value_name = "PATH")]
    pub model: String,
    /// The data and the folder for the predictions (--input, --output)
    #[command(flatten)]
    pub job: JobArgs,
    /// Threads [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
    /// Format of the result on stdout
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// A command about one application.
#[derive(Args, Debug)]
pub struct ApplicationArgs {
    /// application_<timestamp>_<number>
    pub application: String,
    /// Format of the result on stdout
    #[arg(long, visible_alias = "output", value_enum, default_value = "text")]
    pub format: Format,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ringspin list`.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Finished applications too
    #[arg(long)]
    pub all: bool,
    /// Only applications with this tag
    #[arg(long = "tag", visible_alias = "app-tag")]
    pub tag: Option<String>,
    /// Format of the result on stdout
    #[arg(long, visible_alias = "output", value_enum, default_value = "text")]
    pub format: Format,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ringspin logs`.
#[derive(Args, Debug)]
pub struct LogsArgs {
    /// application_<timestamp>_<number>
    pub application: String,
    /// Only this container
    #[arg(long)]
    pub container: Option<String>,
    /// Only this file, such as stderr
    #[arg(long)]
    pub file: Option<String>,
    /// Only the last so many bytes of each file
    #[arg(long, value_name = "BYTES")]
    pub tail: Option<u64>,
    /// Go on printing what is added, until the application ends
    #[arg(long, short)]
    pub follow: bool,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ringspin doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Check what this job needs as well
    #[command(flatten)]
    pub job: JobArgs,
    /// Format of the result on stdout
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
    /// The cluster
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// `ringspin job show`.
#[derive(Args, Debug)]
pub struct JobShowArgs {
    /// The job
    #[command(flatten)]
    pub job: JobArgs,
    /// Format of the result on stdout
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `ringspin model list`.
#[derive(Args, Debug)]
pub struct ModelListArgs {
    /// Format of the result on stdout
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `ringspin model show`, and which model of the other commands.
#[derive(Args, Debug)]
pub struct ModelArgs {
    /// A model's name, such as resnet50; without it the model of the job
    pub model: Option<String>,
    /// Shape of a record, channels last, such as 224x224x3 [default: what the model was published for]
    #[arg(long, value_name = "SHAPE")]
    pub shape: Option<String>,
    /// Records of a micro-batch [default: 32]
    #[arg(long, value_name = "N", default_value_t = 32, hide_default_value = true)]
    pub batch: usize,
    /// Threads [default: all cores]
    #[arg(long)]
    pub threads: Option<usize>,
    /// The job; -D model.classes=10 sets a parameter of the model
    #[command(flatten)]
    pub job: JobArgs,
    /// Format of the result on stdout
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `ringspin model profile`.
#[derive(Args, Debug)]
pub struct ProfileArgs {
    /// Which model
    #[command(flatten)]
    pub model: ModelArgs,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0)]
    pub seconds: f64,
    /// Instructions that kernels use: avx512, avx2 or portable [default: the best this CPU has]
    #[arg(long)]
    pub isa: Option<String>,
    /// Forward alone, as in prediction
    #[arg(long)]
    pub inference: bool,
}

/// `ringspin am`.
#[derive(Args, Debug)]
pub struct AmArgs {
    /// The resolved job (JSON)
    #[arg(long)]
    pub job: PathBuf,
}

/// `ringspin container`.
#[derive(Args, Debug)]
pub struct ContainerArgs {
    /// host:port of the ApplicationMaster's door for workers
    #[arg(long)]
    pub am: String,
    /// Number of this start
    #[arg(long)]
    pub slot: u64,
    /// Attempt of the ApplicationMaster
    #[arg(long)]
    pub attempt: u32,
    /// Milliseconds between heartbeats
    #[arg(long)]
    pub heartbeat_ms: u64,
    /// Milliseconds of silence after which the ApplicationMaster counts as gone
    #[arg(long)]
    pub silence_ms: u64,
}
