//! Applications on the cluster: `status`, `list`, `kill`.

use crate::args::{ApplicationArgs, Format, ListArgs};
use crate::exit::{CommandError, Exit};
use crate::results::{Results, print_line};
use crate::staging;
use crate::submit::{STAGING, yarn_error};
use crate::surroundings::{Base, Hadoop, Surroundings};
use ringspin_control::status::Status;
use ringspin_hadoop::conf::RmService;
use ringspin_hadoop::ids::ApplicationId;
use ringspin_hadoop::yarn::client::{ApplicationFilter, Wait, YarnError};
use ringspin_hadoop::yarn::report::{ApplicationReport, ApplicationState};
use ringspin_hadoop::yarn::submission::APPLICATION_TYPE;
use ringspin_hadoop::yarn::web::WebClient;
use std::time::Duration;

/// How long the status page may take; what it would add is not worth more.
const PAGE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a kill may take.
const KILL_DEADLINE: Duration = Duration::from_secs(60);

/// An application id as a user typed it.
///
/// # Errors
/// It is none.
pub fn application(text: &str) -> Result<ApplicationId, CommandError> {
    text.parse().map_err(|_| {
        CommandError::usage(format!("{text}: is no application id, such as application_1700000000000_0001"))
    })
}

fn asked(error: YarnError) -> CommandError {
    match error {
        YarnError::NotFound(id) => {
            CommandError::refused(format!("{id}: the ResourceManager does not know it"))
        }
        error => yarn_error(error),
    }
}

/// `ringspin status`: exit status 0 whatever the state; the state is the result.
///
/// # Errors
/// No such application, or nobody answers.
pub async fn status(args: ApplicationArgs, surroundings: &Surroundings) -> Result<Exit, CommandError> {
    let hadoop = surroundings.require_hadoop(args.cluster.hadoop_conf_dir.as_deref())?;
    let id = application(&args.application)?;
    let report = hadoop.yarn()?.report(id).await.map_err(asked)?;
    let page = if report.state == ApplicationState::Running { page(&hadoop, id).await } else { None };
    let mut text = summary(&report);
    if let Some(status) = &page {
        text.push_str(&page_text(status));
    }
    let results = results(&report);
    let results = match &page {
        Some(status) => results
            .with("phase", serde_json::json!(status.phase))
            .with("step", status.step)
            .with("steps", status.steps)
            .with_some("loss", status.training.as_ref().map(|metrics| metrics.loss))
            .with_some("accuracy", status.validation.as_ref().and_then(|metrics| metrics.top1))
            .with_metrics(status.validation.as_ref().map_or(&[], |metrics| &metrics.others)),
        None => results,
    };
    results.print(args.format, &text)?;
    Ok(Exit::Success)
}

/// What the AM's page says, through the ResourceManager's proxy.
async fn page(hadoop: &Hadoop, id: ApplicationId) -> Option<Status> {
    let web = WebClient::new(Some(hadoop.user.clone()), PAGE_TIMEOUT).ok()?;
    for address in hadoop.rm(RmService::Web).ok()? {
        if let Ok(value) = web.json(&address, &format!("/proxy/{id}/status.json")).await {
            return serde_json::from_value(value).ok();
        }
    }
    None
}

fn summary(report: &ApplicationReport) -> String {
    let mut text = format!(
        "{}  {}\nuser {}, queue {}\nstate {}, final status {}, {:.0} % done\n",
        report.id,
        report.name,
        report.user,
        report.queue,
        report.state,
        report.final_status,
        report.progress * 100.0
    );
    if !report.tracking_url.is_empty() {
        text.push_str(&format!("page {}\n", report.tracking_url));
    }
    if !report.diagnostics.trim().is_empty() {
        text.push_str(&format!("diagnostics: {}\n", report.diagnostics.trim()));
    }
    text
}

