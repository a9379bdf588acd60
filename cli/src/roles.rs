//! The two roles that other processes start: the ApplicationMaster (YARN starts it) and the worker (the
//! ApplicationMaster starts it). Which role a process plays is said by its subcommand alone.

use crate::args::{AmArgs, ContainerArgs};
use crate::exit::{CommandError, Exit};
use crate::staging;
use crate::submit::{environment, resource};
use crate::surroundings::{Surroundings, ipc_options};
use ringspin_am::bundle::{Bundle, SECRET_ALIAS};
use ringspin_am::machine::Job;
use ringspin_am::planner::Planner;
use ringspin_am::run::{Attempt, Cluster, event_channel, now_ms};
use ringspin_am::web::Access;
use ringspin_am::worker_arguments;
use ringspin_am::yarn::{YarnCluster, YarnOptions};
use ringspin_container::WorkerOptions;
use ringspin_container::link::AmAddress;
use ringspin_control::messages::JobContext;
use ringspin_control::status::Outcome;
use ringspin_data::storage::{Location, RetryPolicy as StoragePolicy, Storage, StorageOptions};
use ringspin_hadoop::conf::{Configuration, RmService, TimeUnit};
use ringspin_hadoop::credentials::{Credentials, FileVersion, kind};
use ringspin_hadoop::ids::{ApplicationId, ContainerId};
use ringspin_hadoop::ipc::{Auth, IpcOptions, RetryPolicy};
use ringspin_hadoop::yarn::am::{Pace, Registration, RmEndpoint};
use ringspin_hadoop::yarn::client::YarnClient;
use ringspin_hadoop::yarn::command::Command;
use ringspin_hadoop::yarn::launch::LaunchContext;
use ringspin_hadoop::yarn::nm::NmOptions;
use ringspin_hadoop::yarn::web::{ResourceManagerWeb, WebClient};
use ringspin_job::JobSecret;
use ringspin_nn::Registry;
use std::net::{IpAddr, ToSocketAddrs};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// A bundle is some kilobytes of job and some hundred of configuration.
const MAX_BUNDLE_BYTES: u64 = 64 << 20;
/// `yarn.am.liveness-monitor.expiry-interval-ms` where nobody set it (600 s in Hadoop 3.3, 900 s since).
const AM_EXPIRY: Duration = Duration::from_secs(600);
/// How long a ResourceManager may be away while a job runs: longer than a restart and a failover.
const RM_AWAY: Duration = Duration::from_secs(15 * 60);

/// How long a web service may take for an answer that is only for people.
const WEB_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two questions after SIGTERM, and how long an answer is waited for: SIGKILL comes after 250 ms.
const SIGNAL_POLL: Duration = Duration::from_millis(10);
const SIGNAL_LIMIT: Duration = Duration::from_millis(150);

/// `ringspin am`.
///
/// # Errors
/// Something the NodeManager gives every container is missing, or the job failed.
pub async fn am(args: &AmArgs, surroundings: &Surroundings) -> Result<Exit, CommandError> {
    let begun_ms = now_ms();
    let bundle = read_bundle(args)?;
    let credentials = surroundings.credentials()?;
    let secret = secret(&credentials)?;
    let container: ContainerId = variable(surroundings, "CONTAINER_ID")?
        .parse()
        .map_err(|error| CommandError::internal(format!("CONTAINER_ID: {error}")))?;
    let host = variable(surroundings, "NM_HOST")?.to_string();
    let conf = configuration(&bundle, surroundings);
    let attempt = container.attempt;
    let application = attempt.application.to_string();
    let door = listen().await?;
    let page = listen().await?;
    let (door_port, page_port) = (port(&door)?, port(&page)?);
    let (sender, receiver) = event_channel();
    let am_address = format!("{host}:{door_port}");
    let storage = storage(&bundle, &credentials, &format!("{application}_{}", attempt.attempt));
    let options = YarnOptions {
        endpoint: endpoint(&conf, &bundle, &credentials)?,
        attempt,
        registration: Registration {
            host: host.clone(),
            port: Some(door_port),
            tracking_url: format!("http://{host}:{page_port}/"),
        },
        pace: pace(&conf)?,
        nodes: NmOptions::default(),
        launch: worker_launch(&bundle, &credentials)?,
        worker_arguments: worker_arguments(&bundle.job, &am_address, attempt.attempt.unsigned_abs()),
        resource: resource(&bundle.job.workers.container),
        node_label: bundle.job.yarn.node_label.clone(),
        web: web(&conf, &bundle.user)?,
        user: bundle.user.clone(),
    };
    let access = access(&conf, surroundings)?;
    let cluster = Cluster::Yarn(Box::new(YarnCluster::start(options, sender.clone())));
    let yarn = yarn_client(&conf, &bundle, &credentials)?;
    end_on_signal(attempt.application, yarn, storage.clone(), bundle.staging.clone())?;
    let mut marks = bundle.marks.clone();
    marks.push(("ApplicationMaster started".into(), begun_ms));
    let attempt_number = attempt.attempt.unsigned_abs();
    let planner = Planner::new(storage.clone(), bundle.job.clone(), &application, attempt_number);
    let context = JobContext {
        job: serde_json::to_string(&bundle.job).map_err(|error| CommandError::internal(error.to_string()))?,
        application: application.clone(),
        hadoop: Some(bundle.hadoop.clone()),
        user: bundle.user.clone(),
    };
    let run = Attempt {
        job: Job { context, spec: bundle.job.clone() },
        attempt: attempt_number,
        secret,
        door,
        page: Some((page, access)),
        planner,
        marks,
    };
    let ended = ringspin_am::run::run(run, cluster, (sender, receiver), |_| {}).await;
    // Another attempt needs it.
    if ended.told
        && let Err(error) = storage.delete(&bundle.staging, true).await
    {
        tracing::warn!("{error}");
    }
    Ok(match ended.outcome {
        Outcome::Succeeded { .. } => Exit::Success,
        Outcome::Failed { .. } => Exit::Failed,
        Outcome::Killed { .. } => Exit::Killed,
    })
}

