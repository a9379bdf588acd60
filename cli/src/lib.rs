//! Ringspin as a library: build one binary around it, and your own models train like the built-in ones, here
//! and on YARN, because the client ships its own executable.
//!
//! ```no_run
//! use ringspin::{App, layer};
//!
//! fn main() -> std::process::ExitCode {
//!     let mut app = App::new();
//!     app.registry().model("tiny", |params| {
//!         let hidden = params.count("hidden", 1, Some(64));
//!         vec![
//!             layer("flatten"),
//!             layer("linear").with("out_features", hidden),
//!             layer("tanh"),
//!             layer("linear").with("out_features", 10),
//!         ]
//!     });
//!     app.main()
//! }
//! ```

mod args;
mod check;
mod doctor;
mod exit;
mod follow;
mod inspect;
mod job_args;
mod logs;
mod model;
mod progress;
mod results;
mod roles;
mod staging;
mod submit;
mod surroundings;
mod train;
mod trained;

pub use ringspin_job as job;
pub use ringspin_nn as nn;
pub use ringspin_nn::Registry;

use args::{Command, CommandLine, JobCommand, ModelCommand};
use clap::Parser;
use exit::{CommandError, Exit};
use std::io::IsTerminal;
use std::process::ExitCode;
use surroundings::Surroundings;
use tracing_subscriber::EnvFilter;

/// A program around Ringspin: its commands, and everything that can be asked for by name in a job.
pub struct App {
    registry: Registry,
}

/// A layer of a model written in code; parameters follow by `with`.
pub fn layer(name: &str) -> job::Component {
    job::Component::new("model", name)
}

impl App {
    /// Knows everything that Ringspin has.
    pub fn new() -> Self {
        App { registry: Registry::standard() }
    }

    /// Where models, layers, losses, optimizers and schedules of one's own are added.
    pub fn registry(&mut self) -> &mut Registry {
        &mut self.registry
    }

    /// Reads the command line and does what it says.
    pub fn main(self) -> ExitCode {
        let line = match CommandLine::try_parse() {
            Ok(line) => line,
            Err(error) => {
                // --help and --version are no errors.
                let exit = if error.use_stderr() { Exit::Usage } else { Exit::Success };
                let _ = error.print();
                return ExitCode::from(exit as u8);
            }
        };
        start_log(&line.command);
        match self.run(line.command) {
            Ok(status) => ExitCode::from(status),
            Err(error) => {
                for text in error.message.lines() {
                    eprintln!("ringspin: {text}");
                }
                ExitCode::from(error.exit as u8)
            }
        }
    }

    fn run(&self, command: Command) -> Result<u8, CommandError> {
        let surroundings = Surroundings::read()?;
        if let Command::Container(args) = command {
            let status = roles::container(args, &surroundings, &self.registry)?;
            return Ok(u8::try_from(status).unwrap_or(u8::MAX));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| CommandError::internal(format!("no threads: {error}")))?;
        let exit = runtime.block_on(self.command(command, &surroundings));
        runtime.shutdown_background();
        exit.map(|exit| exit as u8)
    }

    async fn command(&self, command: Command, surroundings: &Surroundings) -> Result<Exit, CommandError> {
        match command {
            Command::Train(args) => train::train(args, surroundings, &self.registry).await,
            Command::Evaluate(args) => trained::evaluate(args, surroundings, &self.registry).await,
            Command::Predict(args) => trained::predict(args, surroundings, &self.registry).await,
            Command::Status(args) => inspect::status(args, surroundings).await,
            Command::List(args) => inspect::list(args, surroundings).await,
            Command::Kill(args) => inspect::kill(args, surroundings).await,
            Command::Logs(args) => logs::logs(args, surroundings).await,
            Command::Doctor(args) => doctor::doctor(args, surroundings, &self.registry).await,
            Command::Job(JobCommand::Show(args)) => check::show(*args, &self.registry),
            Command::Job(JobCommand::Defaults) => check::defaults(&self.registry),
            Command::Model(ModelCommand::List(args)) => model::list(&args, &self.registry),
            Command::Model(ModelCommand::Show(args)) => model::show(&args, &self.registry),
            Command::Model(ModelCommand::Profile(args)) => model::profile::run(&args, &self.registry),
            Command::Am(args) => roles::am(&args, surroundings).await,
            Command::Container(_) => Err(CommandError::internal("the worker has no client runtime")),
        }
    }
}

impl Default for App {
    fn default() -> Self {
        Self::new()
    }
}

/// Logs go to stderr: warnings for people, everything worth reading for the roles. `RINGSPIN_LOG` says more.
fn start_log(command: &Command) {
    let default = match command {
        Command::Am(_) | Command::Container(_) => "info,hdfs_native=warn",
        _ => "warn,hdfs_native=error",
    };
    let filter = EnvFilter::try_from_env("RINGSPIN_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}
