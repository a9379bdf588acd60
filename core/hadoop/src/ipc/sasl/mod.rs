//! Which mechanism is spoken on a connection, decided message by message and without I/O.
//!
//! The server offers mechanisms, the client takes one and answers its challenges. Mechanisms are branches of
//! [`Step`]: SIMPLE (nothing is proven) and TOKEN with DIGEST-MD5. GSSAPI will be a third.

pub(super) mod digest;
pub(super) mod layer;

use super::Auth;
use super::messages::{
    SASL_CHALLENGE, SASL_INITIATE, SASL_NEGOTIATE, SASL_RESPONSE, SASL_SUCCESS, SaslAuth, SaslMessage,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use layer::Layer;

/// Random bytes of a nonce: RFC 2831 recommends at least 64 bits.
pub(super) const NONCE_BYTES: usize = 24;
/// Most ways to authenticate that a server may offer; there are five in Hadoop.
const MAX_OFFERS: usize = 32;

/// Why a negotiation ended badly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NegotiationError {
    /// The server wants something else than we have.
    Refused(String),
    /// The server broke the protocol.
    Broken(String),
}

use NegotiationError::{Broken, Refused};

/// What to do after a message of the server.
pub(super) enum Next {
    /// Send this and wait for the answer.
    Send(SaslMessage),
    /// Send this, if anything, then go on with the connection context.
    Done {
        /// Last message.
        send: Option<SaslMessage>,
        /// What protects the connection from here on.
        layer: Option<Box<Layer>>,
    },
}

/// The client's side of one negotiation.
pub(super) struct Negotiation<'a> {
    auth: &'a Auth,
    nonce: String,
    step: Step,
}

enum Step {
    /// The server's offer is due.
    Offer,
    /// A DIGEST-MD5 challenge is due, for servers that do not send it with the offer.
    DigestChallenge(digest::Login),
    /// The server's proof is due.
    DigestProof(digest::Sent),
    /// Nothing is due.
    Over,
}

impl<'a> Negotiation<'a> {
    /// Begins; the message is sent first. `nonce` is random.
    pub(super) fn start(auth: &'a Auth, nonce: [u8; NONCE_BYTES]) -> (Self, SaslMessage) {
        let first = SaslMessage { state: SASL_NEGOTIATE, ..SaslMessage::default() };
        (Negotiation { auth, nonce: BASE64.encode(nonce), step: Step::Offer }, first)
    }

    /// Takes the server's next message.
    ///
    /// # Errors
    /// The negotiation is over then.
    pub(super) fn receive(&mut self, message: SaslMessage) -> Result<Next, NegotiationError> {
        let token = message.token.as_deref();
        match (message.state, std::mem::replace(&mut self.step, Step::Over)) {
            (SASL_NEGOTIATE, Step::Offer) => self.choose(message.auths),
            // The server has no security at all. A bare name is what it wants; a token it would not even check.
            (SASL_SUCCESS, Step::Offer) => match self.auth {
                Auth::Simple { .. } => Ok(Next::Done { send: None, layer: None }),
                Auth::Token { .. } => Err(Refused(
                    "the server wants no authentication, so it can not prove that it is the one the token is for".into(),
                )),
            },
            (SASL_CHALLENGE, Step::DigestChallenge(login)) => {
                let (response, sent) =
                    digest::respond(&login, token.unwrap_or_default(), &self.nonce).map_err(Broken)?;
                self.step = Step::DigestProof(sent);
                Ok(Next::Send(SaslMessage {
                    state: SASL_RESPONSE,
                    token: Some(response),
                    ..SaslMessage::default()
                }))
            }
            (SASL_SUCCESS, Step::DigestProof(sent)) => {
                let layer = sent.finish(token.unwrap_or_default()).map_err(Refused)?.map(Box::new);
                Ok(Next::Done { send: None, layer })
            }
            (state, _) => Err(Broken(format!("SASL state {state} came out of turn"))),
        }
    }

    fn choose(&mut self, offers: Vec<SaslAuth>) -> Result<Next, NegotiationError> {
        if offers.len() > MAX_OFFERS {
            return Err(Broken(format!("{} ways to authenticate; the limit is {MAX_OFFERS}", offers.len())));
        }
        let wanted = match self.auth {
            Auth::Simple { .. } => "SIMPLE",
            Auth::Token { .. } => "TOKEN",
        };
        let offered = || offers.iter().map(|o| o.method.as_str()).collect::<Vec<_>>().join(", ");
        let Some(offer) = offers.iter().find(|o| o.method == wanted) else {
            return Err(Refused(format!("{wanted} authentication is not enabled; it offers: {}", offered())));
        };
        let initiate = |token| SaslMessage {
            state: SASL_INITIATE,
            token,
            auths: vec![SaslAuth { challenge: None, ..offer.clone() }],
            ..SaslMessage::default()
        };
        let Auth::Token { token } = self.auth else {
            return Ok(Next::Done { send: Some(initiate(None)), layer: None });
        };
        if offer.mechanism != "DIGEST-MD5" {
            return Err(Refused(format!(
                "tokens are checked by {} there (hadoop.security.sasl.mechanism), only DIGEST-MD5 is spoken here",
                offer.mechanism
            )));
        }
        let (protocol, server_id) =
            (offer.protocol.as_deref().unwrap_or(""), offer.server_id.as_deref().unwrap_or(""));
        let login = digest::Login::of_token(&token.identifier, &token.password, protocol, server_id);
        let Some(challenge) = &offer.challenge else {
            self.step = Step::DigestChallenge(login);
            return Ok(Next::Send(initiate(Some(Vec::new()))));
        };
        let (response, sent) = digest::respond(&login, challenge, &self.nonce).map_err(Broken)?;
        self.step = Step::DigestProof(sent);
        Ok(Next::Send(initiate(Some(response))))
    }
}
