//! What the integration tests stand on: a real Hadoop that a test owns.
//!
//! Nothing here imitates Hadoop. A test that can not have its cluster fails; none is skipped.

pub mod cluster;
pub mod data;
pub mod program;
