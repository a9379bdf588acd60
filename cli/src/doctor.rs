//! `ringspin doctor`: looks at everything a job needs and says what to mend.

use crate::args::{DoctorArgs, Format};
use crate::check;
use crate::exit::{CommandError, Exit};
use crate::job_args;
use crate::results::print_line;
use crate::submit::resource;
use crate::surroundings::{Base, Hadoop, Surroundings};
use ringspin_data::storage::{Location, Storage, StorageErrorKind, WriteOptions};
use ringspin_hadoop::conf::RmService;
use ringspin_hadoop::yarn::client::YarnClient;
use ringspin_hadoop::yarn::report::{NodeState, QueueState};
use ringspin_hadoop::yarn::web::WebClient;
use ringspin_job::JobSpec;
use ringspin_nn::Registry;
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clocks that differ by more make Kerberos tickets and container tokens fail.
const CLOCK_LIMIT: Duration = Duration::from_secs(60);
const WEB_TIMEOUT: Duration = Duration::from_secs(5);

/// What was found about one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Works, but deserves a look.
    Warning,
    /// A job would fail.
    Broken,
}

#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    /// What was seen and, unless it is well, what to do.
    text: String,
}

/// All findings, in the order things depend on each other.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, what: &'static str, text: impl Into<String>) {
        self.0.push(Finding { what, verdict: Verdict::Ok, text: text.into() });
    }

    fn warn(&mut self, what: &'static str, text: impl Into<String>) {
        self.0.push(Finding { what, verdict: Verdict::Warning, text: text.into() });
    }

    fn broken(&mut self, what: &'static str, text: impl Into<String>) {
        self.0.push(Finding { what, verdict: Verdict::Broken, text: text.into() });
    }
}

/// `ringspin doctor`: exit status 3 when something is broken.
///
/// # Errors
/// stdout can not be written.
pub async fn doctor(
    args: DoctorArgs,
    surroundings: &Surroundings,
    registry: &Registry,
) -> Result<Exit, CommandError> {
    let mut findings = Findings::default();
    let job = job(&args, registry, &mut findings);
    match surroundings.require_hadoop(args.cluster.hadoop_conf_dir.as_deref()) {
        Ok(hadoop) => cluster(&hadoop, surroundings, job.as_ref(), registry, &mut findings).await,
        Err(error) => findings.broken("configuration", error.message),
    }
    let broken = findings.0.iter().any(|finding| finding.verdict == Verdict::Broken);
    match args.format {
        Format::Json => {
            let text = serde_json::to_string(&findings.0)
                .map_err(|error| CommandError::internal(error.to_string()))?;
            print_line(&text)?;
        }
        _ => {
            for finding in &findings.0 {
                let sign = match finding.verdict {
                    Verdict::Ok => "ok     ",
                    Verdict::Warning => "warning",
                    Verdict::Broken => "BROKEN ",
                };
                print_line(&format!("{sign}  {:<18} {}", finding.what, finding.text))?;
            }
        }
    }
    Ok(if broken { Exit::Refused } else { Exit::Success })
}

/// The job, when one was given at all.
fn job(args: &DoctorArgs, registry: &Registry, findings: &mut Findings) -> Option<JobSpec> {
    if args.job.conf.is_empty() && args.job.define.is_empty() && args.job.input.is_none() {
        return None;
    }
    let resolved = job_args::read(&args.job).and_then(|typed| check::resolve(typed.settings, registry));
    match resolved {
        Ok(job) => {
            findings.ok("job", format!("{} resolves", job.name));
            Some(job)
        }
        Err(error) => {
            findings.broken("job", error.message);
            None
        }
    }
}

async fn cluster(
    hadoop: &Hadoop,
    surroundings: &Surroundings,
    job: Option<&JobSpec>,
    registry: &Registry,
    findings: &mut Findings,
) {
    let folders: Vec<String> = hadoop.folders.iter().map(|folder| folder.display().to_string()).collect();
    let files = hadoop.conf.files().len();
    if files == 0 {
        findings.broken("configuration", format!("no *-site.xml in {}", folders.join(", ")));
        return;
    }
    findings.ok("configuration", format!("{files} files in {}, user {}", folders.join(", "), hadoop.user));
    match surroundings.storage(Some(hadoop), Base::Cluster) {
        Ok(storage) => {
            hdfs(hadoop, &storage, findings).await;
            if let Some(job) = job {
                data(&storage, job, registry, findings).await;
            }
        }
        Err(error) => findings.broken("HDFS", error.message),
    }
    match hadoop.yarn() {
        Ok(yarn) => yarn_side(hadoop, &yarn, job, findings).await,
        Err(error) => findings.broken("ResourceManager", error.message),
    }
}

