//! Requests and responses of ApplicationMasterProtocol.

use super::*;
use prost::Message;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct RegisterApplicationMasterRequest {
    #[prost(string, optional, tag = "1")]
    pub host: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub rpc_port: Option<i32>,
    #[prost(string, optional, tag = "3")]
    pub tracking_url: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct NmToken {
    #[prost(message, optional, tag = "1")]
    pub node_id: Option<NodeId>,
    #[prost(message, optional, tag = "2")]
    pub token: Option<Token>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct RegisterApplicationMasterResponse {
    #[prost(message, optional, tag = "1")]
    pub maximum_capability: Option<Resource>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub client_to_am_token_master_key: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "3")]
    pub application_acls: Vec<ApplicationAcl>,
    #[prost(message, repeated, tag = "4")]
    pub containers_from_previous_attempts: Vec<Container>,
    #[prost(string, optional, tag = "5")]
    pub queue: Option<String>,
    #[prost(message, repeated, tag = "6")]
    pub nm_tokens_from_previous_attempts: Vec<NmToken>,
    /// MEMORY = 0, CPU = 1.
    #[prost(int32, repeated, packed = "false", tag = "7")]
    pub scheduler_resource_types: Vec<i32>,
    #[prost(message, repeated, tag = "9")]
    pub resource_types: Vec<ResourceTypeInfo>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct FinishApplicationMasterRequest {
    #[prost(string, optional, tag = "1")]
    pub diagnostics: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub tracking_url: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub final_application_status: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct FinishApplicationMasterResponse {
    #[prost(bool, optional, tag = "1")]
    pub is_unregistered: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub struct AllocateRequest {
    #[prost(message, repeated, tag = "1")]
    pub ask: Vec<ResourceRequest>,
    #[prost(message, repeated, tag = "2")]
    pub release: Vec<ContainerId>,
    #[prost(message, optional, tag = "3")]
    pub blacklist_request: Option<ResourceBlacklistRequest>,
    #[prost(int32, optional, tag = "4")]
    pub response_id: Option<i32>,
    #[prost(float, optional, tag = "5")]
    pub progress: Option<f32>,
    #[prost(string, optional, tag = "11")]
    pub tracking_url: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct AllocateResponse {
    /// AM_RESYNC = 1, AM_SHUTDOWN = 2: sent by old ResourceManagers, newer ones throw.
    #[prost(int32, optional, tag = "1")]
    pub am_command: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub response_id: Option<i32>,
    #[prost(message, repeated, tag = "3")]
    pub allocated_containers: Vec<Container>,
    #[prost(message, repeated, tag = "4")]
    pub completed_container_statuses: Vec<ContainerStatus>,
    #[prost(message, optional, tag = "5")]
    pub limit: Option<Resource>,
    #[prost(message, repeated, tag = "6")]
    pub updated_nodes: Vec<NodeReport>,
    #[prost(int32, optional, tag = "7")]
    pub num_cluster_nodes: Option<i32>,
    #[prost(message, optional, tag = "8")]
    pub preempt: Option<PreemptionMessage>,
    #[prost(message, repeated, tag = "9")]
    pub nm_tokens: Vec<NmToken>,
    #[prost(message, optional, tag = "12")]
    pub am_rm_token: Option<Token>,
    #[prost(message, optional, tag = "13")]
    pub application_priority: Option<Priority>,
    #[prost(message, repeated, tag = "17")]
    pub containers_from_previous_attempts: Vec<Container>,
}

/// Identifier of an AMRM token: says which attempt it belongs to.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct AmRmTokenIdentifier {
    #[prost(message, optional, tag = "1")]
    pub app_attempt_id: Option<ApplicationAttemptId>,
    #[prost(int32, optional, tag = "2")]
    pub key_id: Option<i32>,
}
