//! A Hadoop IPC server on loopback whose every step is told by the test.

use crate::credentials::Token;
use crate::ipc::frame::FrameBuffer;
use crate::ipc::handshake::read_more;
use crate::ipc::messages::*;
use crate::ipc::sasl::digest::{Login, server};
use crate::ipc::sasl::layer::Layer;
use bytes::Bytes;
use prost::Message;
use std::future::Future;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A server: its address, and the task that ends when the test does.
pub(crate) struct FakeServer {
    pub(crate) address: String,
    task: JoinHandle<()>,
}

impl FakeServer {
    /// Runs `serve` for every connection, with its number from 0.
    pub(crate) async fn start<F, T>(mut serve: F) -> FakeServer
    where
        F: FnMut(Peer, usize) -> T + Send + 'static,
        T: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let task = tokio::spawn(async move {
            for number in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(Peer::new(stream), number));
            }
        });
        FakeServer { address, task }
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A text as a message: any message will do for tests of the transport.
pub(crate) fn text(text: &str) -> UserInformation {
    UserInformation { effective_user: Some(text.into()), real_user: None }
}

/// One call that arrived.
pub(crate) struct Call {
    pub(crate) id: i32,
    pub(crate) method: MethodHeader,
    /// The request, delimited.
    pub(crate) body: Bytes,
    /// The text in it, when it is one of [`text`].
    pub(crate) text: String,
}

/// The token that the servers of these tests know.
pub(crate) fn token() -> Token {
    Token {
        kind: "YARN_AM_RM_TOKEN".into(),
        service: String::new(),
        identifier: b"\x08\x01identifier".to_vec(),
        password: vec![0xa5; 20],
    }
}

/// The server's end of one connection.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    frames: FrameBuffer,
    inner: FrameBuffer,
    pub(crate) layer: Option<Layer>,
}

impl Peer {
    fn new(stream: TcpStream) -> Peer {
        Peer { stream, frames: FrameBuffer::new(1 << 30), inner: FrameBuffer::new(1 << 30), layer: None }
    }

    /// Reads the preamble; gives the authentication byte.
    pub(crate) async fn preamble(&mut self) -> u8 {
        let mut preamble = [0; 7];
        self.stream.read_exact(&mut preamble).await.unwrap();
        assert_eq!(&preamble[..6], b"hrpc\x09\x00");
        preamble[6]
    }

