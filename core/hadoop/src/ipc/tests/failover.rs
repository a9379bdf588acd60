//! Several addresses, and when to try again.

use super::fake::{FakeServer, text};
use super::{PROTOCOL, options, simple};
use crate::ipc::messages::UserInformation;
use crate::ipc::{Attempt, FailoverClient, IpcError, IpcOptions, RemoteException, Retry, RetryPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const STANDBY: &str = "org.apache.hadoop.ipc.StandbyException";
const RETRIABLE: &str = "org.apache.hadoop.ipc.RetriableException";

fn policy() -> RetryPolicy {
    RetryPolicy {
        max_attempts: 8,
        base_delay: Duration::from_millis(20),
        max_delay: Duration::from_millis(100),
        deadline: Duration::from_secs(20),
    }
}

fn failover(addresses: &[&str], options: IpcOptions, policy: RetryPolicy) -> FailoverClient {
    FailoverClient::new(
        addresses.iter().map(|a| a.to_string()).collect(),
        PROTOCOL,
        simple(),
        options,
        policy,
    )
}

async fn echo(client: &FailoverClient, message: &str, idempotent: bool) -> Result<String, IpcError> {
    let answer: UserInformation = client.call("echo", &text(message), idempotent).await?;
    Ok(answer.effective_user.unwrap_or_default())
}

/// A server that answers `<name>: <text>` while it is active and counts the calls it gets.
async fn named(name: &'static str, active: Arc<AtomicBool>, calls: Arc<AtomicUsize>) -> FakeServer {
    FakeServer::start(move |mut peer, _| {
        let (active, calls) = (Arc::clone(&active), Arc::clone(&calls));
        async move {
            peer.accept().await;
            while let Some(call) = peer.call().await {
                calls.fetch_add(1, Ordering::SeqCst);
                if active.load(Ordering::SeqCst) {
                    peer.answer(call.id, &format!("{name}: {}", call.text)).await;
                } else {
                    peer.fail(call.id, STANDBY, "Operation category READ is not supported in state standby")
                        .await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn the_active_one_is_found_and_kept_until_it_is_none_any_more() {
    let (one, two) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let calls = Arc::new(AtomicUsize::new(0));
    let first = named("one", Arc::clone(&one), Arc::clone(&calls)).await;
    let second = named("two", Arc::clone(&two), Arc::new(AtomicUsize::new(0))).await;
    let client = failover(&[&first.address, &second.address], options(), policy());
    assert_eq!(echo(&client, "a", false).await.unwrap(), "two: a");
    assert_eq!(echo(&client, "b", false).await.unwrap(), "two: b");
    assert_eq!(client.active_address(), second.address);
    assert_eq!(calls.load(Ordering::SeqCst), 1, "the standby is asked once");
    one.store(true, Ordering::SeqCst);
    two.store(false, Ordering::SeqCst);
    assert_eq!(echo(&client, "c", false).await.unwrap(), "one: c");
}

#[tokio::test]
async fn nobody_active_ends_with_all_addresses_and_the_last_reason() {
    let never = Arc::new(AtomicBool::new(false));
    let calls = Arc::new(AtomicUsize::new(0));
    let first = named("one", Arc::clone(&never), Arc::clone(&calls)).await;
    let second = named("two", never, Arc::clone(&calls)).await;
    let client = failover(&[&first.address, &second.address], options(), policy());
    let error = echo(&client, "x", true).await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(&error, IpcError::Exhausted { attempts: 8, .. }), "{error}");
    assert!(
        text.contains(&first.address) && text.contains(&second.address) && text.contains("standby"),
        "{text}"
    );
    assert!(error.is_exception("StandbyException"));
    assert_eq!(calls.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_passed_over() {
    let gone = FakeServer::start(|_, _| async {}).await.address.clone();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = named("two", Arc::new(AtomicBool::new(true)), Arc::default()).await;
    let client = failover(&[&gone, &second.address], options(), policy());
    let started = std::time::Instant::now();
    assert_eq!(echo(&client, "a", false).await.unwrap(), "two: a");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_request_that_may_have_been_processed_is_repeated_only_when_idempotent() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&connections);
    let server = FakeServer::start(move |mut peer, number| {
        counter.fetch_add(1, Ordering::SeqCst);
        async move {
            peer.accept().await;
            if number % 2 == 0 {
                peer.call().await;
                return;
            }
            peer.echo().await;
        }
    })
    .await;
    let client = failover(&[&server.address], options(), policy());
    assert!(matches!(echo(&client, "x", false).await, Err(IpcError::Closed { sent: true, .. })));
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert_eq!(echo(&client, "x", true).await.unwrap(), "x", "connection 1 answers");
    client.renew_connection().await;
    assert_eq!(echo(&client, "y", true).await.unwrap(), "y", "connection 2 breaks, 3 answers");
    assert_eq!(connections.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_retriable_exception_stays_at_the_address() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        for _ in 0..2 {
            let call = peer.call().await.unwrap();
            peer.fail(call.id, RETRIABLE, "NameNode still not started").await;
        }
        peer.echo().await;
    })
    .await;
    let other = named("other", Arc::new(AtomicBool::new(true)), Arc::default()).await;
    let client = failover(&[&server.address, &other.address], options(), policy());
    assert_eq!(echo(&client, "x", false).await.unwrap(), "x");
}

#[tokio::test]
async fn the_deadline_holds_for_all_attempts_together() {
    let server = FakeServer::start(|mut peer, _| async move {
        peer.accept().await;
        while peer.call().await.is_some() {}
    })
    .await;
    let options = IpcOptions { call_timeout: Duration::from_millis(400), ..options() };
    let policy = RetryPolicy { deadline: Duration::from_millis(1000), max_attempts: 100, ..policy() };
    let client = failover(&[&server.address], options, policy);
    let started = std::time::Instant::now();
    let error = echo(&client, "x", true).await.unwrap_err();
    assert!(matches!(error.last_attempt(), IpcError::Timeout { .. }), "{error}");
    assert!((Duration::from_millis(800)..Duration::from_secs(5)).contains(&started.elapsed()));
}

#[tokio::test]
async fn no_address_at_all_is_an_error_and_no_panic() {
    let client = failover(&[], options(), policy());
    assert!(echo(&client, "x", true).await.unwrap_err().to_string().contains("no address"));
    assert_eq!(client.active_address(), "");
}

#[test]
fn decisions() {
    let address = || "a:1".to_owned();
    let exception =
        |class: &str| RemoteException { class: class.into(), message: String::new(), stack: String::new() };
    let standby = IpcError::Standby { address: address(), exception: exception(STANDBY) };
    let retriable = IpcError::Retriable { address: address(), exception: exception(RETRIABLE) };
    let remote = IpcError::Remote { address: address(), method: "m", exception: exception("x.Y") };
    let invalid = IpcError::InvalidToken { address: address(), exception: exception("InvalidToken") };
    let closed = |sent| IpcError::Closed { address: address(), reason: String::new(), sent };
    let timeout = IpcError::Timeout { address: address(), method: "m", after: Duration::ZERO };
    let connect =
        IpcError::Connect { address: address(), source: Arc::new(std::io::Error::other("refused")) };
    let policy = RetryPolicy {
        max_attempts: 10,
        base_delay: Duration::from_millis(100),
        max_delay: Duration::from_millis(350),
        deadline: Duration::from_secs(10),
    };
    let at = |made, idempotent| Attempt { made, addresses: 2, elapsed: Duration::ZERO, idempotent };
    let ms = Duration::from_millis;
    for (error, attempt, expected) in [
        (&standby, at(1, false), Retry::Failover { after: ms(0) }),
        (&standby, at(2, false), Retry::Failover { after: ms(100) }),
        (&standby, at(3, false), Retry::Failover { after: ms(100) }),
        (&standby, at(4, false), Retry::Failover { after: ms(200) }),
        (&connect, at(9, false), Retry::Failover { after: ms(350) }),
        (&connect, at(10, false), Retry::GiveUp),
        (&closed(false), at(1, false), Retry::Failover { after: ms(0) }),
        (&closed(true), at(1, false), Retry::GiveUp),
        (&closed(true), at(1, true), Retry::Failover { after: ms(0) }),
        (&timeout, at(1, false), Retry::GiveUp),
        (&timeout, at(1, true), Retry::Failover { after: ms(0) }),
        (&retriable, at(1, false), Retry::Same { after: ms(100) }),
        (&retriable, at(3, false), Retry::Same { after: ms(350) }),
        (&remote, at(1, true), Retry::GiveUp),
        (&invalid, at(1, true), Retry::GiveUp),
    ] {
        assert_eq!(policy.decide(error, &attempt), expected, "{error} {attempt:?}");
    }
    let late = Attempt { elapsed: Duration::from_millis(9_950), ..at(2, true) };
    assert_eq!(policy.decide(&standby, &late), Retry::GiveUp, "the pause would pass the deadline");
    assert_eq!(RetryPolicy::once().decide(&standby, &at(1, true)), Retry::GiveUp);
}
