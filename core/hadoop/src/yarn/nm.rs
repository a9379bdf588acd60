//! The ApplicationMaster's talk with NodeManagers (ContainerManagementProtocol): start, stop, look.
//!
//! A [`NodeManagers`] keeps one connection a node, proven by the newest token of that node (also when it names
//! an earlier attempt). One container goes into one request: in a batch one failure hides what became of the
//! others. "Started" means accepted: what goes wrong later, localisation first of all, comes as a completed
//! container from the ResourceManager. Containers are never sent AMRM or NM tokens from here.

use super::am::{Container, ContainerExit};
use super::launch::{LaunchContext, LaunchError};
use super::proto;
use super::report::ContainerState;
use super::resource::NodeId;
use crate::credentials::Token;
use crate::ids::ContainerId;
use crate::ipc::{Auth, Client, IpcError, IpcOptions, Protocol};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The protocol, at the node id's own port.
pub const PROTOCOL: Protocol =
    Protocol { name: "org.apache.hadoop.yarn.api.ContainerManagementProtocolPB", version: 1 };
/// Causes of an exception that are kept; Java's chains are a handful long.
const MAX_CAUSES: usize = 8;

/// An exception of Java's and what caused it, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionChain(pub Vec<(String, String)>);

impl ExceptionChain {
    fn new(message: Option<proto::SerializedException>) -> Self {
        let mut chain = Vec::new();
        let mut next = message.map(Box::new);
        while let Some(exception) = next.take().filter(|_| chain.len() < MAX_CAUSES) {
            chain.push((exception.class_name.unwrap_or_default(), exception.message.unwrap_or_default()));
            next = exception.cause;
        }
        ExceptionChain(chain)
    }

    /// Whether any of them says this.
    pub fn says(&self, text: &str) -> bool {
        self.0.iter().any(|(_, message)| message.contains(text))
    }

    /// Whether any of them is of this class, named without its package.
    pub fn is_a(&self, class: &str) -> bool {
        self.0.iter().any(|(name, _)| name.rsplit(['.', '$']).next() == Some(class))
    }
}

impl fmt::Display for ExceptionChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("no reason given");
        }
        let mut said = "";
        for (i, (class, message)) in self.0.iter().enumerate() {
            // Wrappers repeat the message of what they wrap.
            if i > 0 && said.contains(message.as_str()) {
                continue;
            }
            let class = class.rsplit(['.', '$']).next().unwrap_or_default();
            write!(f, "{}{class}: {}", if i > 0 { "; caused by " } else { "" }, message.trim_end())?;
            said = message;
        }
        Ok(())
    }
}

/// Why a NodeManager did not do what it was asked to. The variant tells what becomes of the container.
#[derive(Debug, Error)]
pub enum NmError {
    /// No token for this node has come yet: containers are acted upon before the events that precede them.
    #[error("no token for the NodeManager of {0}")]
    NoToken(NodeId),
    /// A recovered container has no token: it runs already.
    #[error("{0} cannot be started: it belongs to an earlier attempt and runs already")]
    NoContainerToken(ContainerId),
    /// The ResourceManager was restarted since it allocated the container: forget it and ask anew.
    #[error("{0} was allocated before the ResourceManager was restarted")]
    PreviousResourceManager(ContainerId),
    /// The container's token has expired: release it and ask anew. Soon after the allocation it means that the
    /// clocks of node and ResourceManager differ.
    #[error(
        "{container} was not started in time, or the clocks of its node and the ResourceManager differ: {reason}"
    )]
    Expired {
        /// Which.
        container: ContainerId,
        /// The NodeManager's words.
        reason: ExceptionChain,
    },
    /// The NodeManager does not know the container, or not any more.
    #[error("{container} is not known to its NodeManager: {reason}")]
    Unknown {
        /// Which.
        container: ContainerId,
        /// The NodeManager's words.
        reason: ExceptionChain,
    },
    /// The NodeManager refuses. The container stays allocated: release it.
    #[error("the NodeManager refuses {container}: {reason}")]
    Refused {
        /// Which.
        container: ContainerId,
        /// The NodeManager's words.
        reason: ExceptionChain,
    },
    /// The launch context cannot be sent.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// No answer within [`NmOptions::retry_for`].
    #[error(transparent)]
    Ipc(#[from] IpcError),
}

