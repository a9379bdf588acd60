//! The client's talk with the ResourceManager (ApplicationClientProtocol): submit, watch, kill, look around.
//!
//! One [`YarnClient`] serves a whole process. It does not stage files, build launch contexts or print; it
//! never waits without a deadline.

use super::call;
use super::proto;
use super::report::{
    ApplicationReport, ApplicationState, AttemptReport, ClusterMetrics, ContainerReport, NodeReport,
    NodeState, QueueReport,
};
use super::resource::Resource;
use super::submission::{Submission, SubmissionError};
use crate::credentials::Token;
use crate::ids::{ApplicationAttemptId, ApplicationId};
use crate::ipc::{Auth, FailoverClient, IpcError, IpcOptions, Protocol, RetryPolicy};
use std::time::Duration;
use thiserror::Error;
use tokio::time::Instant;

/// The protocol, at `yarn.resourcemanager.address` (port 8032).
pub const PROTOCOL: Protocol =
    Protocol { name: "org.apache.hadoop.yarn.api.ApplicationClientProtocolPB", version: 1 };

/// A call to the ResourceManager that did not bring what was asked for.
#[derive(Debug, Error)]
pub enum YarnError {
    /// The ResourceManager does not know the application, or has forgotten it.
    #[error("{0} is not known to the ResourceManager (ended applications are forgotten after a while)")]
    NotFound(ApplicationId),
    /// The ResourceManager refuses; asking again does not help.
    #[error("the ResourceManager refuses {what}: {message}")]
    Refused {
        /// What was asked for.
        what: String,
        /// Its reason.
        message: String,
    },
    /// The ResourceManager answers, but what was waited for did not come.
    #[error("{what} took longer than {:.0} s; {last}", .after.as_secs_f64())]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// How things stood.
        last: String,
    },
    /// An answer without what it is there for.
    #[error("the ResourceManager's answer to {method} lacks {field}")]
    Incomplete {
        /// Method called.
        method: &'static str,
        /// What is missing.
        field: &'static str,
    },
    /// The submission itself is wrong.
    #[error(transparent)]
    Submission(#[from] SubmissionError),
    /// No answer.
    #[error(transparent)]
    Ipc(#[from] IpcError),
}

/// Id and limits of an application that is about to be submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewApplication {
    /// Its id.
    pub id: ApplicationId,
    /// The largest container of this cluster.
    pub maximum: Resource,
}

/// Which applications to list; empty lists do not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationFilter {
    /// Types, such as `RINGSPIN`.
    pub kinds: Vec<String>,
    /// States.
    pub states: Vec<ApplicationState>,
    /// Tags: applications with any of these.
    pub tags: Vec<String>,
    /// Users.
    pub users: Vec<String>,
    /// Queues.
    pub queues: Vec<String>,
    /// At most so many.
    pub limit: Option<u32>,
}

/// How a wait for the ResourceManager goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Between two questions.
    pub poll: Duration,
    /// For all of them.
    pub deadline: Duration,
}

impl Default for Wait {
    /// A report takes 1 to 4 ms, a state 15 to 60: ask often. Saving takes no longer than a failover.
    fn default() -> Self {
        Wait { poll: Duration::from_millis(50), deadline: Duration::from_secs(120) }
    }
}

/// A client of the ResourceManager; clones share the connection.
#[derive(Clone)]
pub struct YarnClient {
    rm: FailoverClient,
}

impl YarnClient {
    /// A client of the ResourceManagers at `addresses` (one, or all of a highly available cluster).
    pub fn new(addresses: Vec<String>, auth: Auth, options: IpcOptions, policy: RetryPolicy) -> Self {
        YarnClient { rm: FailoverClient::new(addresses, PROTOCOL, auth, options, policy) }
    }

    /// Gets an id for a new application.
    pub async fn new_application(&self) -> Result<NewApplication, YarnError> {
        const METHOD: &str = "getNewApplication";
        // A second id does no harm: unused ones vanish.
        let answer: proto::GetNewApplicationResponse =
            call(&self.rm, METHOD, &proto::GetNewApplicationRequest {}, true).await?;
        let id = answer.application_id.and_then(|id| id.plain());
        Ok(NewApplication {
            id: id.ok_or(YarnError::Incomplete { method: METHOD, field: "the application id" })?,
            maximum: answer.maximum_capability.as_ref().map(Resource::from).unwrap_or_default(),
        })
    }

