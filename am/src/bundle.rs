//! What the client ships to the ApplicationMaster: the resolved job and everything that must not be looked up
//! anew on a node.

use ringspin_data::storage::{HdfsOptions, Location};
use ringspin_hadoop::credentials::Credentials;
use ringspin_hadoop::yarn::launch::{LocalResource, ResourceKind, ResourceUrl, Visibility};
use ringspin_job::JobSpec;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Name of the bundle among the AM's local resources.
pub const BUNDLE: &str = "job.json";
/// Name of the executable among everybody's local resources.
pub const EXECUTABLE: &str = "ringspin";
/// Alias of the job's secret in the credentials of AM and workers.
pub const SECRET_ALIAS: &str = "ringspin.job.secret";

/// Everything the AM is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bundle {
    /// The resolved job, paths made absolute.
    pub job: JobSpec,
    /// User the job belongs to.
    pub user: String,
    /// Hadoop's configuration as the client has it, variables put in, without what looks like a password.
    pub hadoop: BTreeMap<String, String>,
    /// Folder with this bundle and the user's files, removed at the end.
    pub staging: Location,
    /// What every worker's container gets, by link name.
    pub resources: BTreeMap<String, ShippedFile>,
    /// What the client did before the submission: `(what, milliseconds since 1970)`.
    pub marks: Vec<(String, u64)>,
}

/// A file in HDFS that containers get.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShippedFile {
    /// `hdfs://authority/path`.
    pub uri: String,
    /// Bytes.
    pub size: u64,
    /// Modification time, milliseconds since 1970; a difference of one is fatal on the node.
    pub modified_ms: u64,
    /// Unpacked on the node.
    pub archive: bool,
    /// May be shared by everybody's containers on a node.
    pub public: bool,
    /// May be shared by this user's applications on a node.
    pub cached: bool,
}

impl ShippedFile {
    /// The same as YARN is told.
    ///
    /// # Errors
    /// The URI can not be expressed.
    pub fn to_resource(&self) -> Result<LocalResource, String> {
        let url: ResourceUrl = self.uri.parse().map_err(|error| format!("{}: {error}", self.uri))?;
        Ok(LocalResource {
            url,
            size: self.size,
            modified_ms: self.modified_ms,
            kind: if self.archive { ResourceKind::Archive } else { ResourceKind::File },
            visibility: match (self.public, self.cached) {
                (true, _) => Visibility::Public,
                (false, true) => Visibility::Private,
                (false, false) => Visibility::Application,
            },
        })
    }
}

impl Bundle {
    /// The HDFS client's part of the configuration.
    pub fn hdfs(&self, credentials: Credentials) -> HdfsOptions {
        HdfsOptions::from_properties(&self.hadoop, &self.user, credentials)
    }
}

/// Whether a property may travel: nothing that looks like a secret does.
pub fn may_travel(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    !["password", "secret", "credential", "keystore", "truststore", "accesskey", "access.key", "passphrase"]
        .iter()
        .any(|word| key.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_stay_at_home() {
        for key in [
            "ssl.server.keystore.password",
            "fs.s3a.secret.key",
            "fs.s3a.access.key",
            "hadoop.security.credential.provider.path",
        ] {
            assert!(!may_travel(key), "{key}");
        }
        assert!(may_travel("fs.defaultFS") && may_travel("dfs.namenode.rpc-address.ns.nn1"));
    }
}
