//! Requests and responses of ApplicationClientProtocol.

use super::*;
use prost::Message;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetNewApplicationRequest {}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetNewApplicationResponse {
    #[prost(message, optional, tag = "1")]
    pub application_id: Option<ApplicationId>,
    #[prost(message, optional, tag = "2")]
    pub maximum_capability: Option<Resource>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct SubmitApplicationRequest {
    #[prost(message, optional, tag = "1")]
    pub application_submission_context: Option<ApplicationSubmissionContext>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct SubmitApplicationResponse {}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetApplicationReportRequest {
    #[prost(message, optional, tag = "1")]
    pub application_id: Option<ApplicationId>,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetApplicationReportResponse {
    #[prost(message, optional, tag = "1")]
    pub application_report: Option<ApplicationReport>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetApplicationsRequest {
    #[prost(string, repeated, tag = "1")]
    pub application_types: Vec<String>,
    #[prost(int32, repeated, packed = "false", tag = "2")]
    pub application_states: Vec<i32>,
    #[prost(string, repeated, tag = "3")]
    pub users: Vec<String>,
    #[prost(string, repeated, tag = "4")]
    pub queues: Vec<String>,
    #[prost(int64, optional, tag = "5")]
    pub limit: Option<i64>,
    #[prost(string, repeated, tag = "10")]
    pub application_tags: Vec<String>,
    /// ALL = 0.
    #[prost(int32, optional, tag = "11")]
    pub scope: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetApplicationsResponse {
    #[prost(message, repeated, tag = "1")]
    pub applications: Vec<ApplicationReport>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct KillApplicationRequest {
    #[prost(message, optional, tag = "1")]
    pub application_id: Option<ApplicationId>,
    #[prost(string, optional, tag = "2")]
    pub diagnostics: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct KillApplicationResponse {
    #[prost(bool, optional, tag = "1")]
    pub is_kill_completed: Option<bool>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetClusterMetricsRequest {}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetClusterMetricsResponse {
    #[prost(message, optional, tag = "1")]
    pub cluster_metrics: Option<YarnClusterMetrics>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetClusterNodesRequest {
    #[prost(int32, repeated, packed = "false", tag = "1")]
    pub node_states: Vec<i32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetClusterNodesResponse {
    #[prost(message, repeated, tag = "1")]
    pub node_reports: Vec<NodeReport>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetQueueInfoRequest {
    #[prost(string, optional, tag = "1")]
    pub queue_name: Option<String>,
    #[prost(bool, optional, tag = "2")]
    pub include_applications: Option<bool>,
    #[prost(bool, optional, tag = "3")]
    pub include_child_queues: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub recursive: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub struct GetQueueInfoResponse {
    #[prost(message, optional, tag = "1")]
    pub queue_info: Option<QueueInfo>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetApplicationAttemptsRequest {
    #[prost(message, optional, tag = "1")]
    pub application_id: Option<ApplicationId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetApplicationAttemptsResponse {
    #[prost(message, repeated, tag = "1")]
    pub application_attempts: Vec<ApplicationAttemptReport>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetContainersRequest {
    #[prost(message, optional, tag = "1")]
    pub application_attempt_id: Option<ApplicationAttemptId>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetContainersResponse {
    #[prost(message, repeated, tag = "1")]
    pub containers: Vec<ContainerReport>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetDelegationTokenRequest {
    #[prost(string, required, tag = "1")]
    pub renewer: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct GetDelegationTokenResponse {
    #[prost(message, optional, tag = "1")]
    pub token: Option<Token>,
}
