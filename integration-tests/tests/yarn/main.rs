//! Jobs on a real Hadoop, as a user runs them: the whole way, and how it ends when something is wrong.
#![allow(clippy::unwrap_used)] // a test may panic

mod faults;
mod refusals;
mod site;
mod storage;
mod whole_way;
