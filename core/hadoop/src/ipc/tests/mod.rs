//! The client against a server that misbehaves on command.

mod calls;
mod failover;
pub(crate) mod fake;
mod security;

use super::{Auth, Client, IpcError, IpcOptions, Protocol};
use crate::conf::{Configuration, Environment};
use fake::{FakeServer, text};
use std::time::Duration;

const PROTOCOL: Protocol = Protocol { name: "org.apache.hadoop.test.EchoProtocolPB", version: 1 };

fn simple() -> Auth {
    Auth::Simple { user: "alice".into(), real_user: None }
}

/// Short enough for a test that waits for it, long enough for a loaded machine where it must not strike.
fn options() -> IpcOptions {
    IpcOptions {
        connect_timeout: Duration::from_secs(20),
        call_timeout: Duration::from_secs(20),
        ..IpcOptions::default()
    }
}

fn client(server: &FakeServer) -> Client {
    Client::new(server.address.clone(), PROTOCOL, simple(), options())
}

async fn echo(client: &Client, message: &str) -> Result<String, IpcError> {
    let answer: super::messages::UserInformation = client.call("echo", &text(message)).await?;
    Ok(answer.effective_user.unwrap_or_default())
}

#[test]
fn options_come_from_the_configuration_where_it_makes_sense() {
    let mut conf = Configuration::defaults(Environment::default());
    assert_eq!(IpcOptions::from_configuration(&conf).unwrap(), IpcOptions::default());
    for (key, value) in [
        ("ipc.client.connect.timeout", "2000"),
        // Hadoop 3.3 and its "wait for ever".
        ("ipc.client.rpc-timeout.ms", "0"),
        ("ipc.ping.interval", "30s"),
        ("ipc.maximum.response.length", "64m"),
        ("hadoop.security.authentication", "Kerberos"),
    ] {
        conf.set(key, value, "a test");
    }
    let options = IpcOptions::from_configuration(&conf).unwrap();
    assert_eq!(options.connect_timeout, Duration::from_secs(2));
    assert_eq!(options.call_timeout, IpcOptions::default().call_timeout);
    assert_eq!(options.ping_interval, Duration::from_secs(30));
    assert_eq!((options.max_response_bytes, options.sasl), (64 << 20, true));
    conf.set("ipc.ping.interval", "soon", "a test");
    assert!(IpcOptions::from_configuration(&conf).unwrap_err().to_string().contains("ipc.ping.interval"));
}
