//! The NameNode calls that the HDFS client crate lacks: which hosts have the blocks of files.
//!
//! [`NameNodes`] takes what a user wrote (paths, `hdfs` and `viewfs` URIs), finds the NameNodes, picks the
//! token, fails over between a pair, and has a deadline for everything. It reads meta-data only: data is read
//! and written by the client crate.

mod messages;
mod status;

pub use status::{Block, Entry, EntryKind, FileBlocks, Replica};

use crate::conf::{ConfError, Configuration, HdfsLocation};
use crate::credentials::{Credentials, HdfsService};
use crate::ipc::{Auth, FailoverClient, IpcError, IpcOptions, Protocol, RetryPolicy};
use messages::{GetBlockLocationsRequest, GetBlockLocationsResponse, GetListingRequest, GetListingResponse};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::Mutex;

/// Protocol between HDFS clients and NameNodes; unlike YARN's its name has no `PB`.
const CLIENT_PROTOCOL: Protocol =
    Protocol { name: "org.apache.hadoop.hdfs.protocol.ClientProtocol", version: 1 };
/// Most entries of one directory: a job with more input files than this has another problem.
const MAX_ENTRIES: usize = 5_000_000;
/// How long to look up a NameNode's addresses.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);

/// Why a question to a NameNode has no answer.
#[derive(Debug, thiserror::Error)]
pub enum NameNodeError {
    /// The path leads to no NameNode that is configured.
    #[error(transparent)]
    Location(#[from] ConfError),
    /// There is no such file or directory.
    #[error("{uri} does not exist")]
    NotFound {
        /// Where it was looked for.
        uri: String,
    },
    /// The user may not see it.
    #[error("no permission for {uri}: {message}")]
    Denied {
        /// What was asked for.
        uri: String,
        /// What the NameNode said: user, access and inode.
        message: String,
    },
    /// The cluster wants proof of who we are and we have none for this file system.
    #[error("{uri} needs a token of kind HDFS_DELEGATION_TOKEN for {authority}, and none was given")]
    NoToken {
        /// What was asked for.
        uri: String,
        /// The file system.
        authority: String,
    },
    /// The NameNode did not answer, or with another exception.
    #[error("{uri}: {source}")]
    Call {
        /// What was asked for.
        uri: String,
        /// What went wrong.
        source: IpcError,
    },
    /// The NameNode answered something that makes no sense.
    #[error("{uri}: {message}")]
    Answer {
        /// What was asked for.
        uri: String,
        /// What was wrong.
        message: String,
    },
}

/// Who asks, and how patiently.
#[derive(Clone, Debug)]
pub struct Caller {
    /// On whose behalf, on clusters without Kerberos.
    pub user: String,
    /// Who asks when that is somebody else (proxy user).
    pub real_user: Option<String>,
    /// Tokens; the one for each file system is picked out of these.
    pub credentials: Credentials,
    /// Of each connection.
    pub options: IpcOptions,
    /// Of each question.
    pub policy: RetryPolicy,
}

/// All NameNodes of a configuration; connections are kept and shared.
pub struct NameNodes {
    conf: Configuration,
    caller: Caller,
    clients: Mutex<HashMap<String, FailoverClient>>,
}

impl NameNodes {
    /// Nothing happens before the first question.
    pub fn new(conf: Configuration, caller: Caller) -> NameNodes {
        NameNodes { conf, caller, clients: Mutex::default() }
    }

    /// Where the bytes `offset..offset + length` of a file are.
    ///
    /// # Errors
    /// See [`NameNodeError`].
    pub async fn blocks(
        &self,
        uri_or_path: &str,
        offset: u64,
        length: u64,
    ) -> Result<FileBlocks, NameNodeError> {
        let at = self.conf.locate(uri_or_path)?;
        let client = self.client(&at).await?;
        let request = GetBlockLocationsRequest { src: at.path.clone(), offset, length };
        let answer = client.call("getBlockLocations", &request, true).await;
        let GetBlockLocationsResponse { locations } = answer.map_err(|error| failed(&at, error))?;
        locations.map(FileBlocks::from).ok_or_else(|| NameNodeError::NotFound { uri: at.uri() })
    }

