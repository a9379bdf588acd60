//! The secret of a job and the proofs that both ends of a connection know it.
//!
//! A handshake has three messages of fixed size, so nothing of an unproven peer is ever parsed:
//! both sides send a random [`Challenge`] of 32 bytes, then both send a [`Proof`] over both challenges. The
//! proof names the side and a purpose, so that it can be neither reflected nor used on another kind of
//! connection. HMAC-SHA256 (RFC 2104, FIPS 198-1).

use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use std::fmt;

/// Bytes of a [`Challenge`] and of a [`Proof`].
pub const PROOF_BYTES: usize = 32;

/// What one side asks the other to sign: random bytes, never used twice.
pub type Challenge = [u8; PROOF_BYTES];
/// What proves knowledge of the secret.
pub type Proof = [u8; PROOF_BYTES];

/// Which end of a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The end that opened the connection.
    Dialer,
    /// The end that accepted it.
    Listener,
}

/// The secret that the AM and all workers of one job share; the client draws it at submission.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSecret([u8; PROOF_BYTES]);

impl JobSecret {
    /// Wraps 32 random bytes.
    pub fn new(bytes: [u8; PROOF_BYTES]) -> Self {
        JobSecret(bytes)
    }

    /// The bytes, for the credentials file they travel in.
    pub fn as_bytes(&self) -> &[u8; PROOF_BYTES] {
        &self.0
    }

    fn mac(&self, purpose: &str, side: Side, dialer: &Challenge, listener: &Challenge) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(&(purpose.len() as u64).to_be_bytes());
        mac.update(purpose.as_bytes());
        mac.update(match side {
            Side::Dialer => b"dialer",
            Side::Listener => b"listnr",
        });
        mac.update(dialer);
        mac.update(listener);
        mac
    }

    /// The proof that `side` sends. `purpose` names the kind of connection and what must be equal at both
    /// ends (protocol version, attempt, generation).
    pub fn prove(&self, purpose: &str, side: Side, dialer: &Challenge, listener: &Challenge) -> Proof {
        self.mac(purpose, side, dialer, listener).finalize().into_bytes().into()
    }

    /// Whether `proof` is what `side` must have sent; compares in constant time.
    pub fn verify(
        &self,
        purpose: &str,
        side: Side,
        dialer: &Challenge,
        listener: &Challenge,
        proof: &Proof,
    ) -> bool {
        self.mac(purpose, side, dialer, listener).verify_slice(proof).is_ok()
    }
}

impl fmt::Debug for JobSecret {
    /// Never prints the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobSecret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_holds_for_its_secret_side_purpose_and_challenges_only() {
        let (secret, other) = (JobSecret::new([7; 32]), JobSecret::new([8; 32]));
        let (a, b) = ([1; 32], [2; 32]);
        let proof = secret.prove("ring 1", Side::Dialer, &a, &b);
        assert!(secret.verify("ring 1", Side::Dialer, &a, &b, &proof));
        assert!(!secret.verify("ring 1", Side::Listener, &a, &b, &proof));
        assert!(!secret.verify("ring 2", Side::Dialer, &a, &b, &proof));
        assert!(!secret.verify("ring 1", Side::Dialer, &b, &a, &proof));
        assert!(!other.verify("ring 1", Side::Dialer, &a, &b, &proof));
        assert_eq!(format!("{secret:?}"), "JobSecret(..)");
    }
}
