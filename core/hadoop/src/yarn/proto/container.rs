//! Containers as the ResourceManager and the NodeManagers report them.

use super::{ContainerId, NodeId, Priority, Resource, StringString, Token};
use prost::Message;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Container {
    #[prost(message, optional, tag = "1")]
    pub id: Option<ContainerId>,
    #[prost(message, optional, tag = "2")]
    pub node_id: Option<NodeId>,
    #[prost(string, optional, tag = "3")]
    pub node_http_address: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub resource: Option<Resource>,
    #[prost(message, optional, tag = "5")]
    pub priority: Option<Priority>,
    #[prost(message, optional, tag = "6")]
    pub container_token: Option<Token>,
    #[prost(int32, optional, tag = "7")]
    pub execution_type: Option<i32>,
    /// Default -1.
    #[prost(int64, optional, tag = "8")]
    pub allocation_request_id: Option<i64>,
    #[prost(int32, optional, tag = "9")]
    pub version: Option<i32>,
    #[prost(string, repeated, tag = "10")]
    pub allocation_tags: Vec<String>,
    #[prost(string, optional, tag = "11")]
    pub exposed_ports: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ContainerStatus {
    #[prost(message, optional, tag = "1")]
    pub container_id: Option<ContainerId>,
    #[prost(int32, optional, tag = "2")]
    pub state: Option<i32>,
    /// Default `N/A`.
    #[prost(string, optional, tag = "3")]
    pub diagnostics: Option<String>,
    /// Default -1000.
    #[prost(int32, optional, tag = "4")]
    pub exit_status: Option<i32>,
    #[prost(message, optional, tag = "5")]
    pub capability: Option<Resource>,
    #[prost(int32, optional, tag = "6")]
    pub execution_type: Option<i32>,
    #[prost(message, repeated, tag = "7")]
    pub container_attributes: Vec<StringString>,
    #[prost(int32, optional, tag = "8")]
    pub container_sub_state: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ContainerReport {
    #[prost(message, optional, tag = "1")]
    pub container_id: Option<ContainerId>,
    #[prost(message, optional, tag = "2")]
    pub resource: Option<Resource>,
    #[prost(message, optional, tag = "3")]
    pub node_id: Option<NodeId>,
    #[prost(message, optional, tag = "4")]
    pub priority: Option<Priority>,
    #[prost(int64, optional, tag = "5")]
    pub creation_time: Option<i64>,
    #[prost(int64, optional, tag = "6")]
    pub finish_time: Option<i64>,
    /// Default `N/A`.
    #[prost(string, optional, tag = "7")]
    pub diagnostics_info: Option<String>,
    #[prost(string, optional, tag = "8")]
    pub log_url: Option<String>,
    #[prost(int32, optional, tag = "9")]
    pub container_exit_status: Option<i32>,
    #[prost(int32, optional, tag = "10")]
    pub container_state: Option<i32>,
    #[prost(string, optional, tag = "11")]
    pub node_http_address: Option<String>,
    #[prost(int32, optional, tag = "12")]
    pub execution_type: Option<i32>,
    #[prost(string, optional, tag = "13")]
    pub exposed_ports: Option<String>,
}
