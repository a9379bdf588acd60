//! What a job is: its specification, the values it is made of, and the mistakes people make in it.
//!
//! Plain typed data, no I/O: files, flags and environments are read elsewhere and come in as text. The way of
//! a job file through this crate is `text -> Settings (every key with its origin) -> JobSpec (typed, checked)`;
//! every mistake becomes a [`Problem`], and all problems are reported together.

mod described;
pub mod keys;
mod params;
mod problem;
mod resolve;
mod secret;
mod settings;
mod spec;
mod units;
mod value;

pub use params::{Component, ParamReader, Params};
pub use problem::{Problem, Problems, nearest};
pub use resolve::resolve_metrics;
pub use secret::{Challenge, JobSecret, PROOF_BYTES, Proof, Side};
pub use settings::Settings;
pub use spec::*;
pub use units::{format_bytes, format_duration, parse_bytes, parse_duration};
pub use value::{Origin, Setting, Value};
