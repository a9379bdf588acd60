//! The workers' door: accepts control connections, lets in who proves the job's secret, turns frames into
//! events and sends what the machine says.
//!
//! Strangers cost a handshake's memory and time each, at most [`MAX_STRANGERS`] at once.

use crate::machine::Event;
use ringspin_control::messages::{Hello, ToAm, ToObserver, ToWorker};
use ringspin_control::status::Status;
use ringspin_control::{HANDSHAKE_TIMEOUT, frame, handshake};
use ringspin_job::JobSecret;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};

/// Connections that have not proven the secret yet.
const MAX_STRANGERS: usize = 64;
/// Messages waiting for a slow worker; one that takes none of these for so long is silent anyway.
const SEND_QUEUE: usize = 256;

/// Sends to connected workers.
#[derive(Clone, Default)]
pub struct Workers {
    senders: Arc<Mutex<HashMap<u64, mpsc::Sender<ToWorker>>>>,
}

impl Workers {
    /// Queues a message; a worker that is not connected (any more) never gets it, and its end is an event.
    pub fn send(&self, slot: u64, message: ToWorker) {
        let sender = self.lock().get(&slot).cloned();
        if let Some(sender) = sender
            && sender.try_send(message).is_err()
        {
            self.lock().remove(&slot);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::Sender<ToWorker>>> {
        self.senders.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    secret: JobSecret,
    attempt: u32,
    workers: Workers,
    events: mpsc::Sender<Event>,
    status: watch::Receiver<Status>,
}

/// Accepts connections until it is dropped.
pub async fn serve(
    listener: TcpListener,
    secret: JobSecret,
    attempt: u32,
    workers: Workers,
    events: mpsc::Sender<Event>,
    status: watch::Receiver<Status>,
) {
    let door = Door { secret, attempt, workers, events, status };
    let strangers = Arc::new(Semaphore::new(MAX_STRANGERS));
    loop {
        let Ok(permit) = Arc::clone(&strangers).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let door = door.clone();
                tokio::spawn(async move {
                    if let Err(error) = door.admit(stream, peer, permit).await {
                        tracing::warn!("connection from {peer}: {error}");
                    }
                });
            }
            // Out of file descriptors, or the peer was gone before we looked: neither ends the job.
            Err(error) => {
                tracing::warn!("accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

impl Door {
    async fn admit(
        self,
        mut stream: TcpStream,
        peer: SocketAddr,
        permit: tokio::sync::OwnedSemaphorePermit,
    ) -> Result<(), ringspin_control::ControlError> {
        stream.set_nodelay(true)?;
        handshake::accept(&mut stream, &self.secret, self.attempt, crate::random_bytes()).await?;
        drop(permit);
        let (reader, writer) = stream.into_split();
        let (mut reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
        let hello = tokio::time::timeout(HANDSHAKE_TIMEOUT, frame::read(&mut reader)).await;
        match hello {
            Ok(Ok(Some(Hello::Worker(hello)))) => {
                let ring_address = SocketAddr::new(peer.ip(), hello.ring_port).to_string();
                self.worker(hello.slot, ring_address, reader, writer).await;
                Ok(())
            }
            Ok(Ok(Some(Hello::Observer))) => self.observer(writer).await,
            Ok(Ok(None)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(ringspin_control::ControlError::Handshake("no hello in time")),
        }
    }

    async fn worker(
        self,
        slot: u64,
        ring_address: String,
        mut reader: BufReader<OwnedReadHalf>,
        mut writer: BufWriter<OwnedWriteHalf>,
    ) {
        let (sender, mut outgoing) = mpsc::channel::<ToWorker>(SEND_QUEUE);
        self.workers.lock().insert(slot, sender);
        if self.events.send(Event::Connected { slot, ring_address }).await.is_err() {
            return;
        }
        let sending = tokio::spawn(async move {
            while let Some(message) = outgoing.recv().await {
                if frame::write(&mut writer, &message).await.is_err() {
                    break;
                }
            }
        });
        let reason = loop {
            match frame::read::<_, ToAm>(&mut reader).await {
                Ok(Some(message)) => {
                    if self.events.send(Event::Said { slot, message }).await.is_err() {
                        return;
                    }
                }
                Ok(None) => break "closed by the worker".to_string(),
                Err(error) => break error.to_string(),
            }
        };
        self.workers.lock().remove(&slot);
        // What is queued for a worker that only half closed (Exit, Abort) still goes out.
        let _ = tokio::time::timeout(HANDSHAKE_TIMEOUT, sending).await;
        let _ = self.events.send(Event::Disconnected { slot, reason }).await;
    }

    async fn observer(
        mut self,
        mut writer: BufWriter<OwnedWriteHalf>,
    ) -> Result<(), ringspin_control::ControlError> {
        loop {
            let status = self.status.borrow_and_update().clone();
            let ended = status.outcome.is_some();
            frame::write(&mut writer, &ToObserver::Status(Box::new(status))).await?;
            if ended || self.status.changed().await.is_err() {
                return Ok(());
            }
        }
    }
}
