//! The ring on a thread of its own, so that buckets are reduced while backward still computes the next ones.
//!
//! Buckets are reduced one after the other, in the order in which they were submitted; all ranks submit the same
//! buckets in the same order. Vectors go in and come back the same allocation: a training loop that keeps them
//! allocates nothing.

use crate::{Abort, Ring, RingError, RingStats, Wire};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{Builder, JoinHandle},
};

/// The values of a bucket.
#[derive(Clone, Debug, PartialEq)]
pub enum Bucket {
    /// Summed as f32, on the wire as the reducer was told.
    F32(Vec<f32>),
    /// Summed exactly.
    I64(Vec<i64>),
}

impl From<Vec<f32>> for Bucket {
    fn from(values: Vec<f32>) -> Self {
        Bucket::F32(values)
    }
}

impl From<Vec<i64>> for Bucket {
    fn from(values: Vec<i64>) -> Self {
        Bucket::I64(values)
    }
}

/// A bucket that is the sum over all ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduced {
    /// The number it was submitted with.
    pub bucket: usize,
    /// The sums, in the vector that was submitted.
    pub values: Bucket,
}

/// A ring on its own thread.
pub struct Reducer {
    work: Option<SyncSender<Work>>,
    results: Receiver<Result<Reduced, RingError>>,
    thread: Option<JoinHandle<Ring>>,
    abort: Abort,
    stats: Arc<Mutex<RingStats>>,
    rank: usize,
    world: usize,
    capacity: usize,
    outstanding: usize,
}

enum Work {
    Reduce(usize, Bucket),
    Call(Box<dyn FnOnce(&mut Ring) + Send>),
}

impl Reducer {
    /// Moves `ring` to a thread. At most `capacity` buckets are under way; f32 ones travel as `wire`.
    pub fn new(ring: Ring, wire: Wire, capacity: usize) -> Result<Self, RingError> {
        let (rank, world, abort) = (ring.rank(), ring.world(), ring.abort_handle());
        let stats = Arc::new(Mutex::new(ring.stats().clone()));
        // One more for a call; results never block the ring's thread.
        let (work, todo) = sync_channel(capacity + 1);
        let (done, results) = sync_channel(capacity);
        let shared = stats.clone();
        let run = move || reduce_all(ring, wire, &todo, &done, &shared);
        let thread = Builder::new()
            .name(format!("ring {rank}"))
            .spawn(run)
            .map_err(|error| RingError::Misuse(format!("no thread for the ring: {error}")))?;
        let (work, thread, outstanding) = (Some(work), Some(thread), 0);
        Ok(Reducer { work, results, thread, abort, stats, rank, world, capacity, outstanding })
    }

    /// The own rank.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn world(&self) -> usize {
        self.world
    }

    /// Buckets that were submitted and not yet fetched.
    pub fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Ends the ring from any thread.
    pub fn abort_handle(&self) -> Abort {
        self.abort.clone()
    }

    /// As of the last finished bucket.
    pub fn stats(&self) -> RingStats {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has `values` summed over all ranks. Returns at once; the sums come from [`Reducer::wait_next`].
    pub fn submit(&mut self, bucket: usize, values: impl Into<Bucket>) -> Result<(), RingError> {
        if self.outstanding == self.capacity {
            return Err(RingError::Misuse(format!("bucket {bucket} while {} are under way", self.capacity)));
        }
        self.send(Work::Reduce(bucket, values.into()))?;
        self.outstanding += 1;
        Ok(())
    }

    /// The next bucket, in the order of submission; waits for it. After a failure every bucket is that failure.
    pub fn wait_next(&mut self) -> Result<Reduced, RingError> {
        if self.outstanding == 0 {
            return Err(RingError::Misuse("no bucket is under way".into()));
        }
        self.outstanding -= 1;
        self.results.recv().unwrap_or_else(|_| Err(self.ended()))
    }

    /// Runs `call` with the ring after the buckets submitted so far, and waits for it: for barriers, gathering and
    /// broadcasts between steps.
    pub fn with_ring<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Ring) -> T + Send + 'static,
    ) -> Result<T, RingError> {
        let (answer, result) = sync_channel(1);
        let run = move |ring: &mut Ring| {
            let _ = answer.send(call(ring));
        };
        self.send(Work::Call(Box::new(run)))?;
        result.recv().map_err(|_| self.ended())
    }

    /// The ring back, after the buckets submitted so far; results that were not fetched are dropped.
    pub fn finish(mut self) -> Result<Ring, RingError> {
        self.work = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ring)) => Ok(ring),
            _ => Err(self.ended()),
        }
    }

    fn send(&self, work: Work) -> Result<(), RingError> {
        let queue = self.work.as_ref().ok_or_else(|| self.ended())?;
        queue.send(work).map_err(|_| self.ended())
    }

    fn ended(&self) -> RingError {
        self.abort.fault().unwrap_or(RingError::Misuse("the thread of the ring has panicked".into()))
    }
}

impl Drop for Reducer {
    /// Ends the ring at once if buckets are still under way.
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            if self.outstanding > 0 {
                self.abort.abort("the reducer was dropped while buckets were under way");
            }
            // A panic of the thread has been reported by whoever asked for a result.
            let _ = thread.join();
        }
    }
}

/// The thread: until nobody submits any more.
fn reduce_all(
    mut ring: Ring,
    wire: Wire,
    todo: &Receiver<Work>,
    done: &SyncSender<Result<Reduced, RingError>>,
    stats: &Mutex<RingStats>,
) -> Ring {
    for work in todo {
        match work {
            Work::Call(call) => call(&mut ring),
            Work::Reduce(bucket, mut values) => {
                let result = match &mut values {
                    Bucket::F32(values) => ring.all_reduce_f32_tagged(values, wire, bucket as u32),
                    Bucket::I64(values) => ring.all_reduce_i64_tagged(values, bucket as u32),
                };
                stats.lock().unwrap_or_else(PoisonError::into_inner).clone_from(ring.stats());
                // Nobody may be left to take it.
                let _ = done.send(result.map(|()| Reduced { bucket, values }));
            }
        }
    }
    ring
}
