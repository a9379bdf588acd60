//! The ApplicationMaster: one pure state machine ([`machine`]), thin edges around it.
//!
//! * [`workers`]: the door that workers and observers connect to
//! * [`yarn`]: containers of a YARN application; [`local`]: processes of this machine
//! * [`planner`]: looks at the input, moves the output to its place
//! * [`web`]: the page
//! * [`run`]: the loop that connects them
//!
//! What is absent here: training. The AM never computes on data, and never holds more than the input's index.

pub mod bundle;
pub mod local;
pub mod machine;
pub mod plan;
pub mod planner;
pub mod run;
pub mod web;
pub mod workers;
pub mod yarn;

/// Random bytes from the operating system: secrets, challenges, proofs.
///
/// # Panics
/// When the operating system has none, which it always has once it has started.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has random bytes");
    bytes
}

/// The arguments that every worker is started with, but for `--slot`.
pub fn worker_arguments(job: &ringspin_job::JobSpec, am_address: &str, attempt: u32) -> Vec<String> {
    let millis = |duration: std::time::Duration| duration.as_millis().to_string();
    let (heartbeat, silence) = (millis(job.network.heartbeat), millis(job.network.heartbeat_timeout));
    ["container", "--am", am_address, "--attempt", &attempt.to_string(), "--heartbeat-ms", &heartbeat]
        .into_iter()
        .chain(["--silence-ms", &silence])
        .map(str::to_string)
        .collect()
}
