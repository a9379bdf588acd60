//! What was typed -> [`Settings`]: job files, then `-D`, then flags, converted once.

use crate::args::{Format, JobArgs};
use crate::exit::CommandError;
use ringspin_job::{Settings, Value};

/// A job as it was typed, and the format the result was asked in.
pub struct TypedJob {
    /// The layers.
    pub settings: Settings,
    /// `--output json|properties`, the other meaning of that flag.
    pub format: Option<Format>,
}

/// Reads the job files and puts the flags on top.
///
/// # Errors
/// A job file that can not be read, or a flag whose value has the wrong form. What is wrong inside files comes
/// out when the settings are resolved.
pub fn read(args: &JobArgs) -> Result<TypedJob, CommandError> {
    let mut settings = Settings::new();
    for path in &args.conf {
        let text = std::fs::read_to_string(path)
            .map_err(|error| CommandError::usage(format!("job file {}: {error}", path.display())))?;
        settings.file(&path.display().to_string(), &text);
    }
    for define in &args.define {
        settings.define(define);
    }
    let mut format = None;
    for output in &args.output {
        match output.as_str() {
            "json" => format = Some(Format::Json),
            "properties" => format = Some(Format::Properties),
            path => settings.flag("--output", "output.path", Value::Text(path.into())),
        }
    }
    flags(args, &mut settings)?;
    Ok(TypedJob { settings, format })
}

fn flags(args: &JobArgs, settings: &mut Settings) -> Result<(), CommandError> {
    let texts = [
        ("--input", "input.path", &args.input),
        ("--name", "name", &args.name),
        ("--worker-memory", "workers.memory", &args.worker_memory),
        ("--queue", "yarn.queue", &args.queue),
        ("--node-label", "yarn.node_label", &args.node_label),
    ];
    for (flag, key, value) in texts {
        if let Some(value) = value {
            settings.flag(flag, key, Value::Text(value.clone()));
        }
    }
    let numbers = [
        ("--worker-cores", "workers.vcores", args.worker_cores.map(i64::from)),
        ("--epochs", "epochs", args.epochs.map(|epochs| i64::try_from(epochs).unwrap_or(i64::MAX))),
        ("--priority", "yarn.priority", args.priority.map(i64::from)),
    ];
    for (flag, key, value) in numbers {
        if let Some(value) = value {
            settings.flag(flag, key, Value::Int(value));
        }
    }
    let lists = [
        ("--tag", "yarn.tags", &args.tags),
        ("--files", "yarn.files", &args.files),
        ("--archives", "yarn.archives", &args.archives),
    ];
    for (flag, key, values) in lists {
        if !values.is_empty() {
            settings.flag(flag, key, Value::List(values.iter().cloned().map(Value::Text).collect()));
        }
    }
    if args.overwrite {
        settings.flag("--overwrite", "output.overwrite", Value::Bool(true));
    }
    if let Some(workers) = &args.workers {
        let (min, max) = workers.split_once("..").unwrap_or((workers, workers));
        let number = |text: &str| {
            text.trim().parse::<u32>().ok().filter(|n| *n > 0).ok_or_else(|| {
                CommandError::usage(format!(
                    "--workers {workers}: expected a number of at least 1, or MIN..MAX"
                ))
            })
        };
        settings.flag("--workers", "workers.min", Value::Int(number(min)?.into()));
        settings.flag("--workers", "workers.max", Value::Int(number(max)?.into()));
    }
    Ok(())
}
