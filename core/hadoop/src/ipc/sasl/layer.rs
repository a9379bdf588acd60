//! The security layers of DIGEST-MD5 (RFC 2831, sections 2.3 and 2.4): signed, or encrypted with 3DES.
//!
//! Each direction has its own keys and counts its messages from 0; encryption goes on from message to message
//! (CBC), so messages must be sealed and opened in the order of the wire.

use cbc::cipher::generic_array::GenericArray;
use cbc::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit};
use des::TdesEde2;
use hmac::{Hmac, Mac};
use md5::{Digest as _, Md5};

/// Bytes of the (cut) HMAC-MD5 of a message.
const MAC_BYTES: usize = 10;
/// Bytes after the MAC: message type (2) and sequence number (4).
const TAIL_BYTES: usize = 6;
/// The only message type there is.
const MESSAGE_TYPE: [u8; 2] = [0, 1];
/// DES works on blocks of this size.
const BLOCK_BYTES: usize = 8;
/// Most that sealing adds: padding, MAC, tail.
const MAX_OVERHEAD: usize = BLOCK_BYTES + MAC_BYTES + TAIL_BYTES;

/// What happens to the messages after authentication ("quality of protection").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// `auth`: nothing.
    Authentication,
    /// `auth-int`: signed.
    Integrity,
    /// `auth-conf`: signed and encrypted.
    Privacy,
}

impl Protection {
    /// Its name in the exchange.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protection::Authentication => "auth",
            Protection::Integrity => "auth-int",
            Protection::Privacy => "auth-conf",
        }
    }

    /// The strongest of a comma-separated list.
    pub(crate) fn strongest(offered: &str) -> Option<Self> {
        [Protection::Privacy, Protection::Integrity, Protection::Authentication]
            .into_iter()
            .find(|p| offered.split(',').any(|name| name.trim() == p.name()))
    }
}

/// Which way a message goes; each way has its own keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// What the client sends.
    ClientToServer,
    /// What the server sends.
    ServerToClient,
}

/// The keys of one direction.
pub(crate) struct Keys {
    signing: [u8; 16],
    /// For 3DES: two keys of 8 bytes, and the first IV.
    sealing: Option<([u8; 16], [u8; BLOCK_BYTES])>,
}

impl Keys {
    /// Derives them from `H(A1)` and the constants of RFC 2831.
    pub(crate) fn derive(session_key: &[u8; 16], direction: Direction, protection: Protection) -> Self {
        let derive = |constant: &str| -> [u8; 16] {
            Md5::new().chain_update(session_key).chain_update(constant).finalize().into()
        };
        let (signing, sealing) = match direction {
            Direction::ClientToServer => (
                "Digest session key to client-to-server signing key magic constant",
                "Digest H(A1) to client-to-server sealing key magic constant",
            ),
            Direction::ServerToClient => (
                "Digest session key to server-to-client signing key magic constant",
                "Digest H(A1) to server-to-client sealing key magic constant",
            ),
        };
        let sealing = (protection == Protection::Privacy).then(|| {
            let key = derive(sealing);
            let mut two_keys = [0; 16];
            two_keys[..8].copy_from_slice(&des_key(&key[..7]));
            two_keys[8..].copy_from_slice(&des_key(&key[7..14]));
            let mut iv = [0; BLOCK_BYTES];
            iv.copy_from_slice(&key[8..]);
            (two_keys, iv)
        });
        Keys { signing: derive(signing), sealing }
    }
}

/// Spreads 56 bits over 8 bytes, 7 bits each; DES ignores the lowest (parity) bit.
fn des_key(seven: &[u8]) -> [u8; 8] {
    let bits = seven.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    std::array::from_fn(|i| ((bits >> (49 - 7 * i)) as u8 & 0x7f) << 1)
}

