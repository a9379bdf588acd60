//! From a TCP connection to one that takes calls: preamble, SASL negotiation, connection context.

use super::frame::{self, FrameBuffer};
use super::messages::{CALL_ID_CONTEXT, CALL_ID_SASL, ConnectionContext, SaslMessage, UserInformation};
use super::response::Response;
use super::sasl::layer::Layer;
use super::sasl::{NONCE_BYTES, Negotiation, NegotiationError, Next};
use super::{Auth, IpcError, IpcOptions, Protocol};
use bytes::Bytes;
use prost::Message;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Version of the protocol between client and server since Hadoop 2.
const IPC_VERSION: u8 = 9;
/// `AuthProtocol.NONE`.
const AUTH_NONE: u8 = 0;
/// `AuthProtocol.SASL`, -33.
const AUTH_SASL: u8 = 0xdf;
/// Largest frame taken before the server has proven anything: offers, challenges, exceptions with their traces.
const MAX_HANDSHAKE_BYTES: usize = 1 << 20;
/// Most messages of one negotiation: DIGEST-MD5 takes two, GSSAPI about four.
const MAX_ROUNDS: usize = 16;
/// Bytes asked of the socket at once.
pub(super) const READ_BYTES: usize = 64 << 10;
/// How long to look for the reason after a write failed: a server that refuses a connection says so and closes,
/// and its message may still be on the way.
pub(super) const LAST_WORDS: Duration = Duration::from_millis(200);

/// A connection that takes calls.
pub(super) struct Established {
    pub(super) stream: TcpStream,
    /// What has arrived already.
    pub(super) frames: FrameBuffer,
    /// What protects the rest.
    pub(super) layer: Option<Box<Layer>>,
    /// To be sent before the first call, through the layer.
    pub(super) context: Vec<u8>,
}

/// Who speaks to whom.
pub(super) struct Introduction<'a> {
    pub(super) address: &'a str,
    pub(super) protocol: Protocol,
    pub(super) auth: &'a Auth,
    pub(super) client_id: &'a [u8],
}

impl Introduction<'_> {
    fn closed(&self, reason: impl std::fmt::Display) -> IpcError {
        IpcError::Closed { address: self.address.into(), reason: reason.to_string(), sent: false }
    }

    fn broken(&self, message: String) -> IpcError {
        IpcError::Protocol { address: self.address.into(), message }
    }

    /// The context frame. With a token the user must be left out: the server knows it from the token.
    fn context(&self) -> Vec<u8> {
        let user = match self.auth {
            Auth::Simple { user, real_user } => {
                UserInformation { effective_user: Some(user.clone()), real_user: real_user.clone() }
            }
            Auth::Token { .. } => UserInformation::default(),
        };
        let context = ConnectionContext { user: Some(user), protocol: Some(self.protocol.name.into()) };
        frame::request(CALL_ID_CONTEXT, self.client_id, &context.encode_length_delimited_to_vec())
    }
}

/// Makes a fresh connection ready; the caller sets the deadline.
///
/// # Errors
/// [`IpcError::Unauthorized`] and its like when the server refuses us, [`IpcError::Protocol`] when it is no
/// Hadoop server, [`IpcError::Closed`] (never sent) when the connection breaks.
pub(super) async fn establish(
    mut stream: TcpStream,
    intro: &Introduction<'_>,
    options: &IpcOptions,
) -> Result<Established, IpcError> {
    let sasl = options.sasl || matches!(intro.auth, Auth::Token { .. });
    let mut frames = FrameBuffer::new(MAX_HANDSHAKE_BYTES);
    let preamble = [b'h', b'r', b'p', b'c', IPC_VERSION, 0, if sasl { AUTH_SASL } else { AUTH_NONE }];
    let layer = if sasl {
        negotiate(&mut stream, &mut frames, intro, &preamble).await?
    } else {
        stream.write_all(&preamble).await.map_err(|e| intro.closed(e))?;
        None
    };
    frames.set_limit(options.max_response_bytes);
    Ok(Established { stream, frames, layer, context: intro.context() })
}

async fn negotiate(
    stream: &mut TcpStream,
    frames: &mut FrameBuffer,
    intro: &Introduction<'_>,
    preamble: &[u8],
) -> Result<Option<Box<Layer>>, IpcError> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|e| intro.closed(format_args!("no randomness: {e}")))?;
    let (mut negotiation, first) = Negotiation::start(intro.auth, nonce);
    let mut out = preamble.to_vec();
    out.extend_from_slice(&sasl_frame(&first));
    for _ in 0..MAX_ROUNDS {
        if let Err(error) = stream.write_all(&out).await {
            let last_words = timeout(LAST_WORDS, receive(stream, frames, intro)).await;
            return Err(match last_words {
                Ok(Err(reason @ (IpcError::Unauthorized { .. } | IpcError::InvalidToken { .. }))) => reason,
                _ => intro.closed(error),
            });
        }
        let message = receive(stream, frames, intro).await?;
        let next = negotiation.receive(message).map_err(|error| match error {
            NegotiationError::Refused(message) => {
                IpcError::Unauthorized { address: intro.address.into(), message }
            }
            NegotiationError::Broken(message) => intro.broken(message),
        })?;
        match next {
            Next::Send(message) => out = sasl_frame(&message),
            Next::Done { send, layer } => {
                if let Some(message) = send {
                    stream.write_all(&sasl_frame(&message)).await.map_err(|e| intro.closed(e))?;
                }
                return Ok(layer);
            }
        }
    }
    Err(intro.broken(format!("the negotiation did not end after {MAX_ROUNDS} messages")))
}

/// A frame with a SASL message; SASL comes before clients have ids.
pub(super) fn sasl_frame(message: &SaslMessage) -> Vec<u8> {
    frame::request(CALL_ID_SASL, &[], &message.encode_length_delimited_to_vec())
}

/// Waits for the server's next SASL message.
async fn receive(
    stream: &mut TcpStream,
    frames: &mut FrameBuffer,
    intro: &Introduction<'_>,
) -> Result<SaslMessage, IpcError> {
    let frame = loop {
        match frames.next().map_err(|message| intro.broken(message))? {
            Some(frame) => break frame,
            None => read_more(stream, frames).await.map_err(|e| intro.closed(e))?,
        }
    };
    match Response::parse(frame, intro.client_id).map_err(|m| intro.broken(m))? {
        Response::Answer { call_id: CALL_ID_SASL, body } => parse_sasl(body).map_err(|m| intro.broken(m)),
        Response::Answer { call_id, .. } => {
            Err(intro.broken(format!("an answer to call {call_id} during the negotiation")))
        }
        Response::Failed { failure, .. } | Response::Fatal(failure) => {
            Err(failure.of_connection(intro.address))
        }
    }
}

/// The SASL message of a frame.
pub(super) fn parse_sasl(mut body: Bytes) -> Result<SaslMessage, String> {
    SaslMessage::decode_length_delimited(&mut body)
        .map_err(|e| format!("a SASL message does not decode: {e}"))
}

/// Reads what there is.
pub(super) async fn read_more<S: AsyncReadExt + Unpin>(
    stream: &mut S,
    frames: &mut FrameBuffer,
) -> io::Result<()> {
    let bytes = frames.bytes();
    bytes.reserve(READ_BYTES);
    match stream.read_buf(bytes).await? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")),
        _ => Ok(()),
    }
}
