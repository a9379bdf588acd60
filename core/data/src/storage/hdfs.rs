//! Files in HDFS: the only file that names hdfs-native.
//!
//! hdfs-native has no limit on any NameNode call, and a call that we give up leaves its dead connection in the
//! client. So every call here has a deadline, and when one passes the client is thrown away and the next one
//! starts with another NameNode of the name service. Nothing here retries: that is [`super::Storage`]'s.

use super::hdfs_error::convert;
use super::namenode::Questions;
use super::viewfs::{self, Resolved};
use super::{
    BlockHosts, CreateOptions, FileStatus, Location, RetryPolicy, StorageError, StorageErrorKind as Kind,
};
use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, StreamExt};
use hdfs_native::file::FileReader;
use hdfs_native::{Client, ClientBuilder, HdfsError};
use ringspin_hadoop::conf::{Configuration, Environment};
use ringspin_hadoop::credentials::Credentials;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Port of a NameNode where the URI gives none (`HdfsClientConfigKeys.DFS_NAMENODE_RPC_PORT_DEFAULT`).
const NAMENODE_PORT: u16 = 8020;
/// Silence after which hdfs-native tries another replica, once on the same DataNode and then on the next. With
/// Hadoop's own default of 60 s a DataNode that is cut off would stop a training job for two minutes.
const DATANODE_TIMEOUT_MS: u64 = 3_000;
/// Open readers kept per name service: each saves a getBlockLocations call a chunk.
const OPEN_READERS: usize = 64;
/// Age at which an open reader is opened anew, so that moved blocks and renewed block tokens are seen.
const READER_AGE: Duration = Duration::from_secs(300);
/// Bytes handed to a writer at once; each has to be taken within the stall limit.
const WRITE_PIECE_BYTES: usize = 1 << 20;
/// Entries of a folder we are willing to hold.
const LIST_ENTRIES: usize = 2_000_000;
/// Where hdfs-native looks for Hadoop's XML files: a folder that can not exist, because the configuration is
/// read by ringspin-hadoop and handed over as a map.
const NO_CONFIG_FOLDER: &str = "/dev/null";

type Result<T> = std::result::Result<T, StorageError>;

/// Who asks, and the cluster's configuration.
#[derive(Clone, Debug)]
pub struct HdfsOptions {
    /// Hadoop's configuration.
    pub conf: Configuration,
    /// User name on clusters without Kerberos; with it the ticket or token decides.
    pub user: String,
    /// Tokens for our own NameNode calls. The client crate takes its tokens from the file that
    /// `HADOOP_TOKEN_FILE_LOCATION` names.
    pub credentials: Credentials,
}

impl HdfsOptions {
    /// Options out of a configuration that travelled as a map, as in a container without Hadoop's files.
    pub fn from_properties(
        properties: &BTreeMap<String, String>,
        user: &str,
        credentials: Credentials,
    ) -> HdfsOptions {
        let mut conf = Configuration::defaults(Environment::default());
        properties.iter().for_each(|(key, value)| conf.set(key, value, "the job"));
        HdfsOptions { conf, user: user.into(), credentials }
    }
}

/// Single attempts on HDFS files; deadlines, no retries.
pub(super) struct HdfsFiles {
    options: HdfsOptions,
    /// The configuration as the client crate takes it.
    config: BTreeMap<String, String>,
    policy: RetryPolicy,
    services: Mutex<HashMap<String, Service>>,
    questions: Questions,
}

/// The client of one NameNode or name service.
struct Service {
    client: Client,
    /// Counts the clients thrown away, so that of many calls that time out together one renews.
    generation: u64,
    readers: HashMap<String, (Arc<FileReader>, Instant)>,
}

impl HdfsFiles {
    pub(super) fn new(options: HdfsOptions, policy: RetryPolicy) -> Self {
        let questions = Questions::new(&options, &policy);
        let config = options.conf.resolved();
        HdfsFiles { options, config, policy, services: Mutex::default(), questions }
    }

    fn services(&self) -> MutexGuard<'_, HashMap<String, Service>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `at` is once mount tables are looked through.
    fn resolve(&self, action: &'static str, at: &Location) -> Result<Resolved> {
        viewfs::resolve(&self.options.conf, at)
            .map_err(|error| StorageError::new(Kind::NotFound, action, at, error))
    }

    /// The `hdfs://` location behind `at`, for calls that change something or need a real file.
    pub(super) fn target(&self, action: &'static str, at: &Location) -> Result<Location> {
        match self.resolve(action, at)? {
            Resolved::Hdfs(target) => Ok(target),
            Resolved::Inner { .. } => {
                let detail = "it is a folder of the ViewFs mount table, which nobody can change";
                Err(StorageError::new(Kind::PermissionDenied, action, at, detail))
            }
        }
    }