fn read_bundle(args: &AmArgs) -> Result<Bundle, CommandError> {
    let wrong =
        |error: &dyn std::fmt::Display| CommandError::internal(format!("{}: {error}", args.job.display()));
    let size = std::fs::metadata(&args.job).map_err(|error| wrong(&error))?.len();
    if size > MAX_BUNDLE_BYTES {
        return Err(wrong(&format!("{size} bytes, limit {MAX_BUNDLE_BYTES}")));
    }
    let bytes = std::fs::read(&args.job).map_err(|error| wrong(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(&error))
}

fn secret(credentials: &Credentials) -> Result<JobSecret, CommandError> {
    credentials.secret(SECRET_ALIAS).and_then(|bytes| bytes.try_into().ok()).map(JobSecret::new).ok_or_else(
        || {
            CommandError::internal(
                "the credentials hold no secret of a job; start jobs with `ringspin train`",
            )
        },
    )
}

fn variable<'a>(surroundings: &'a Surroundings, name: &str) -> Result<&'a str, CommandError> {
    surroundings.variable(name).ok_or_else(|| {
        CommandError::internal(format!("{name} is not set: this role is started by a NodeManager"))
    })
}

fn configuration(bundle: &Bundle, surroundings: &Surroundings) -> Configuration {
    let mut conf = Configuration::defaults(surroundings.environment());
    for (key, value) in &bundle.hadoop {
        conf.set(key, value, "the submitted job");
    }
    conf
}

/// The ResourceManager as clients know it, to ask about the application.
fn yarn_client(
    conf: &Configuration,
    bundle: &Bundle,
    credentials: &Credentials,
) -> Result<YarnClient, CommandError> {
    let addresses = conf.rm_addresses(RmService::Client).map_err(internal)?;
    let auth = match credentials.tokens_of(kind::RM).next() {
        Some(token) => Auth::Token { token: token.clone() },
        None => Auth::Simple { user: bundle.user.clone(), real_user: None },
    };
    let options = job_options(conf, bundle)?;
    Ok(YarnClient::new(
        addresses.into_iter().map(|rm| rm.address).collect(),
        auth,
        options,
        RetryPolicy::default(),
    ))
}

/// The ResourceManagers' web services, where they have any.
fn web(conf: &Configuration, user: &str) -> Result<Option<ResourceManagerWeb>, CommandError> {
    let urls = conf.rm_web_urls().map_err(internal)?;
    let client = WebClient::new(Some(user.into()), WEB_TIMEOUT);
    Ok(client.ok().map(|client| ResourceManagerWeb::new(client, urls)))
}

/// How connections to the ResourceManager behave: by Hadoop's configuration and the job's own limit for a call.
fn job_options(conf: &Configuration, bundle: &Bundle) -> Result<IpcOptions, CommandError> {
    let options = ipc_options(conf).map_err(internal)?;
    Ok(IpcOptions { call_timeout: options.call_timeout.min(bundle.job.network.rpc_timeout), ..options })
}

fn endpoint(
    conf: &Configuration,
    bundle: &Bundle,
    credentials: &Credentials,
) -> Result<RmEndpoint, CommandError> {
    let token = credentials.tokens_of(kind::AMRM).next().cloned();
    let addresses = conf.rm_addresses(RmService::Scheduler).map_err(internal)?;
    Ok(RmEndpoint {
        addresses: addresses.into_iter().map(|rm| rm.address).collect(),
        token: token.ok_or_else(|| CommandError::internal("the NodeManager gave no YARN_AM_RM_TOKEN"))?,
        options: job_options(conf, bundle)?,
        policy: RetryPolicy { max_attempts: u32::MAX, deadline: RM_AWAY, ..RetryPolicy::default() },
    })
}

fn pace(conf: &Configuration) -> Result<Pace, CommandError> {
    let expiry = conf
        .get_time("yarn.am.liveness-monitor.expiry-interval-ms", TimeUnit::Millis, Some(AM_EXPIRY))
        .map_err(internal)?
        .unwrap_or(AM_EXPIRY);
    let pace = Pace::default();
    Ok(Pace { calm: pace.calm.min(expiry / 3), ..pace })
}