/// A container, as its NodeManager sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerStatus {
    /// Id.
    pub id: ContainerId,
    /// State; localisation counts as running.
    pub state: ContainerState,
    /// How it ended, once it has.
    pub exit: Option<ContainerExit>,
    /// The NodeManager's text.
    pub diagnostics: String,
}

/// A signal that a NodeManager sends to a container's processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Term,
    /// SIGKILL.
    Kill,
}

/// How to deal with NodeManagers that do not answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NmOptions {
    /// One connection, one call.
    pub ipc: IpcOptions,
    /// For how long a NodeManager that cannot be reached, or is not ready, is tried.
    pub retry_for: Duration,
    /// Between two tries.
    pub retry_delay: Duration,
}

impl Default for NmOptions {
    /// Java tries for 180 s, every 10 s. A restarted NodeManager is back in a few; a container on another node
    /// is the better answer after half a minute.
    fn default() -> Self {
        NmOptions {
            ipc: IpcOptions::default(),
            retry_for: Duration::from_secs(30),
            retry_delay: Duration::from_millis(500),
        }
    }
}

/// All NodeManagers that an AM deals with; clones share connections and tokens.
#[derive(Clone)]
pub struct NodeManagers {
    inner: Arc<Inner>,
}

struct Inner {
    options: NmOptions,
    nodes: Mutex<HashMap<NodeId, Client>>,
}

impl NodeManagers {
    /// No node yet.
    pub fn new(options: NmOptions) -> Self {
        NodeManagers { inner: Arc::new(Inner { options, nodes: Mutex::default() }) }
    }

    /// Uses `token` for `node` from the next connection on.
    pub fn set_token(&self, node: &NodeId, token: Token) {
        let mut nodes = self.inner.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = nodes.get(node) {
            return client.set_token(token);
        }
        let client =
            Client::new(node.to_string(), PROTOCOL, Auth::Token { token }, self.inner.options.ipc.clone());
        nodes.insert(node.clone(), client);
    }

    /// Forgets a node that is gone.
    pub fn forget(&self, node: &NodeId) {
        self.inner.nodes.lock().unwrap_or_else(PoisonError::into_inner).remove(node);
    }

    fn client(&self, node: &NodeId) -> Result<Client, NmError> {
        let nodes = self.inner.nodes.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.get(node).cloned().ok_or_else(|| NmError::NoToken(node.clone()))
    }

    /// Starts a container.
    ///
    /// An answer that was lost is asked for again; a NodeManager that then says that the container was started
    /// already is believed.
    pub async fn start(&self, container: &Container, launch: &LaunchContext) -> Result<(), NmError> {
        let token = container.token.clone().ok_or(NmError::NoContainerToken(container.id))?;
        let request = proto::StartContainersRequest {
            start_container_request: vec![proto::StartContainerRequest {
                container_launch_context: Some(launch.to_proto()?),
                container_token: Some(token.into()),
            }],
        };
        let (mut perhaps_started, begun) = (false, Instant::now());
        loop {
            let error = match self.start_once(container, &request).await {
                Ok(()) => return Ok(()),
                Err(NmError::Refused { reason, .. })
                    if perhaps_started && reason.says("Attempt to relaunch the same container") =>
                {
                    return Ok(());
                }
                Err(error) => error,
            };
            perhaps_started |= match &error {
                NmError::Ipc(IpcError::Closed { sent, .. }) => *sent,
                NmError::Ipc(IpcError::Timeout { .. }) => true,
                _ => false,
            };
            self.pause_or_give_up(error, begun).await?;
        }
    }

    async fn start_once(
        &self,
        container: &Container,
        request: &proto::StartContainersRequest,
    ) -> Result<(), NmError> {
        let answer: proto::StartContainersResponse =
            self.client(&container.node)?.call("startContainers", request).await?;
        match answer.failed_requests.into_iter().next() {
            Some(failed) => Err(refusal(container.id, ExceptionChain::new(failed.exception))),
            None => Ok(()),
        }
    }