fn mac(key: &[u8; 16], sequence: u32, message: &[u8]) -> Hmac<Md5> {
    let mac = <Hmac<Md5> as Mac>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(sequence.to_be_bytes()).chain_update(message)
}

/// Both directions of one connection's protection.
pub(crate) struct Layer {
    /// For what we send.
    pub(crate) sealer: Sealer,
    /// For what we receive.
    pub(crate) opener: Opener,
}

impl Layer {
    /// A layer for a peer that takes wrapped messages of up to `max_buffer` bytes.
    pub(crate) fn new(ours: &Keys, theirs: &Keys, max_buffer: u32) -> Self {
        let cipher = |keys: &Keys| keys.sealing.map(|(key, iv)| (key.into(), iv.into()));
        Layer {
            sealer: Sealer {
                signing: ours.signing,
                cipher: cipher(ours).map(|(key, iv)| cbc::Encryptor::<TdesEde2>::new(&key, &iv)),
                sequence: 0,
                max_plain: (max_buffer as usize).saturating_sub(MAX_OVERHEAD).max(1),
            },
            opener: Opener {
                signing: theirs.signing,
                cipher: cipher(theirs).map(|(key, iv)| cbc::Decryptor::<TdesEde2>::new(&key, &iv)),
                sequence: 0,
            },
        }
    }
}

/// Signs or encrypts what we send.
pub(crate) struct Sealer {
    signing: [u8; 16],
    cipher: Option<cbc::Encryptor<TdesEde2>>,
    sequence: u32,
    max_plain: usize,
}

impl Sealer {
    /// Most bytes that may be sealed at once for this peer.
    pub(crate) fn max_plain(&self) -> usize {
        self.max_plain
    }

    /// Seals the next message.
    pub(crate) fn seal(&mut self, message: &[u8]) -> Vec<u8> {
        let tag = mac(&self.signing, self.sequence, message).finalize().into_bytes();
        let mut sealed = Vec::with_capacity(message.len() + MAX_OVERHEAD);
        sealed.extend_from_slice(message);
        if let Some(cipher) = &mut self.cipher {
            let padding = BLOCK_BYTES - (message.len() + MAC_BYTES) % BLOCK_BYTES;
            sealed.resize(sealed.len() + padding, padding as u8);
            sealed.extend_from_slice(&tag[..MAC_BYTES]);
            for block in sealed.chunks_exact_mut(BLOCK_BYTES) {
                cipher.encrypt_block_mut(GenericArray::from_mut_slice(block));
            }
        } else {
            sealed.extend_from_slice(&tag[..MAC_BYTES]);
        }
        sealed.extend_from_slice(&MESSAGE_TYPE);
        sealed.extend_from_slice(&self.sequence.to_be_bytes());
        self.sequence = self.sequence.wrapping_add(1);
        sealed
    }
}

/// Checks or decrypts what we receive.
pub(crate) struct Opener {
    signing: [u8; 16],
    cipher: Option<cbc::Decryptor<TdesEde2>>,
    sequence: u32,
}

