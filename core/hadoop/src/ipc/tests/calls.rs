//! Calls, answers, deadlines and broken connections, without security.

use super::fake::{FakeServer, Peer};
use super::{PROTOCOL, client, echo, options, simple};
use crate::ipc::messages::{CALL_ID_CONTEXT, CALL_ID_PING};
use crate::ipc::{Auth, Client, IpcError, IpcOptions};
use proptest::prelude::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

#[tokio::test]
async fn the_context_and_the_method_arrive_as_hadoop_wants_them() {
    let (seen, mut arrived) = mpsc::unbounded_channel();
    let server = FakeServer::start(move |mut peer, _| {
        let seen = seen.clone();
        async move {
            let context = peer.accept().await;
            let call = peer.call().await.unwrap();
            seen.send((context, call.method.clone())).unwrap();
            peer.answer(call.id, "ok").await;
        }
    })
    .await;
    let auth = Auth::Simple { user: "bob".into(), real_user: Some("oozie".into()) };
    let client = Client::new(server.address.clone(), PROTOCOL, auth, options());
    assert_eq!(echo(&client, "x").await.unwrap(), "ok");
    let (context, method) = arrived.recv().await.unwrap();
    let user = context.user.unwrap();
    assert_eq!((user.effective_user.as_deref(), user.real_user.as_deref()), (Some("bob"), Some("oozie")));
    assert_eq!(context.protocol.as_deref(), Some(PROTOCOL.name));
    assert_eq!(
        (method.method.as_str(), method.protocol.as_str(), method.version),
        ("echo", PROTOCOL.name, 1)
    );
}

#[tokio::test]
async fn many_calls_in_flight_on_one_connection_answered_backwards() {
    const CALLS: usize = 200;
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let server = FakeServer::start(move |mut peer, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            peer.accept().await;
            let mut calls = Vec::new();
            while calls.len() < CALLS {
                calls.push(peer.call().await.unwrap());
            }
            for call in calls.iter().rev() {
                peer.answer(call.id, &format!("re: {}", call.text)).await;
            }
            peer.echo().await;
        }
    })
    .await;
    let client = client(&server);
    let mut calls = JoinSet::new();
    for i in 0..CALLS {
        let client = client.clone();
        calls.spawn(async move { (i, echo(&client, &i.to_string()).await.unwrap()) });
    }
    let mut answered = 0;
    while let Some(outcome) = calls.join_next().await {
        let (i, answer) = outcome.unwrap();
        assert_eq!(answer, format!("re: {i}"));
        answered += 1;
    }
    assert_eq!((answered, connections.load(Ordering::SeqCst)), (CALLS, 1));
}

#[tokio::test]
async fn an_exception_fails_its_call_only() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        let (first, second) = (peer.call().await.unwrap(), peer.call().await.unwrap());
        peer.fail(first.id, "org.example.Missing", "no such thing\n\tat org.example.A.b(A.java:1)").await;
        peer.answer(second.id, "fine").await;
    })
    .await;
    let client = client(&server);
    let (first, second) = tokio::join!(echo(&client, "1"), echo(&client, "2"));
    let error = first.unwrap_err();
    assert!(matches!(&error, IpcError::Remote { method: "echo", exception, .. }
        if exception.message == "no such thing" && exception.stack.contains("A.java:1")));
    assert_eq!(second.unwrap(), "fine");
}

#[tokio::test]
async fn a_fatal_answer_fails_every_call_whatever_its_id() {
    for id in [CALL_ID_CONTEXT, -1, 0, 77] {
        let server = FakeServer::start(move |mut peer, number| async move {
            peer.accept().await;
            if number > 0 {
                return peer.echo().await;
            }
            peer.call().await.unwrap();
            peer.call().await.unwrap();
            let text = "User: alice is not allowed to impersonate bob";
            peer.fatal(id, "org.apache.hadoop.security.authorize.AuthorizationException", text).await;
        })
        .await;
        let client = client(&server);
        let (first, second) = tokio::join!(echo(&client, "1"), echo(&client, "2"));
        for outcome in [first, second] {
            let error = outcome.unwrap_err();
            assert!(
                matches!(&error, IpcError::Unauthorized { message, .. } if message.contains("impersonate")),
                "{error}"
            );
        }
        assert_eq!(echo(&client, "again").await.unwrap(), "again", "a new connection is made after id {id}");
    }
}

