//! What the ResourceManager tells about applications, attempts, containers, nodes and queues, as plain values.
//!
//! Texts that Hadoop fills with `N/A` are empty.

use super::proto;
use super::resource::{NodeId, Resource};
pub use super::state::{
    ApplicationState, AttemptState, ContainerState, FinalStatus, LogAggregation, NodeState, QueueState,
};
use crate::ids::{ApplicationAttemptId, ApplicationId, ContainerId};

/// An application, as the ResourceManager sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct ApplicationReport {
    /// Id.
    pub id: ApplicationId,
    /// Newest attempt, once there is one.
    pub attempt: Option<ApplicationAttemptId>,
    /// Name.
    pub name: String,
    /// Type, `RINGSPIN` for ours.
    pub kind: String,
    /// Who submitted it.
    pub user: String,
    /// Queue: the full path since Hadoop 3.4, the last part before.
    pub queue: String,
    /// Tags.
    pub tags: Vec<String>,
    /// State.
    pub state: ApplicationState,
    /// How it ended.
    pub final_status: FinalStatus,
    /// 0 to 1, as the AM reports it.
    pub progress: f32,
    /// Why it is waiting, or how it ended.
    pub diagnostics: String,
    /// Behind the ResourceManager's proxy.
    pub tracking_url: String,
    /// As the AM registered it.
    pub original_tracking_url: String,
    /// AM's host and port, as registered.
    pub host: String,
    /// See `host`; -1 or 0: none.
    pub rpc_port: i32,
    /// Milliseconds since 1970; 0: unknown.
    pub start_time_ms: i64,
    /// Milliseconds since 1970; 0: not ended.
    pub finish_time_ms: i64,
    /// Containers it holds, the AM's included.
    pub used_containers: u32,
    /// What they use.
    pub used: Resource,
    /// Log aggregation.
    pub logs: Option<LogAggregation>,
}

/// One life of an AM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptReport {
    /// Id.
    pub id: ApplicationAttemptId,
    /// State.
    pub state: AttemptState,
    /// How it ended: exit status and the last lines of its error output.
    pub diagnostics: String,
    /// AM's host.
    pub host: String,
    /// AM's container, once there is one.
    pub container: Option<ContainerId>,
    /// Milliseconds since 1970; 0: unknown.
    pub start_time_ms: i64,
    /// Milliseconds since 1970; 0: not ended.
    pub finish_time_ms: i64,
}

/// A container, as the ResourceManager sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerReport {
    /// Id.
    pub id: ContainerId,
    /// Where it runs.
    pub node: Option<NodeId>,
    /// Web address of that node, `host:port`, sometimes with scheme.
    pub node_http_address: String,
    /// Size.
    pub resource: Resource,
    /// State.
    pub state: ContainerState,
    /// Exit status; only meaningful once it is complete.
    pub exit_status: i32,
    /// How it ended.
    pub diagnostics: String,
    /// Link to its logs.
    pub log_url: String,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReport {
    /// Id.
    pub id: NodeId,
    /// Web address, `host:port`, sometimes with scheme.
    pub http_address: String,
    /// Rack, `/default-rack` where nobody configured any.
    pub rack: String,
    /// State.
    pub state: NodeState,
    /// What the health check says.
    pub health: String,
    /// In use.
    pub used: Resource,
    /// In all.
    pub capability: Resource,
    /// Containers on it.
    pub containers: i32,
    /// Labels.
    pub labels: Vec<String>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueReport {
    /// Last part of the path.
    pub name: String,
    /// Full path; empty before Hadoop 3.4.
    pub path: String,
    /// Configured share of the parent, 0 to 1.
    pub capacity: f32,
    /// Share of the parent up to which it may grow, 0 to 1.
    pub maximum_capacity: f32,
    /// Used share of its capacity: 1 is all of it, more is borrowed.
    pub current_capacity: f32,
    /// State.
    pub state: QueueState,
    /// Labels of nodes that it may use; `*`: all.
    pub node_labels: Vec<String>,
    /// Queues below. Only leaves take applications.
    pub children: Vec<QueueReport>,
}

/// Counts of NodeManagers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterMetrics {
    /// Known ones.
    pub nodes: i32,
    /// In use.
    pub active: i32,
    /// Silent for too long.
    pub lost: i32,
    /// Failing their health check.
    pub unhealthy: i32,
    /// Taken out.
    pub decommissioned: i32,
}

/// `diagnostics` without the lines of Java stack traces, for people.
pub fn without_stack_traces(diagnostics: &str) -> String {
    let is_frame = |line: &&str| {
        let line = line.trim_start();
        line.starts_with("at ") && line.contains('(') || line.starts_with("... ") && line.ends_with(" more")
    };
    diagnostics.lines().filter(|line| !is_frame(line)).collect::<Vec<_>>().join("\n")
}

/// A text that is there and is not Hadoop's `N/A`.
fn text(field: &Option<String>) -> String {
    field.as_deref().filter(|t| *t != "N/A").unwrap_or_default().to_owned()
}

fn resource(field: &Option<proto::Resource>) -> Resource {
    field.as_ref().map(Resource::from).unwrap_or_default()
}