    /// The entries of a directory in the order of their names, with the blocks of its files; of a file, the file
    /// itself. One call for every thousand entries, which beats one for every file by far.
    ///
    /// # Errors
    /// See [`NameNodeError`].
    pub async fn list(&self, uri_or_path: &str) -> Result<Vec<Entry>, NameNodeError> {
        let at = self.conf.locate(uri_or_path)?;
        let client = self.client(&at).await?;
        let mut entries = Vec::new();
        let mut start_after = Vec::new();
        loop {
            let request = GetListingRequest { src: at.path.clone(), start_after, need_location: true };
            let answer = client.call("getListing", &request, true).await;
            let GetListingResponse { listing } = answer.map_err(|error| failed(&at, error))?;
            let listing = listing.ok_or_else(|| NameNodeError::NotFound { uri: at.uri() })?;
            let last = listing.entries.last().map(|status| status.name.clone());
            for status in listing.entries {
                entries.push(Entry::new(&at.path, status).ok_or_else(|| {
                    let message = format!("the name after {} entries is not UTF-8", entries.len());
                    NameNodeError::Answer { uri: at.uri(), message }
                })?);
            }
            start_after = match (listing.remaining, last) {
                (0, _) => return Ok(entries),
                (_, Some(last)) if entries.len() < MAX_ENTRIES => last,
                (_, Some(_)) => {
                    let message = format!("more than {MAX_ENTRIES} entries");
                    return Err(NameNodeError::Answer { uri: at.uri(), message });
                }
                (remaining, None) => {
                    let message = format!("{remaining} more entries are announced, and none came");
                    return Err(NameNodeError::Answer { uri: at.uri(), message });
                }
            };
        }
    }

    async fn client(&self, at: &HdfsLocation) -> Result<FailoverClient, NameNodeError> {
        let mut clients = self.clients.lock().await;
        if let Some(client) = clients.get(&at.authority) {
            return Ok(client.clone());
        }
        let Caller { options, policy, .. } = &self.caller;
        let auth = self.auth(at).await?;
        let client =
            FailoverClient::new(at.namenodes.clone(), CLIENT_PROTOCOL, auth, options.clone(), policy.clone());
        clients.insert(at.authority.clone(), client.clone());
        Ok(client)
    }

    /// A bare name on a cluster without Kerberos, else the file system's token.
    async fn auth(&self, at: &HdfsLocation) -> Result<Auth, NameNodeError> {
        let Caller { user, real_user, credentials, .. } = &self.caller;
        if !self.conf.is_secure()? {
            return Ok(Auth::Simple { user: user.clone(), real_user: real_user.clone() });
        }
        let found = credentials.for_hdfs_client(&[hdfs_service(at).await]);
        let token = found.tokens.into_values().next();
        let token =
            token.ok_or_else(|| NameNodeError::NoToken { uri: at.uri(), authority: at.authority.clone() })?;
        Ok(Auth::Token { token })
    }
}

/// The services under which a token for this file system may be stored; looks up the addresses of a host.
///
/// A host that cannot be looked up has just its name: the connection will say more.
pub async fn hdfs_service(at: &HdfsLocation) -> HdfsService {
    if at.is_nameservice {
        let aliases = vec![format!("ha-hdfs:{}", at.authority)];
        return HdfsService { authority: at.authority.clone(), aliases };
    }
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host(at.authority.as_str())).await;
    let aliases: Vec<String> = match lookup {
        Ok(Ok(addresses)) => addresses.map(|address| address.to_string()).collect(),
        _ => Vec::new(),
    };
    HdfsService { authority: at.authority.clone(), aliases }
}

/// What a failed call means for the path that was asked for.
fn failed(at: &HdfsLocation, error: IpcError) -> NameNodeError {
    let uri = at.uri();
    match &error {
        IpcError::Remote { exception, .. } => match exception.short_class() {
            "FileNotFoundException" => NameNodeError::NotFound { uri },
            "AccessControlException" => NameNodeError::Denied { uri, message: exception.message.clone() },
            _ => NameNodeError::Call { uri, source: error },
        },
        _ => NameNodeError::Call { uri, source: error },
    }
}

#[cfg(test)]
mod tests;
