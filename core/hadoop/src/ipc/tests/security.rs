//! Tokens, protections, and servers that refuse.

use super::fake::{FakeServer, Peer, token};
use super::{PROTOCOL, echo, options, simple};
use crate::credentials::Token;
use crate::ipc::messages::*;
use crate::ipc::{Auth, Client, IpcError, IpcOptions};
use tokio::sync::mpsc;

fn token_client(server: &FakeServer) -> Client {
    Client::new(server.address.clone(), PROTOCOL, Auth::Token { token: token() }, options())
}

#[tokio::test]
async fn a_token_opens_the_door_with_every_protection() {
    for qop in ["auth", "auth-int", "auth-conf", "auth,auth-int,auth-conf"] {
        let server = FakeServer::start(move |mut peer, _| async move {
            let context = peer.accept_token(qop).await;
            assert_eq!(context.user, Some(UserInformation::default()), "the token names the user");
            peer.echo().await;
        })
        .await;
        let client = token_client(&server);
        let long = "x".repeat(200_000);
        for message in ["one", "two", "three", &long, "five"] {
            assert_eq!(echo(&client, message).await.unwrap(), message, "{qop}");
        }
    }
}

#[tokio::test]
async fn inner_frames_may_be_cut_anywhere_and_come_together() {
    for qop in ["auth-int", "auth-conf"] {
        let server = FakeServer::start(move |mut peer, _| async move {
            peer.accept_token(qop).await;
            let (first, second) = (peer.call().await.unwrap(), peer.call().await.unwrap());
            let stream =
                [Peer::answer_frame(first.id, "first"), Peer::answer_frame(second.id, "second")].concat();
            for piece in [&stream[..2], &stream[2..5], b"", &stream[5..]] {
                peer.send(piece).await;
            }
            peer.echo().await;
        })
        .await;
        let client = token_client(&server);
        let (first, second) = tokio::join!(echo(&client, "1"), echo(&client, "2"));
        assert_eq!((first.unwrap().as_str(), second.unwrap().as_str()), ("first", "second"));
        assert_eq!(echo(&client, "3").await.unwrap(), "3");
    }
}

#[tokio::test]
async fn an_answer_outside_the_protection_is_refused() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept_token("auth-int").await;
        let call = peer.call().await.unwrap();
        peer.layer = None;
        peer.answer(call.id, "forged").await;
        peer.echo().await;
    })
    .await;
    let error = echo(&token_client(&server), "x").await.unwrap_err();
    assert!(
        matches!(&error, IpcError::Protocol { message, .. } if message.contains("unprotected")),
        "{error}"
    );
}

#[tokio::test]
async fn a_changed_message_ends_the_connection() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept_token("auth-int").await;
        let call = peer.call().await.unwrap();
        let mut sealed = peer.layer.as_mut().unwrap().sealer.seal(&Peer::answer_frame(call.id, "true"));
        let at = sealed.windows(4).position(|w| w == b"true").unwrap();
        sealed[at] = b'b';
        peer.send_sasl(SaslMessage { state: SASL_WRAP, token: Some(sealed), ..SaslMessage::default() }).await;
        peer.echo().await;
    })
    .await;
    let error = echo(&token_client(&server), "x").await.unwrap_err();
    assert!(matches!(&error, IpcError::Protocol { message, .. } if message.contains("signature")), "{error}");
}

#[tokio::test]
async fn a_rejected_token_and_a_standby_are_told_apart() {
    for (class, check) in [
        ("org.apache.hadoop.security.token.SecretManager$InvalidToken", 0),
        ("org.apache.hadoop.ipc.StandbyException", 1),
        ("javax.security.sasl.SaslException", 2),
    ] {
        let server = FakeServer::start(move |mut peer, _| async move {
            peer.preamble().await;
            peer.sasl().await;
            peer.fatal(CALL_ID_SASL, class, "Invalid AMRMToken from appattempt_1_0001_000001").await;
        })
        .await;
        let error = echo(&token_client(&server), "x").await.unwrap_err();
        let seen = match error {
            IpcError::InvalidToken { .. } => 0,
            IpcError::Standby { .. } => 1,
            IpcError::Unauthorized { .. } => 2,
            other => panic!("{other}"),
        };
        assert_eq!(seen, check);
    }
}