#[tokio::test]
async fn a_refused_connection_says_what_the_server_wants() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.preamble().await;
        let text = "SIMPLE authentication is not enabled.  Available:[TOKEN]";
        peer.fatal(-1, "org.apache.hadoop.security.AccessControlException", text).await;
    })
    .await;
    let error = echo(&client(&server), "x").await.unwrap_err();
    assert!(
        matches!(&error, IpcError::Unauthorized { message, .. } if message.contains("[TOKEN]")),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_to_a_call_never_made_ends_the_connection() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        peer.call().await.unwrap();
        peer.answer(5, "who?").await;
        peer.echo().await;
    })
    .await;
    let error = echo(&client(&server), "x").await.unwrap_err();
    assert!(matches!(&error, IpcError::Protocol { message, .. } if message.contains("call 5")), "{error}");
}

#[tokio::test]
async fn a_lost_connection_tells_that_the_call_was_sent_and_the_next_call_connects_again() {
    let server = FakeServer::start(|mut peer, number| async move {
        peer.accept().await;
        if number > 0 {
            return peer.echo().await;
        }
        peer.call().await.unwrap();
    })
    .await;
    let client = client(&server);
    let error = echo(&client, "x").await.unwrap_err();
    assert!(matches!(error, IpcError::Closed { sent: true, .. }), "{error}");
    assert_eq!(echo(&client, "y").await.unwrap(), "y");
}

#[tokio::test]
async fn nobody_listening_is_a_connect_error_for_all_who_wait() {
    let address = FakeServer::start(|_, _| async {}).await.address.clone();
    // The listener is gone with the server; give its task the time to end.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let client = Client::new(address, PROTOCOL, simple(), options());
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        calls.spawn(async move { echo(&client, "x").await });
    }
    while let Some(outcome) = calls.join_next().await {
        assert!(matches!(outcome.unwrap(), Err(IpcError::Connect { .. })));
    }
}

#[tokio::test]
async fn calls_behind_one_that_can_not_connect_share_its_error() {
    // A listener that never accepts: the connection comes about, the negotiation does not.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = IpcOptions { connect_timeout: Duration::from_millis(400), sasl: true, ..options() };
    let client = Client::new(listener.local_addr().unwrap().to_string(), PROTOCOL, simple(), options);
    let started = std::time::Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..50 {
        let client = client.clone();
        calls.spawn(async move { echo(&client, "x").await });
    }
    while let Some(outcome) = calls.join_next().await {
        let error = outcome.unwrap().unwrap_err();
        assert!(
            matches!(&error, IpcError::Connect { source, .. } if source.kind() == std::io::ErrorKind::TimedOut),
            "{error}"
        );
    }
    assert!(started.elapsed() < Duration::from_secs(10), "one after the other would take 20 s");
}

#[tokio::test]
async fn a_deadline_ends_the_call_retires_the_connection_and_ignores_the_late_answer() {
    let late = Arc::new(Notify::new());
    let gate = Arc::clone(&late);
    let server = FakeServer::start(move |mut peer, number| {
        let gate = Arc::clone(&gate);
        async move {
            peer.accept().await;
            if number > 0 {
                return peer.echo().await;
            }
            let (slow, patient) = (peer.call().await.unwrap(), peer.call().await.unwrap());
            gate.notified().await;
            peer.answer(slow.id, "too late").await;
            peer.answer(patient.id, "in time").await;
        }
    })
    .await;
    let hasty = Client::new(server.address.clone(), PROTOCOL, simple(), options());
    let patient = hasty.clone();
    let body = crate::ipc::client::encode(PROTOCOL, "echo", &super::text("slow"));
    let (slow, (patient, again)) =
        tokio::join!(hasty.call_encoded("echo", &body, Duration::from_millis(300)), async {
            let waiting = tokio::spawn(async move { echo(&patient, "patient").await });
            tokio::time::sleep(Duration::from_millis(600)).await;
            let again = echo(&hasty, "again").await;
            late.notify_one();
            (waiting.await.unwrap(), again)
        });
    assert!(matches!(slow, Err(IpcError::Timeout { method: "echo", .. })), "{slow:?}");
    assert_eq!(again.unwrap(), "again", "goes over a new connection");
    assert_eq!(patient.unwrap(), "in time", "the old connection serves those who wait on it");
}

#[tokio::test]
async fn a_call_given_up_leaves_the_connection_in_order() {
    let server = FakeServer::start(|mut peer, number| async move {
        assert_eq!(number, 0);
        peer.accept().await;
        let first = peer.call().await.unwrap();
        let second = peer.call().await.unwrap();
        peer.answer(first.id, "nobody waits").await;
        peer.answer(second.id, &second.text).await;
        peer.echo().await;
    })
    .await;
    let client = client(&server);
    let dropped = tokio::time::timeout(Duration::from_millis(300), echo(&client, "dropped")).await;
    assert!(dropped.is_err());
    assert_eq!(echo(&client, "second").await.unwrap(), "second");
    assert_eq!(echo(&client, "third").await.unwrap(), "third");
}

