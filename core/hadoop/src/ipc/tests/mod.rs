//! The client against a server that misbehaves on command.

mod calls;
mod failover;
pub(crate) mod fake;
mod security;

use super::{Auth, Client, IpcError, IpcOptions, Protocol};
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
