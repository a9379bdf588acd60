//! What a worker's memory holds, before it has any: for the client, so that a container that is too small is refused
//! and not killed.

use crate::step::updates_at_once;
use ringspin_job::{JobSpec, NumericsMode, Problems};
use ringspin_nn::{Model, Registry};

/// What a worker has beside what its job's sizes explain: code, stacks, buffers of connections.
const PROCESS_BYTES: u64 = 48 << 20;

/// Bytes that a worker needs at least: parameters, gradients, activations, what optimizers keep, sums on their way
/// through the ring. What it reads ahead, and keeps of its input, comes on top.
///
/// # Errors
/// The optimizers are wrong.
pub fn worker_bytes(registry: &Registry, job: &JobSpec, model: &Model) -> Result<u64, Problems> {
    let records = job.batch_size.div_ceil(job.lanes.max(1));
    let parameters = model.parameter_count() as u64;
    let optimizers = registry.build_optimizers(&job.optimizer)?;
    let kept = optimizers.kept(model.parameters())? as u64;
    let copies = u64::from(job.updates.ema_decay.is_some()) + u64::from(job.selection.keep_best);
    let travelling = match job.numerics.mode {
        NumericsMode::Fast if job.workers.max > 1 => 4 * model.dense_count() as u64,
        NumericsMode::Fast => 0,
        // Integers of eight bytes, and the gradients of one lane.
        NumericsMode::Reproducible => 12 * model.dense_count() as u64,
    };
    let numbers = 4 * (kept + copies * parameters);
    let threads = job.workers.container.vcores;
    let pass = if updates_at_once(job, &optimizers) {
        model.updating_bytes(records, threads)
    } else {
        model.memory_bytes(records, threads)
    };
    Ok(PROCESS_BYTES + pass + numbers + travelling)
}