/// The home folder: there, ours, and writable by trial.
async fn hdfs(hadoop: &Hadoop, storage: &Storage, findings: &mut Findings) {
    let home = match hadoop.home() {
        Ok(home) => home,
        Err(error) => return findings.broken("HDFS", error.message),
    };
    let root = match storage.stat(&root(home.clone())).await {
        Ok(root) => root,
        Err(error) => return findings.broken("HDFS", error.to_string()),
    };
    findings.ok("HDFS", format!("{} answers", root.location));
    match storage.stat(&home).await {
        Ok(_) => {}
        Err(error) if error.kind == StorageErrorKind::NotFound => {
            let advice = format!(
                "{home} does not exist; have it made: hdfs dfs -mkdir {home} && hdfs dfs -chown {} {home}",
                hadoop.user
            );
            return findings.broken("home folder", advice);
        }
        Err(error) => return findings.broken("home folder", error.to_string()),
    }
    let trial = home.join(".ringspin").join(&format!("doctor-{}", std::process::id()));
    let written = storage.write(&trial, b"trial".to_vec().into(), WriteOptions::default()).await;
    match written {
        Ok(()) => findings.ok("staging folder", format!("{home}/.ringspin can be written")),
        Err(error) => findings.broken("staging folder", error.to_string()),
    }
    let _ = storage.delete(&trial, false).await;
}

/// The root of the file system that a location is in.
fn root(mut at: Location) -> Location {
    while let Some(above) = at.parent() {
        at = above;
    }
    at
}

async fn data(storage: &Storage, job: &JobSpec, registry: &Registry, findings: &mut Findings) {
    match check::against_data(storage, job, registry).await {
        Ok(checked) => {
            let parameters = checked.model.parameter_count();
            let shape = &checked.survey.schema.shape;
            findings.ok("input and model", format!("records of shape {shape:?}, {parameters} parameters"));
        }
        Err(error) => findings.broken("input and model", error.message),
    }
}

async fn yarn_side(hadoop: &Hadoop, yarn: &YarnClient, job: Option<&JobSpec>, findings: &mut Findings) {
    let new = match yarn.new_application().await {
        Ok(new) => new,
        Err(error) => return findings.broken("ResourceManager", error.to_string()),
    };
    findings.ok("ResourceManager", format!("answers; largest container {}", new.maximum));
    match yarn.nodes(&[]).await {
        Ok(nodes) => {
            let running = nodes.iter().filter(|node| node.state == NodeState::Running).count();
            for node in nodes.iter().filter(|node| node.state == NodeState::Unhealthy) {
                findings.warn("nodes", format!("{} is unhealthy: {}", node.id, node.health));
            }
            match running {
                0 => findings.broken("nodes", "no NodeManager runs; applications would wait for ever"),
                running => findings.ok("nodes", format!("{running} of {} run", nodes.len())),
            }
        }
        Err(error) => findings.broken("nodes", error.to_string()),
    }
    let name = job.map_or("default", |job| job.yarn.queue.as_str());
    match yarn.queue(name).await {
        Ok(queue) if queue.state == QueueState::Running && queue.children.is_empty() => {
            findings.ok(
                "queue",
                format!("{name} takes applications, {:.0} % used", queue.current_capacity * 100.0),
            );
        }
        Ok(queue) if queue.children.is_empty() => {
            findings.broken("queue", format!("{name} is {}", queue.state))
        }
        Ok(_) => findings.broken("queue", format!("{name} is no leaf queue; choose one below it")),
        Err(error) => findings.broken("queue", format!("{name} (yarn.queue): {error}")),
    }
    if let Some(job) = job {
        for (what, container) in [("worker", &job.workers.container), ("ApplicationMaster", &job.am)] {
            match resource(container).exceeds(&new.maximum) {
                Some(excess) => findings.broken("container size", format!("{what}: {excess}")),
                None => findings.ok("container size", format!("{what} {}", resource(container))),
            }
        }
    }
    clock(hadoop, findings).await;
}

/// The time on a Hadoop daemon's machine, by the start and the age of its JVM.
async fn clock_ms(web: &WebClient, address: &str) -> Result<u64, String> {
    let answer =
        web.json(address, "/jmx?qry=java.lang:type=Runtime").await.map_err(|error| error.to_string())?;
    let number = |name: &str| answer["beans"][0][name].as_u64();
    match (number("StartTime"), number("Uptime")) {
        (Some(start), Some(age)) => Ok(start + age),
        _ => Err("its /jmx does not tell when it was started".into()),
    }
}

/// This machine's clock against the ResourceManager's.
async fn clock(hadoop: &Hadoop, findings: &mut Findings) {
    let address = hadoop.rm(RmService::Web).ok().and_then(|addresses| addresses.into_iter().next());
    let web = WebClient::new(None, WEB_TIMEOUT).ok();
    let (Some(address), Some(web)) = (address, web) else {
        return findings.warn("clocks", "the ResourceManager's web address is not known");
    };
    match clock_ms(&web, &address).await {
        Ok(theirs_ms) => {
            let ours_ms =
                SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            let apart = Duration::from_millis(ours_ms.abs_diff(theirs_ms));
            match apart {
                apart if apart > CLOCK_LIMIT => findings.broken(
                    "clocks",
                    format!(
                        "this machine and the ResourceManager are {:.0} s apart; synchronise them (NTP)",
                        apart.as_secs_f64()
                    ),
                ),
                apart => findings.ok("clocks", format!("{:.1} s apart", apart.as_secs_f64())),
            }
        }
        Err(error) => findings.warn("clocks", format!("{address}: {error}")),
    }
}