impl Opener {
    /// Opens the next message.
    ///
    /// # Errors
    /// Says what is wrong with it; the connection is of no use afterwards.
    pub(crate) fn open(&mut self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let (body, tail) = sealed
            .split_last_chunk::<TAIL_BYTES>()
            .filter(|(body, _)| body.len() >= MAC_BYTES)
            .ok_or_else(|| format!("a sealed message of {} bytes is too short", sealed.len()))?;
        let expected = [&MESSAGE_TYPE[..], &self.sequence.to_be_bytes()].concat();
        if tail[..] != expected {
            return Err(format!("sealed message {tail:02x?} where {expected:02x?} is due"));
        }
        let mut message = body.to_vec();
        let mut padding = 0;
        if let Some(cipher) = &mut self.cipher {
            if message.len() % BLOCK_BYTES != 0 {
                return Err(format!("an encrypted message of {} bytes is no multiple of 8", message.len()));
            }
            for block in message.chunks_exact_mut(BLOCK_BYTES) {
                cipher.decrypt_block_mut(GenericArray::from_mut_slice(block));
            }
            let before_mac = message[..message.len() - MAC_BYTES].last().copied();
            padding = before_mac.map_or(0, usize::from);
        }
        let tag = message.split_off(message.len() - MAC_BYTES);
        let length = match (&self.cipher, message.len().checked_sub(padding)) {
            (None, _) => message.len(),
            (Some(_), Some(length)) if (1..=BLOCK_BYTES).contains(&padding) => length,
            _ => return Err("an encrypted message has bad padding".into()),
        };
        message.truncate(length);
        mac(&self.signing, self.sequence, &message)
            .verify_truncated_left(&tag)
            .map_err(|_| "the signature of a message is wrong")?;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair(protection: Protection) -> (Layer, Layer) {
        let keys = |direction| Keys::derive(&[3; 16], direction, protection);
        let (out, back) = (keys(Direction::ClientToServer), keys(Direction::ServerToClient));
        (Layer::new(&out, &back, 65536), Layer::new(&back, &out, 65536))
    }

    #[test]
    fn des_keys_take_seven_bits_a_byte() {
        assert_eq!(des_key(&[0xff; 7]), [0xfe; 8]);
        assert_eq!(des_key(&[0x80, 0, 0, 0, 0, 0, 1]), [0x80, 0, 0, 0, 0, 0, 0, 2]);
    }

    proptest! {
        #[test]
        fn messages_of_any_length_pass_and_the_tail_counts(
            lengths in prop::collection::vec(0usize..70, 3..8),
            privacy in any::<bool>(),
        ) {
            let protection = if privacy { Protection::Privacy } else { Protection::Integrity };
            let (mut client, mut server) = pair(protection);
            for (i, length) in lengths.into_iter().enumerate() {
                let message = vec![i as u8; length];
                let sealed = client.sealer.seal(&message);
                prop_assert!(sealed.len() <= length + MAX_OVERHEAD);
                prop_assert_eq!(&sealed[sealed.len() - 4..], (i as u32).to_be_bytes());
                prop_assert_eq!(privacy && length > 0 && sealed.starts_with(&message), false);
                prop_assert_eq!(server.opener.open(&sealed).unwrap(), message);
            }
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80), privacy in any::<bool>()) {
            let (mut client, _) = pair(if privacy { Protection::Privacy } else { Protection::Integrity });
            prop_assert!(client.opener.open(&bytes).is_err());
            let mut plausible = bytes;
            plausible.extend_from_slice(&[0, 1, 0, 0, 0, 0]);
            prop_assert!(client.opener.open(&plausible).is_err());
        }
    }

    #[test]
    fn changed_repeated_and_dropped_messages_are_refused() {
        for protection in [Protection::Integrity, Protection::Privacy] {
            let (mut client, _) = pair(protection);
            let sealed: Vec<_> = (0..3).map(|_| client.sealer.seal(b"message")).collect();
            for position in 0..sealed[0].len() {
                let mut changed = sealed[0].clone();
                changed[position] ^= 0x10;
                assert!(pair(protection).1.opener.open(&changed).is_err(), "byte {position}");
            }
            let (_, mut server) = pair(protection);
            server.opener.open(&sealed[0]).unwrap();
            assert!(server.opener.open(&sealed[0]).is_err());
            assert!(server.opener.open(&sealed[2]).is_err());
        }
    }

    #[test]
    fn the_strongest_offered_protection_is_taken() {
        assert_eq!(Protection::strongest("auth"), Some(Protection::Authentication));
        assert_eq!(Protection::strongest("auth, auth-int"), Some(Protection::Integrity));
        assert_eq!(Protection::strongest("auth-conf,auth"), Some(Protection::Privacy));
        assert_eq!(Protection::strongest("none"), None);
    }
}
