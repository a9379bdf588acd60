//! Tries configuration, IPC and NameNode calls on a real cluster, with and without a token. For working on this
//! crate, not for users.
//!
//! ```text
//! scripts/hadoop up --set core-site:hadoop.rpc.protection=privacy
//! scripts/hadoop on edge target/debug/examples/hadoop_probe conf dfs.replication yarn.resourcemanager.address
//! scripts/hadoop on edge target/debug/examples/hadoop_probe list /user
//! scripts/hadoop on edge target/debug/examples/hadoop_probe blocks /some/file
//! scripts/hadoop on edge target/debug/examples/hadoop_probe token     # RM: a token, then calls with it
//! scripts/hadoop on edge target/debug/examples/hadoop_probe rate 2000 # calls one by one and 64 at once
//! scripts/hadoop on edge target/debug/examples/hadoop_probe refusals  # what servers say to wrong guests
//! scripts/hadoop on edge target/debug/examples/hadoop_probe watch 30  # a question every 100 ms, gaps told
//! target/debug/examples/hadoop_probe tokens FROM TO                   # copies a token file to TO.v0 and TO.v1
//! ```

use prost::Message;
use ringspin_hadoop::conf::{Configuration, Environment, RmService};
use ringspin_hadoop::credentials::{Credentials, FileVersion, Token};
use ringspin_hadoop::ipc::{Auth, Client, FailoverClient, IpcError, IpcOptions, Protocol, RetryPolicy};
use ringspin_hadoop::namenode::{Caller, NameNodes};
use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

type Outcome = Result<(), Box<dyn Error>>;

const CLIENT: Protocol =
    Protocol { name: "org.apache.hadoop.yarn.api.ApplicationClientProtocolPB", version: 1 };
const MASTER: Protocol =
    Protocol { name: "org.apache.hadoop.yarn.api.ApplicationMasterProtocolPB", version: 1 };
const USER: &str = "alice";

#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct GetDelegationTokenRequest {
    #[prost(string, required, tag = "1")]
    renewer: String,
    /// No field of Hadoop's: makes a request as long as a test wants.
    #[prost(bytes = "vec", optional, tag = "1000")]
    padding: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct GetDelegationTokenResponse {
    #[prost(message, optional, tag = "1")]
    token: Option<TokenMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct TokenMessage {
    #[prost(bytes = "vec", required, tag = "1")]
    identifier: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    password: Vec<u8>,
    #[prost(string, required, tag = "3")]
    kind: String,
    #[prost(string, required, tag = "4")]
    service: String,
}

#[tokio::main]
async fn main() -> Outcome {
    let folders = ["YARN_CONF_DIR", "HADOOP_CONF_DIR"].into_iter().filter_map(std::env::var_os);
    let folders: Vec<PathBuf> = folders.map(PathBuf::from).collect();
    let conf = Configuration::load(&folders, Environment::new(USER, "/", "/tmp", std::env::vars()))?;
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["conf", ref keys @ ..] => show(&conf, keys),
        ["list", path] => list(conf, path).await,
        ["blocks", path] => blocks(conf, path).await,
        ["token"] => token(&conf).await,
        ["tokens", from, to] => tokens(from, to),
        ["rate", calls] => rate(&conf, calls.parse()?).await,
        ["refusals"] => refusals(&conf).await,
        ["watch", seconds] => watch(conf, Duration::from_secs(seconds.parse()?)).await,
        _ => Err("see the head of examples/hadoop_probe.rs".into()),
    }
}

fn show(conf: &Configuration, keys: &[&str]) -> Outcome {
    println!("files {:?}", conf.files());
    println!("resource managers {:?}", conf.rm_addresses(RmService::Client)?);
    println!("options {:?}", IpcOptions::from_configuration(conf)?);
    for key in keys {
        let source = conf.property(key).map(|p| p.source.to_string()).unwrap_or_default();
        println!("{key} = {:?}  [{source}]", conf.get(key)?);
    }
    Ok(())
}

