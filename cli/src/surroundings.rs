//! The environment, read once: variables, user, Hadoop's configuration, credentials. Everything below gets
//! values.

use crate::exit::CommandError;
use ringspin_data::storage::{HdfsOptions, Location, RetryPolicy as StoragePolicy, Storage, StorageOptions};
use ringspin_hadoop::conf::{ConfError, Configuration, Environment, RmService};
use ringspin_hadoop::credentials::{Credentials, kind};
use ringspin_hadoop::ipc::{Auth, IpcOptions, RetryPolicy};
use ringspin_hadoop::yarn::client::YarnClient;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a person waits for a ResourceManager or NameNode that does not answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A host that answers does so within this; whatever the configuration says, another address is tried then.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What the process was started with.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// All environment variables.
    pub variables: BTreeMap<String, String>,
    /// `HADOOP_USER_NAME`, else the login name.
    pub user: String,
    /// Working folder.
    pub folder: PathBuf,
}

impl Surroundings {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// No working folder.
    pub fn read() -> Result<Self, CommandError> {
        // A variable that is no UTF-8 can not be one of those we look at.
        let variables: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let folder = std::env::current_dir()
            .map_err(|error| CommandError::internal(format!("the working folder: {error}")))?;
        let user = match variables.get("HADOOP_USER_NAME").filter(|user| !user.is_empty()) {
            Some(user) => user.clone(),
            None => login_name(&variables),
        };
        Ok(Surroundings { variables, user, folder })
    }

    /// A variable that is set to something.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// The cluster's configuration: from `--hadoop-conf-dir`, else `YARN_CONF_DIR` and `HADOOP_CONF_DIR`. `None`
    /// when nothing says where it is.
    ///
    /// # Errors
    /// Folders and files that can not be read or are wrong.
    pub fn hadoop(&self, flag: Option<&Path>) -> Result<Option<Hadoop>, CommandError> {
        let folders: Vec<PathBuf> = match flag {
            Some(folder) => vec![folder.to_path_buf()],
            None => ["YARN_CONF_DIR", "HADOOP_CONF_DIR"]
                .iter()
                .filter_map(|name| self.variable(name))
                .map(PathBuf::from)
                .collect(),
        };
        if folders.is_empty() {
            return Ok(None);
        }
        let conf = Configuration::load(&folders, self.environment())
            .map_err(|error| CommandError::usage(format!("Hadoop configuration: {error}")))?;
        let credentials = self.credentials()?;
        Ok(Some(Hadoop { conf, user: self.user.clone(), folder: self.folder.clone(), credentials, folders }))
    }

    /// The same, or the advice to say where it is.
    ///
    /// # Errors
    /// As [`Surroundings::hadoop`], and nothing says where it is.
    pub fn require_hadoop(&self, flag: Option<&Path>) -> Result<Hadoop, CommandError> {
        self.hadoop(flag)?.ok_or_else(|| {
            CommandError::usage(
                "no Hadoop configuration: set HADOOP_CONF_DIR (or YARN_CONF_DIR) to the folder with core-site.xml, \
                 hdfs-site.xml and yarn-site.xml, or give --hadoop-conf-dir",
            )
        })
    }

    /// What `${env.X}` and `${user.name}` in Hadoop's files mean.
    pub fn environment(&self) -> Environment {
        let home = self.variable("HOME").unwrap_or("/");
        let temporary = self.variable("TMPDIR").unwrap_or("/tmp");
        Environment::new(&self.user, home, temporary, self.variables.clone())
    }

    /// What the file `HADOOP_TOKEN_FILE_LOCATION` names holds; nothing without it.
    ///
    /// # Errors
    /// The file can not be read or is no credentials file.
    pub fn credentials(&self) -> Result<Credentials, CommandError> {
        let Some(path) = self.variable("HADOOP_TOKEN_FILE_LOCATION") else {
            return Ok(Credentials::default());
        };
        Credentials::read(Path::new(path))
            .map_err(|error| CommandError::usage(format!("HADOOP_TOKEN_FILE_LOCATION: {error}")))
    }

