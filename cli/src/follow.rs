//! Watching a submitted job to its end: pushed by its AM where that can be reached, asked from the
//! ResourceManager otherwise. The ResourceManager's word on the end is the one that counts.

use crate::exit::{CommandError, Exit};
use crate::progress::Progress;
use crate::submit::Submitted;
use ringspin_control::messages::{Hello, ToObserver};
use ringspin_control::status::{Outcome, Status};
use ringspin_control::{frame, handshake};
use ringspin_hadoop::yarn::client::{Wait, YarnError};
use ringspin_hadoop::yarn::report::{ApplicationReport, ApplicationState, FinalStatus};
use std::time::{Duration, Instant};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// Between two questions to the ResourceManager while the AM is not there yet.
const START_POLL: Duration = Duration::from_millis(50);
/// Between two questions afterwards.
const POLL: Duration = Duration::from_millis(500);
/// A start that takes longer than this is worth a word of the ResourceManager's.
const PATIENCE: Duration = Duration::from_secs(3);
/// An AM that can not be reached within this is not asked any more.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How a watched job ended.
pub struct Followed {
    /// The ResourceManager's last word.
    pub report: ApplicationReport,
    /// The AM's last word, if it could be heard.
    pub status: Option<Status>,
}

impl Followed {
    /// Exit status and, unless the job succeeded, the cause.
    pub fn exit(&self) -> (Exit, String) {
        let cause = match self.status.as_ref().and_then(|status| status.outcome.as_ref()) {
            Some(Outcome::Failed { diagnostics } | Outcome::Killed { diagnostics }) => diagnostics.clone(),
            _ => self.report.diagnostics.trim().to_string(),
        };
        match (self.report.state, self.report.final_status) {
            (ApplicationState::Finished, FinalStatus::Succeeded) => (Exit::Success, String::new()),
            (ApplicationState::Killed, _) | (_, FinalStatus::Killed) => (Exit::Killed, cause),
            _ => (Exit::Failed, cause),
        }
    }
}

/// Watches until the job has ended.
///
/// # Errors
/// Nobody answers about the job any more: [`Exit::LostContact`].
pub async fn follow(submitted: &Submitted, progress: &mut Progress) -> Result<Followed, CommandError> {
    let (statuses, mut pushed) = mpsc::channel::<Status>(16);
    let mut observing: Option<(i32, tokio::task::JoinHandle<()>)> = None;
    let mut last: Option<Status> = None;
    let mut said = String::new();
    let begun = Instant::now();
    loop {
        let report =
            submitted.yarn.report(submitted.application).await.map_err(|error| lost(submitted, &error))?;
        if report.state.is_final() {
            while let Ok(status) = pushed.try_recv() {
                last = Some(status);
            }
            return Ok(Followed { report, status: last });
        }
        if report.state == ApplicationState::Accepted
            && begun.elapsed() >= PATIENCE
            && let Some(reason) = waiting_reason(&report.diagnostics).filter(|reason| *reason != said)
        {
            said = reason.to_string();
            progress.line(&format!("waiting for the cluster: {said}"));
        }
        if let (Some((known, task)), Some(now)) = (&observing, report.attempt)
            && now.attempt != *known
        {
            // What the lost one has said is not how the job ends.
            task.abort();
            while pushed.try_recv().is_ok() {}
            last = None;
            progress
                .line(&format!("ApplicationMaster attempt {known} was lost, attempt {} begins", now.attempt));
            observing = None;
        }
        if observing.is_none()
            && let Some(attempt) = report.attempt.filter(|_| report.state == ApplicationState::Running)
            && let Ok(port) = u16::try_from(report.rpc_port)
        {
            let address = format!("{}:{port}", report.host);
            let (secret, statuses) = (submitted.secret.clone(), statuses.clone());
            let number = attempt.attempt.unsigned_abs();
            let task = tokio::spawn(async move {
                if let Err(error) = observe(&address, number, &secret, &statuses).await {
                    tracing::info!("{address}: {error}; asking the ResourceManager instead");
                }
            });
            observing = Some((attempt.attempt, task));
            if !report.tracking_url.is_empty() {
                progress.line(&format!("Status page: {}", report.tracking_url));
            }
        }
        let poll = if observing.is_some() { POLL } else { START_POLL };
        let pause = tokio::time::sleep(poll);
        tokio::pin!(pause);
        loop {
            tokio::select! {
                () = &mut pause => break,
                Some(status) = pushed.recv() => {
                    progress.show(&status);
                    let ended = status.outcome.is_some();
                    last = Some(status);
                    if ended {
                        break;
                    }
                }
            }
        }
    }
}

/// Why an accepted application does not start yet, out of the ResourceManager's sentence about it.
fn waiting_reason(diagnostics: &str) -> Option<&str> {
    let text = diagnostics.trim();
    // `[Thu Nov 26 14:00:00 +0000 2026] Application is added to the scheduler and is not yet activated. REASON`
    let text = text.strip_prefix('[').and_then(|rest| rest.split_once("] ")).map_or(text, |(_, rest)| rest);
    let waits = text.contains("not yet activated") || text.contains("waiting for");
    let reason = text.split_once("activated.").map_or(text, |(_, rest)| rest);
    // What follows are figures of the queue.
    let reason = reason.split_once("Details :").map_or(reason, |(reason, _)| reason).trim();
    (waits && !reason.is_empty()).then_some(reason)
}

async fn observe(
    address: &str,
    attempt: u32,
    secret: &ringspin_job::JobSecret,
    statuses: &mpsc::Sender<Status>,
) -> Result<(), ringspin_control::ControlError> {
    let connecting = TcpStream::connect(address);
    let mut stream = tokio::time::timeout(OBSERVE_TIMEOUT, connecting)
        .await
        .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut)))?;
    handshake::dial(&mut stream, secret, attempt, ringspin_am::random_bytes()).await?;
    frame::write(&mut stream, &Hello::Observer).await?;
    let mut reader = BufReader::new(stream);
    while let Some(ToObserver::Status(status)) = frame::read(&mut reader).await? {
        if statuses.send(*status).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Kills the job and waits until it is dead.
pub async fn kill(submitted: &Submitted, by: &str) {
    let wait = Wait { poll: Duration::from_millis(100), deadline: Duration::from_secs(30) };
    if let Err(error) = submitted.yarn.kill(submitted.application, by, wait).await {
        tracing::error!("{}: {error}", submitted.application);
    }
    submitted.remove_remains().await;
}

fn lost(submitted: &Submitted, error: &YarnError) -> CommandError {
    let message = format!("no word about {} any more: {error}; it may still run", submitted.application);
    CommandError::new(Exit::LostContact, message)
}
