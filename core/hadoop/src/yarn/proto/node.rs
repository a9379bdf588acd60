//! Nodes, queues and the cluster.

use super::{NodeId, Resource};
use prost::Message;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct NodeReport {
    #[prost(message, optional, tag = "1")]
    pub node_id: Option<NodeId>,
    #[prost(string, optional, tag = "2")]
    pub http_address: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub rack_name: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub used: Option<Resource>,
    #[prost(message, optional, tag = "5")]
    pub capability: Option<Resource>,
    #[prost(int32, optional, tag = "6")]
    pub num_containers: Option<i32>,
    #[prost(int32, optional, tag = "7")]
    pub node_state: Option<i32>,
    #[prost(string, optional, tag = "8")]
    pub health_report: Option<String>,
    #[prost(int64, optional, tag = "9")]
    pub last_health_report_time: Option<i64>,
    #[prost(string, repeated, tag = "10")]
    pub node_labels: Vec<String>,
    #[prost(uint32, optional, tag = "13")]
    pub decommissioning_timeout: Option<u32>,
    #[prost(int32, optional, tag = "14")]
    pub node_update_type: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct YarnClusterMetrics {
    #[prost(int32, optional, tag = "1")]
    pub num_node_managers: Option<i32>,
    #[prost(int32, optional, tag = "2")]
    pub num_decommissioned_nms: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    pub num_active_nms: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    pub num_lost_nms: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    pub num_unhealthy_nms: Option<i32>,
    #[prost(int32, optional, tag = "6")]
    pub num_rebooted_nms: Option<i32>,
    /// Since 3.4.
    #[prost(int32, optional, tag = "7")]
    pub num_decommissioning_nms: Option<i32>,
    /// Since 3.4.
    #[prost(int32, optional, tag = "8")]
    pub num_shutdown_nms: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
pub struct QueueInfo {
    #[prost(string, optional, tag = "1")]
    pub queue_name: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub capacity: Option<f32>,
    #[prost(float, optional, tag = "3")]
    pub maximum_capacity: Option<f32>,
    #[prost(float, optional, tag = "4")]
    pub current_capacity: Option<f32>,
    #[prost(int32, optional, tag = "5")]
    pub state: Option<i32>,
    #[prost(message, repeated, tag = "6")]
    pub child_queues: Vec<QueueInfo>,
    #[prost(string, repeated, tag = "8")]
    pub accessible_node_labels: Vec<String>,
    #[prost(string, optional, tag = "9")]
    pub default_node_label_expression: Option<String>,
    #[prost(bool, optional, tag = "11")]
    pub preemption_disabled: Option<bool>,
    /// Since 3.4.
    #[prost(string, optional, tag = "15")]
    pub queue_path: Option<String>,
}
