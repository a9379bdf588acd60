//! Resources and requests for them.

use super::StringString;
use prost::Message;

/// One kind of resource, such as `memory-mb` or `yarn.io/gpu`.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ResourceInformation {
    #[prost(string, required, tag = "1")]
    pub key: String,
    #[prost(int64, optional, tag = "2")]
    pub value: Option<i64>,
    #[prost(string, optional, tag = "3")]
    pub units: Option<String>,
    #[prost(int32, optional, tag = "4")]
    pub kind: Option<i32>,
    #[prost(string, repeated, tag = "5")]
    pub tags: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub attributes: Vec<StringString>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ResourceTypeInfo {
    #[prost(string, required, tag = "1")]
    pub name: String,
    #[prost(string, optional, tag = "2")]
    pub units: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub kind: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Resource {
    #[prost(int64, optional, tag = "1")]
    pub memory: Option<i64>,
    #[prost(int32, optional, tag = "2")]
    pub virtual_cores: Option<i32>,
    #[prost(message, repeated, tag = "3")]
    pub resource_value_map: Vec<ResourceInformation>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct Priority {
    #[prost(int32, optional, tag = "1")]
    pub priority: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ExecutionTypeRequest {
    #[prost(int32, optional, tag = "1")]
    pub execution_type: Option<i32>,
    #[prost(bool, optional, tag = "2")]
    pub enforce_execution_type: Option<bool>,
}

/// One row of an ask: so many containers of one shape at one place (host, rack or `*`).
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ResourceRequest {
    #[prost(message, optional, tag = "1")]
    pub priority: Option<Priority>,
    #[prost(string, optional, tag = "2")]
    pub resource_name: Option<String>,
    #[prost(message, optional, tag = "3")]
    pub capability: Option<Resource>,
    #[prost(int32, optional, tag = "4")]
    pub num_containers: Option<i32>,
    /// Default true.
    #[prost(bool, optional, tag = "5")]
    pub relax_locality: Option<bool>,
    #[prost(string, optional, tag = "6")]
    pub node_label_expression: Option<String>,
    #[prost(message, optional, tag = "7")]
    pub execution_type_request: Option<ExecutionTypeRequest>,
    /// Default -1.
    #[prost(int64, optional, tag = "8")]
    pub allocation_request_id: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ResourceBlacklistRequest {
    #[prost(string, repeated, tag = "1")]
    pub blacklist_additions: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub blacklist_removals: Vec<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct PreemptionContainer {
    #[prost(message, optional, tag = "1")]
    pub id: Option<super::ContainerId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct PreemptionResourceRequest {
    #[prost(message, optional, tag = "1")]
    pub resource: Option<ResourceRequest>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StrictPreemptionContract {
    #[prost(message, repeated, tag = "1")]
    pub container: Vec<PreemptionContainer>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct PreemptionContract {
    #[prost(message, repeated, tag = "1")]
    pub resource: Vec<PreemptionResourceRequest>,
    #[prost(message, repeated, tag = "2")]
    pub container: Vec<PreemptionContainer>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct PreemptionMessage {
    #[prost(message, optional, tag = "1")]
    pub strict_contract: Option<StrictPreemptionContract>,
    #[prost(message, optional, tag = "2")]
    pub contract: Option<PreemptionContract>,
}