    /// Submits and waits until the ResourceManager has stored the application.
    ///
    /// A ResourceManager that fails over before it has stored an application forgets it: then the same
    /// submission is made again under the same id, as often as it takes (Java: `YarnClientImpl`).
    pub async fn submit(
        &self,
        id: ApplicationId,
        submission: &Submission,
        wait: Wait,
    ) -> Result<ApplicationReport, YarnError> {
        let context = submission.to_proto(id)?;
        let request = proto::SubmitApplicationRequest { application_submission_context: Some(context) };
        let begun = Instant::now();
        self.submit_once(id, &request).await?;
        loop {
            let last = match self.report(id).await {
                Ok(report) => match report.state {
                    ApplicationState::Failed | ApplicationState::Killed => {
                        return Err(refused(&id, report.diagnostics));
                    }
                    state if state.is_stored() => return Ok(report),
                    state => format!("{id} is still {state}"),
                },
                Err(YarnError::NotFound(_)) => {
                    tracing::warn!(%id, "the ResourceManager has forgotten the application, submitting it again");
                    self.submit_once(id, &request).await?;
                    format!("{id} had to be submitted again")
                }
                Err(error) => return Err(error),
            };
            if begun.elapsed() >= wait.deadline {
                return Err(YarnError::Timeout { what: "the submission".into(), after: wait.deadline, last });
            }
            tokio::time::sleep(wait.poll).await;
        }
    }

    async fn submit_once(
        &self,
        id: ApplicationId,
        request: &proto::SubmitApplicationRequest,
    ) -> Result<(), YarnError> {
        // Submitting the same id twice is fine with the ResourceManager.
        match call::<_, proto::SubmitApplicationResponse>(&self.rm, "submitApplication", request, true).await
        {
            Ok(_) => Ok(()),
            Err(IpcError::Remote { exception, .. }) => Err(refused(&id, exception.message)),
            Err(error) => Err(error.into()),
        }
    }

    /// How an application stands.
    pub async fn report(&self, id: ApplicationId) -> Result<ApplicationReport, YarnError> {
        const METHOD: &str = "getApplicationReport";
        let request = proto::GetApplicationReportRequest { application_id: Some(id.into()) };
        let answer: proto::GetApplicationReportResponse =
            call(&self.rm, METHOD, &request, true).await.map_err(|e| about(id, e))?;
        let report = answer.application_report.as_ref().and_then(ApplicationReport::from_proto);
        report.ok_or(YarnError::Incomplete { method: METHOD, field: "the report" })
    }

    /// Lists applications.
    pub async fn applications(
        &self,
        filter: &ApplicationFilter,
    ) -> Result<Vec<ApplicationReport>, YarnError> {
        let request = proto::GetApplicationsRequest {
            application_types: filter.kinds.clone(),
            application_states: filter.states.iter().map(|state| state.number()).collect(),
            users: filter.users.clone(),
            queues: filter.queues.clone(),
            limit: filter.limit.map(i64::from),
            application_tags: filter.tags.iter().map(|tag| tag.to_ascii_lowercase()).collect(),
            scope: None,
        };
        let answer: proto::GetApplicationsResponse =
            call(&self.rm, "getApplications", &request, true).await?;
        Ok(answer.applications.iter().filter_map(ApplicationReport::from_proto).collect())
    }

    /// Kills an application and waits until it is dead; an application that has ended is left as it is.
    pub async fn kill(&self, id: ApplicationId, diagnostics: &str, wait: Wait) -> Result<(), YarnError> {
        let request = proto::KillApplicationRequest {
            application_id: Some(id.into()),
            diagnostics: Some(diagnostics.to_owned()).filter(|text| !text.is_empty()),
        };
        let begun = Instant::now();
        loop {
            let answer: proto::KillApplicationResponse =
                call(&self.rm, "forceKillApplication", &request, true).await.map_err(|e| about(id, e))?;
            if answer.is_kill_completed == Some(true) {
                return Ok(());
            }
            if begun.elapsed() >= wait.deadline {
                let last = format!("{id} is being killed");
                return Err(YarnError::Timeout { what: "the kill".into(), after: wait.deadline, last });
            }
            tokio::time::sleep(wait.poll).await;
        }
    }