    /// The next outer frame, `None` at the end.
    async fn outer(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.frames.next().unwrap() {
                return Some(frame);
            }
            read_more(&mut self.stream, &mut self.frames).await.ok()?;
        }
    }

    /// The next frame with its header, out of the wrapping if there is one.
    pub(crate) async fn receive(&mut self) -> Option<(RequestHeader, Bytes)> {
        let mut frame = loop {
            if self.layer.is_none() {
                break self.outer().await?;
            }
            if let Some(frame) = self.inner.next().unwrap() {
                break frame;
            }
            let mut outer = self.outer().await?;
            let header = RequestHeader::decode_length_delimited(&mut outer).unwrap();
            let message = SaslMessage::decode_length_delimited(&mut outer).unwrap();
            assert_eq!((header.call_id, message.state), (CALL_ID_SASL, SASL_WRAP));
            let token = message.token.unwrap();
            assert!(token.len() <= 65536, "the client must respect maxbuf");
            let plain = self.layer.as_mut().unwrap().opener.open(&token).unwrap();
            self.inner.bytes().extend_from_slice(&plain);
        };
        let header = RequestHeader::decode_length_delimited(&mut frame).unwrap();
        assert_eq!((header.rpc_kind, header.rpc_op), (Some(2), Some(0)));
        Some((header, frame))
    }

    pub(crate) async fn sasl(&mut self) -> SaslMessage {
        let (header, mut body) = self.receive().await.unwrap();
        assert_eq!((header.call_id, header.retry_count, header.client_id.len()), (CALL_ID_SASL, Some(-1), 0));
        SaslMessage::decode_length_delimited(&mut body).unwrap()
    }

    pub(crate) async fn send_sasl(&mut self, message: SaslMessage) {
        let header = ResponseHeader { call_id: CALL_ID_SASL as u32, ..ResponseHeader::default() };
        self.raw_frame(
            &[header.encode_length_delimited_to_vec(), message.encode_length_delimited_to_vec()].concat(),
        )
        .await;
    }

    /// Preamble, negotiation with the token of these tests, context.
    pub(crate) async fn accept_token(&mut self, qop: &str) -> ConnectionContext {
        assert_eq!(self.preamble().await, 0xdf);
        assert_eq!(self.sasl().await.state, SASL_NEGOTIATE);
        let offer = |method: &str, mechanism: &str, challenge| SaslAuth {
            method: method.into(),
            mechanism: mechanism.into(),
            protocol: Some(String::new()),
            server_id: Some("default".into()),
            challenge,
        };
        let digest = offer("TOKEN", "DIGEST-MD5", Some(server::challenge("nonce+/=", qop)));
        let auths = vec![digest.clone(), offer("KERBEROS", "GSSAPI", None)];
        self.send_sasl(SaslMessage { state: SASL_NEGOTIATE, auths, ..SaslMessage::default() }).await;
        let initiate = self.sasl().await;
        // The server looks the choice up in its list of offers: everything but the challenge must be equal.
        assert_eq!(initiate.auths, [SaslAuth { challenge: None, ..digest }]);
        let token = token();
        let login = Login::of_token(&token.identifier, &token.password, "", "default");
        let (proof, layer) = match server::accept(&login, &initiate.token.unwrap()) {
            Ok(accepted) => accepted,
            Err(text) => {
                self.fatal(CALL_ID_SASL, "javax.security.sasl.SaslException", &text).await;
                return ConnectionContext::default();
            }
        };
        self.send_sasl(SaslMessage { state: SASL_SUCCESS, token: Some(proof), ..SaslMessage::default() })
            .await;
        self.layer = layer;
        self.context().await
    }

    /// Preamble without SASL, context.
    pub(crate) async fn accept(&mut self) -> ConnectionContext {
        assert_eq!(self.preamble().await, 0);
        self.context().await
    }

    pub(crate) async fn context(&mut self) -> ConnectionContext {
        let (header, mut body) = self.receive().await.unwrap();
        assert_eq!((header.call_id, header.client_id.len()), (CALL_ID_CONTEXT, 16));
        ConnectionContext::decode_length_delimited(&mut body).unwrap()
    }

    /// The next call, `None` when the client has gone. Pings are passed over.
    pub(crate) async fn call(&mut self) -> Option<Call> {
        loop {
            let (header, mut body) = self.receive().await?;
            if header.call_id == CALL_ID_PING {
                continue;
            }
            assert_eq!(header.retry_count, Some(0));
            let method = MethodHeader::decode_length_delimited(&mut body).unwrap();
            let text =
                UserInformation::decode_length_delimited(body.clone()).ok().and_then(|t| t.effective_user);
            return Some(Call { id: header.call_id, method, body, text: text.unwrap_or_default() });
        }
    }

    fn header(id: i32, status: i32, class: &str, message: &str) -> Vec<u8> {
        let error = |text: &str| (status != STATUS_SUCCESS).then(|| text.to_owned());
        ResponseHeader {
            call_id: id as u32,
            status,
            exception_class: error(class),
            error_message: error(message),
            ..ResponseHeader::default()
        }
        .encode_length_delimited_to_vec()
    }

    /// The frame of an answer, with its length.
    pub(crate) fn answer_frame(id: i32, answer: &str) -> Vec<u8> {
        Self::message_frame(id, &text(answer))
    }

    fn message_frame(id: i32, answer: &impl Message) -> Vec<u8> {
        let body =
            [Self::header(id, STATUS_SUCCESS, "", ""), answer.encode_length_delimited_to_vec()].concat();
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    }

    /// Answers a call with any message.
    pub(crate) async fn reply(&mut self, id: i32, answer: &impl Message) {
        let frame = Self::message_frame(id, answer);
        self.send(&frame).await;
    }

    pub(crate) async fn answer(&mut self, id: i32, answer: &str) {
        let frame = Self::answer_frame(id, answer);
        self.send(&frame).await;
    }

    pub(crate) async fn fail(&mut self, id: i32, class: &str, message: &str) {
        let body = Self::header(id, STATUS_ERROR, class, message);
        self.send(&[&(body.len() as u32).to_be_bytes()[..], &body].concat()).await;
    }

    /// A FATAL answer: never wrapped, as in Hadoop's SASL phase.
    pub(crate) async fn fatal(&mut self, id: i32, class: &str, message: &str) {
        self.raw_frame(&Self::header(id, 2, class, message)).await;
    }

    /// Sends bytes of the inner stream, through the layer if there is one.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        match &mut self.layer {
            None => self.stream.write_all(bytes).await.unwrap(),
            Some(layer) => {
                let token = Some(layer.sealer.seal(bytes));
                self.send_sasl(SaslMessage { state: SASL_WRAP, token, ..SaslMessage::default() }).await;
            }
        }
    }

    pub(crate) async fn raw_frame(&mut self, body: &[u8]) {
        let frame = [&(body.len() as u32).to_be_bytes()[..], body].concat();
        self.stream.write_all(&frame).await.unwrap();
    }

    /// Answers every call with its own text, until the client goes.
    pub(crate) async fn echo(mut self) {
        while let Some(call) = self.call().await {
            self.answer(call.id, &call.text).await;
        }
    }
}