#[tokio::test]
async fn a_wrong_password_is_refused_by_the_server_and_a_false_server_by_us() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept_token("auth").await;
    })
    .await;
    let wrong = Token { password: b"wrong".to_vec(), ..token() };
    let client = Client::new(server.address.clone(), PROTOCOL, Auth::Token { token: wrong }, options());
    let error = echo(&client, "x").await.unwrap_err();
    assert!(
        matches!(&error, IpcError::Unauthorized { message, .. } if message.contains("Mismatched")),
        "{error}"
    );

    let server = FakeServer::start(|mut peer, _| async move {
        peer.preamble().await;
        peer.sasl().await;
        let digest = SaslAuth {
            method: "TOKEN".into(),
            mechanism: "DIGEST-MD5".into(),
            challenge: Some(b"realm=\"default\",nonce=\"n\",algorithm=md5-sess".to_vec()),
            ..SaslAuth::default()
        };
        peer.send_sasl(SaslMessage { state: SASL_NEGOTIATE, auths: vec![digest], ..SaslMessage::default() })
            .await;
        peer.sasl().await;
        let token = Some(b"rspauth=00000000000000000000000000000000".to_vec());
        peer.send_sasl(SaslMessage { state: SASL_SUCCESS, token, ..SaslMessage::default() }).await;
        peer.receive().await;
    })
    .await;
    let error = echo(&token_client(&server), "x").await.unwrap_err();
    assert!(matches!(&error, IpcError::Unauthorized { message, .. } if message.contains("wrong")), "{error}");
}

#[tokio::test]
async fn a_server_that_offers_nothing_we_have_is_named_with_its_offers() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.preamble().await;
        peer.sasl().await;
        let offer = |method: &str, mechanism: &str| SaslAuth {
            method: method.into(),
            mechanism: mechanism.into(),
            ..SaslAuth::default()
        };
        let auths = vec![offer("TOKEN", "SCRAM-SHA-512"), offer("KERBEROS", "GSSAPI")];
        peer.send_sasl(SaslMessage { state: SASL_NEGOTIATE, auths, ..SaslMessage::default() }).await;
        peer.receive().await;
    })
    .await;
    let error = echo(&token_client(&server), "x").await.unwrap_err();
    assert!(error.to_string().contains("SCRAM-SHA-512"), "{error}");
    let options = IpcOptions { sasl: true, ..options() };
    let client = Client::new(server.address.clone(), PROTOCOL, simple(), options);
    let error = echo(&client, "x").await.unwrap_err();
    assert!(
        matches!(&error, IpcError::Unauthorized { message, .. } if message.contains("TOKEN, KERBEROS")),
        "{error}"
    );
}

#[tokio::test]
async fn sasl_without_security_ends_in_a_bare_name() {
    // A server without any security answers SUCCESS at once; one with tokens offers SIMPLE beside them.
    for offers_simple in [false, true] {
        let server = FakeServer::start(move |mut peer, _| async move {
            assert_eq!(peer.preamble().await, 0xdf);
            peer.sasl().await;
            if offers_simple {
                let simple = SaslAuth { method: "SIMPLE".into(), ..SaslAuth::default() };
                let message = SaslMessage {
                    state: SASL_NEGOTIATE,
                    auths: vec![simple.clone()],
                    ..SaslMessage::default()
                };
                peer.send_sasl(message).await;
                let initiate = peer.sasl().await;
                assert_eq!(
                    (initiate.state, initiate.token, initiate.auths),
                    (SASL_INITIATE, None, vec![simple])
                );
            } else {
                peer.send_sasl(SaslMessage { state: SASL_SUCCESS, ..SaslMessage::default() }).await;
            }
            let context = peer.context().await;
            assert_eq!(context.user.unwrap().effective_user.as_deref(), Some("alice"));
            peer.echo().await;
        })
        .await;
        let options = IpcOptions { sasl: true, ..options() };
        let client = Client::new(server.address.clone(), PROTOCOL, simple(), options);
        assert_eq!(echo(&client, "x").await.unwrap(), "x");
        if !offers_simple {
            let error = echo(&token_client(&server), "x").await.unwrap_err();
            assert!(matches!(error, IpcError::Unauthorized { .. }), "{error}");
        }
    }
}

#[tokio::test]
async fn a_newer_token_is_used_at_the_next_connection() {
    let (seen, mut names) = mpsc::unbounded_channel();
    let server = FakeServer::start(move |mut peer, _| {
        let seen = seen.clone();
        async move {
            let context = peer.accept_token("auth").await;
            // An empty context is what `accept_token` gives for a wrong token.
            seen.send(context.protocol.is_some()).unwrap();
            peer.echo().await;
        }
    })
    .await;
    let old = Token { password: b"rolled".to_vec(), ..token() };
    let client = Client::new(server.address.clone(), PROTOCOL, Auth::Token { token: token() }, options());
    assert_eq!(echo(&client, "1").await.unwrap(), "1");
    client.set_token(old);
    assert_eq!(echo(&client, "2").await.unwrap(), "2", "the open connection is kept");
    client.renew_connection().await;
    assert!(matches!(echo(&client, "3").await, Err(IpcError::Unauthorized { .. })));
    client.set_token(token());
    assert_eq!(echo(&client, "4").await.unwrap(), "4");
    let outcomes = [names.recv().await, names.recv().await, names.recv().await];
    assert_eq!(outcomes, [Some(true), Some(false), Some(true)]);
}