fn simple() -> Auth {
    Auth::Simple { user: USER.into(), real_user: None }
}

fn namenodes(conf: Configuration, policy: RetryPolicy) -> Result<NameNodes, Box<dyn Error>> {
    let options = IpcOptions::from_configuration(&conf)?;
    let caller =
        Caller { user: USER.into(), real_user: None, credentials: Credentials::default(), options, policy };
    Ok(NameNodes::new(conf, caller))
}

async fn list(conf: Configuration, path: &str) -> Outcome {
    let begun = Instant::now();
    let entries = namenodes(conf, RetryPolicy::default())?.list(path).await?;
    println!("{} entries in {:?}", entries.len(), begun.elapsed());
    for entry in entries.iter().take(5) {
        println!("{entry:?}");
    }
    Ok(())
}

async fn blocks(conf: Configuration, path: &str) -> Outcome {
    let blocks = namenodes(conf, RetryPolicy::default())?.blocks(path, 0, i64::MAX as u64).await?;
    println!("length {} under construction {}", blocks.length, blocks.under_construction);
    for block in blocks.blocks {
        let hosts: Vec<_> = block.replicas.iter().map(|r| format!("{}{}", r.host, r.rack)).collect();
        println!("{} +{} {hosts:?}", block.offset, block.length);
    }
    Ok(())
}

fn resource_managers(conf: &Configuration, auth: Auth) -> Result<FailoverClient, Box<dyn Error>> {
    let addresses = conf.rm_addresses(RmService::Client)?.into_iter().map(|rm| rm.address).collect();
    let options = IpcOptions::from_configuration(conf)?;
    Ok(FailoverClient::new(addresses, CLIENT, auth, options, RetryPolicy::default()))
}

async fn get_token(client: &FailoverClient, padding: usize) -> Result<Token, IpcError> {
    let padding = (padding > 0).then(|| vec![0x5a; padding]);
    let request = GetDelegationTokenRequest { renewer: USER.into(), padding };
    let answer: GetDelegationTokenResponse = client.call("getDelegationToken", &request, false).await?;
    let TokenMessage { identifier, password, kind, service } = answer.token.unwrap_or_default();
    Ok(Token { kind, service, identifier, password })
}

/// The RM gives tokens on insecure clusters too, and then wants DIGEST-MD5 with the cluster's protection.
async fn token(conf: &Configuration) -> Outcome {
    println!("hadoop.rpc.protection = {:?}", conf.get("hadoop.rpc.protection")?);
    let token = get_token(&resource_managers(conf, simple())?, 0).await?;
    println!("{token:?}");
    let client = resource_managers(conf, Auth::Token { token: token.clone() })?;
    let mut calls = JoinSet::new();
    let begun = Instant::now();
    // 300,000 bytes go out in several pieces; a method error answers each call.
    for padding in [0, 1, 7, 8, 1000, 70_000, 300_000] {
        let client = client.clone();
        calls.spawn(async move { (padding, get_token(&client, padding).await) });
    }
    while let Some(done) = calls.join_next().await {
        let (padding, outcome) = done?;
        println!("+{padding} bytes: {}", outcome.map_or_else(|e| e.to_string(), |t| format!("{t:?}")));
    }
    for _ in 0..200 {
        let _: Empty = client.call("getClusterMetrics", &Empty {}, true).await?;
    }
    println!("207 calls with the token in {:?}", begun.elapsed());
    let wrong = Token { password: vec![0; 20], ..token.clone() };
    println!("wrong password: {}", error(resource_managers(conf, Auth::Token { token: wrong })?).await);
    let mut identifier = token.identifier.clone();
    *identifier.last_mut().ok_or("empty identifier")? ^= 1;
    let unknown = Token { identifier, ..token };
    println!("unknown token: {}", error(resource_managers(conf, Auth::Token { token: unknown })?).await);
    Ok(())
}

