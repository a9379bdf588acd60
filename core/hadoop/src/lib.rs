//! Hadoop without a JVM: configuration, credentials, the IPC client, and the protocols spoken over it.
//!
//! Read in this order: [`conf`] (what the cluster's XML files say), [`credentials`] (tokens and secrets),
//! [`ipc`] (Hadoop RPC version 9), [`ids`] (names of applications and containers), [`namenode`] (the calls that
//! the HDFS client crate lacks), [`yarn`] and [`logs`].
//!
//! Nothing in here reads the environment or keeps globals: directories, users, variables and tokens are
//! arguments.

pub mod conf;
pub mod credentials;
pub mod ids;
pub mod ipc;
pub mod logs;
pub mod namenode;
pub mod yarn;
