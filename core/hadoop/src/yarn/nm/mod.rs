//! The ApplicationMaster's talk with NodeManagers (ContainerManagementProtocol): start, stop, look.
//!
//! A [`NodeManagers`] keeps one connection a node, proven by the newest token of that node (also when it names
//! an earlier attempt). One container goes into one request: in a batch one failure hides what became of the
//! others. "Started" means accepted: what goes wrong later, localisation first of all, comes as a completed
//! container from the ResourceManager. Containers are never sent AMRM or NM tokens from here.

mod error;

pub use error::{ExceptionChain, NmError};

use super::am::{Container, ContainerExit};
use super::launch::LaunchContext;
use super::proto;
use super::report::ContainerState;
use super::resource::NodeId;
use crate::credentials::Token;
use crate::ids::ContainerId;
use crate::ipc::{Auth, Client, IpcError, IpcOptions, Protocol};
use error::{is_passing, refusal};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The protocol, at the node id's own port.
pub const PROTOCOL: Protocol =
    Protocol { name: "org.apache.hadoop.yarn.api.ContainerManagementProtocolPB", version: 1 };

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

    fn container() -> ContainerId {
        "container_1700000000000_0007_01_000002".parse().unwrap()
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