    /// All attempts of an application, in order; the diagnostics of failed ones hold their last error output.
    pub async fn attempts(&self, id: ApplicationId) -> Result<Vec<AttemptReport>, YarnError> {
        let request = proto::GetApplicationAttemptsRequest { application_id: Some(id.into()) };
        let answer: proto::GetApplicationAttemptsResponse =
            call(&self.rm, "getApplicationAttempts", &request, true).await.map_err(|e| about(id, e))?;
        let mut attempts: Vec<_> =
            answer.application_attempts.iter().filter_map(AttemptReport::from_proto).collect();
        attempts.sort_by_key(|attempt| attempt.id);
        Ok(attempts)
    }

    /// Containers that an attempt holds. Those that have ended are only known to a history server.
    pub async fn containers(&self, id: ApplicationAttemptId) -> Result<Vec<ContainerReport>, YarnError> {
        let request = proto::GetContainersRequest { application_attempt_id: Some(id.into()) };
        let answer: proto::GetContainersResponse =
            call(&self.rm, "getContainers", &request, true).await.map_err(|e| about(id.application, e))?;
        let mut containers: Vec<_> =
            answer.containers.iter().filter_map(ContainerReport::from_proto).collect();
        containers.sort_by_key(|container| container.id);
        Ok(containers)
    }

    /// Nodes in one of `states`; no state: all nodes.
    pub async fn nodes(&self, states: &[NodeState]) -> Result<Vec<NodeReport>, YarnError> {
        let states = if states.is_empty() { NodeState::KNOWN } else { states };
        let node_states = states.iter().map(|state| state.number()).collect();
        let answer: proto::GetClusterNodesResponse =
            call(&self.rm, "getClusterNodes", &proto::GetClusterNodesRequest { node_states }, true).await?;
        Ok(answer.node_reports.iter().filter_map(NodeReport::from_proto).collect())
    }

    /// A queue by name or path, with all queues below.
    pub async fn queue(&self, name: &str) -> Result<QueueReport, YarnError> {
        let request = proto::GetQueueInfoRequest {
            queue_name: Some(name.to_owned()),
            include_applications: Some(false),
            include_child_queues: Some(true),
            recursive: Some(true),
        };
        let what = || format!("queue {name:?}");
        match call::<_, proto::GetQueueInfoResponse>(&self.rm, "getQueueInfo", &request, true).await {
            Ok(answer) => match answer.queue_info {
                Some(info) => Ok(QueueReport::from_proto(&info)),
                None => Err(YarnError::Refused { what: what(), message: "there is no such queue".into() }),
            },
            Err(IpcError::Remote { exception, .. }) => {
                Err(YarnError::Refused { what: what(), message: exception.message })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A token with which `renewer`'s applications may call this ResourceManager. Its service is empty: the
    /// caller sets the address under which it will be looked for.
    pub async fn delegation_token(&self, renewer: &str) -> Result<Token, YarnError> {
        const METHOD: &str = "getDelegationToken";
        let request = proto::GetDelegationTokenRequest { renewer: renewer.to_owned() };
        let answer: proto::GetDelegationTokenResponse = call(&self.rm, METHOD, &request, false).await?;
        let token = answer.token.map(Token::from);
        token.ok_or(YarnError::Incomplete { method: METHOD, field: "the token" })
    }

    /// Counts of NodeManagers.
    pub async fn metrics(&self) -> Result<ClusterMetrics, YarnError> {
        const METHOD: &str = "getClusterMetrics";
        let answer: proto::GetClusterMetricsResponse =
            call(&self.rm, METHOD, &proto::GetClusterMetricsRequest {}, true).await?;
        let metrics = answer.cluster_metrics.as_ref().map(ClusterMetrics::from);
        metrics.ok_or(YarnError::Incomplete { method: METHOD, field: "the metrics" })
    }
}

fn refused(id: &ApplicationId, message: String) -> YarnError {
    YarnError::Refused { what: format!("to run {id}"), message }
}

fn about(id: ApplicationId, error: IpcError) -> YarnError {
    match error {
        IpcError::Remote { exception, .. } if exception.short_class() == "ApplicationNotFoundException" => {
            YarnError::NotFound(id)
        }
        IpcError::Remote { method, exception, .. } => {
            YarnError::Refused { what: format!("{method} of {id}"), message: exception.message }
        }
        error => error.into(),
    }
}
