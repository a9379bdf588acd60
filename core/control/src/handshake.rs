//! Both sides prove the job's secret before anything else is read.
//!
//! ```text
//! dialer   -> magic (8 bytes), challenge (32)
//! listener -> challenge (32), proof (32)
//! dialer   -> proof (32)
//! listener -> accepted (1 byte)
//! ```
//! The proofs cover both challenges, the protocol version and the AM attempt: a worker of an older attempt can
//! not talk to a newer AM, nor the other way round. The last byte tells the dialer that it was let in.

use crate::{ControlError, HANDSHAKE_TIMEOUT, PROTOCOL_VERSION};
use ringspin_job::{Challenge, JobSecret, PROOF_BYTES, Proof, Side};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

const MAGIC: &[u8; 8] = b"RINGSPNC";
const ACCEPTED: u8 = 1;

fn purpose(attempt: u32) -> String {
    format!("control {PROTOCOL_VERSION} attempt {attempt}")
}

/// The dialing side. `challenge` is fresh random bytes.
///
/// # Errors
/// The listener is no AM of this job and attempt, or says nothing for [`HANDSHAKE_TIMEOUT`].
pub async fn dial<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    secret: &JobSecret,
    attempt: u32,
    challenge: Challenge,
) -> Result<(), ControlError> {
    let exchange = async {
        stream.write_all(MAGIC).await?;
        stream.write_all(&challenge).await?;
        stream.flush().await?;
        let theirs: Challenge = read_array(stream).await?;
        let proof: Proof = read_array(stream).await?;
        if !secret.verify(&purpose(attempt), Side::Listener, &challenge, &theirs, &proof) {
            return Err(ControlError::Handshake("the listener does not know this job's secret"));
        }
        stream.write_all(&secret.prove(&purpose(attempt), Side::Dialer, &challenge, &theirs)).await?;
        stream.flush().await?;
        match stream.read_u8().await {
            Ok(ACCEPTED) => Ok(()),
            _ => Err(ControlError::Handshake("the listener refused this side's proof")),
        }
    };
    timeout(HANDSHAKE_TIMEOUT, exchange).await.unwrap_or(Err(ControlError::Handshake("no answer in time")))
}

/// The listening side. `challenge` is fresh random bytes.
///
/// # Errors
/// The dialer speaks something else, does not know the secret, or is too slow.
pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    secret: &JobSecret,
    attempt: u32,
    challenge: Challenge,
) -> Result<(), ControlError> {
    let exchange = async {
        let magic: [u8; 8] = read_array(stream).await?;
        if &magic != MAGIC {
            return Err(ControlError::Handshake("the dialer speaks another protocol"));
        }
        let theirs: Challenge = read_array(stream).await?;
        stream.write_all(&challenge).await?;
        stream.write_all(&secret.prove(&purpose(attempt), Side::Listener, &theirs, &challenge)).await?;
        stream.flush().await?;
        let proof: Proof = read_array(stream).await?;
        if !secret.verify(&purpose(attempt), Side::Dialer, &theirs, &challenge, &proof) {
            return Err(ControlError::Handshake("the dialer does not know this job's secret"));
        }
        stream.write_u8(ACCEPTED).await?;
        stream.flush().await?;
        Ok(())
    };
    timeout(HANDSHAKE_TIMEOUT, exchange)
        .await
        .unwrap_or(Err(ControlError::Handshake("the dialer is too slow")))
}

async fn read_array<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; N], ControlError> {
    const { assert!(N <= PROOF_BYTES) };
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shake(
        dialer: (u8, u32),
        listener: (u8, u32),
    ) -> (Result<(), ControlError>, Result<(), ControlError>) {
        let (mut a, mut b) = tokio::io::duplex(256);
        let (dialer_secret, listener_secret) =
            (JobSecret::new([dialer.0; 32]), JobSecret::new([listener.0; 32]));
        let dialing = async {
            let result = dial(&mut a, &dialer_secret, dialer.1, [1; 32]).await;
            drop(a);
            result
        };
        let accepting = async {
            let result = accept(&mut b, &listener_secret, listener.1, [2; 32]).await;
            drop(b);
            result
        };
        tokio::join!(dialing, accepting)
    }

    #[tokio::test]
    async fn same_secret_and_attempt_are_let_in_and_nobody_else() {
        let (dialer, listener) = shake((7, 1), (7, 1)).await;
        assert!(dialer.is_ok() && listener.is_ok());
        for (a, b) in [((7, 1), (8, 1)), ((7, 1), (7, 2))] {
            let (dialer, listener) = shake(a, b).await;
            assert!(matches!(dialer, Err(ControlError::Handshake(_))), "{dialer:?}");
            assert!(listener.is_err());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn garbage_and_silence_are_dropped() {
        let secret = JobSecret::new([7; 32]);
        let (mut a, mut b) = tokio::io::duplex(256);
        a.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let error = accept(&mut b, &secret, 1, [2; 32]).await.unwrap_err();
        assert!(error.to_string().contains("another protocol"), "{error}");
        let (_silent, mut b) = tokio::io::duplex(256);
        let error = accept(&mut b, &secret, 1, [2; 32]).await.unwrap_err();
        assert!(error.to_string().contains("too slow"), "{error}");
    }
}
