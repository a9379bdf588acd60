//! The AM's hands on storage: looks at the input, makes room for the output, moves it to its place.

use crate::machine::{Action, Event};
use crate::plan::InputPlan;
use ringspin_data::index::Survey;
use ringspin_data::output::{Begun, Output, Owner};
use ringspin_data::storage::{BlockHosts, Location, Storage};
use ringspin_job::JobSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, mpsc};

/// Locality is worth a short wait, not a long one.
const LOCALITY_PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the input and owns the output, for one attempt of a job.
pub struct Planner {
    storage: Storage,
    job: JobSpec,
    owner: Owner,
    output: Mutex<Option<Output>>,
}

impl Planner {
    /// A planner for attempt `attempt` of `application`.
    pub fn new(storage: Storage, job: JobSpec, application: &str, attempt: u32) -> Self {
        Planner { storage, job, owner: Owner { job: application.into(), attempt }, output: Mutex::default() }
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
        let asked = tokio::time::timeout(LOCALITY_PATIENCE, self.storage.blocks(&files)).await;
        let found = match asked {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::warn!("no block locations, so no locality: {error}");
                return BTreeMap::new();
            }
            Err(_) => {
                tracing::warn!("no block locations within {LOCALITY_PATIENCE:?}, so no locality");
                return BTreeMap::new();
            }
        };
        let located = files.into_iter().zip(found).filter(|(_, blocks)| !blocks.is_empty());
        located.map(|(file, blocks)| (file.to_string(), blocks)).collect()
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
