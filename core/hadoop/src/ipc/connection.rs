//! One open connection: calls wait in a table, one task writes requests and reads answers.
//!
//! Sealing and writing happen in one place, in order, because sequence numbers and ciphers run on from frame to
//! frame. Whatever ends the connection fails every waiting call with the same reason.

use super::frame::{self, FrameBuffer};
use super::handshake::{Established, Introduction, LAST_WORDS, establish, parse_sasl, read_more, sasl_frame};
use super::messages::{CALL_ID_PING, CALL_ID_SASL, SASL_WRAP, SaslMessage};
use super::response::{Failure, Response};
use super::sasl::layer::{Opener, Sealer};
use super::{IpcError, IpcOptions};
use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// Requests that may wait for the writer; callers beyond that wait their turn.
const WRITE_QUEUE: usize = 64;
/// Silence after which the kernel probes whether the peer is still there, as a part of the dead peer timeout.
const PROBE_AFTER: u32 = 2;
/// Time between probes, likewise; the kernel counts in whole seconds.
const PROBE_EVERY: u32 = 8;
/// Shortest times the kernel takes for probes.
const MIN_PROBE: Duration = Duration::from_secs(1);

/// A connection, alive until it fails, is idle for long, or is dropped.
pub(super) struct Connection {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Request>,
}

/// What callers and the task have in common.
struct Shared {
    address: String,
    client_id: [u8; 16],
    calls: Mutex<Calls>,
    /// Nobody holds the connection any more.
    dropped: Notify,
}

struct Calls {
    next_id: i32,
    waiting: HashMap<i32, Waiting>,
    /// When the server was last heard or written to.
    active: Instant,
    /// Takes no new calls.
    retired: bool,
    /// Why the connection is over.
    ended: Option<IpcError>,
}

struct Waiting {
    method: &'static str,
    reply: oneshot::Sender<Result<Bytes, IpcError>>,
    /// Whether any byte of the request may have left.
    sent: bool,
}

struct Request {
    call_id: i32,
    frame: Vec<u8>,
}

/// A call that waits; forgets itself when dropped, so that a late answer finds nobody.
pub(super) struct Pending {
    shared: Arc<Shared>,
    call_id: i32,
    reply: oneshot::Receiver<Result<Bytes, IpcError>>,
}

impl Connection {
    /// Connects, authenticates, and starts the task that serves the connection.
    ///
    /// # Errors
    /// [`IpcError::Connect`] when no connection comes about in time, else what [`establish`] says.
    pub(super) async fn open(
        intro: Introduction<'_>,
        client_id: [u8; 16],
        options: &IpcOptions,
    ) -> Result<Connection, IpcError> {
        let connect_error =
            |source| IpcError::Connect { address: intro.address.into(), source: Arc::new(source) };
        let timed_out = |what: &str| {
            let text = format!("{what} within {:.1} s", options.connect_timeout.as_secs_f64());
            connect_error(io::Error::new(io::ErrorKind::TimedOut, text))
        };
        let stream = timeout(options.connect_timeout, TcpStream::connect(intro.address))
            .await
            .map_err(|_| timed_out("no connection"))?
            .map_err(connect_error)?;
        tune(&stream, options.dead_peer_timeout).map_err(connect_error)?;
        let established = timeout(options.connect_timeout, establish(stream, &intro, options))
            .await
            .map_err(|_| timed_out("the server did not finish authentication"))??;
        let (queue, requests) = mpsc::channel(WRITE_QUEUE);
        let shared = Arc::new(Shared {
            address: intro.address.to_owned(),
            client_id,
            calls: Mutex::new(Calls {
                next_id: 0,
                waiting: HashMap::new(),
                active: Instant::now(),
                retired: false,
                ended: None,
            }),
            dropped: Notify::new(),
        });
        tokio::spawn(serve(Arc::clone(&shared), established, requests, options.clone()));
        Ok(Connection { shared, queue })
    }

    /// Whether new calls can be made.
    pub(super) fn is_open(&self) -> bool {
        let calls = self.shared.calls();
        calls.ended.is_none() && !calls.retired && calls.next_id < i32::MAX
    }

    /// Takes no new calls; those that wait go on.
    pub(super) fn retire(&self) {
        self.shared.calls().retired = true;
    }

    /// Sends a call; `body` is the method header and the request, both delimited.
    ///
    /// # Errors
    /// When the connection has ended meanwhile: nothing was sent.
    pub(super) async fn send(&self, method: &'static str, body: &[u8]) -> Result<Pending, IpcError> {
        let (sender, reply) = oneshot::channel();
        let call_id = {
            let mut calls = self.shared.calls();
            if let Some(reason) = &calls.ended {
                return Err(for_call(reason, false));
            }
            let call_id = calls.next_id;
            calls.next_id += 1;
            calls.waiting.insert(call_id, Waiting { method, reply: sender, sent: false });
            call_id
        };
        let pending = Pending { shared: Arc::clone(&self.shared), call_id, reply };
        let frame = frame::request(call_id, &self.shared.client_id, body);
        // A closed queue needs no word of its own: whatever ended the task has failed the call already.
        let _ = self.queue.send(Request { call_id, frame }).await;
        Ok(pending)
    }
}

