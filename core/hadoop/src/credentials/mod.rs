//! Hadoop's credentials: tokens by alias, secrets by alias, and the file they travel in (`HDTS`).
//!
//! Both versions of the file are read and written: 0 (Java Writables), which NodeManagers and
//! ResourceManagers write, and 1 (protobuf). Source: `org.apache.hadoop.security.Credentials`, `WritableUtils`.
//! A corrupt file is an error that names the byte; nothing is ever allocated on a length's word.

mod file;
mod hdfs;
mod writable;

pub use file::{CredentialsError, FileVersion};
pub use hdfs::{HdfsService, HdfsTokenIdentifier};
pub use writable::WritableError;

use std::collections::BTreeMap;
use std::fmt;

/// What proves to one service that the bearer acts for somebody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Token {
    /// What kind of service takes it: [`kind::AMRM`], [`kind::HDFS`], ...
    pub kind: String,
    /// Which one takes it, `ip:port` or `ha-hdfs:<nameservice>`; empty in AMRM tokens.
    pub service: String,
    /// Public part; its form depends on the kind.
    pub identifier: Vec<u8>,
    /// Secret part.
    pub password: Vec<u8>,
}

impl fmt::Debug for Token {
    /// Never prints the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("kind", &self.kind)
            .field("service", &self.service)
            .field("identifier_bytes", &self.identifier.len())
            .finish_non_exhaustive()
    }
}

/// Kinds of tokens that concern us.
pub mod kind {
    /// NameNode.
    pub const HDFS: &str = "HDFS_DELEGATION_TOKEN";
    /// ResourceManager's client port.
    pub const RM: &str = "RM_DELEGATION_TOKEN";
    /// ResourceManager's scheduler port, for the one attempt it names.
    pub const AMRM: &str = "YARN_AM_RM_TOKEN";
    /// A NodeManager.
    pub const NM: &str = "NMToken";
    /// One container, inside requests to a NodeManager.
    pub const CONTAINER: &str = "ContainerToken";
}

/// Everything of one token file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    /// Tokens by alias (by habit the service, `""` for the AMRM token).
    pub tokens: BTreeMap<String, Token>,
    /// Secrets by alias.
    pub secrets: BTreeMap<String, Secret>,
}

impl Credentials {
    /// The tokens of one kind.
    pub fn tokens_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Token> {
        self.tokens.values().filter(move |token| token.kind == kind)
    }

    /// A secret's bytes.
    pub fn secret(&self, alias: &str) -> Option<&[u8]> {
        self.secrets.get(alias).map(|secret| &secret.0[..])
    }
}

/// Bytes that [`fmt::Debug`] does not print.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}