#[tokio::test]
async fn pings_are_sent_while_a_call_waits_and_only_then() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        let call = peer.call().await.unwrap();
        for _ in 0..3 {
            let (header, body) = peer.receive().await.unwrap();
            assert_eq!((header.call_id, header.retry_count, body.len()), (CALL_ID_PING, Some(-1), 0));
            assert_eq!(header.client_id.len(), 16);
        }
        peer.answer(call.id, "pinged").await;
        let quiet = tokio::time::timeout(Duration::from_millis(400), peer.receive()).await;
        assert!(quiet.is_err(), "no ping without a waiting call");
        peer.echo().await;
    })
    .await;
    let options = IpcOptions { ping_interval: Duration::from_millis(50), ..options() };
    let client = Client::new(server.address.clone(), PROTOCOL, simple(), options);
    assert_eq!(echo(&client, "x").await.unwrap(), "pinged");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(echo(&client, "y").await.unwrap(), "y");
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_replaced_without_an_error() {
    let (ended, mut ends) = mpsc::unbounded_channel();
    let server = FakeServer::start(move |mut peer, number| {
        let ended = ended.clone();
        async move {
            peer.accept().await;
            peer.echo().await;
            ended.send(number).unwrap();
        }
    })
    .await;
    let options = IpcOptions { idle_timeout: Duration::from_millis(100), ..options() };
    let client = Client::new(server.address.clone(), PROTOCOL, simple(), options);
    assert_eq!(echo(&client, "1").await.unwrap(), "1");
    assert_eq!(ends.recv().await, Some(0), "closed by the client");
    assert_eq!(echo(&client, "2").await.unwrap(), "2");
    drop(client);
    assert_eq!(ends.recv().await, Some(1), "closed when the last client is dropped");
}

#[tokio::test]
async fn what_is_no_hadoop_server_is_named() {
    let huge = [&(1u32 << 31).to_be_bytes()[..], b"x"].concat();
    let replies: [(&'static [u8], &str); 4] = [
        (b"HTTP/1.1 404 Not Found\r\n\r\n", "web server"),
        (Vec::leak(huge), "2147483648 bytes"),
        (b"\x00\x00\x00\x03\xff\xff\xff", "does not decode"),
        (b"\x00\x00\x00\x00", "does not decode"),
    ];
    for (reply, part) in replies {
        let server = FakeServer::start(move |mut peer, _| async move {
            peer.preamble().await;
            peer.stream.write_all(reply).await.unwrap();
            peer.echo().await;
        })
        .await;
        for sasl in [false, true] {
            let options = IpcOptions { sasl, ..options() };
            let client = Client::new(server.address.clone(), PROTOCOL, simple(), options);
            let error = echo(&client, "x").await.unwrap_err();
            assert!(
                matches!(&error, IpcError::Protocol { message, .. } if message.contains(part)),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn an_answer_above_the_limit_is_refused_before_it_is_read() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        peer.call().await.unwrap();
        peer.stream.write_all(&2001u32.to_be_bytes()).await.unwrap();
        peer.echo().await;
    })
    .await;
    let options = IpcOptions { max_response_bytes: 2000, ..options() };
    let client = Client::new(server.address.clone(), PROTOCOL, simple(), options);
    let error = echo(&client, "x").await.unwrap_err();
    assert!(
        matches!(&error, IpcError::Protocol { message, .. } if message.contains("limit is 2000")),
        "{error}"
    );
}

#[tokio::test]
async fn an_answer_that_does_not_decode_fails_its_call_only() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        let call = peer.call().await.unwrap();
        let mut frame = Peer::answer_frame(call.id, "cut");
        frame.pop();
        let shorter = (frame.len() - 4) as u32;
        frame[..4].copy_from_slice(&shorter.to_be_bytes());
        peer.send(&frame).await;
        peer.echo().await;
    })
    .await;
    let client = client(&server);
    assert!(matches!(echo(&client, "x").await, Err(IpcError::Protocol { .. })));
    assert_eq!(echo(&client, "y").await.unwrap(), "y");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn whatever_bytes_come_back_the_call_ends_with_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), small in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            // Half of the cases begin with a length that is kept, so that the frame itself is looked at.
            let mut reply = if small { ((bytes.len() / 2) as u32).to_be_bytes().to_vec() } else { Vec::new() };
            reply.extend_from_slice(&bytes);
            let server = FakeServer::start(move |mut peer, _| {
                let reply = reply.clone();
                async move {
                    peer.accept().await;
                    peer.call().await;
                    let _ = peer.stream.write_all(&reply).await;
                }
            })
            .await;
            let error = echo(&client(&server), "x").await.unwrap_err();
            prop_assert!(!matches!(error, IpcError::Timeout { .. }), "{}", error);
            Ok(())
        })?;
    }
}
