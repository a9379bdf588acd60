//! What the ResourceManager tells about applications, attempts, containers, nodes and queues, as plain values.
//!
//! States that this version does not know are kept by their number. Texts that Hadoop fills with `N/A` are empty.

use super::proto;
use super::resource::{NodeId, Resource};
use crate::ids::{ApplicationAttemptId, ApplicationId, ContainerId};
use std::fmt;

/// An enum of Hadoop's: the variants with number and name, and whatever else a newer Hadoop may send. A macro,
/// because the three tables (variant, number, name) would have to be kept equal by hand six times.
macro_rules! hadoop_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number that this version does not know.
            Other(i32),
        }

        impl $name {
            /// All known values.
            pub const KNOWN: &[$name] = &[$($name::$variant,)*];

            /// The value of a message's field.
            pub fn from_number(number: i32) -> Self {
                match number {
                    $($number => $name::$variant,)*
                    other => $name::Other(other),
                }
            }

            /// The value as messages carry it.
            pub fn number(self) -> i32 {
                match self {
                    $($name::$variant => $number,)*
                    $name::Other(number) => number,
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $($name::$variant => f.write_str($text),)*
                    $name::Other(number) => write!(f, "UNKNOWN({number})"),
                }
            }
        }
    };
}

hadoop_enum! {
    /// Where an application is in its life (`YarnApplicationState`).
    ApplicationState {
        /// Just created.
        New = 1 "NEW",
        /// Being written to the state store.
        NewSaving = 2 "NEW_SAVING",
        /// Handed to the scheduler.
        Submitted = 3 "SUBMITTED",
        /// Accepted by the scheduler; the AM has no container yet or is starting.
        Accepted = 4 "ACCEPTED",
        /// The AM has registered.
        Running = 5 "RUNNING",
        /// The AM has unregistered: [`FinalStatus`] tells how it went.
        Finished = 6 "FINISHED",
        /// All attempts failed, or the application was refused.
        Failed = 7 "FAILED",
        /// Killed by a user or an administrator.
        Killed = 8 "KILLED",
    }
}

hadoop_enum! {
    /// How an application ended, by its AM's word (`FinalApplicationStatus`).
    FinalStatus {
        /// Not ended yet.
        Undefined = 0 "UNDEFINED",
        /// All work done.
        Succeeded = 1 "SUCCEEDED",
        /// Failed.
        Failed = 2 "FAILED",
        /// Killed.
        Killed = 3 "KILLED",
        /// Ended, subtasks with different fates.
        Ended = 4 "ENDED",
    }
}

hadoop_enum! {
    /// Where an attempt is in its life (`YarnApplicationAttemptState`).
    AttemptState {
        /// Just created.
        New = 1 "NEW",
        /// Handed to the scheduler.
        Submitted = 2 "SUBMITTED",
        /// Waits for a container.
        Scheduled = 3 "SCHEDULED",
        /// Container allocated, being written to the state store.
        AllocatedSaving = 4 "ALLOCATED_SAVING",
        /// Container allocated.
        Allocated = 5 "ALLOCATED",
        /// Container started, AM not registered yet.
        Launched = 6 "LAUNCHED",
        /// Failed.
        Failed = 7 "FAILED",
        /// AM registered.
        Running = 8 "RUNNING",
        /// AM has unregistered, its container still runs.
        Finishing = 9 "FINISHING",
        /// Finished.
        Finished = 10 "FINISHED",
        /// Killed.
        Killed = 11 "KILLED",
    }
}

hadoop_enum! {
    /// Where a container is in its life (`ContainerState`).
    ContainerState {
        /// Not started yet.
        New = 1 "NEW",
        /// Being localised, or running.
        Running = 2 "RUNNING",
        /// Ended.
        Complete = 3 "COMPLETE",
    }
}

hadoop_enum! {
    /// What a node is good for (`NodeState`).
    NodeState {
        /// Not seen yet.
        New = 1 "NEW",
        /// In use.
        Running = 2 "RUNNING",
        /// Its health check fails (full disks, most often).
        Unhealthy = 3 "UNHEALTHY",
        /// Taken out.
        Decommissioned = 4 "DECOMMISSIONED",
        /// Silent for too long; processes on it may still run.
        Lost = 5 "LOST",
        /// Restarted.
        Rebooted = 6 "REBOOTED",
        /// Being taken out: containers run on, none start.
        Decommissioning = 7 "DECOMMISSIONING",
        /// Shut down in order.
        Shutdown = 8 "SHUTDOWN",
    }
}

hadoop_enum! {
    /// How far log aggregation is (`LogAggregationStatus`).
    LogAggregation {
        /// Off on this cluster.
        Disabled = 1 "DISABLED",
        /// Not started.
        NotStart = 2 "NOT_START",
        /// Running.
        Running = 3 "RUNNING",
        /// All logs are in the file system.
        Succeeded = 4 "SUCCEEDED",
        /// Failed.
        Failed = 5 "FAILED",
        /// A NodeManager did not report in time.
        TimeOut = 6 "TIME_OUT",
        /// Running, some failures so far.
        RunningWithFailure = 7 "RUNNING_WITH_FAILURE",
    }
}

hadoop_enum! {
    /// Whether a queue takes applications (`QueueState`).
    QueueState {
        /// Takes none.
        Stopped = 1 "STOPPED",
        /// In use.
        Running = 2 "RUNNING",
        /// Takes none, those inside run on.
        Draining = 3 "DRAINING",
    }
}

impl ApplicationState {
    /// Whether the application will not change any more.
    pub fn is_final(self) -> bool {
        matches!(self, ApplicationState::Finished | ApplicationState::Failed | ApplicationState::Killed)
    }

    /// Whether the ResourceManager has stored the application, so that it survives its restart.
    pub fn is_stored(self) -> bool {
        use ApplicationState::{New, NewSaving, Submitted};
        !matches!(self, New | NewSaving | Submitted)
    }
}

impl NodeState {
    /// Whether new containers may start there.
    pub fn is_usable(self) -> bool {
        matches!(self, NodeState::New | NodeState::Running)
    }
}

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
    fn numbers_and_names_are_hadoops() {
        for (state, number, name) in [
            (ApplicationState::NewSaving, 2, "NEW_SAVING"),
            (ApplicationState::Accepted, 4, "ACCEPTED"),
            (ApplicationState::Killed, 8, "KILLED"),
        ] {
            assert_eq!((state.number(), state.to_string().as_str()), (number, name));
            assert_eq!(ApplicationState::from_number(number), state);
        }
        assert_eq!(FinalStatus::from_number(2), FinalStatus::Failed);
        assert_eq!(NodeState::from_number(5), NodeState::Lost);
        assert_eq!(AttemptState::from_number(8), AttemptState::Running);
        assert_eq!(LogAggregation::from_number(4), LogAggregation::Succeeded);
    }

    #[test]
    fn stack_traces_are_left_out() {
        let text =
            "Resource changed\njava.io.IOException: changed\n\tat a.B.c(D.java:1)\n\t... 3 more\nat noon";
        assert_eq!(without_stack_traces(text), "Resource changed\njava.io.IOException: changed\nat noon");
    }

    #[test]
    fn final_and_stored_states() {
        let count =
            |f: fn(ApplicationState) -> bool| ApplicationState::KNOWN.iter().filter(|s| f(**s)).count();
        assert_eq!(count(ApplicationState::is_final), 3);
        assert_eq!(count(ApplicationState::is_stored), 5);
    }
}
