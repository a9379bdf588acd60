//! Tries the YARN calls on a real cluster: submits itself, and as ApplicationMaster asks for containers, runs
//! shell commands in them, and tells every event. For working on this crate, not for users.
//!
//! ```text
//! scripts/hadoop up && scripts/hadoop fs -put target/debug/examples/yarn_probe /tmp/yarn_probe
//! scripts/hadoop fs -stat '%Y %b' /tmp/yarn_probe           # modification time and size
//! scripts/hadoop on edge target/debug/examples/yarn_probe submit RM hdfs://NN:9000/tmp/yarn_probe TIME SIZE PLAN
//! ```
//!
//! PLAN is words, one a container: `[host[!]=]command`, `host` preferred, `host!` required; or `keep` (containers
//! outlive the AM), `wait` (return without waiting for the end), `finish=failed`, `queue:NAME`, `label:NAME`,
//! `am:MIB`.

use ringspin_hadoop::credentials::{Credentials, kind};
use ringspin_hadoop::ids::{ApplicationId, ContainerId};
use ringspin_hadoop::ipc::{Auth, IpcOptions, RetryPolicy};
use ringspin_hadoop::logs::aggregated::{copy_log, visit_logs};
use ringspin_hadoop::logs::running::NodeLogs;
use ringspin_hadoop::yarn::am::{
    Ask, AskId, DEFAULT_RACK, FinalReport, Locality, Pace, Place, Registration, RmCommand, RmEndpoint,
    RmEvent, RmSession,
};
use ringspin_hadoop::yarn::client::{ApplicationFilter, Wait, YarnClient};
use ringspin_hadoop::yarn::command::Command;
use ringspin_hadoop::yarn::launch::{LaunchContext, LocalResource, ResourceKind, Visibility};
use ringspin_hadoop::yarn::nm::{NmOptions, NodeManagers};
use ringspin_hadoop::yarn::report::FinalStatus;
use ringspin_hadoop::yarn::resource::Resource;
use ringspin_hadoop::yarn::submission::Submission;
use ringspin_hadoop::yarn::web::{ResourceManagerWeb, WebClient};
use std::collections::BTreeMap;
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

type Outcome = Result<(), Box<dyn Error>>;

const USER: &str = "alice";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["submit", rm, url, modified, size, ref plan @ ..] => {
            let file = LocalResource {
                url: url.parse()?,
                size: size.parse()?,
                modified_ms: modified.parse()?,
                kind: ResourceKind::File,
                visibility: Visibility::Application,
            };
            submit(rm, file, plan).await
        }
        ["am", rm, ref plan @ ..] => master(rm, plan).await,
        ["look", rm] => look(rm).await,
        ["kill", rm, id] => Ok(client(rm).kill(id.parse()?, "by yarn_probe", Wait::default()).await?),
        ["logs", node, container] => logs(node, container.parse()?, None).await,
        ["follow", node, container, name] => logs(node, container.parse()?, Some(name)).await,
        ["aggregated", path] => aggregated(path),
        ["why", rm, id] => why(rm, id.parse()?).await,
        _ => Err("see the head of examples/yarn_probe.rs".into()),
    }
}

fn client(rm: &str) -> YarnClient {
    let auth = Auth::Simple { user: USER.into(), real_user: None };
    YarnClient::new(vec![format!("{rm}:8032")], auth, IpcOptions::default(), RetryPolicy::default())
}

async fn submit(rm: &str, file: LocalResource, plan: &[&str]) -> Outcome {
    let client = client(rm);
    let new = client.new_application().await?;
    let begun = Instant::now();
    println!("{} maximum {}", new.id, new.maximum);
    let command = Command::new("./probe").arg("am").arg(rm).args(plan.iter().copied());
    let launch =
        LaunchContext::new(command).resource("probe", file).variable("GREETING", "{{\"$HOME\" `x` '}}");
    let option = |name: &str| plan.iter().find_map(|word| word.strip_prefix(name));
    let submission = Submission {
        queue: option("queue:").map(str::to_owned),
        node_label: option("label:").map(str::to_owned),
        am: Resource::new(option("am:").unwrap_or("128").parse()?, 1),
        tags: vec!["Probe".into()],
        keep_containers: plan.contains(&"keep"),
        ..Submission::new("yarn probe", Resource::new(128, 1), launch)
    };
    let mut report = client.submit(new.id, &submission, Wait::default()).await?;
    let mut state = None;
    loop {
        if state != Some(report.state) {
            println!("{:5} ms {} {}", begun.elapsed().as_millis(), report.state, report.diagnostics);
            state = Some(report.state);
        }
        if report.state.is_final() || plan.contains(&"wait") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        report = client.report(new.id).await?;
    }
    println!("{report:#?}");
    for attempt in client.attempts(new.id).await? {
        println!("{attempt:#?}");
    }
    Ok(())
}

