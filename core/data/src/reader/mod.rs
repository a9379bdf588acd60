//! Batches, read and decoded in the background, for the synchronous thread that trains.
//!
//! Each lane has a task that walks its windows: it reads the chunks of one window while another is being used,
//! decodes micro-batches on blocking threads and queues them. [`Reader::next`] only waits for a queue. Order and
//! content of batches are the plan's; reading ahead, caching and the number of lanes held here change nothing.

mod lane;
mod window;

use crate::dataset::Dataset;
use crate::error::DataError;
use crate::formats::Targets;
use crate::plan::Plan;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// More micro-batches are not queued, whatever is asked for.
const MAX_PREFETCH: usize = 1 << 16;

/// The micro-batch of one lane in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Lane.
    pub lane: usize,
    /// Step, counted from the start of the job.
    pub step: u64,
    /// Epoch of that step.
    pub epoch: u64,
    /// Inputs, one record after the other, as the schema's shape says.
    pub inputs: Vec<f32>,
    /// Targets.
    pub targets: Targets,
    /// Number of each record within the data set: what the ledger notes.
    pub records: Vec<u64>,
}

impl Batch {
    /// Number of records; 0 when it is not the lane's turn in this step.
    pub fn count(&self) -> usize {
        self.records.len()
    }
}

/// How far a reader goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderOptions {
    /// Micro-batches queued for each lane.
    pub prefetch: usize,
    /// Step after the last one, counted from the start of the job.
    pub end_step: u64,
}

/// Buffers of batches that were used, to be filled again.
#[derive(Clone, Debug, Default)]
struct Pool(Arc<Mutex<Vec<Batch>>>);

impl Pool {
    fn take(&self) -> Option<Batch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn give(&self, batch: Batch, limit: usize) {
        let mut batches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if batches.len() < limit {
            batches.push(batch);
        }
    }
}

/// A lane that is being read.
struct Lane {
    batches: mpsc::Receiver<Result<Batch, DataError>>,
    task: JoinHandle<()>,
    /// Step of the batch that comes next.
    next_step: u64,
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Batches of the lanes that a worker holds.
pub struct Reader {
    runtime: Handle,
    dataset: Arc<Dataset>,
    plan: Arc<Plan>,
    options: ReaderOptions,
    lanes: BTreeMap<usize, Lane>,
    pool: Pool,
}

impl Reader {
    /// A reader that holds no lanes yet; its tasks run on `runtime`.
    pub fn new(runtime: Handle, dataset: Arc<Dataset>, plan: Arc<Plan>, options: ReaderOptions) -> Reader {
        Reader { runtime, dataset, plan, options, lanes: BTreeMap::new(), pool: Pool::default() }
    }

    /// The plan that is followed.
    pub fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// Lanes held, in rising order.
    pub fn lanes(&self) -> impl Iterator<Item = usize> + '_ {
        self.lanes.keys().copied()
    }

    /// Starts to read a lane at a step; a lane that is being read starts again there.
    ///
    /// # Panics
    /// The plan has no such lane.
    pub fn hold(&mut self, lane: usize, from_step: u64) {
        assert!(lane < self.plan.lanes(), "lane {lane} of {}", self.plan.lanes());
        let (sender, batches) = mpsc::channel(self.options.prefetch.clamp(1, MAX_PREFETCH));
        let run = lane::run(
            lane::Work {
                dataset: self.dataset.clone(),
                plan: self.plan.clone(),
                lane,
                pool: self.pool.clone(),
            },
            from_step..self.options.end_step,
            sender,
        );
        let task = self.runtime.spawn(run);
        self.lanes.insert(lane, Lane { batches, task, next_step: from_step });
    }

    /// Stops reading a lane and lets go of what was kept for it alone.
    pub fn release(&mut self, lane: usize) {
        self.lanes.remove(&lane);
        let held = self.lanes.keys().flat_map(|lane| self.plan.pieces(*lane));
        self.dataset.keep_only(&held.map(|piece| piece.chunk).collect());
    }

    /// The next micro-batch of a lane; waits for it. None after the last step.
    ///
    /// Must not be called from asynchronous code.
    ///
    /// # Errors
    /// What went wrong with reading or decoding, with file and place. The lane has ended then.
    ///
    /// # Panics
    /// The lane is not held.
    pub fn next(&mut self, lane: usize) -> Result<Option<Batch>, DataError> {
        let end_step = self.options.end_step;
        let Some(held) = self.lanes.get_mut(&lane) else { panic!("lane {lane} is not held") };
        if held.next_step >= end_step {
            return Ok(None);
        }
        match held.batches.blocking_recv() {
            Some(Ok(batch)) => {
                assert_eq!((batch.lane, batch.step), (lane, held.next_step), "batches come in order");
                held.next_step += 1;
                Ok(Some(batch))
            }
            Some(Err(error)) => Err(error),
            None => Err(DataError::Broken(format!("lane {lane} ended before step {}", held.next_step))),
        }
    }

    /// Gives back a batch whose buffers may be used again.
    pub fn recycle(&self, batch: Batch) {
        self.pool.give(batch, self.lanes.len() * (self.options.prefetch + 2));
    }
}

#[cfg(test)]
mod tests;
