//! Between messages and the plain values of this crate. What a message leaves out or fills with nonsense is
//! `None`, and the caller decides whether it can do without.

use super::{ApplicationAttemptId, ApplicationId, ContainerId, Token};
use crate::{credentials, ids};

impl From<ids::ApplicationId> for ApplicationId {
    fn from(id: ids::ApplicationId) -> Self {
        ApplicationId { id: Some(id.id), cluster_timestamp: Some(id.cluster_timestamp) }
    }
}

impl ApplicationId {
    /// The plain id.
    pub fn plain(&self) -> Option<ids::ApplicationId> {
        Some(ids::ApplicationId { cluster_timestamp: self.cluster_timestamp?, id: self.id? })
    }
}

impl From<ids::ApplicationAttemptId> for ApplicationAttemptId {
    fn from(id: ids::ApplicationAttemptId) -> Self {
        ApplicationAttemptId { application_id: Some(id.application.into()), attempt_id: Some(id.attempt) }
    }
}

impl ApplicationAttemptId {
    /// The plain id.
    pub fn plain(&self) -> Option<ids::ApplicationAttemptId> {
        let application = self.application_id.as_ref()?.plain()?;
        Some(ids::ApplicationAttemptId { application, attempt: self.attempt_id? })
    }
}

impl From<ids::ContainerId> for ContainerId {
    fn from(id: ids::ContainerId) -> Self {
        ContainerId { app_attempt_id: Some(id.attempt.into()), id: Some(id.id) }
    }
}

impl ContainerId {
    /// The plain id.
    pub fn plain(&self) -> Option<ids::ContainerId> {
        Some(ids::ContainerId { attempt: self.app_attempt_id.as_ref()?.plain()?, id: self.id? })
    }
}

impl From<credentials::Token> for Token {
    fn from(token: credentials::Token) -> Self {
        let credentials::Token { kind, service, identifier, password } = token;
        Token { identifier, password, kind, service }
    }
}

impl From<Token> for credentials::Token {
    fn from(token: Token) -> Self {
        let Token { identifier, password, kind, service } = token;
        credentials::Token { kind, service, identifier, password }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn a_container_id_has_the_bytes_of_hadoop() {
        let id: ids::ContainerId = "container_e01_1700000000000_0007_02_000003".parse().unwrap();
        let message = ContainerId::from(id);
        // 2 { 1 { 1: 7, 2: 1700000000000 }, 2: 2 }, 3: 1 << 40 | 3
        let bytes = [
            0x12, 13, 0x0a, 9, 8, 7, 0x10, 0x80, 0xd0, 0x95, 0xff, 0xbc, 0x31, 0x10, 2, 0x18, 0x83, 0x80,
            0x80, 0x80, 0x80, 0x20,
        ];
        assert_eq!(message.encode_to_vec(), bytes);
        assert_eq!(ContainerId::decode(&bytes[..]).unwrap().plain(), Some(id));
        assert_eq!(ContainerId { id: None, ..message }.plain(), None);
    }

    #[test]
    fn tokens_and_launch_contexts_do_not_print_secrets() {
        let token = Token { password: b"hush".to_vec(), kind: "NMToken".into(), ..Default::default() };
        assert_eq!(format!("{token:?}"), "Token(NMToken for \"\")");
        let context =
            super::super::ContainerLaunchContext { tokens: Some(vec![104; 9]), ..Default::default() };
        assert!(!format!("{context:?}").contains("104"), "{context:?}");
    }
}
