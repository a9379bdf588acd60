//! Bytes to frames and back: every frame is a 32-bit big-endian length and that many bytes.
//!
//! A length is believed only as far as bytes have arrived: nothing is allocated for an announced frame.

use super::messages::{RPC_FINAL_PACKET, RPC_KIND_PROTOBUF, RequestHeader};
use bytes::{Buf, Bytes, BytesMut};
use prost::Message;

/// Bytes of a frame's length.
pub(super) const LENGTH_BYTES: usize = 4;
/// Largest frame sent; Hadoop's `ipc.maximum.data.length`, above which servers drop the connection.
pub(super) const MAX_REQUEST_BYTES: usize = 128 << 20;

/// Collects bytes and gives out whole frames.
#[derive(Debug)]
pub(super) struct FrameBuffer {
    bytes: BytesMut,
    limit: usize,
}

impl FrameBuffer {
    /// An empty buffer that refuses frames of more than `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        FrameBuffer { bytes: BytesMut::new(), limit }
    }

    /// Where arriving bytes go.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Takes another limit from now on.
    pub(super) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next whole frame without its length, `None` when more bytes are needed.
    ///
    /// # Errors
    /// Says what stands where a length should, when it is above the limit.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, String> {
        let Some(head) = self.bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        if head == b"HTTP" {
            return Err("the answer is HTTP: this is the port of a web server".into());
        }
        let length = u32::from_be_bytes(*head);
        // Java reads the length as a signed number; negative ones are above every limit here.
        if length as usize > self.limit {
            return Err(format!("a frame of {length} bytes is announced; the limit is {}", self.limit));
        }
        if self.bytes.len() - LENGTH_BYTES < length as usize {
            return Ok(None);
        }
        self.bytes.advance(LENGTH_BYTES);
        Ok(Some(self.bytes.split_to(length as usize).freeze()))
    }
}

/// A request frame: length, header, `body` (already delimited messages).
pub(super) fn request(call_id: i32, client_id: &[u8], body: &[u8]) -> Vec<u8> {
    let header = RequestHeader {
        rpc_kind: Some(RPC_KIND_PROTOBUF),
        rpc_op: Some(RPC_FINAL_PACKET),
        call_id,
        client_id: client_id.to_vec(),
        retry_count: Some(if call_id < 0 { -1 } else { 0 }),
    };
    let header = header.encode_length_delimited_to_vec();
    let mut frame = Vec::with_capacity(LENGTH_BYTES + header.len() + body.len());
    frame.extend_from_slice(&((header.len() + body.len()) as u32).to_be_bytes());
    frame.extend_from_slice(&header);
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = (payload.len() as u32).to_be_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    proptest! {
        #[test]
        fn frames_come_out_whole_however_the_bytes_arrive(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12),
            cuts in prop::collection::vec(1usize..40, 1..50),
        ) {
            let stream: Vec<u8> = payloads.iter().flat_map(|p| framed(p)).collect();
            let (mut frames, mut got) = (FrameBuffer::new(1 << 30), Vec::new());
            let (mut rest, mut cut) = (&stream[..], 0);
            // Payloads of random bytes never start a frame with "HTTP": their lengths are below 200.
            while !rest.is_empty() {
                let n = cuts[cut % cuts.len()].min(rest.len());
                cut += 1;
                frames.bytes().extend_from_slice(&rest[..n]);
                rest = &rest[n..];
                while let Some(frame) = frames.next().unwrap() {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, payloads);
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_arrive() {
        let mut frames = FrameBuffer::new(100);
        frames.bytes().extend_from_slice(&101u32.to_be_bytes());
        assert!(frames.next().unwrap_err().contains("101 bytes"));
        let mut frames = FrameBuffer::new(128 << 20);
        frames.bytes().extend_from_slice(&(-1i32).to_be_bytes());
        assert!(frames.next().unwrap_err().contains("4294967295"));
        let mut frames = FrameBuffer::new(usize::MAX);
        frames.bytes().extend_from_slice(b"HTTP/1.1 404 Not Found");
        assert!(frames.next().unwrap_err().contains("web server"));
    }

    #[test]
    fn an_announced_frame_is_not_allocated() {
        let mut frames = FrameBuffer::new(usize::MAX);
        frames.bytes().extend_from_slice(&(1u32 << 30).to_be_bytes());
        assert_eq!(frames.next(), Ok(None));
        assert!(frames.bytes().capacity() < 1024);
    }
}
