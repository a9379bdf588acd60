//! `ringspin logs`: of running containers from their nodes, of finished ones from aggregated files.

use crate::args::LogsArgs;
use crate::exit::{CommandError, Exit};
use crate::inspect::application;
use crate::submit::yarn_error;
use crate::surroundings::{Base, Hadoop, Surroundings};
use ringspin_data::storage::{FileStatus, Storage, StorageErrorKind};
use ringspin_hadoop::ids::{ApplicationId, ContainerId};
use ringspin_hadoop::logs::aggregated::{copy_log, visit_logs};
use ringspin_hadoop::logs::layout::{LogLayout, NodeFile};
use ringspin_hadoop::logs::running::NodeLogs;
use ringspin_hadoop::yarn::client::YarnClient;
use ringspin_hadoop::yarn::report::{ApplicationReport, LogAggregation};
use ringspin_hadoop::yarn::web::WebClient;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// How long a NodeManager may take to answer.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks of `--follow`.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);
/// How long the aggregation of a finished application's logs is waited for.
const AGGREGATION_WAIT: Duration = Duration::from_secs(30);

/// `ringspin logs`.
///
/// # Errors
/// No such application, or its logs can not be had; says why and what else to try.
pub async fn logs(args: LogsArgs, surroundings: &Surroundings) -> Result<Exit, CommandError> {
    let hadoop = surroundings.require_hadoop(args.cluster.hadoop_conf_dir.as_deref())?;
    let id = application(&args.application)?;
    let view = View { args: &args, yarn: hadoop.yarn()?, user: hadoop.user.clone(), id };
    let report = view.yarn.report(id).await.map_err(yarn_error)?;
    if !report.state.is_final() {
        let seen = view.running().await?;
        if seen.is_empty() && !args.follow {
            return Err(view.nothing("no container that runs now"));
        }
        if args.follow {
            view.follow(seen).await?;
        }
        return Ok(Exit::Success);
    }
    let storage = surroundings.storage(Some(&hadoop), Base::Cluster)?;
    view.finished(&hadoop, &storage, report).await
}

struct View<'a> {
    args: &'a LogsArgs,
    yarn: YarnClient,
    user: String,
    id: ApplicationId,
}

/// How far each log of a running application has been printed.
type Seen = BTreeMap<(ContainerId, String), u64>;