    /// Files of this machine and, with `hadoop`, of its cluster. Plain paths are this machine's.
    ///
    /// # Errors
    /// The working folder has no name in UTF-8.
    pub fn storage(&self, hadoop: Option<&Hadoop>, base: Base) -> Result<Storage, CommandError> {
        let local = Location::local(&self.folder).map_err(CommandError::internal)?;
        let base = match (base, hadoop) {
            (Base::Cluster, Some(hadoop)) => hadoop.home()?,
            _ => local,
        };
        Ok(Storage::new(StorageOptions {
            base,
            hdfs: hadoop.map(Hadoop::hdfs),
            policy: StoragePolicy::interactive(),
            writer: format!("client{}", std::process::id()),
        }))
    }
}

/// What plain paths mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// Files of this machine, relative to the working folder.
    Local,
    /// `fs.defaultFS`, relative to the user's home.
    Cluster,
}

/// The user's login name; a number where the system knows none.
fn login_name(variables: &BTreeMap<String, String>) -> String {
    let uid = nix::unistd::Uid::current();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => variables.get("USER").cloned().unwrap_or_else(|| uid.to_string()),
    }
}

/// A cluster: its configuration, and who we are there.
#[derive(Clone, Debug)]
pub struct Hadoop {
    /// Its configuration.
    pub conf: Configuration,
    /// Who we are.
    pub user: String,
    /// Tokens we were given.
    pub credentials: Credentials,
    /// Where the configuration was read.
    pub folders: Vec<PathBuf>,
    folder: PathBuf,
}

impl Hadoop {
    /// What the HDFS client needs.
    pub fn hdfs(&self) -> HdfsOptions {
        HdfsOptions {
            conf: self.conf.clone(),
            user: self.user.clone(),
            credentials: self.credentials.clone(),
        }
    }

    /// The user's home in the default file system.
    ///
    /// # Errors
    /// `fs.defaultFS` is missing or no URI.
    pub fn home(&self) -> Result<Location, CommandError> {
        let default = self.conf.require("fs.defaultFS").map_err(usage)?;
        let local = Location::local(&self.folder).map_err(CommandError::internal)?;
        let home = format!("{}/user/{}", default.trim_end_matches('/'), self.user);
        Location::parse(&home, &local).map_err(|error| CommandError::usage(format!("fs.defaultFS: {error}")))
    }

    /// A client of the ResourceManager.
    ///
    /// # Errors
    /// Its address is missing or wrong, or the cluster wants Kerberos.
    pub fn yarn(&self) -> Result<YarnClient, CommandError> {
        let policy = RetryPolicy { deadline: PATIENCE, ..RetryPolicy::default() };
        let options = ipc_options(&self.conf).map_err(usage)?;
        Ok(YarnClient::new(self.rm(RmService::Client)?, self.auth()?, options, policy))
    }

    /// The addresses of one port of the ResourceManagers.
    ///
    /// # Errors
    /// They are missing or wrong.
    pub fn rm(&self, service: RmService) -> Result<Vec<String>, CommandError> {
        let addresses = self.conf.rm_addresses(service).map_err(usage)?;
        Ok(addresses.into_iter().map(|rm| rm.address).collect())
    }

    /// How we prove who we are to the ResourceManager.
    fn auth(&self) -> Result<Auth, CommandError> {
        if !self.conf.is_secure().map_err(usage)? {
            return Ok(Auth::Simple { user: self.user.clone(), real_user: None });
        }
        match self.credentials.tokens_of(kind::RM).next() {
            Some(token) => Ok(Auth::Token { token: token.clone() }),
            None => Err(CommandError::refused(
                "this cluster uses Kerberos, and HADOOP_TOKEN_FILE_LOCATION holds no RM_DELEGATION_TOKEN; logging in \
                 with Kerberos itself is not supported yet",
            )),
        }
    }
}

/// How connections behave: as Hadoop's configuration says, but for the patience with hosts that do not answer.
///
/// # Errors
/// A value that is none.
pub fn ipc_options(conf: &Configuration) -> Result<IpcOptions, ConfError> {
    let options = IpcOptions::from_configuration(conf)?;
    Ok(IpcOptions { connect_timeout: options.connect_timeout.min(CONNECT_LIMIT), ..options })
}

fn usage(error: impl std::fmt::Display) -> CommandError {
    CommandError::usage(format!("Hadoop configuration: {error}"))
}
