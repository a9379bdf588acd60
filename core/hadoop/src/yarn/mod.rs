//! YARN: submission, the ApplicationMaster's talk with the ResourceManager, containers on NodeManagers.
//!
//! Read in this order: [`resource`], [`state`] and [`report`] (plain values), [`command`] (quoting), [`launch`] and
//! [`submission`] (what is started), [`client`] (ApplicationClientProtocol), [`am`] (ApplicationMasterProtocol),
//! [`nm`] (ContainerManagementProtocol), [`web`] (web services, for diagnosis only). [`proto`] holds the messages.

pub mod am;
pub mod client;
pub mod command;
pub mod launch;
pub mod nm;
pub mod proto;
pub mod report;
pub mod resource;
pub mod state;
pub mod submission;
pub mod web;

#[cfg(test)]
mod service_tests;

use crate::ipc::{FailoverClient, IpcError};

/// One call. When the ResourceManager has answered with an exception, that is the error, also after attempts
/// that went nowhere (a restart, a failover): its class tells what to do.
async fn call<Q, R>(
    rm: &FailoverClient,
    method: &'static str,
    request: &Q,
    idempotent: bool,
) -> Result<R, IpcError>
where
    Q: prost::Message,
    R: prost::Message + Default,
{
    rm.call(method, request, idempotent).await.map_err(|error| match error {
        IpcError::Exhausted { last, .. } if is_answer(&last) => *last,
        error => error,
    })
}

fn is_answer(error: &IpcError) -> bool {
    matches!(error, IpcError::Remote { .. } | IpcError::InvalidToken { .. } | IpcError::NoSuchMethod { .. })
}