fn page_text(status: &Status) -> String {
    let mut text = format!("{}\n", status.message);
    if status.steps > 0 {
        text.push_str(&format!(
            "step {} of {}, {:.0} records/s\n",
            status.step, status.steps, status.records_per_second
        ));
    }
    for (name, metrics) in [("training", &status.training), ("validation", &status.validation)] {
        if let Some(metrics) = metrics {
            text.push_str(&format!("{name} {metrics}\n"));
        }
    }
    for worker in &status.workers {
        let rank = worker.rank.map_or("-".into(), |rank| rank.to_string());
        text.push_str(&format!("rank {rank} on {} ({}): {}\n", worker.host, worker.container, worker.state));
    }
    text
}

fn results(report: &ApplicationReport) -> Results {
    Results::new()
        .with("applicationId", report.id.to_string())
        .with("name", report.name.as_str())
        .with("user", report.user.as_str())
        .with("queue", report.queue.as_str())
        .with("state", report.state.to_string())
        .with("finalStatus", report.final_status.to_string())
        .with("progress", f64::from(report.progress))
        .with("trackingUrl", report.tracking_url.as_str())
        .with("diagnostics", report.diagnostics.trim())
}

/// `ringspin list`.
///
/// # Errors
/// Nobody answers.
pub async fn list(args: ListArgs, surroundings: &Surroundings) -> Result<Exit, CommandError> {
    let hadoop = surroundings.require_hadoop(args.cluster.hadoop_conf_dir.as_deref())?;
    let filter = ApplicationFilter {
        kinds: vec![APPLICATION_TYPE.into()],
        tags: args.tag.into_iter().collect(),
        ..ApplicationFilter::default()
    };
    let mut reports = hadoop.yarn()?.applications(&filter).await.map_err(asked)?;
    reports.retain(|report| args.all || !report.state.is_final());
    reports.sort_by_key(|report| std::cmp::Reverse(report.start_time_ms));
    match args.format {
        Format::Text => {
            let rows: Vec<String> = reports.iter().map(row).collect();
            print_line(&format!(
                "{:<34} {:<10} {:<10} {:>5}  {:<12} NAME\n{}",
                "APPLICATION",
                "STATE",
                "FINAL",
                "DONE",
                "USER",
                rows.join("\n")
            ))?;
        }
        Format::Json => {
            let all: Vec<serde_json::Value> = reports
                .iter()
                .map(|r| {
                    serde_json::json!({
                        "applicationId": r.id.to_string(), "name": r.name, "user": r.user, "queue": r.queue,
                        "state": r.state.to_string(), "finalStatus": r.final_status.to_string(),
                        "progress": r.progress, "tags": r.tags,
                    })
                })
                .collect();
            print_line(&serde_json::Value::Array(all).to_string())?;
        }
        Format::Properties => {
            let ids: Vec<String> = reports.iter().map(|report| report.id.to_string()).collect();
            Results::new().with("applications", ids.join(",")).print(Format::Properties, "")?;
        }
    }
    Ok(Exit::Success)
}

fn row(report: &ApplicationReport) -> String {
    format!(
        "{:<34} {:<10} {:<10} {:>3.0} %  {:<12} {}",
        report.id.to_string(),
        report.state.to_string(),
        report.final_status.to_string(),
        report.progress * 100.0,
        report.user,
        report.name
    )
}

/// `ringspin kill`.
///
/// # Errors
/// No such application, it may not be killed by us, or it does not die.
pub async fn kill(args: ApplicationArgs, surroundings: &Surroundings) -> Result<Exit, CommandError> {
    let hadoop = surroundings.require_hadoop(args.cluster.hadoop_conf_dir.as_deref())?;
    let id = application(&args.application)?;
    let yarn = hadoop.yarn()?;
    let wait = Wait { deadline: KILL_DEADLINE, ..Wait::default() };
    yarn.kill(id, &format!("killed by {} with `ringspin kill`", hadoop.user), wait).await.map_err(asked)?;
    // An ApplicationMaster removes it when it is told to end; it may not have run yet, or not have had the time.
    let staged = hadoop.home()?.join(STAGING).join(&id.to_string());
    staging::remove_remains(&surroundings.storage(Some(&hadoop), Base::Cluster)?, &staged, &id.to_string())
        .await;
    let report = yarn.report(id).await.map_err(asked)?;
    results(&report).print(args.format, &format!("{id} is {}", report.state))?;
    Ok(Exit::Success)
}
