//! Questions that hdfs-native can not ask a NameNode: which hosts have the blocks of a file, and how a file is
//! erasure coded. Single attempts with a deadline, like [`super::hdfs`].

use super::hdfs_error::remote;
use super::{BlockHosts, HdfsOptions, Location, RetryPolicy, StorageError, StorageErrorKind as Kind};
use futures_util::{StreamExt, TryStreamExt};
use ringspin_hadoop::ipc::{self, IpcError, IpcOptions};
use ringspin_hadoop::namenode::{Caller, FileBlocks, NameNodeError, NameNodes};
use std::collections::HashMap;
use std::time::Duration;

/// Files of one folder from which on the folder is listed: a call for a thousand files instead of one each.
const LIST_FROM_FILES: usize = 16;
/// Questions asked at the same time.
const PARALLEL_QUESTIONS: usize = 8;

type Result<T> = std::result::Result<T, StorageError>;

/// Own connections to NameNodes, besides those of hdfs-native.
pub(super) struct Questions {
    namenodes: NameNodes,
    limit: Duration,
}

impl Questions {
    pub(super) fn new(options: &HdfsOptions, policy: &RetryPolicy) -> Questions {
        let limit = policy.call_timeout;
        let caller = Caller {
            user: options.user.clone(),
            real_user: None,
            credentials: options.credentials.clone(),
            // Half of the limit for each step, so that a dead NameNode leaves time for its partner.
            options: IpcOptions {
                connect_timeout: limit / 4,
                call_timeout: limit / 2,
                ..IpcOptions::default()
            },
            policy: ipc::RetryPolicy { deadline: limit, max_attempts: 4, ..ipc::RetryPolicy::default() },
        };
        Questions { namenodes: NameNodes::new(options.conf.clone(), caller), limit }
    }

    async fn ask<T>(
        &self,
        action: &'static str,
        at: &Location,
        question: impl Future<Output = std::result::Result<T, NameNodeError>>,
    ) -> Result<T> {
        match tokio::time::timeout(self.limit, question).await {
            Err(_) => Err(StorageError::timeout(action, at, self.limit)),
            Ok(answer) => answer.map_err(|error| convert(action, at, error)),
        }
    }

    /// Name of the erasure coding policy of a file, if it has one.
    pub(super) async fn coding(&self, at: &Location, target: &Location) -> Result<Option<String>> {
        let uri = target.to_string();
        let found = self.ask("look up the erasure coding of", at, self.namenodes.list(&uri)).await?;
        Ok(found.into_iter().next().and_then(|entry| entry.erasure_coding))
    }

    /// Blocks of files, in their order. The files are `hdfs://` ones.
    pub(super) async fn blocks(&self, files: &[Location]) -> Result<Vec<Vec<BlockHosts>>> {
        let mut by_folder: HashMap<Location, Vec<usize>> = HashMap::new();
        for (number, file) in files.iter().enumerate() {
            by_folder.entry(file.sibling("")).or_default().push(number);
        }
        let mut found = vec![Vec::new(); files.len()];
        let mut single = Vec::new();
        for (_, numbers) in by_folder {
            match files[numbers[0]].parent() {
                Some(folder) if numbers.len() >= LIST_FROM_FILES => {
                    let mut listed = self.list(&folder).await?;
                    for number in numbers {
                        found[number] = listed.remove(files[number].path()).unwrap_or_default();
                    }
                }
                _ => single.extend(numbers),
            }
        }
        let mut answers = futures_util::stream::iter(single)
            .map(|number| async move {
                let file = &files[number];
                let uri = file.to_string();
                let question = self.namenodes.blocks(&uri, 0, i64::MAX as u64);
                let blocks = self.ask("find the blocks of", file, question).await?;
                Ok::<_, StorageError>((number, hosts(blocks)))
            })
            .buffer_unordered(PARALLEL_QUESTIONS);
        while let Some((number, blocks)) = answers.try_next().await? {
            found[number] = blocks;
        }
        drop(answers);
        Ok(found)
    }

    async fn list(&self, folder: &Location) -> Result<HashMap<String, Vec<BlockHosts>>> {
        let uri = folder.to_string();
        let entries = self.ask("find the blocks of files in", folder, self.namenodes.list(&uri)).await?;
        Ok(entries.into_iter().map(|entry| (entry.path, hosts(entry.blocks))).collect())
    }
}

fn hosts(found: FileBlocks) -> Vec<BlockHosts> {
    let hosts = |block: ringspin_hadoop::namenode::Block| {
        let (hosts, racks) = block.replicas.into_iter().map(|replica| (replica.host, replica.rack)).unzip();
        BlockHosts { offset: block.offset, bytes: block.length, hosts, racks }
    };
    found.blocks.into_iter().map(hosts).collect()
}

fn convert(action: &'static str, at: &Location, error: NameNodeError) -> StorageError {
    let new = |kind, detail: String| StorageError::new(kind, action, at, detail);
    match error {
        NameNodeError::NotFound { .. } => new(Kind::NotFound, "no such file or folder".into()),
        NameNodeError::Denied { message, .. } => new(Kind::PermissionDenied, message),
        error @ NameNodeError::NoToken { .. } => new(Kind::PermissionDenied, error.to_string()),
        NameNodeError::Call { source, .. } => match source.exception() {
            Some(exception) => remote(action, at, &exception.class, &exception.message),
            None => new(ipc_kind(&source), source.to_string()),
        },
        error @ (NameNodeError::Location(_) | NameNodeError::Answer { .. }) => {
            new(Kind::Other, error.to_string())
        }
    }
}

fn ipc_kind(error: &IpcError) -> Kind {
    match error {
        IpcError::Timeout { .. } => Kind::Timeout,
        IpcError::Connect { .. }
        | IpcError::Closed { .. }
        | IpcError::Standby { .. }
        | IpcError::Retriable { .. } => Kind::Unreachable,
        IpcError::InvalidToken { .. } | IpcError::Unauthorized { .. } => Kind::PermissionDenied,
        IpcError::Exhausted { last, .. } => ipc_kind(last),
        _ => Kind::Other,
    }
}