    fn build(&self, authority: &str, generation: u64) -> std::result::Result<Client, HdfsError> {
        let mut config = self.config.clone();
        let mut set = |key: &str, value: String| config.insert(key.into(), value);
        // Our retries start over with a fresh client; the crate's own 15 rounds with waits of up to 15 s would
        // outlast every deadline and hide the cause.
        set("dfs.client.failover.max.attempts", "4".into());
        set("dfs.client.failover.sleep.base.millis", "100".into());
        set("dfs.client.failover.sleep.max.millis", "1000".into());
        let configured = self.config.get("dfs.client.socket-timeout").and_then(|v| v.parse().ok());
        let socket_timeout = configured.filter(|ms| *ms > 0).unwrap_or(u64::MAX).min(DATANODE_TIMEOUT_MS);
        set("dfs.client.socket-timeout", socket_timeout.to_string());
        let nodes_key = format!("dfs.ha.namenodes.{authority}");
        let nodes = self.config.get(&nodes_key);
        let address = self.config.get(&format!("dfs.namenode.rpc-address.{authority}"));
        let url = match (nodes, address) {
            (Some(nodes), _) => {
                let mut nodes: Vec<&str> =
                    nodes.split(',').map(str::trim).filter(|n| !n.is_empty()).collect();
                let first = generation as usize % nodes.len().max(1);
                nodes.rotate_left(first);
                config.insert(nodes_key, nodes.join(","));
                format!("hdfs://{authority}")
            }
            (None, Some(address)) => format!("hdfs://{address}"),
            _ if authority.contains(':') => format!("hdfs://{authority}"),
            _ => format!("hdfs://{authority}:{NAMENODE_PORT}"),
        };
        ClientBuilder::new()
            .with_url(url)
            .with_config(config)
            .with_config_dir(NO_CONFIG_FOLDER)
            .with_user(&self.options.user)
            .build()
    }

    fn client(&self, action: &'static str, at: &Location, authority: &str) -> Result<(Client, u64)> {
        let mut services = self.services();
        if let Some(service) = services.get(authority) {
            return Ok((service.client.clone(), service.generation));
        }
        let client = self.build(authority, 0).map_err(|error| {
            convert(action, at, error).advise(format!(
                "check fs.defaultFS, and dfs.ha.namenodes.{authority} when {authority} is a name service"
            ))
        })?;
        services.insert(
            authority.into(),
            Service { client: client.clone(), generation: 0, readers: HashMap::new() },
        );
        Ok((client, 0))
    }

    /// Throws the client of `generation` away, with everything it had open.
    fn renew(&self, authority: &str, generation: u64) {
        let mut services = self.services();
        let Some(service) = services.get_mut(authority) else { return };
        if service.generation == generation
            && let Ok(client) = self.build(authority, generation + 1)
        {
            *service = Service { client, generation: generation + 1, readers: HashMap::new() };
        }
    }

