//! What the ResourceManager tells an ApplicationMaster.

use super::asks::{AskError, AskId};
use super::exit::ContainerExit;
use crate::credentials::Token;
use crate::ids::ContainerId;
use crate::yarn::proto;
use crate::yarn::report::NodeReport;
use crate::yarn::resource::{NodeId, Resource};

/// A container that the application holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Id.
    pub id: ContainerId,
    /// Where it is.
    pub node: NodeId,
    /// That node's web address, `host:port`.
    pub http_address: String,
    /// Its size, rounded up by the scheduler. `vcores` may be 1 whatever was asked.
    pub resource: Resource,
    /// The ask it answers; that of an earlier attempt for a recovered container.
    pub ask: AskId,
    /// What a NodeManager must be shown to start it; absent when it runs already.
    pub token: Option<Token>,
}

/// A container that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Which.
    pub id: ContainerId,
    /// How.
    pub exit: ContainerExit,
    /// Exit status as reported.
    pub status: i32,
    /// The NodeManager's or ResourceManager's text.
    pub diagnostics: String,
}

/// Containers that YARN asks back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preemption {
    /// Will be killed, whatever is done.
    pub strict: Vec<ContainerId>,
    /// Will be killed unless `resources` is given back otherwise.
    pub negotiable: Vec<ContainerId>,
    /// What is asked back: shapes and how many of each.
    pub resources: Vec<(Resource, u32)>,
}

/// What the ResourceManager answers to a registration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// The largest container; `None` when the answer was lost and only its repetition was refused.
    pub maximum: Option<Resource>,
    /// Queue: the full path since Hadoop 3.4, the last part before.
    pub queue: String,
    /// The scheduler counts cores, not memory alone.
    pub counts_vcores: bool,
}

/// Something that happened. A list of these is in the order in which it must be acted upon: a node's token
/// comes before the containers on it.
#[derive(Clone, Debug, PartialEq)]
pub enum RmEvent {
    /// The ResourceManager has taken the registration, the first one or a new one after its restart.
    Registered(Registered),
    /// The newest token for a node's NodeManager. It may name an earlier attempt: it is valid all the same.
    NodeToken {
        /// The node.
        node: NodeId,
        /// The token.
        token: Token,
    },
    /// A newer token for the ResourceManager itself.
    AmRmToken(Token),
    /// An ask is dropped: it cannot be met.
    AskRefused(AskId, AskError),
    /// The ResourceManager refuses a request, and not for an ask in it.
    Refused(String),
    /// A container for one of our asks. To be started within 10 minutes, or released.
    Allocated(Container),
    /// A container that nobody waits for; it is being released.
    Surplus(Container),
    /// A container of an earlier attempt that still runs.
    Recovered(Container),
    /// A container has ended. Told once for each.
    Completed(Completion),
    /// A node's state has changed. Containers on lost nodes complete by themselves.
    NodeChanged(NodeReport),
    /// YARN asks containers back; told once for each marking.
    Preemption(Preemption),
    /// How many nodes there are and how much the application may still get.
    Cluster {
        /// Nodes in use.
        nodes: u32,
        /// Headroom.
        headroom: Resource,
    },
    /// The ResourceManager was restarted or failed over and has taken us up again. Containers that were
    /// allocated but not started before are lost: starting them fails, and they must be asked for anew.
    Resynced,
}

impl Container {
    /// The container of a message, unless it lacks id or node.
    pub(super) fn from_proto(message: proto::Container) -> Option<Self> {
        Some(Container {
            id: message.id.as_ref()?.plain()?,
            node: NodeId::from_proto(message.node_id.as_ref())?,
            http_address: message.node_http_address.unwrap_or_default(),
            resource: message.resource.as_ref().map(Resource::from).unwrap_or_default(),
            ask: AskId(message.allocation_request_id.unwrap_or(-1)),
            token: message.container_token.map(Token::from),
        })
    }
}

impl Completion {
    /// The completion of a message, unless it lacks the id.
    pub(super) fn from_proto(message: proto::ContainerStatus) -> Option<Self> {
        let status = message.exit_status.unwrap_or(-1000);
        let diagnostics = message.diagnostics.filter(|text| text != "N/A").unwrap_or_default();
        let exit = ContainerExit::classify(status, &diagnostics);
        Some(Completion { id: message.container_id?.plain()?, exit, status, diagnostics })
    }
}

impl Preemption {
    pub(super) fn from_proto(message: &proto::PreemptionMessage) -> Self {
        let ids = |containers: &[proto::PreemptionContainer]| {
            containers.iter().filter_map(|c| c.id.as_ref()?.plain()).collect()
        };
        let contract = message.contract.as_ref();
        Preemption {
            strict: message.strict_contract.as_ref().map(|c| ids(&c.container)).unwrap_or_default(),
            negotiable: contract.map(|c| ids(&c.container)).unwrap_or_default(),
            resources: contract
                .iter()
                .flat_map(|c| &c.resource)
                .filter_map(|r| {
                    let row = r.resource.as_ref()?;
                    let count = u32::try_from(row.num_containers.unwrap_or(0)).ok()?;
                    Some((row.capability.as_ref().map(Resource::from)?, count))
                })
                .collect(),
        }
    }
}
