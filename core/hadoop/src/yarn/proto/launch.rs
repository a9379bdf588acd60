//! What a container is started with. `container_retry_context` (tag 7) is absent on purpose: on a relaunch the
//! NodeManager deletes paths relative to its own working directory. Retries are the AM's.

use super::{StringBytes, StringString};
use prost::Message;
use std::fmt;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Url {
    #[prost(string, optional, tag = "1")]
    pub scheme: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub host: Option<String>,
    /// -1: none.
    #[prost(int32, optional, tag = "3")]
    pub port: Option<i32>,
    /// Path, not percent-encoded.
    #[prost(string, optional, tag = "4")]
    pub file: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub user_info: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct LocalResource {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Url>,
    #[prost(int64, optional, tag = "2")]
    pub size: Option<i64>,
    #[prost(int64, optional, tag = "3")]
    pub timestamp: Option<i64>,
    #[prost(int32, optional, tag = "4")]
    pub kind: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub visibility: Option<i32>,
    #[prost(string, optional, tag = "6")]
    pub pattern: Option<String>,
    #[prost(bool, optional, tag = "7")]
    pub should_be_uploaded_to_shared_cache: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StringLocalResource {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(message, optional, tag = "2")]
    pub value: Option<LocalResource>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ApplicationAcl {
    #[prost(int32, optional, tag = "1")]
    pub access_type: Option<i32>,
    #[prost(string, optional, tag = "2")]
    pub acl: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
#[prost(skip_debug)]
pub struct ContainerLaunchContext {
    #[prost(message, repeated, tag = "1")]
    pub local_resources: Vec<StringLocalResource>,
    /// Credentials in the token file format (`HDTS`).
    #[prost(bytes = "vec", optional, tag = "2")]
    pub tokens: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    pub service_data: Vec<StringBytes>,
    #[prost(message, repeated, tag = "4")]
    pub environment: Vec<StringString>,
    #[prost(string, repeated, tag = "5")]
    pub command: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub application_acls: Vec<ApplicationAcl>,
}

/// Without the tokens, which are as good as passwords.
impl fmt::Debug for ContainerLaunchContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerLaunchContext")
            .field("local_resources", &self.local_resources)
            .field("environment", &self.environment)
            .field("command", &self.command)
            .field("application_acls", &self.application_acls)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct LogAggregationContext {
    #[prost(string, optional, tag = "1")]
    pub include_pattern: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub exclude_pattern: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub rolled_logs_include_pattern: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub rolled_logs_exclude_pattern: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub log_aggregation_policy_class_name: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub log_aggregation_policy_parameters: Option<String>,
}