/// No delays for small frames, and a short life after the peer's host has vanished.
fn tune(stream: &TcpStream, dead_peer_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time((dead_peer_timeout / PROBE_AFTER).max(MIN_PROBE))
            .with_interval((dead_peer_timeout / PROBE_EVERY).max(MIN_PROBE)),
    )?;
    // Without it unacknowledged data is sent again for about 15 minutes.
    socket.set_tcp_user_timeout(Some(dead_peer_timeout))
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.dropped.notify_one();
    }
}

impl Pending {
    /// Waits for the answer.
    pub(super) async fn answer(&mut self) -> Result<Bytes, IpcError> {
        (&mut self.reply).await.unwrap_or_else(|_| Err(self.shared.closed("its task ended".into())))
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.shared.calls().waiting.remove(&self.call_id);
    }
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        // No code panics while it holds the lock; if one ever does, the table is still whole.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self, reason: String) -> IpcError {
        IpcError::Closed { address: self.address.clone(), reason, sent: true }
    }

    fn broken(&self, message: String) -> IpcError {
        IpcError::Protocol { address: self.address.clone(), message }
    }

    /// Notes that a request is about to be written; `false` when nobody waits for it any more.
    fn about_to_write(&self, call_id: i32) -> bool {
        let mut calls = self.calls();
        calls.active = Instant::now();
        calls.waiting.get_mut(&call_id).map(|call| call.sent = true).is_some()
    }

    /// Ends the connection for everybody; the first reason stays.
    fn end(&self, reason: IpcError) {
        let mut calls = self.calls();
        for (_, call) in calls.waiting.drain() {
            let _ = call.reply.send(Err(for_call(&reason, call.sent)));
        }
        calls.ended.get_or_insert(reason);
    }

    /// Hands an answer to its call.
    fn deliver(&self, call_id: i32, outcome: Result<Bytes, Failure>) -> Result<(), IpcError> {
        let mut calls = self.calls();
        match calls.waiting.remove(&call_id) {
            Some(call) => {
                let outcome = outcome.map_err(|failure| failure.of_call(&self.address, call.method));
                let _ = call.reply.send(outcome);
                Ok(())
            }
            // Given up by its caller.
            None if (0..calls.next_id).contains(&call_id) => Ok(()),
            None => match outcome {
                Ok(_) => Err(self.broken(format!("an answer to call {call_id}, which was never made"))),
                Err(failure) => Err(failure.of_connection(&self.address)),
            },
        }
    }

    /// What the timer has to do at `now`.
    fn on_timer(&self, now: Instant, options: &IpcOptions) -> Timer {
        let mut calls = self.calls();
        let silence = now.saturating_duration_since(calls.active);
        if calls.waiting.is_empty() {
            if silence < options.idle_timeout {
                return Timer::Wait;
            }
            // Under the same lock as new calls: none can slip in between.
            let reason = format!("idle for {:.0} s", silence.as_secs_f64());
            let idle = IpcError::Closed { address: self.address.clone(), reason, sent: false };
            calls.ended = Some(idle.clone());
            return Timer::Close(idle);
        }
        if silence < options.ping_interval {
            return Timer::Wait;
        }
        calls.active = now;
        Timer::Ping
    }
}

enum Timer {
    Wait,
    Ping,
    Close(IpcError),
}

/// The reason as one call sees it: only the call knows whether it was sent.
fn for_call(reason: &IpcError, sent: bool) -> IpcError {
    match reason.clone() {
        IpcError::Closed { address, reason, .. } => IpcError::Closed { address, reason, sent },
        other => other,
    }
}

/// Runs the connection to its end.
async fn serve(
    shared: Arc<Shared>,
    established: Established,
    requests: mpsc::Receiver<Request>,
    options: IpcOptions,
) {
    let Established { stream, frames, layer, context } = established;
    let (input, output) = stream.into_split();
    let (sealer, opener) = layer.map(|layer| (layer.sealer, layer.opener)).unzip();
    let mut reader = Reader { shared: &shared, input, frames, opener };
    let mut writer = Writer { shared: &shared, output, sealer, options: &options };
    let reason = {
        let reading = reader.run(options.max_response_bytes);
        tokio::pin!(reading);
        tokio::select! {
            reason = &mut reading => reason,
            reason = writer.run(context, requests) => match reason {
                // The server may have said why it hung up before it did.
                Ended::Broken(error) => match timeout(LAST_WORDS, reading).await {
                    Ok(reason) if !matches!(reason, IpcError::Closed { .. }) => reason,
                    _ => shared.closed(error.to_string()),
                },
                Ended::Idle(reason) => reason,
            },
            () = shared.dropped.notified() => shared.closed("it is not needed any more".into()),
        }
    };
    tracing::debug!(address = %shared.address, %reason, "connection ended");
    shared.end(reason);
}

