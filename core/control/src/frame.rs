//! bytes -> frame -> message: a big-endian `u32` length, then one message in postcard encoding.

use crate::ControlError;
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Largest frame either side accepts. An assignment carries the index of the input: 65,536 chunks of some
/// 30 bytes each and the names of the files; this leaves room for a million file names.
pub const MAX_FRAME_BYTES: u64 = 128 << 20;

/// Memory set aside on the word of a peer; beyond it a frame's buffer grows only with bytes that arrived.
const TRUSTED_BYTES: u64 = 64 << 10;

/// Writes one message and flushes.
///
/// # Errors
/// The connection failed, or the message is larger than [`MAX_FRAME_BYTES`].
pub async fn write<W: AsyncWrite + Unpin, M: Serialize>(
    writer: &mut W,
    message: &M,
) -> Result<(), ControlError> {
    let body = postcard::to_stdvec(message).map_err(|error| ControlError::Malformed(error.to_string()))?;
    let length = u32::try_from(body.len())
        .ok()
        .filter(|length| u64::from(*length) <= MAX_FRAME_BYTES)
        .ok_or(ControlError::TooLarge(body.len() as u64))?;
    writer.write_all(&length.to_be_bytes()).await?;
    writer.write_all(&body).await?;
    writer.flush().await?;
    Ok(())
}

/// Reads one message; `None` when the peer closed the connection between two frames.
///
/// # Errors
/// The connection failed or ended inside a frame, the frame is too large, or it is no message.
pub async fn read<R: AsyncRead + Unpin, M: DeserializeOwned>(
    reader: &mut R,
) -> Result<Option<M>, ControlError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match reader.read(&mut length[filled..]).await? {
            0 if filled == 0 => return Ok(None),
            0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            n => filled += n,
        }
    }
    let length = u64::from(u32::from_be_bytes(length));
    if length > MAX_FRAME_BYTES {
        return Err(ControlError::TooLarge(length));
    }
    let mut body = Vec::with_capacity(length.min(TRUSTED_BYTES) as usize);
    reader.take(length).read_to_end(&mut body).await?;
    if (body.len() as u64) < length {
        return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
    }
    let message = postcard::from_bytes(&body).map_err(|error| ControlError::Malformed(error.to_string()))?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::{ToAm, ToWorker};

    #[tokio::test]
    async fn frames_round_trip_and_a_clean_end_is_no_error() {
        let mut wire = Vec::new();
        write(&mut wire, &ToWorker::Abort { reason: "because".into() }).await.unwrap();
        write(&mut wire, &ToWorker::Exit).await.unwrap();
        let mut reader = &wire[..];
        let first: Option<ToWorker> = read(&mut reader).await.unwrap();
        assert!(matches!(first, Some(ToWorker::Abort { reason }) if reason == "because"));
        assert!(matches!(read(&mut reader).await.unwrap(), Some(ToWorker::Exit)));
        assert!(read::<_, ToWorker>(&mut reader).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn four_gigabytes_announced_are_refused_without_memory() {
        let wire = [0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let error = read::<_, ToAm>(&mut &wire[..]).await.unwrap_err();
        assert!(matches!(error, ControlError::TooLarge(0xffff_ffff)), "{error}");
    }

    #[tokio::test]
    async fn cut_and_garbage_frames_are_errors() {
        let mut wire = Vec::new();
        write(&mut wire, &ToAm::Joined { generation: 7 }).await.unwrap();
        for end in 1..wire.len() {
            assert!(read::<_, ToAm>(&mut &wire[..end]).await.is_err(), "cut at {end}");
        }
        let garbage = [0, 0, 0, 3, 0xff, 0xff, 0xff];
        assert!(matches!(read::<_, ToAm>(&mut &garbage[..]).await, Err(ControlError::Malformed(_))));
    }
}
