//! Applications: submission and reports.

use super::*;
use prost::Message;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ApplicationTimeoutMap {
    #[prost(int32, optional, tag = "1")]
    pub application_timeout_type: Option<i32>,
    /// Seconds.
    #[prost(int64, optional, tag = "2")]
    pub timeout: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ApplicationSubmissionContext {
    #[prost(message, optional, tag = "1")]
    pub application_id: Option<ApplicationId>,
    #[prost(string, optional, tag = "2")]
    pub application_name: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub queue: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub priority: Option<Priority>,
    #[prost(message, optional, tag = "5")]
    pub am_container_spec: Option<ContainerLaunchContext>,
    /// Default true.
    #[prost(bool, optional, tag = "6")]
    pub cancel_tokens_when_complete: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub unmanaged_am: Option<bool>,
    /// 0: the cluster's own limit.
    #[prost(int32, optional, tag = "8")]
    pub max_app_attempts: Option<i32>,
    #[prost(message, optional, tag = "9")]
    pub resource: Option<Resource>,
    #[prost(string, optional, tag = "10")]
    pub application_type: Option<String>,
    #[prost(bool, optional, tag = "11")]
    pub keep_containers_across_application_attempts: Option<bool>,
    #[prost(string, repeated, tag = "12")]
    pub application_tags: Vec<String>,
    /// Milliseconds; -1: failures count for ever.
    #[prost(int64, optional, tag = "13")]
    pub attempt_failures_validity_interval: Option<i64>,
    #[prost(message, optional, tag = "14")]
    pub log_aggregation_context: Option<LogAggregationContext>,
    #[prost(string, optional, tag = "16")]
    pub node_label_expression: Option<String>,
    #[prost(message, repeated, tag = "17")]
    pub am_container_resource_request: Vec<ResourceRequest>,
    #[prost(message, repeated, tag = "18")]
    pub application_timeouts: Vec<ApplicationTimeoutMap>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ApplicationResourceUsageReport {
    #[prost(int32, optional, tag = "1")]
    pub num_used_containers: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub num_reserved_containers: Option<i32>,
    #[prost(message, optional, tag = "3")]
    pub used_resources: Option<Resource>,
    #[prost(message, optional, tag = "4")]
    pub reserved_resources: Option<Resource>,
    #[prost(message, optional, tag = "5")]
    pub needed_resources: Option<Resource>,
    /// MiB x seconds.
    #[prost(int64, optional, tag = "6")]
    pub memory_seconds: Option<i64>,
    #[prost(int64, optional, tag = "7")]
    pub vcore_seconds: Option<i64>,
    #[prost(float, optional, tag = "8")]
    pub queue_usage_percentage: Option<f32>,
    #[prost(float, optional, tag = "9")]
    pub cluster_usage_percentage: Option<f32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ApplicationReport {
    #[prost(message, optional, tag = "1")]
    pub application_id: Option<ApplicationId>,
    #[prost(string, optional, tag = "2")]
    pub user: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub queue: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub host: Option<String>,
    #[prost(int32, optional, tag = "6")]
    pub rpc_port: Option<i32>,
    #[prost(int32, optional, tag = "8")]
    pub yarn_application_state: Option<i32>,
    #[prost(string, optional, tag = "9")]
    pub tracking_url: Option<String>,
    /// Default `N/A`.
    #[prost(string, optional, tag = "10")]
    pub diagnostics: Option<String>,
    #[prost(int64, optional, tag = "11")]
    pub start_time: Option<i64>,
    #[prost(int64, optional, tag = "12")]
    pub finish_time: Option<i64>,
    #[prost(int32, optional, tag = "13")]
    pub final_application_status: Option<i32>,
    #[prost(message, optional, tag = "14")]
    pub app_resource_usage: Option<ApplicationResourceUsageReport>,
    #[prost(string, optional, tag = "15")]
    pub original_tracking_url: Option<String>,
    #[prost(message, optional, tag = "16")]
    pub current_application_attempt_id: Option<ApplicationAttemptId>,
    #[prost(float, optional, tag = "17")]
    pub progress: Option<f32>,
    #[prost(string, optional, tag = "18")]
    pub application_type: Option<String>,
    #[prost(string, repeated, tag = "20")]
    pub application_tags: Vec<String>,
    #[prost(int32, optional, tag = "21")]
    pub log_aggregation_status: Option<i32>,
    #[prost(bool, optional, tag = "22")]
    pub unmanaged_application: Option<bool>,
    #[prost(message, optional, tag = "23")]
    pub priority: Option<Priority>,
    #[prost(string, optional, tag = "24")]
    pub app_node_label_expression: Option<String>,
    #[prost(string, optional, tag = "25")]
    pub am_node_label_expression: Option<String>,
    #[prost(int64, optional, tag = "27")]
    pub launch_time: Option<i64>,
    #[prost(int64, optional, tag = "28")]
    pub submit_time: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ApplicationAttemptReport {
    #[prost(message, optional, tag = "1")]
    pub application_attempt_id: Option<ApplicationAttemptId>,
    #[prost(string, optional, tag = "2")]
    pub host: Option<String>,
    #[prost(int32, optional, tag = "3")]
    pub rpc_port: Option<i32>,
    #[prost(string, optional, tag = "4")]
    pub tracking_url: Option<String>,
    /// Default `N/A`.
    #[prost(string, optional, tag = "5")]
    pub diagnostics: Option<String>,
    #[prost(int32, optional, tag = "6")]
    pub yarn_application_attempt_state: Option<i32>,
    #[prost(message, optional, tag = "7")]
    pub am_container_id: Option<ContainerId>,
    #[prost(string, optional, tag = "8")]
    pub original_tracking_url: Option<String>,
    #[prost(int64, optional, tag = "9")]
    pub start_time: Option<i64>,
    #[prost(int64, optional, tag = "10")]
    pub finish_time: Option<i64>,
}
