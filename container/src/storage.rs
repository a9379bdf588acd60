//! A worker's files: the client's configuration travels with the job, nothing is looked up on the node.

use crate::Misfortune;
use ringspin_control::messages::{FailureKind, JobContext};
use ringspin_data::storage::{HdfsOptions, Location, RetryPolicy, Storage, StorageOptions};
use ringspin_hadoop::credentials::Credentials;
use ringspin_job::JobSpec;

/// Opens the files of a job. `writer` is unique among those who write for it.
///
/// # Errors
/// The job has no place that paths could belong to.
pub fn open(
    context: &JobContext,
    job: &JobSpec,
    credentials: &Credentials,
    writer: &str,
) -> Result<Storage, Misfortune> {
    let base = Location::local(std::path::Path::new("/"))
        .map_err(|error| Misfortune::new(FailureKind::Panic, error))?;
    let hdfs = context
        .hadoop
        .as_ref()
        .map(|properties| HdfsOptions::from_properties(properties, &context.user, credentials.clone()));
    let policy = RetryPolicy { call_timeout: job.network.rpc_timeout, ..RetryPolicy::default() };
    Ok(Storage::new(StorageOptions {
        base,
        hdfs,
        policy,
        writer: format!("{}-{writer}", context.application),
    }))
}