async fn look(rm: &str) -> Outcome {
    let client = client(rm);
    println!("{:?}", client.metrics().await?);
    for node in client.nodes(&[]).await? {
        println!("{node:?}");
    }
    println!("{:?}", client.queue("root").await?);
    println!("{:?}", client.queue("nosuch").await);
    println!("{:?}", client.delegation_token("nobody").await?);
    let filter = ApplicationFilter { tags: vec!["PROBE".into()], limit: Some(5), ..Default::default() };
    for application in client.applications(&filter).await? {
        println!("{} {} {}", application.id, application.state, application.final_status);
        if let Some(attempt) = application.attempt.filter(|_| !application.state.is_final()) {
            for container in client.containers(attempt).await? {
                println!("  {container:?}");
            }
        }
    }
    let unknown = ApplicationId { cluster_timestamp: 1, id: 1 };
    println!("{:?}", client.report(unknown).await);
    println!("{:?}", client.kill(unknown, "", Wait::default()).await);
    Ok(())
}

async fn why(rm: &str, id: ApplicationId) -> Outcome {
    let web = WebClient::new(Some(USER.into()), Duration::from_secs(10))?;
    let rm = ResourceManagerWeb::new(web, vec![format!("{rm}:8088")]);
    for _ in 0..4 {
        for reason in rm.waiting_reasons(id).await? {
            println!("{:?} {reason}", reason.ask);
        }
        tokio::time::sleep(Duration::from_millis(1500)).await;
    }
    Ok(())
}