    /// Starts containers on several nodes at once; tells each outcome as soon as all are there, in the order of
    /// `launches`.
    pub async fn start_all(&self, launches: Vec<(Container, LaunchContext)>) -> Vec<Result<(), NmError>> {
        let mut outcomes: Vec<_> =
            launches.iter().map(|(c, _)| Err(NmError::NoToken(c.node.clone()))).collect();
        let mut tasks = JoinSet::new();
        for (i, (container, launch)) in launches.into_iter().enumerate() {
            let nodes = self.clone();
            tasks.spawn(async move { (i, nodes.start(&container, &launch).await) });
        }
        while let Some(outcome) = tasks.join_next().await {
            match outcome {
                Ok((i, outcome)) => outcomes[i] = outcome,
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
        outcomes
    }

    /// Stops a container: SIGTERM, and SIGKILL a quarter of a second later. It is gone when the ResourceManager
    /// reports it completed. A container that the node does not know has been stopped.
    pub async fn stop(&self, node: &NodeId, container: ContainerId) -> Result<(), NmError> {
        let request = proto::StopContainersRequest { container_id: vec![container.into()] };
        let begun = Instant::now();
        loop {
            let answer: Result<proto::StopContainersResponse, _> =
                self.client(node)?.call("stopContainers", &request).await;
            let error = match answer {
                Ok(answer) => match answer.failed_requests.into_iter().next() {
                    None => return Ok(()),
                    Some(failed) => match refusal(container, ExceptionChain::new(failed.exception)) {
                        NmError::Unknown { .. } => return Ok(()),
                        error => error,
                    },
                },
                Err(error) => error.into(),
            };
            self.pause_or_give_up(error, begun).await?;
        }
    }

    /// Asks a node how containers are; those that it does not know are left out.
    pub async fn statuses(
        &self,
        node: &NodeId,
        containers: &[ContainerId],
    ) -> Result<Vec<ContainerStatus>, NmError> {
        let container_id = containers.iter().map(|id| (*id).into()).collect();
        let request = proto::GetContainerStatusesRequest { container_id };
        let begun = Instant::now();
        let answer: proto::GetContainerStatusesResponse = loop {
            match self.client(node)?.call("getContainerStatuses", &request).await {
                Ok(answer) => break answer,
                Err(error) => self.pause_or_give_up(error.into(), begun).await?,
            }
        };
        Ok(answer.status.into_iter().filter_map(status).collect())
    }

    /// Sends a signal to a container's processes.
    pub async fn signal(&self, node: &NodeId, container: ContainerId, signal: Signal) -> Result<(), NmError> {
        let command = match signal {
            Signal::Quit => 1,
            Signal::Term => 2,
            Signal::Kill => 3,
        };
        let request = proto::SignalContainerRequest { container_id: container.into(), command };
        let _: proto::SignalContainerResponse =
            self.client(node)?.call("signalToContainer", &request).await?;
        Ok(())
    }

    /// Waits before the next try, or returns the error when another try does not help or time is up.
    async fn pause_or_give_up(&self, error: NmError, begun: Instant) -> Result<(), NmError> {
        let NmOptions { retry_for, retry_delay, .. } = self.inner.options;
        if !is_passing(&error) || begun.elapsed() + retry_delay >= retry_for {
            return Err(error);
        }
        tokio::time::sleep(retry_delay).await;
        Ok(())
    }
}

/// Whether trying again may help.
fn is_passing(error: &NmError) -> bool {
    match error {
        NmError::Ipc(IpcError::Connect { .. } | IpcError::Closed { .. } | IpcError::Timeout { .. }) => true,
        NmError::Ipc(IpcError::Retriable { .. }) => true,
        NmError::Ipc(error) => error.is_exception("NMNotYetReadyException"),
        NmError::Refused { reason, .. } => reason.is_a("NMNotYetReadyException"),
        _ => false,
    }
}

/// What a NodeManager's exception about one container means.
fn refusal(container: ContainerId, reason: ExceptionChain) -> NmError {
    if reason.says("is allocated by a previous RM") || reason.says("issued by a previous RM") {
        NmError::PreviousResourceManager(container)
    } else if reason.says("This token is expired") {
        NmError::Expired { container, reason }
    } else if reason.says("is not handled by this NodeManager")
        || reason.says("was recently stopped on node manager")
        || reason.is_a("ContainerNotFoundException")
    {
        NmError::Unknown { container, reason }
    } else {
        NmError::Refused { container, reason }
    }
}

fn status(message: proto::ContainerStatus) -> Option<ContainerStatus> {
    let state = ContainerState::from_number(message.state.unwrap_or(0));
    let diagnostics = message.diagnostics.filter(|text| text != "N/A").unwrap_or_default();
    let exit = (state == ContainerState::Complete)
        .then(|| ContainerExit::classify(message.exit_status.unwrap_or(-1000), &diagnostics));
    Some(ContainerStatus { id: message.container_id?.plain()?, state, exit, diagnostics })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(exceptions: &[(&str, &str)]) -> ExceptionChain {
        let nested = exceptions.iter().rev().fold(None, |cause, (class, message)| {
            Some(Box::new(proto::SerializedException {
                class_name: Some((*class).into()),
                message: Some((*message).into()),
                trace: None,
                cause,
            }))
        });
        ExceptionChain::new(nested.map(|boxed| *boxed))
    }

    fn container() -> ContainerId {
        "container_1700000000000_0007_01_000002".parse().unwrap()
    }

    #[test]
    fn chains_are_told_without_repetition() {
        let told = chain(&[
            ("org.apache.hadoop.yarn.exceptions.YarnException", "java.io.IOException: disk gone"),
            ("java.io.IOException", "disk gone"),
            ("a.B$C", "why"),
        ]);
        assert_eq!(told.to_string(), "YarnException: java.io.IOException: disk gone; caused by C: why");
        assert!(told.is_a("C") && told.is_a("YarnException") && !told.is_a("Exception"));
        assert_eq!(chain(&[]).to_string(), "no reason given");
        let endless: Vec<_> = (0..50).map(|_| ("x.Y", "z")).collect();
        assert_eq!(chain(&endless).0.len(), MAX_CAUSES);
    }

    #[test]
    fn words_of_node_managers_tell_the_reaction() {
        let yarn = "org.apache.hadoop.yarn.exceptions.YarnException";
        let of = |class: &str, text: &str| refusal(container(), chain(&[(class, text)]));
        assert!(matches!(
            of(
                "x.InvalidContainerException",
                "Container container_1 rejected as it is allocated by a previous RM"
            ),
            NmError::PreviousResourceManager(_)
        ));
        let expired =
            "Unauthorized request to start container. \nThis token is expired. current time is 2 found 1";
        assert!(matches!(of(yarn, expired), NmError::Expired { .. }));
        let gone = "Container container_1 is not handled by this NodeManager";
        assert!(matches!(of(yarn, gone), NmError::Unknown { .. }));
        let twice =
            of(yarn, "Unauthorized request to start container. \nAttempt to relaunch the same container");
        assert!(matches!(twice, NmError::Refused { .. }) && !is_passing(&twice));
        assert!(is_passing(&of("org.apache.hadoop.yarn.exceptions.NMNotYetReadyException", "wait")));
        assert!(matches!(
            of("x.InvalidAuxServiceException", "The auxService:nosuch does not exist"),
            NmError::Refused { .. }
        ));
    }

    #[test]
    fn a_status_has_an_exit_once_it_is_complete() {
        let message = |state, exit_status| proto::ContainerStatus {
            container_id: Some(container().into()),
            state: Some(state),
            exit_status: Some(exit_status),
            ..Default::default()
        };
        assert_eq!(status(message(2, -1000)).unwrap().exit, None);
        assert_eq!(status(message(3, 1)).unwrap().exit, Some(ContainerExit::Failed { code: 1 }));
        assert_eq!(status(proto::ContainerStatus::default()), None);
    }

    #[tokio::test]
    async fn nothing_starts_without_tokens() {
        let nodes = NodeManagers::new(NmOptions::default());
        let node = NodeId::new("h", 1);
        let launch = LaunchContext::new(super::super::command::Command::new("x"));
        let mut target = Container {
            id: container(),
            node: node.clone(),
            http_address: String::new(),
            resource: Default::default(),
            ask: super::super::am::AskId(1),
            token: None,
        };
        assert!(matches!(nodes.start(&target, &launch).await, Err(NmError::NoContainerToken(_))));
        target.token = Some(Token::default());
        let outcomes = nodes.start_all(vec![(target, launch)]).await;
        assert!(matches!(&outcomes[..], [Err(NmError::NoToken(n))] if *n == node));
    }
}
