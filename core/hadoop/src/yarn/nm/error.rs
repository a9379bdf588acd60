//! What NodeManagers say when they refuse, and what becomes of the container then.

use crate::ids::ContainerId;
use crate::ipc::IpcError;
use crate::yarn::launch::LaunchError;
use crate::yarn::proto;
use crate::yarn::resource::NodeId;
use std::fmt;
use thiserror::Error;

/// Causes of an exception that are kept; Java's chains are a handful long.
const MAX_CAUSES: usize = 8;

/// An exception of Java's and what caused it, outermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExceptionChain(pub Vec<(String, String)>);

impl ExceptionChain {
    pub(super) fn new(message: Option<proto::SerializedException>) -> Self {
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
    /// No answer within [`super::NmOptions::retry_for`].
    #[error(transparent)]
    Ipc(#[from] IpcError),
}

/// Whether trying again may help.
pub(super) fn is_passing(error: &NmError) -> bool {
    match error {
        NmError::Ipc(IpcError::Connect { .. } | IpcError::Closed { .. } | IpcError::Timeout { .. }) => true,
        NmError::Ipc(IpcError::Retriable { .. }) => true,
        NmError::Ipc(error) => error.is_exception("NMNotYetReadyException"),
        NmError::Refused { reason, .. } => reason.is_a("NMNotYetReadyException"),
        _ => false,
    }
}

/// What a NodeManager's exception about one container means.
pub(super) fn refusal(container: ContainerId, reason: ExceptionChain) -> NmError {
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
}