    /// One call with a deadline; after an expiry, or a panic within the client crate, a fresh client.
    async fn call<T, F>(
        &self,
        (action, at, limit): (&'static str, &Location, Duration),
        (authority, generation): (&str, u64),
        call: F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, HdfsError>>,
    {
        match timeout(limit, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(answer)) => answer.map_err(|error| convert(action, at, error)),
            Ok(Err(_panic)) => {
                self.renew(authority, generation);
                let detail = "the HDFS client gave up on an answer it does not understand";
                Err(StorageError::new(Kind::Other, action, at, detail)
                    .advise("check that host and port are those of a NameNode's RPC service"))
            }
            Err(_elapsed) => {
                self.renew(authority, generation);
                Err(StorageError::timeout(action, at, limit))
            }
        }
    }

    /// A NameNode call: resolves mounts, gets the client, waits no longer than `call_timeout`.
    async fn namenode<T, F>(
        &self,
        action: &'static str,
        at: &Location,
        call: impl FnOnce(Client, String) -> F,
    ) -> Result<T>
    where
        F: Future<Output = std::result::Result<T, HdfsError>>,
    {
        let target = self.target(action, at)?;
        let (client, generation) = self.client(action, at, target.authority())?;
        let call = call(client, target.path().to_string());
        self.call((action, at, self.policy.call_timeout), (target.authority(), generation), call).await
    }

    pub(super) async fn stat(&self, at: &Location) -> Result<FileStatus> {
        if let Resolved::Inner { .. } = self.resolve("look up", at)? {
            return Ok(mount_folder(at.clone()));
        }
        let found =
            self.namenode("look up", at, |client, path| async move { client.get_file_info(&path).await });
        Ok(status(at.clone(), &found.await?))
    }

    pub(super) async fn list(&self, at: &Location) -> Result<Vec<FileStatus>> {
        let target = match self.resolve("list", at)? {
            Resolved::Inner { children, behind } => {
                let mut found = match behind {
                    Some(behind) => self.list_target(at, &behind).await.or_else(ignore_missing)?,
                    None => Vec::new(),
                };
                found.retain(|status| !children.contains(status.location.name()));
                found.extend(children.iter().map(|name| mount_folder(at.join(name))));
                return Ok(found);
            }
            Resolved::Hdfs(target) => target,
        };
        self.list_target(at, &target).await
    }

    async fn list_target(&self, at: &Location, target: &Location) -> Result<Vec<FileStatus>> {
        let (client, generation) = self.client("list", at, target.authority())?;
        let entries = client.list_status_iter(target.path(), false);
        let mut found = Vec::new();
        loop {
            let next = async { entries.next().await.transpose() };
            let limit = self.policy.call_timeout;
            let Some(entry) = self.call(("list", at, limit), (target.authority(), generation), next).await?
            else {
                return Ok(found);
            };
            let name = entry.path.rsplit('/').next().unwrap_or_default();
            if entry.path.trim_end_matches('/') == target.path().trim_end_matches('/') {
                return Err(StorageError::new(Kind::Other, "list", at, "it is a file, not a folder"));
            }
            if found.len() == LIST_ENTRIES {
                let detail = format!("the folder has more than {LIST_ENTRIES} entries");
                return Err(StorageError::new(Kind::Other, "list", at, detail));
            }
            found.push(status(at.join(name), &entry));
        }
    }

    /// An open reader of the file, from the few that are kept.
    async fn reader(&self, at: &Location, target: &Location) -> Result<(Arc<FileReader>, u64, bool)> {
        let (client, generation) = self.client("read", at, target.authority())?;
        if let Some(service) = self.services().get(target.authority())
            && let Some((reader, opened)) = service.readers.get(target.path())
            && opened.elapsed() < READER_AGE
        {
            return Ok((reader.clone(), generation, false));
        }
        let opening = client.read(target.path());
        let limit = self.policy.call_timeout;
        let reader = self.call(("read", at, limit), (target.authority(), generation), opening).await?;
        let reader = Arc::new(reader);
        if let Some(service) = self.services().get_mut(target.authority())
            && service.generation == generation
        {
            if service.readers.len() >= OPEN_READERS {
                let oldest = service.readers.iter().min_by_key(|(_, (_, opened))| *opened);
                let oldest = oldest.map(|(path, _)| path.clone());
                oldest.map(|path| service.readers.remove(&path));
            }
            service.readers.insert(target.path().into(), (reader.clone(), Instant::now()));
        }
        Ok((reader, generation, true))
    }

    /// Closes what is open at a path and below it.
    fn forget_readers(&self, target: &Location) {
        if let Some(service) = self.services().get_mut(target.authority()) {
            let below = |path: &str| {
                path.strip_prefix(target.path()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            service.readers.retain(|path, _| !below(path));
        }
    }

    pub(super) async fn read(&self, at: &Location, offset: u64, len: usize) -> Result<Bytes> {
        let target = self.target("read", at)?;
        let (mut reader, mut generation, fresh) = self.reader(at, &target).await?;
        let missing = |reader: &FileReader| {
            offset.checked_add(len as u64).is_none_or(|end| end > reader.file_length() as u64)
        };
        if missing(&reader) && !fresh {
            // The file may have been replaced by a longer one since it was opened.
            self.forget_readers(&target);
            (reader, generation, _) = self.reader(at, &target).await?;
        }
        if missing(&reader) {
            let detail = super::too_short(reader.file_length() as u64, offset, len);
            return Err(StorageError::new(Kind::Corrupt, "read", at, detail)
                .advise("the file was cut, replaced, or its writer has not closed it"));
        }
        let result = self.read_packets(at, (&target, generation), &reader, (offset, len)).await;
        if result.is_err() {
            self.forget_readers(&target);
        }
        result
    }

    /// Reads packet by packet: the deadline is for the next packet, not for the whole range.
    async fn read_packets(
        &self,
        at: &Location,
        (target, generation): (&Location, u64),
        reader: &FileReader,
        (offset, len): (u64, usize),
    ) -> Result<Bytes> {
        let mut packets = std::pin::pin!(reader.read_range_stream(offset as usize, len));
        let mut data = BytesMut::with_capacity(len);
        loop {
            let next = async { packets.next().await.transpose() };
            let limit = self.policy.stall_timeout;
            match self.call(("read", at, limit), (target.authority(), generation), next).await? {
                Some(packet) if data.is_empty() && packet.len() == len => return Ok(packet),
                Some(packet) => data.extend_from_slice(&packet),
                None if data.len() == len => return Ok(data.freeze()),
                None => {
                    let detail =
                        format!("the DataNode sent {} of {len} bytes at offset {offset}", data.len());
                    return Err(StorageError::new(Kind::Unreachable, "read", at, detail));
                }
            }
        }
    }

    pub(super) async fn create(&self, at: &Location, data: Bytes, options: CreateOptions) -> Result<()> {
        let target = self.target("write", at)?;
        let (client, generation) = self.client("write", at, target.authority())?;
        let settings = hdfs_native::WriteOptions {
            permission: options.permission,
            replication: options.replication,
            create_parent: options.create_parents,
            ..Default::default()
        };
        let service = (target.authority(), generation);
        let creating = client.create(target.path(), settings);
        let mut writer = self.call(("write", at, self.policy.call_timeout), service, creating).await?;
        self.refuse_other_codings(at, &target).await?;
        let limit = self.policy.stall_timeout;
        let mut rest = data;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(WRITE_PIECE_BYTES));
            self.call(("write", at, limit), service, writer.write_bytes(piece)).await?;
        }
        self.call(("write", at, limit), service, writer.close()).await
    }

    /// Whatever the policy says, the client crate computes Reed-Solomon parity: with another codec a file would
    /// read well until the first DataNode is lost, and wrong, without an error, from then on.
    async fn refuse_other_codings(&self, at: &Location, target: &Location) -> Result<()> {
        match self.questions.coding(at, target).await? {
            Some(policy) if !policy.starts_with("RS-") || policy.starts_with("RS-LEGACY") => {
                let detail = format!("its folder is erasure coded by {policy}, which we can only read");
                Err(StorageError::new(Kind::Other, "write", at, detail).advise(
                    "write to a folder with replication or an RS policy (`hdfs ec -getPolicy -path FOLDER`)",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Blocks of files and the hosts that have them.
    pub(super) async fn blocks(&self, files: &[Location]) -> Result<Vec<Vec<BlockHosts>>> {
        let targets = files.iter().map(|file| self.target("find the blocks of", file));
        self.questions.blocks(&targets.collect::<Result<Vec<_>>>()?).await
    }

    pub(super) async fn rename(&self, from: &Location, to: &Location, overwrite: bool) -> Result<()> {
        let target = self.target("rename", to)?;
        let source = self.target("rename", from)?;
        if source.authority() != target.authority() {
            let detail = format!("{to} is on another NameNode");
            return Err(StorageError::new(Kind::Other, "rename", from, detail));
        }
        let new_path = target.path();
        let result = self
            .namenode("rename", from, |client, path| async move {
                client.rename(&path, new_path, overwrite).await
            })
            .await;
        self.forget_readers(&source);
        self.forget_readers(&target);
        result.map_err(|error| match error.kind {
            Kind::AlreadyExists => StorageError::new(error.kind, "rename a file to", to, error.detail),
            _ => StorageError { detail: format!("{} (new name {to})", error.detail), ..error },
        })
    }

    pub(super) async fn delete(&self, at: &Location, recursive: bool) -> Result<bool> {
        let result = self
            .namenode("delete", at, |client, path| async move { client.delete(&path, recursive).await })
            .await;
        self.forget_readers(&self.target("delete", at)?);
        result.map_err(|error| match error.kind {
            Kind::AlreadyExists => StorageError { kind: Kind::Other, ..error },
            _ => error,
        })
    }

    pub(super) async fn mkdirs(&self, at: &Location, permission: u32) -> Result<()> {
        self.namenode("create folder", at, |client, path| async move {
            client.mkdirs(&path, permission, true).await
        })
        .await
    }

    pub(super) async fn set_permission(&self, at: &Location, permission: u32) -> Result<()> {
        self.namenode("set permissions of", at, |client, path| async move {
            client.set_permission(&path, permission).await
        })
        .await
    }
}

fn ignore_missing(error: StorageError) -> Result<Vec<FileStatus>> {
    if error.kind == Kind::NotFound { Ok(Vec::new()) } else { Err(error) }
}

fn status(location: Location, found: &hdfs_native::client::FileStatus) -> FileStatus {
    FileStatus {
        location,
        length: found.length as u64,
        is_dir: found.isdir,
        modified_ms: found.modification_time,
        permission: found.permission,
        owner: found.owner.clone(),
        group: found.group.clone(),
        block_bytes: found.blocksize.filter(|bytes| *bytes > 0),
    }
}

/// What ViewFs says of a folder that only leads to mount points: read-only, of nobody.
fn mount_folder(location: Location) -> FileStatus {
    FileStatus {
        location,
        length: 0,
        is_dir: true,
        modified_ms: 0,
        permission: 0o555,
        owner: String::new(),
        group: String::new(),
        block_bytes: None,
    }
}