fn tokens(from: &str, to: &str) -> Outcome {
    let credentials = Credentials::read(from.as_ref())?;
    credentials.write(format!("{to}.v0").as_ref(), FileVersion::Writable)?;
    Ok(credentials.write(format!("{to}.v1").as_ref(), FileVersion::Protobuf)?)
}

async fn error(client: FailoverClient) -> String {
    let outcome: Result<Empty, IpcError> = client.call("getClusterMetrics", &Empty {}, true).await;
    outcome.map_or_else(|error| format!("{error}\n    {error:?}"), |_| "no error".into())
}

async fn rate(conf: &Configuration, calls: usize) -> Outcome {
    let token = get_token(&resource_managers(conf, simple())?, 0).await?;
    for (name, auth) in [("simple", simple()), ("token", Auth::Token { token })] {
        let client = resource_managers(conf, auth)?;
        let _: Empty = client.call("getClusterMetrics", &Empty {}, true).await?;
        let mut times = Vec::new();
        for _ in 0..calls {
            let begun = Instant::now();
            let _: Empty = client.call("getClusterMetrics", &Empty {}, true).await?;
            times.push(begun.elapsed());
        }
        times.sort();
        let begun = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..64 {
            let client = client.clone();
            tasks.spawn(async move {
                for _ in 0..calls / 64 {
                    let _: Empty = client.call("getClusterMetrics", &Empty {}, true).await?;
                }
                Ok::<_, IpcError>(())
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let per_second = (calls / 64 * 64) as f64 / begun.elapsed().as_secs_f64();
        let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
        println!("{name}: one by one p50 {p50:?} p99 {p99:?}; 64 at once {per_second:.0} calls/s");
    }
    Ok(())
}

async fn refusals(conf: &Configuration) -> Outcome {
    let options = || IpcOptions { call_timeout: Duration::from_secs(5), ..IpcOptions::default() };
    let port =
        |service| -> Result<String, Box<dyn Error>> { Ok(conf.rm_addresses(service)?.remove(0).address) };
    let ask = async |address: String, protocol, auth, options| {
        let client = Client::new(address.clone(), protocol, auth, options);
        let begun = Instant::now();
        let outcome: Result<Empty, IpcError> = client.call("nosuch", &Empty {}).await;
        println!("{address} in {:?}:\n    {:?}", begun.elapsed(), outcome.map_err(|e| e.to_string()));
    };
    let impostor = Auth::Simple { user: "bob".into(), real_user: Some("mallory".into()) };
    ask(port(RmService::Scheduler)?, MASTER, simple(), options()).await;
    ask(port(RmService::Scheduler)?, MASTER, simple(), IpcOptions { sasl: true, ..options() }).await;
    ask(port(RmService::Client)?, CLIENT, simple(), options()).await;
    ask(port(RmService::Client)?, CLIENT, simple(), IpcOptions { sasl: true, ..options() }).await;
    ask(port(RmService::Client)?, MASTER, simple(), options()).await;
    ask(port(RmService::Client)?, CLIENT, impostor, options()).await;
    ask(port(RmService::Web)?, CLIENT, simple(), options()).await;
    Ok(())
}

/// Asks again and again; tells how long each silence was and every error.
async fn watch(conf: Configuration, total: Duration) -> Outcome {
    let policy = RetryPolicy { max_delay: Duration::from_millis(500), ..RetryPolicy::default() };
    let namenodes = namenodes(conf, policy)?;
    let begun = Instant::now();
    let (mut asked, mut longest) = (0, Duration::ZERO);
    while begun.elapsed() < total {
        let question = Instant::now();
        if let Err(error) = namenodes.list("/").await {
            println!("{:6.2} s: {error}", begun.elapsed().as_secs_f64());
        }
        asked += 1;
        longest = longest.max(question.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("{asked} questions, the longest took {longest:?}");
    Ok(())
}
