//! The worker's end of the control connection: messages out, orders in, a heartbeat in between.
//!
//! It runs on the worker's control runtime. The training thread talks to it through [`Link`], which never
//! blocks: what the AM must know is queued, and whether to go on is a flag.

use ringspin_control::messages::{Heartbeat, Hello, ToAm, ToWorker, WorkerHello};
use ringspin_control::{ControlError, frame, handshake};
use ringspin_job::JobSecret;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Where the AM is and what proves that this worker is its own.
#[derive(Clone, Debug)]
pub struct AmAddress {
    /// `host:port` of the workers' door.
    pub address: String,
    /// Attempt of the AM.
    pub attempt: u32,
    /// The job's secret.
    pub secret: JobSecret,
}

/// What the heartbeat tells, kept by whoever works.
#[derive(Debug, Default)]
pub struct Pulse {
    step: AtomicU64,
    state: Mutex<String>,
}

impl Pulse {
    /// Steps committed.
    pub fn set_step(&self, step: u64) {
        self.step.store(step, Ordering::Relaxed);
    }

    /// What the worker does, in a word or two.
    pub fn set_state(&self, state: &str) {
        state.clone_into(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn heartbeat(&self) -> Heartbeat {
        Heartbeat {
            step: self.step.load(Ordering::Relaxed),
            resident_bytes: resident_bytes(),
            state: self.state.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}

/// The way to the AM.
#[derive(Clone)]
pub struct Link {
    outgoing: mpsc::UnboundedSender<ToAm>,
    /// What the heartbeat tells.
    pub pulse: Arc<Pulse>,
}

impl Link {
    /// Queues a message. When the AM is gone nobody gets it, and [`Orders::next`] says so.
    pub fn send(&self, message: ToAm) {
        let _ = self.outgoing.send(message);
    }
}

/// The way from the AM.
pub struct Orders {
    incoming: mpsc::UnboundedReceiver<ToWorker>,
    ended: Arc<Mutex<Option<String>>>,
}

impl Orders {
    /// The next order; `Err` when the connection has ended, with the reason.
    pub async fn next(&mut self) -> Result<ToWorker, String> {
        match self.incoming.recv().await {
            Some(order) => Ok(order),
            None => {
                let reason = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take();
                Err(reason.unwrap_or_else(|| "closed by the ApplicationMaster".into()))
            }
        }
    }
}

/// Connects, proves the secret, says who we are.
///
/// # Errors
/// Nobody answers within `connect_timeout`, or who answers is not this job's AM.
pub async fn connect(
    am: &AmAddress,
    hello: WorkerHello,
    connect_timeout: Duration,
) -> Result<TcpStream, ControlError> {
    let connecting = TcpStream::connect(&am.address);
    let mut stream = tokio::time::timeout(connect_timeout, connecting)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)))?;
    stream.set_nodelay(true)?;
    handshake::dial(&mut stream, &am.secret, am.attempt, crate::random_bytes()).await?;
    frame::write(&mut stream, &Hello::Worker(hello)).await?;
    Ok(stream)
}

/// Starts sending, receiving and the heartbeat on a connected stream.
pub fn open(stream: TcpStream, heartbeat: Duration, silence: Duration) -> (Link, Orders) {
    let (outgoing, mut queue) = mpsc::unbounded_channel::<ToAm>();
    let (orders, incoming) = mpsc::unbounded_channel();
    let pulse = Arc::new(Pulse::default());
    let ended = Arc::new(Mutex::new(None));
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
    let beat = Arc::clone(&pulse);
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(heartbeat);
        loop {
            let message = tokio::select! {
                message = queue.recv() => match message { Some(message) => message, None => return },
                _ = ticks.tick() => ToAm::Heartbeat(beat.heartbeat()),
            };
            if frame::write(&mut writer, &message).await.is_err() {
                return;
            }
        }
    });
    let end = Arc::clone(&ended);
    tokio::spawn(async move {
        let reason = loop {
            match tokio::time::timeout(silence, frame::read::<_, ToWorker>(&mut reader)).await {
                Ok(Ok(Some(ToWorker::Heartbeat))) => {}
                Ok(Ok(Some(order))) => {
                    if orders.send(order).is_err() {
                        return;
                    }
                }
                Ok(Ok(None)) => break "closed by the ApplicationMaster".to_string(),
                Ok(Err(error)) => break error.to_string(),
                Err(_) => break format!("no word from the ApplicationMaster for {silence:?}"),
            }
        };
        *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
    });
    (Link { outgoing, pulse }, Orders { incoming, ended })
}

/// Resident memory of this process, bytes; 0 where the kernel does not say.
fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
    // Linux on x86-64 and on the ARM servers of Hadoop clusters: 4 KiB pages.
    pages.unwrap_or(0) * 4096
}