async fn logs(node: &str, container: ContainerId, follow: Option<&str>) -> Outcome {
    let logs = NodeLogs::new(WebClient::new(Some(USER.into()), Duration::from_secs(10))?);
    let mut out = std::io::stdout();
    if let Some(name) = follow {
        let mut offset = 0;
        loop {
            offset = logs.follow(node, (container, name), offset, &mut out).await?;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    for log in logs.list(node, container).await? {
        println!("== {} ({} bytes)", log.name, log.length);
        let extent = logs.read(node, (container, &log.name), Some(200), &mut out).await?;
        println!("\n-- {extent:?}");
    }
    Ok(())
}

fn aggregated(path: &str) -> Outcome {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::open(path)?;
    let length = file.metadata()?.len();
    let mut read_at = |offset: u64, buffer: &mut [u8]| file.read_exact_at(buffer, offset);
    let owner = visit_logs(&mut read_at, length, &mut |log, bytes| {
        println!("== {} {} ({} bytes)", log.container, log.name, log.length);
        copy_log(log, bytes, Some(4000), &mut std::io::stdout())
    })?;
    println!("== owner {owner:?}");
    Ok(())
}

fn is_option(word: &str) -> bool {
    let prefixes = ["queue:", "label:", "am:"];
    ["keep", "wait", "finish=failed"].contains(&word)
        || prefixes.iter().any(|prefix| word.starts_with(prefix))
}

/// One wanted container: command, host, and whether the host is required.
fn wanted(word: &str) -> (&str, Option<(&str, bool)>) {
    match word.split_once('=') {
        Some((host, command)) => match host.strip_suffix('!') {
            Some(host) => (command, Some((host, true))),
            None => (command, Some((host, false))),
        },
        None => (word, None),
    }
}

async fn master(rm: &str, plan: &[&str]) -> Outcome {
    println!("GREETING={:?} arguments={plan:?}", std::env::var("GREETING"));
    let attempt = std::env::var("CONTAINER_ID")?.parse::<ContainerId>()?.attempt;
    let path = std::env::var("HADOOP_TOKEN_FILE_LOCATION")?;
    let credentials = Credentials::read(path.as_ref())?;
    let token = credentials.tokens_of(kind::AMRM).next().ok_or("no AMRM token")?.clone();
    let endpoint = RmEndpoint {
        addresses: vec![format!("{rm}:8030")],
        token,
        options: IpcOptions::default(),
        policy: RetryPolicy::default(),
    };
    let registration = Registration { host: std::env::var("NM_HOST")?, ..Default::default() };
    let mut session = RmSession::new(endpoint, attempt, registration);
    let (commands, for_session) = mpsc::channel(64);
    let (events, mut from_session) = mpsc::unbounded_channel();
    let runner = tokio::spawn(async move { session.run(Pace::default(), for_session, events).await });
    let mut work =
        Work { nodes: NodeManagers::new(NmOptions::default()), waiting: BTreeMap::new(), running: 0 };
    let mut next = AskId::first(attempt);
    let first_attempt = attempt.attempt == 1 || !plan.contains(&"keep");
    for word in plan.iter().filter(|word| first_attempt && !is_option(word)) {
        let (command, host) = wanted(word);
        let mut ask = Ask::anywhere(1, Resource::new(64, 1), 1);
        if let Some((host, required)) = host {
            ask.places = vec![Place { host: host.into(), rack: DEFAULT_RACK.into() }];
            ask.locality = if required { Locality::Required } else { Locality::Preferred };
        }
        commands.send(RmCommand::Ask(next, ask)).await?;
        work.waiting.insert(next, command.to_owned());
        next = next.following();
    }
    let begun = Instant::now();
    while let Some(news) = from_session.recv().await {
        for event in news {
            println!("{:6} ms {event:?}", begun.elapsed().as_millis());
            work.take(event, &commands, &mut next).await?;
        }
        // A later attempt hears of its predecessor's containers in its first answers.
        let settled = first_attempt || begun.elapsed() > Duration::from_secs(3);
        if work.waiting.is_empty() && work.running == 0 && settled {
            break;
        }
    }
    let status = if plan.contains(&"finish=failed") { FinalStatus::Failed } else { FinalStatus::Succeeded };
    let report =
        FinalReport { status, diagnostics: "all commands ended".into(), tracking_url: String::new() };
    let _ = commands.send(RmCommand::Finish(report, Duration::from_secs(60))).await;
    println!("{:6} ms end: {:?}", begun.elapsed().as_millis(), runner.await?);
    Ok(())
}

struct Work {
    nodes: NodeManagers,
    /// Commands whose containers have not come.
    waiting: BTreeMap<AskId, String>,
    running: usize,
}

impl Work {
    async fn take(
        &mut self,
        event: RmEvent,
        commands: &mpsc::Sender<RmCommand>,
        next: &mut AskId,
    ) -> Outcome {
        match event {
            RmEvent::NodeToken { node, token } => self.nodes.set_token(&node, token),
            RmEvent::Recovered(container) => {
                self.running += 1;
                let status = self.nodes.statuses(&container.node, &[container.id]).await;
                println!("          recovered: {status:?}");
            }
            RmEvent::Allocated(container) => {
                let command = self.waiting.remove(&container.ask).ok_or("an ask that was never made")?;
                let launch = LaunchContext::new(Command::new("bash").arg("-c").arg(command.clone()));
                let begun = Instant::now();
                let outcome = self.nodes.start(&container, &launch).await;
                println!("          start took {} ms: {outcome:?}", begun.elapsed().as_millis());
                match outcome {
                    Ok(()) => self.running += 1,
                    Err(_) => {
                        commands.send(RmCommand::Release(container.id)).await?;
                        commands
                            .send(RmCommand::Ask(*next, Ask::anywhere(1, Resource::new(64, 1), 1)))
                            .await?;
                        self.waiting.insert(*next, command.clone());
                        *next = next.following();
                    }
                }
                if command.contains("STOP ME") {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    println!("          stop: {:?}", self.nodes.stop(&container.node, container.id).await);
                    println!("          again: {:?}", self.nodes.start(&container, &launch).await);
                }
            }
            RmEvent::Completed(_) => self.running = self.running.saturating_sub(1),
            RmEvent::AskRefused(ask, _) => {
                self.waiting.remove(&ask);
            }
            _ => {}
        }
        Ok(())
    }
}