impl ApplicationReport {
    /// The report of a message; `None` when it names no application.
    pub fn from_proto(message: &proto::ApplicationReport) -> Option<Self> {
        let usage = message.app_resource_usage.as_ref();
        Some(ApplicationReport {
            id: message.application_id.as_ref()?.plain()?,
            attempt: message.current_application_attempt_id.as_ref().and_then(|id| id.plain()),
            name: text(&message.name),
            kind: text(&message.application_type),
            user: text(&message.user),
            queue: text(&message.queue),
            tags: message.application_tags.clone(),
            state: ApplicationState::from_number(message.yarn_application_state.unwrap_or(0)),
            final_status: FinalStatus::from_number(message.final_application_status.unwrap_or(0)),
            progress: message.progress.unwrap_or(0.0),
            diagnostics: text(&message.diagnostics),
            tracking_url: text(&message.tracking_url),
            original_tracking_url: text(&message.original_tracking_url),
            host: text(&message.host),
            rpc_port: message.rpc_port.unwrap_or(-1),
            start_time_ms: message.start_time.unwrap_or(0),
            finish_time_ms: message.finish_time.unwrap_or(0),
            used_containers: usage.and_then(|u| u32::try_from(u.num_used_containers?).ok()).unwrap_or(0),
            used: usage.map(|u| resource(&u.used_resources)).unwrap_or_default(),
            logs: message.log_aggregation_status.map(LogAggregation::from_number),
        })
    }
}

impl AttemptReport {
    /// The report of a message; `None` when it names no attempt.
    pub fn from_proto(message: &proto::ApplicationAttemptReport) -> Option<Self> {
        Some(AttemptReport {
            id: message.application_attempt_id.as_ref()?.plain()?,
            state: AttemptState::from_number(message.yarn_application_attempt_state.unwrap_or(0)),
            diagnostics: text(&message.diagnostics),
            host: text(&message.host),
            container: message.am_container_id.as_ref().and_then(|id| id.plain()),
            start_time_ms: message.start_time.unwrap_or(0),
            finish_time_ms: message.finish_time.unwrap_or(0),
        })
    }
}

impl ContainerReport {
    /// The report of a message; `None` when it names no container.
    pub fn from_proto(message: &proto::ContainerReport) -> Option<Self> {
        Some(ContainerReport {
            id: message.container_id.as_ref()?.plain()?,
            node: NodeId::from_proto(message.node_id.as_ref()),
            node_http_address: text(&message.node_http_address),
            resource: resource(&message.resource),
            state: ContainerState::from_number(message.container_state.unwrap_or(0)),
            exit_status: message.container_exit_status.unwrap_or(0),
            diagnostics: text(&message.diagnostics_info),
            log_url: text(&message.log_url),
        })
    }
}

impl NodeReport {
    /// The report of a message; `None` when it names no node.
    pub fn from_proto(message: &proto::NodeReport) -> Option<Self> {
        Some(NodeReport {
            id: NodeId::from_proto(message.node_id.as_ref())?,
            http_address: text(&message.http_address),
            rack: text(&message.rack_name),
            state: NodeState::from_number(message.node_state.unwrap_or(0)),
            health: text(&message.health_report),
            used: resource(&message.used),
            capability: resource(&message.capability),
            containers: message.num_containers.unwrap_or(0),
            labels: message.node_labels.clone(),
        })
    }
}

impl QueueReport {
    /// The report of a message.
    pub fn from_proto(message: &proto::QueueInfo) -> Self {
        QueueReport {
            name: text(&message.queue_name),
            path: text(&message.queue_path),
            capacity: message.capacity.unwrap_or(0.0),
            maximum_capacity: message.maximum_capacity.unwrap_or(0.0),
            current_capacity: message.current_capacity.unwrap_or(0.0),
            state: QueueState::from_number(message.state.unwrap_or(0)),
            node_labels: message.accessible_node_labels.clone(),
            children: message.child_queues.iter().map(QueueReport::from_proto).collect(),
        }
    }
}

impl From<&proto::YarnClusterMetrics> for ClusterMetrics {
    fn from(message: &proto::YarnClusterMetrics) -> Self {
        ClusterMetrics {
            nodes: message.num_node_managers.unwrap_or(0),
            active: message.num_active_nms.unwrap_or(0),
            lost: message.num_lost_nms.unwrap_or(0),
            unhealthy: message.num_unhealthy_nms.unwrap_or(0),
            decommissioned: message.num_decommissioned_nms.unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_states_are_kept() {
        let message = proto::ApplicationReport {
            application_id: Some(proto::ApplicationId { id: Some(7), cluster_timestamp: Some(1) }),
            yarn_application_state: Some(42),
            diagnostics: Some("N/A".into()),
            ..Default::default()
        };
        let report = ApplicationReport::from_proto(&message).unwrap();
        assert_eq!(report.state, ApplicationState::Other(42));
        assert_eq!(report.state.number(), 42);
        assert_eq!(report.state.to_string(), "UNKNOWN(42)");
        assert!(!report.state.is_final());
        assert_eq!(report.diagnostics, "");
        assert_eq!(ApplicationReport::from_proto(&proto::ApplicationReport::default()), None);
    }

    #[test]
    fn stack_traces_are_left_out() {
        let text =
            "Resource changed\njava.io.IOException: changed\n\tat a.B.c(D.java:1)\n\t... 3 more\nat noon";
        assert_eq!(without_stack_traces(text), "Resource changed\njava.io.IOException: changed\nat noon");
    }
}