impl View<'_> {
    fn wants(&self, container: &str, file: &str) -> bool {
        self.args.container.as_deref().is_none_or(|wanted| wanted == container)
            && self.args.file.as_deref().is_none_or(|wanted| wanted == file)
    }

    fn node_logs(&self) -> Result<NodeLogs, CommandError> {
        let web = WebClient::new(Some(self.user.clone()), NODE_TIMEOUT);
        Ok(NodeLogs::new(web.map_err(|error| CommandError::internal(error.to_string()))?))
    }

    /// That nothing was there to be printed.
    fn nothing(&self, what: &str) -> CommandError {
        let filter = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(" {name} {value}")).unwrap_or_default()
        };
        let (container, file) =
            (filter("--container", &self.args.container), filter("--file", &self.args.file));
        let asked = if container.is_empty() && file.is_empty() {
            String::new()
        } else {
            format!(" for{container}{file}")
        };
        CommandError::refused(format!("{}: {what} has logs{asked}", self.id))
    }

    /// Containers that run now, with the web address of their nodes.
    async fn containers(&self) -> Result<Vec<(ContainerId, String)>, CommandError> {
        let attempts = self.yarn.attempts(self.id).await.map_err(yarn_error)?;
        let Some(attempt) = attempts.last() else { return Ok(Vec::new()) };
        let reports = self.yarn.containers(attempt.id).await.map_err(yarn_error)?;
        let mut containers: Vec<(ContainerId, String)> = reports
            .into_iter()
            .map(|report| (report.id, report.node_http_address.trim_start_matches("http://").to_string()))
            .collect();
        containers.sort();
        Ok(containers)
    }

    /// Prints what running containers have written so far.
    async fn running(&self) -> Result<Seen, CommandError> {
        let nodes = self.node_logs()?;
        let mut seen = Seen::new();
        for (container, node) in self.containers().await? {
            let text = container.to_string();
            let listed = nodes.list(&node, container).await;
            // It may have ended meanwhile, or its node be gone: the others' logs can be had all the same.
            let listed = listed.unwrap_or_else(|error| {
                tracing::warn!("{text} on {node}: {error}");
                Vec::new()
            });
            for log in listed {
                if !self.wants(&text, &log.name) {
                    continue;
                }
                header(&text, &node, &log.name)?;
                let name = log.name.as_str();
                let read = nodes.read(&node, (container, name), self.args.tail, &mut io::stdout()).await;
                match read {
                    Ok(extent) => drop(seen.insert((container, log.name.clone()), extent.total)),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
        }
        Ok(seen)
    }

    /// Prints what is added, until the application ends.
    async fn follow(&self, mut seen: Seen) -> Result<(), CommandError> {
        let nodes = self.node_logs()?;
        let mut last = None;
        loop {
            let report = self.yarn.report(self.id).await.map_err(yarn_error)?;
            for (container, node) in self.containers().await? {
                let text = container.to_string();
                // A container that ends while it is looked at is no error.
                let Ok(files) = nodes.list(&node, container).await else { continue };
                for log in files.into_iter().filter(|log| self.wants(&text, &log.name)) {
                    let key = (container, log.name.clone());
                    let offset = seen.get(&key).copied().unwrap_or(0);
                    if log.length == offset {
                        continue;
                    }
                    if last.as_ref() != Some(&key) {
                        header(&text, &node, &log.name)?;
                        last = Some(key.clone());
                    }
                    match nodes.follow(&node, (container, &log.name), offset, &mut io::stdout()).await {
                        Ok(next) => drop(seen.insert(key, next)),
                        Err(error) => tracing::debug!("{error}"),
                    }
                }
            }
            if report.state.is_final() {
                return Ok(());
            }
            tokio::time::sleep(FOLLOW_INTERVAL).await;
        }
    }

    /// Prints the aggregated logs, waiting for the aggregation where it is still under way.
    async fn finished(
        &self,
        hadoop: &Hadoop,
        storage: &Storage,
        mut report: ApplicationReport,
    ) -> Result<Exit, CommandError> {
        let begun = Instant::now();
        let running = |logs: Option<LogAggregation>| {
            matches!(logs, Some(LogAggregation::NotStart | LogAggregation::Running))
        };
        while running(report.logs) && begun.elapsed() < AGGREGATION_WAIT {
            tokio::time::sleep(FOLLOW_INTERVAL).await;
            report = self.yarn.report(self.id).await.map_err(yarn_error)?;
        }
        let layout = LogLayout::from_conf(|key| hadoop.conf.get(key).ok().flatten());
        for folder in layout.folders(&report.user, self.id) {
            let at = storage.locate(&folder).map_err(refused)?;
            match storage.list(&at).await {
                Ok(files) => return self.print_folder(storage, files).await,
                Err(error) if error.kind == StorageErrorKind::NotFound => {}
                Err(error) => return Err(refused(error)),
            }
        }
        let message = format!(
            "no aggregated logs of {} under {}; is yarn.log-aggregation-enable true on the cluster? On nodes without \
             aggregation logs stay in yarn.nodemanager.log-dirs",
            self.id,
            layout.folders(&report.user, self.id).join(", ")
        );
        Err(CommandError::refused(message))
    }

    async fn print_folder(&self, storage: &Storage, files: Vec<FileStatus>) -> Result<Exit, CommandError> {
        let (mut failed, mut any) = (Vec::new(), false);
        for file in files {
            let Some(node) = NodeFile::from_name(file.location.name()) else { continue };
            if node.unfinished {
                tracing::warn!("{} is still being written: ask again later", file.location);
                continue;
            }
            let (storage, args) =
                (storage.clone(), (self.args.container.clone(), self.args.file.clone(), self.args.tail));
            // The parser reads synchronously; it gets a thread that may wait.
            let printed = tokio::task::spawn_blocking(move || print_file(&storage, &file, &node.host, args));
            match printed.await.map_err(|error| CommandError::internal(error.to_string()))? {
                Ok(printed) => any |= printed,
                Err(error) => failed.push(error.message),
            }
        }
        if failed.is_empty() && !any {
            return Err(self.nothing("no container"));
        }
        if failed.is_empty() { Ok(Exit::Success) } else { Err(CommandError::refused(failed.join("\n"))) }
    }
}

fn print_file(
    storage: &Storage,
    file: &FileStatus,
    host: &str,
    (container, name, tail): (Option<String>, Option<String>, Option<u64>),
) -> Result<bool, CommandError> {
    let runtime = Handle::current();
    let mut any = false;
    let mut read_at = |offset: u64, buffer: &mut [u8]| -> io::Result<()> {
        let bytes = runtime
            .block_on(storage.read_range(&file.location, offset, buffer.len()))
            .map_err(|error| io::Error::other(error.to_string()))?;
        buffer.copy_from_slice(&bytes);
        Ok(())
    };
    let visited = visit_logs(&mut read_at, file.length, &mut |log, bytes| {
        let wanted = container.as_ref().is_none_or(|wanted| *wanted == log.container)
            && name.as_ref().is_none_or(|wanted| *wanted == log.name);
        if !wanted {
            return Ok(());
        }
        any = true;
        header(&log.container, host, &log.name).map_err(|error| io::Error::other(error.message))?;
        copy_log(log, bytes, tail, &mut io::stdout())
    });
    match visited {
        Ok(_) => Ok(any),
        // Whoever reads us has seen enough.
        Err(ringspin_hadoop::logs::LogError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(true)
        }
        Err(error) => Err(CommandError::refused(format!("{}: {error}", file.location))),
    }
}

/// Which container's which file follows.
fn header(container: &str, node: &str, file: &str) -> Result<(), CommandError> {
    match writeln!(io::stdout(), "=== {container} on {node}: {file}") {
        // As in `ringspin logs … | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| CommandError::internal(format!("stdout: {error}"))),
    }
}

fn refused(error: impl std::fmt::Display) -> CommandError {
    CommandError::refused(error.to_string())
}