struct Reader<'a> {
    shared: &'a Shared,
    input: OwnedReadHalf,
    frames: FrameBuffer,
    opener: Option<Opener>,
}

impl Reader<'_> {
    /// Reads until something ends the connection.
    async fn run(&mut self, max_response_bytes: usize) -> IpcError {
        let mut inner = FrameBuffer::new(max_response_bytes);
        loop {
            if let Err(reason) = self.drain(&mut inner) {
                return reason;
            }
            if let Err(error) = read_more(&mut self.input, &mut self.frames).await {
                return self.shared.closed(error.to_string());
            }
            self.shared.calls().active = Instant::now();
        }
    }

    /// Handles every frame that has arrived. Of a protected connection the frames hold pieces of an inner
    /// stream, which has frames of its own: a piece may hold part of one or several.
    fn drain(&mut self, inner: &mut FrameBuffer) -> Result<(), IpcError> {
        let broken = |message| self.shared.broken(message);
        while let Some(frame) = self.frames.next().map_err(broken)? {
            let response = Response::parse(frame, &self.shared.client_id).map_err(broken)?;
            let Some(opener) = &mut self.opener else {
                self.handle(response)?;
                continue;
            };
            match response {
                Response::Answer { call_id: CALL_ID_SASL, body } => {
                    let message = parse_sasl(body).map_err(broken)?;
                    let token = message.token.filter(|_| message.state == SASL_WRAP);
                    let token = token.ok_or_else(|| broken("a SASL message that wraps nothing".into()))?;
                    inner.bytes().extend_from_slice(&opener.open(&token).map_err(broken)?);
                }
                Response::Fatal(failure) => return Err(failure.of_connection(&self.shared.address)),
                _ => return Err(broken("an answer came unprotected".into())),
            }
            while let Some(frame) = inner.next().map_err(broken)? {
                self.handle(Response::parse(frame, &self.shared.client_id).map_err(broken)?)?;
            }
        }
        Ok(())
    }

    fn handle(&self, response: Response) -> Result<(), IpcError> {
        match response {
            Response::Answer { call_id, body } => self.shared.deliver(call_id, Ok(body)),
            Response::Failed { call_id, failure } => self.shared.deliver(call_id, Err(failure)),
            Response::Fatal(failure) => Err(failure.of_connection(&self.shared.address)),
        }
    }
}

struct Writer<'a> {
    shared: &'a Shared,
    output: OwnedWriteHalf,
    sealer: Option<Sealer>,
    options: &'a IpcOptions,
}

enum Ended {
    Idle(IpcError),
    Broken(io::Error),
}

impl Writer<'_> {
    /// Writes the context, then requests as they come, and pings.
    async fn run(&mut self, context: Vec<u8>, mut requests: mpsc::Receiver<Request>) -> Ended {
        if let Err(error) = self.write(&context).await {
            return Ended::Broken(error);
        }
        let tick = self.options.ping_interval.min(self.options.idle_timeout).max(Duration::from_millis(1));
        loop {
            let frame = match timeout(tick, requests.recv()).await {
                Ok(Some(Request { call_id, frame })) if self.shared.about_to_write(call_id) => frame,
                Ok(Some(_)) => continue,
                // The connection was dropped; `serve` is about to end this.
                Ok(None) => std::future::pending().await,
                Err(_) => match self.shared.on_timer(Instant::now(), self.options) {
                    Timer::Wait => continue,
                    Timer::Ping => frame::request(CALL_ID_PING, &self.shared.client_id, &[]),
                    Timer::Close(reason) => return Ended::Idle(reason),
                },
            };
            if let Err(error) = self.write(&frame).await {
                return Ended::Broken(error);
            }
        }
    }

    async fn write(&mut self, frame: &[u8]) -> io::Result<()> {
        let Some(sealer) = &mut self.sealer else { return self.output.write_all(frame).await };
        let mut out = Vec::with_capacity(frame.len() + 128);
        for piece in frame.chunks(sealer.max_plain()) {
            let token = Some(sealer.seal(piece));
            out.extend(sasl_frame(&SaslMessage { state: SASL_WRAP, token, ..SaslMessage::default() }));
        }
        self.output.write_all(&out).await
    }
}
