//! Identifiers, tokens and exceptions: what all messages are made of.

use prost::Message;
use std::fmt;

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ApplicationId {
    #[prost(int32, optional, tag = "1")]
    pub id: Option<i32>,
    #[prost(int64, optional, tag = "2")]
    pub cluster_timestamp: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ApplicationAttemptId {
    #[prost(message, optional, tag = "1")]
    pub application_id: Option<ApplicationId>,
    #[prost(int32, optional, tag = "2")]
    pub attempt_id: Option<i32>,
}

/// Tag 1 (`app_id`) is obsolete and never filled.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct ContainerId {
    #[prost(message, optional, tag = "2")]
    pub app_attempt_id: Option<ApplicationAttemptId>,
    /// `epoch << 40 | sequence number`.
    #[prost(int64, optional, tag = "3")]
    pub id: Option<i64>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct NodeId {
    #[prost(string, optional, tag = "1")]
    pub host: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// Hadoop's delegation token (`hadoop.common.TokenProto`).
#[derive(Clone, PartialEq, Eq, Hash, Message)]
#[prost(skip_debug)]
pub struct Token {
    #[prost(bytes = "vec", required, tag = "1")]
    pub identifier: Vec<u8>,
    #[prost(bytes = "vec", required, tag = "2")]
    pub password: Vec<u8>,
    #[prost(string, required, tag = "3")]
    pub kind: String,
    #[prost(string, required, tag = "4")]
    pub service: String,
}

/// Neither identifier nor password: whoever holds the password is the user.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({} for {:?})", self.kind, self.service)
    }
}

/// A Java exception with its causes.
#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct SerializedException {
    #[prost(string, optional, tag = "1")]
    pub message: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub trace: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub class_name: Option<String>,
    #[prost(message, optional, boxed, tag = "4")]
    pub cause: Option<Box<SerializedException>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StringString {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Hash, Message)]
pub struct StringBytes {
    #[prost(string, optional, tag = "1")]
    pub key: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub value: Option<Vec<u8>>,
}