/// What every worker is started with; its command comes with each start.
fn worker_launch(bundle: &Bundle, credentials: &Credentials) -> Result<LaunchContext, CommandError> {
    let mut shared = credentials.clone();
    shared.tokens.retain(|_, token| token.kind == kind::HDFS);
    let mut launch =
        LaunchContext::new(Command::new("./ringspin")).tokens(shared.to_bytes(FileVersion::Writable));
    for (link, file) in &bundle.resources {
        launch = launch.resource(link, file.to_resource().map_err(CommandError::internal)?);
    }
    for (name, value) in environment(&bundle.user, &bundle.job) {
        launch = launch.variable(name, value);
    }
    Ok(launch)
}

fn storage(bundle: &Bundle, credentials: &Credentials, writer: &str) -> Storage {
    Storage::new(StorageOptions {
        base: bundle.staging.clone(),
        hdfs: Some(bundle.hdfs(credentials.clone())),
        policy: StoragePolicy { call_timeout: bundle.job.network.rpc_timeout, ..StoragePolicy::default() },
        writer: writer.into(),
    })
}

/// The page is for the ResourceManagers' proxies.
fn access(conf: &Configuration, surroundings: &Surroundings) -> Result<Access, CommandError> {
    let urls = conf.rm_web_urls().map_err(internal)?;
    let mut hosts: Vec<String> =
        urls.iter().filter_map(|url| url.split_once("://")).map(|(_, address)| address.to_string()).collect();
    if let Some(proxy) =
        conf.get("yarn.web-proxy.address").map_err(internal)?.filter(|proxy| !proxy.is_empty())
    {
        hosts.insert(0, proxy);
    }
    let proxies: Vec<IpAddr> = hosts
        .iter()
        .filter_map(|host| host.to_socket_addrs().ok())
        .flatten()
        .map(|address| address.ip())
        .collect();
    let base = surroundings.variable("APPLICATION_WEB_PROXY_BASE").unwrap_or_default();
    let proof: [u8; 16] = ringspin_am::random_bytes();
    Ok(Access {
        proxies,
        proxy_url: hosts.first().map(|host| format!("http://{host}{base}/")),
        proof: ringspin_container::model_file::hex(&proof),
    })
}

/// A NodeManager ends an ApplicationMaster by SIGTERM and, 250 ms later, SIGKILL
/// (`yarn.nodemanager.sleep-delay-before-sigkill.ms`), for two reasons. Somebody has killed the application: then
/// nothing may be left of it. Or the attempt lost its place (preemption, a NodeManager that is shut down): then the
/// next one takes over what there is, and the ResourceManager must not be told that the job has ended.
fn end_on_signal(
    application: ApplicationId,
    yarn: YarnClient,
    storage: Storage,
    folder: Location,
) -> Result<(), CommandError> {
    let mut terminate =
        signal(SignalKind::terminate()).map_err(|error| CommandError::internal(error.to_string()))?;
    tokio::spawn(async move {
        if terminate.recv().await.is_none() {
            return;
        }
        tracing::info!("the NodeManager ends this ApplicationMaster (SIGTERM)");
        let is_over = async {
            loop {
                match yarn.report(application).await {
                    Ok(report) if report.state.is_final() => return true,
                    Ok(_) => tokio::time::sleep(SIGNAL_POLL).await,
                    Err(_) => return false,
                }
            }
        };
        if tokio::time::timeout(SIGNAL_LIMIT, is_over).await == Ok(true) {
            staging::remove_remains(&storage, &folder, &application.to_string()).await;
        }
        std::process::exit(128 + nix::sys::signal::Signal::SIGTERM as i32);
    });
    Ok(())
}

async fn listen() -> Result<TcpListener, CommandError> {
    TcpListener::bind("0.0.0.0:0")
        .await
        .map_err(|error| CommandError::internal(format!("no port to listen on: {error}")))
}

fn port(listener: &TcpListener) -> Result<u16, CommandError> {
    listener
        .local_addr()
        .map(|address| address.port())
        .map_err(|error| CommandError::internal(error.to_string()))
}

fn internal(error: impl std::fmt::Display) -> CommandError {
    CommandError::internal(format!("Hadoop configuration: {error}"))
}

/// `ringspin container`: the exit status is the worker's own.
///
/// # Errors
/// What the ApplicationMaster gives every worker is missing.
pub fn container(
    args: ContainerArgs,
    surroundings: &Surroundings,
    registry: &Registry,
) -> Result<i32, CommandError> {
    let credentials = surroundings.credentials()?;
    let secret = secret(&credentials)?;
    let options = WorkerOptions {
        credentials,
        am: AmAddress { address: args.am, attempt: args.attempt, secret },
        slot: args.slot,
        heartbeat: Duration::from_millis(args.heartbeat_ms),
        silence: Duration::from_millis(args.silence_ms),
    };
    Ok(ringspin_container::run(options, registry))
}
