//! The AM's hands on storage: looks at the input, makes room for the output, moves it to its place.

use crate::machine::{Action, Event};
use crate::plan::InputPlan;
use ringspin_data::blocks::BlockHosts;
use ringspin_data::index::Survey;
use ringspin_data::output::{Begun, Output, Owner};
use ringspin_data::storage::{Location, Scheme, Storage};
use ringspin_hadoop::conf::Configuration;
use ringspin_hadoop::credentials::Credentials;
use ringspin_hadoop::ipc::{IpcOptions, RetryPolicy};
use ringspin_hadoop::namenode::{Caller, NameNodes, Replica};
use ringspin_job::JobSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Locality is worth a short wait, not a long one.
const LOCALITY_PATIENCE: Duration = Duration::from_secs(10);

/// A cluster, and who we are there.
#[derive(Clone, Debug)]
pub struct ClusterAccess {
    /// Its configuration.
    pub conf: Configuration,
    /// User, on clusters without Kerberos.
    pub user: String,
    /// Tokens.
    pub credentials: Credentials,
}

/// Looks at the input and owns the output, for one attempt of a job.
pub struct Planner {
    storage: Storage,
    job: JobSpec,
    owner: Owner,
    namenodes: Option<NameNodes>,
    output: Mutex<Option<Output>>,
}

impl Planner {
    /// A planner for attempt `attempt` of `application`; `cluster` is asked for block locations.
    pub fn new(
        storage: Storage,
        job: JobSpec,
        application: &str,
        attempt: u32,
        cluster: Option<ClusterAccess>,
    ) -> Self {
        let owner = Owner { job: application.into(), attempt };
        let namenodes = cluster.map(|access| {
            let caller = Caller {
                user: access.user,
                real_user: None,
                credentials: access.credentials,
                options: IpcOptions { call_timeout: job.network.rpc_timeout, ..IpcOptions::default() },
                policy: RetryPolicy { deadline: LOCALITY_PATIENCE, ..RetryPolicy::default() },
            };
            NameNodes::new(access.conf, caller)
        });
        Planner { storage, job, owner, namenodes, output: Mutex::default() }
    }

    /// Carries out an action in the background; what comes of it is an event.
    pub fn act(self: &Arc<Self>, action: Action, events: mpsc::Sender<Event>) {
        let planner = Arc::clone(self);
        tokio::spawn(async move {
            let event = match action {
                Action::Plan => planner.plan().await,
                Action::Commit => planner.commit().await,
                _ => return,
            };
            // The machine is gone when the job has ended meanwhile.
            let _ = events.send(event).await;
        });
    }

    async fn plan(&self) -> Event {
        match self.look().await {
            Ok(Some(plan)) => Event::Planned(Box::new(plan)),
            Ok(None) => Event::Committed,
            Err(reason) => Event::Refused(reason),
        }
    }

    /// `None` when an earlier attempt has published the output already.
    async fn look(&self) -> Result<Option<InputPlan>, String> {
        let validation = self.job.validation.as_ref().map(|validation| &validation.input);
        let (begun, train, validation) =
            tokio::join!(self.begin(), Survey::take(&self.storage, &self.job.input), async {
                match validation {
                    Some(input) => Survey::take(&self.storage, input).await.map(Some),
                    None => Ok(None),
                }
            });
        let output = match begun? {
            Begun::Committed => return Ok(None),
            Begun::Fresh(output) => output,
        };
        let folder = output.folder().to_string();
        *self.output.lock().await = Some(output);
        let train = train.map_err(|error| error.to_string())?;
        let validation = validation.map_err(|error| error.to_string())?;
        let blocks = self.blocks(train.locations()).await;
        Ok(Some(InputPlan::new(&self.job, train, validation, (blocks, folder))))
    }

    async fn begin(&self) -> Result<Begun, String> {
        let target = self.storage.locate(&self.job.output.path).map_err(|error| error.to_string())?;
        Output::begin(&self.storage, &target, self.job.output.overwrite, self.owner.clone())
            .await
            .map_err(|error| error.to_string())
    }

    /// Where the blocks of files lie. Locality is a wish: without an answer the job runs all the same.
    async fn blocks(&self, files: Vec<Location>) -> BTreeMap<String, Vec<BlockHosts>> {
        let Some(namenodes) = &self.namenodes else { return BTreeMap::new() };
        let mut blocks = BTreeMap::new();
        for file in files.into_iter().filter(|file| file.scheme() != Scheme::File) {
            match namenodes.blocks(&file.to_string(), 0, u64::MAX >> 1).await {
                Ok(located) => {
                    let hosts =
                        |replicas: Vec<Replica>| replicas.into_iter().map(|replica| replica.host).collect();
                    let located = located.blocks.into_iter().map(|block| BlockHosts {
                        offset: block.offset,
                        bytes: block.length,
                        hosts: hosts(block.replicas),
                    });
                    blocks.insert(file.to_string(), located.collect());
                }
                Err(error) => {
                    tracing::warn!("{file}: no block locations, so no locality: {error}");
                    return blocks;
                }
            }
        }
        blocks
    }

    async fn commit(&self) -> Event {
        let output = self.output.lock().await;
        let Some(output) = output.as_ref() else {
            return Event::CommitFailed("no output was begun".into());
        };
        match output.commit().await {
            Ok(()) => Event::Committed,
            Err(error) => Event::CommitFailed(error.to_string()),
        }
    }

    /// Removes what was written of an output that will not be.
    pub async fn discard(&self) {
        if let Some(output) = self.output.lock().await.take()
            && let Err(error) = output.abort().await
        {
            tracing::warn!("{error}");
        }
    }
}
