//! The handshake of a link: four messages of fixed size, after which both ends know that the other belongs to the job
//! and to the same ring.
//!
//! 1. The dialler sends a [`Hello`]: who it says it is, and a challenge.
//! 2. The listener answers with its own.
//! 3. The dialler sends its proof of the job's secret over both challenges, for a purpose that contains both hellos.
//! 4. The listener checks it and sends its own proof.
//!
//! Until a proof holds, a hello is bytes that are mixed into the purpose; only then is it compared with what is wanted.
//! So a stale generation or a wrong rank is told apart from a stranger, and nobody can forge either. No I/O here:
//! bytes come in, bytes go out.

use crate::HandshakeFault;
use ringspin_job::{Challenge, JobSecret, PROOF_BYTES, Side};

/// Changes whenever frames or handshake do.
pub(crate) const PROTOCOL_VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"RINGSPIN";
/// Bytes of an encoded [`Hello`].
pub(crate) const HELLO_BYTES: usize = 40 + PROOF_BYTES;
/// What a listener says of rank and channel that only the dialler chooses.
const NOT_SAID: u32 = u32::MAX;

/// Which of the connections between two ranks this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// Notices between neighbours.
    Control,
    /// Data over a distance of 2^k.
    Data(u32),
}

impl Channel {
    fn code(self) -> u32 {
        match self {
            Channel::Control => 0,
            Channel::Data(k) => k + 1,
        }
    }

    /// How far it reaches.
    pub(crate) fn distance(self) -> usize {
        match self {
            Channel::Control => 1,
            Channel::Data(k) => 1 << k,
        }
    }

    /// All channels on which a rank is dialled, and dials, when there are distances up to 2^(exponents − 1).
    pub(crate) fn all(exponents: u32) -> impl Iterator<Item = Channel> {
        std::iter::once(Channel::Control).chain((0..exponents).map(Channel::Data))
    }
}

/// The ring that both ends must mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RingId {
    /// Application attempt.
    pub(crate) attempt: u32,
    /// Generation in the attempt.
    pub(crate) generation: u64,
    /// Number of ranks.
    pub(crate) world: u32,
}

impl std::fmt::Display for RingId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "attempt {}, generation {}, world {}", self.attempt, self.generation, self.world)
    }
}

/// Who an end says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Hello {
    ring: RingId,
    rank: u32,
    /// The rank the dialler wants.
    wanted: u32,
    channel: u32,
    challenge: Challenge,
}

impl Hello {
    fn encode(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.ring.attempt.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.ring.generation.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.ring.world.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.rank.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.wanted.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.channel.to_le_bytes());
        bytes[40..].copy_from_slice(&self.challenge);
        bytes
    }

    /// Reads fixed places; any bytes behind magic and version are a hello.
    fn decode(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HandshakeFault> {
        let u32_at = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        if bytes[..8] != MAGIC || u32_at(8) != PROTOCOL_VERSION {
            return Err(HandshakeFault::NoRing);
        }
        Ok(Hello {
            ring: RingId {
                attempt: u32_at(12),
                generation: u64::from_le_bytes(std::array::from_fn(|i| bytes[16 + i])),
                world: u32_at(24),
            },
            rank: u32_at(28),
            wanted: u32_at(32),
            channel: u32_at(36),
            challenge: std::array::from_fn(|i| bytes[40 + i]),
        })
    }
}

/// What is signed: the kind of connection, the protocol, and all that both ends said.
fn purpose(dialer: &Hello, listener: &Hello) -> String {
    format!(
        "ringspin ring, protocol {PROTOCOL_VERSION}: dialer rank {} of {}, to rank {}, channel {}; listener rank {} of {}",
        dialer.rank, dialer.ring, dialer.wanted, dialer.channel, listener.rank, listener.ring
    )
}

/// Who this end is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// The ring.
    pub(crate) ring: RingId,
    /// The own rank.
    pub(crate) rank: usize,
    /// The secret of the job.
    pub(crate) secret: JobSecret,
}

/// What to do next with the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send these bytes (maybe none), then receive exactly so many.
    Exchange(Vec<u8>, usize),
    /// Send these bytes (maybe none); then the link is up, on this channel.
    Up(Vec<u8>, Channel),
}

/// One end of a handshake under way.
#[derive(Debug)]
pub(crate) struct Conversation {
    identity: Identity,
    side: Side,
    own: Hello,
    peer: Option<Hello>,
    channel: Channel,
}

impl Conversation {
    /// The dialler's end, and its first bytes.
    pub(crate) fn dial(identity: Identity, channel: Channel, challenge: Challenge) -> (Self, Step) {
        let world = identity.ring.world as usize;
        let wanted = crate::algorithm::after(identity.rank, channel.distance(), world) as u32;
        let own = Hello {
            ring: identity.ring,
            rank: identity.rank as u32,
            wanted,
            channel: channel.code(),
            challenge,
        };
        let step = Step::Exchange(own.encode().into(), HELLO_BYTES);
        (Conversation { identity, side: Side::Dialer, own, peer: None, channel }, step)
    }

    /// The listener's end. It says nothing before a dialler has spoken.
    pub(crate) fn accept(identity: Identity, challenge: Challenge) -> (Self, Step) {
        let (rank, ring) = (identity.rank as u32, identity.ring);
        let own = Hello { ring, rank, wanted: NOT_SAID, channel: NOT_SAID, challenge };
        let channel = Channel::Control;
        let step = Step::Exchange(Vec::new(), HELLO_BYTES);
        (Conversation { identity, side: Side::Listener, own, peer: None, channel }, step)
    }

    /// Takes the bytes that the last step asked for.
    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Step, HandshakeFault> {
        let Some(peer) = self.peer else {
            let hello: &[u8; HELLO_BYTES] = bytes.try_into().map_err(|_| HandshakeFault::NoRing)?;
            let peer = Hello::decode(hello)?;
            self.peer = Some(peer);
            let answer = match self.side {
                Side::Dialer => self.prove(&peer),
                Side::Listener => self.own.encode().into(),
            };
            return Ok(Step::Exchange(answer, PROOF_BYTES));
        };
        let (dialer, listener, other) = match self.side {
            Side::Dialer => (&self.own, &peer, Side::Listener),
            Side::Listener => (&peer, &self.own, Side::Dialer),
        };
        let proof = bytes.try_into().map_err(|_| HandshakeFault::Unproven)?;
        let secret = &self.identity.secret;
        if !secret.verify(&purpose(dialer, listener), other, &dialer.challenge, &listener.challenge, proof) {
            return Err(HandshakeFault::Unproven);
        }
        match self.side {
            Side::Dialer => {
                self.check_listener(&peer)?;
                Ok(Step::Up(Vec::new(), self.channel))
            }
            Side::Listener => match self.check_dialer(&peer) {
                Ok(channel) => Ok(Step::Up(self.prove(&peer), channel)),
                // The dialler belongs to the job: it may know what this rank is, and will see that it is wrong here.
                Err(_) => Ok(Step::Exchange(self.prove(&peer), 0)),
            },
        }
    }

    /// Why the dialler was turned away although it knows the secret; for a listener that was told to send its proof and
    /// expect nothing.
    pub(crate) fn refusal(&self) -> HandshakeFault {
        match self.peer.as_ref().map(|peer| self.check_dialer(peer)) {
            Some(Err(fault)) => fault,
            _ => HandshakeFault::Unproven,
        }
    }

    fn prove(&self, peer: &Hello) -> Vec<u8> {
        let (dialer, listener) = match self.side {
            Side::Dialer => (&self.own, peer),
            Side::Listener => (peer, &self.own),
        };
        let purpose = purpose(dialer, listener);
        self.identity.secret.prove(&purpose, self.side, &dialer.challenge, &listener.challenge).into()
    }

    fn check_listener(&self, peer: &Hello) -> Result<(), HandshakeFault> {
        if peer.ring == self.own.ring && peer.rank == self.own.wanted {
            return Ok(());
        }
        Err(HandshakeFault::Other {
            theirs: format!("rank {} of {}", peer.rank, peer.ring),
            expected: format!("rank {} of {}", self.own.wanted, self.own.ring),
        })
    }

    fn check_dialer(&self, peer: &Hello) -> Result<Channel, HandshakeFault> {
        let world = self.own.ring.world as usize;
        let exponents = crate::algorithm::distances(world);
        let channel = Channel::all(exponents).find(|channel| channel.code() == peer.channel);
        let fits = |channel: &Channel| {
            peer.ring == self.own.ring
                && peer.wanted == self.own.rank
                && peer.rank as usize
                    == crate::algorithm::before(self.identity.rank, channel.distance(), world)
        };
        channel.filter(fits).ok_or_else(|| HandshakeFault::Other {
            theirs: format!(
                "rank {} of {} on channel {}, for rank {}",
                peer.rank, peer.ring, peer.channel, peer.wanted
            ),
            expected: format!("a predecessor of rank {} of {}", self.own.rank, self.own.ring),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn identity(rank: usize, generation: u64, secret: u8) -> Identity {
        let ring = RingId { attempt: 1, generation, world: 4 };
        Identity { ring, rank, secret: JobSecret::new([secret; 32]) }
    }

    /// Runs both ends; what the dialler and the listener come to.
    fn shake(
        dialer: Identity,
        listener: Identity,
        channel: Channel,
    ) -> (Result<Channel, HandshakeFault>, Result<Channel, HandshakeFault>) {
        let (mut dialer, Step::Exchange(hello, HELLO_BYTES)) = Conversation::dial(dialer, channel, [1; 32])
        else {
            panic!("a dialler speaks first")
        };
        let (mut listener, first) = Conversation::accept(listener, [2; 32]);
        assert_eq!(first, Step::Exchange(Vec::new(), HELLO_BYTES));
        let Ok(Step::Exchange(answer, PROOF_BYTES)) = listener.receive(&hello) else {
            panic!("a hello is answered")
        };
        let Ok(Step::Exchange(proof, PROOF_BYTES)) = dialer.receive(&answer) else {
            panic!("a hello is answered")
        };
        match listener.receive(&proof) {
            Err(fault) => (Err(HandshakeFault::Unproven), Err(fault)),
            Ok(Step::Up(proof, channel)) => match dialer.receive(&proof) {
                Ok(Step::Up(_, up)) => (Ok(up), Ok(channel)),
                Ok(step) => panic!("{step:?}"),
                Err(fault) => (Err(fault), Ok(channel)),
            },
            Ok(Step::Exchange(proof, 0)) => {
                (dialer.receive(&proof).map(|_| channel), Err(listener.refusal()))
            }
            Ok(step) => panic!("{step:?}"),
        }
    }

    #[test]
    fn both_ends_agree_on_the_channel() {
        for (channel, rank) in [(Channel::Control, 1), (Channel::Data(0), 1), (Channel::Data(1), 2)] {
            let (dialer, listener) = shake(identity(0, 5, 9), identity(rank, 5, 9), channel);
            assert_eq!((dialer.unwrap(), listener.unwrap()), (channel, channel));
        }
    }

    #[test]
    fn another_secret_proves_nothing() {
        let (_, listener) = shake(identity(0, 5, 9), identity(1, 5, 8), Channel::Data(0));
        assert!(matches!(listener, Err(HandshakeFault::Unproven)));
    }

    #[test]
    fn stale_generations_and_wrong_ranks_are_refused_by_name_on_both_sides() {
        let (dialer, listener) = shake(identity(0, 4, 9), identity(1, 5, 9), Channel::Data(0));
        assert_eq!(
            dialer.unwrap_err().to_string(),
            "the other end is rank 1 of attempt 1, generation 5, world 4, not rank 1 of attempt 1, generation 4, world 4"
        );
        assert!(listener.unwrap_err().to_string().contains("rank 0 of attempt 1, generation 4"));
        let (dialer, listener) = shake(identity(0, 5, 9), identity(3, 5, 9), Channel::Data(0));
        assert!(dialer.unwrap_err().to_string().contains("rank 3"));
        assert!(matches!(listener, Err(HandshakeFault::Other { .. })));
    }

    #[test]
    fn a_proof_is_bound_to_everything_both_ends_said() {
        // A man in the middle changes one byte of a hello: the proofs no longer hold.
        for at in 12..HELLO_BYTES {
            let (mut dialer, Step::Exchange(hello, _)) =
                Conversation::dial(identity(0, 5, 9), Channel::Data(0), [1; 32])
            else {
                panic!("a dialler speaks first")
            };
            let mut listener = Conversation::accept(identity(1, 5, 9), [2; 32]).0;
            let mut changed = hello.clone();
            changed[at] ^= 1;
            let Ok(Step::Exchange(answer, _)) = listener.receive(&changed) else { panic!("byte {at}") };
            let Ok(Step::Exchange(proof, _)) = dialer.receive(&answer) else { panic!("byte {at}") };
            assert!(matches!(listener.receive(&proof), Err(HandshakeFault::Unproven)), "byte {at}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_comes_up(first in any::<[u8; HELLO_BYTES - 32]>(), second in any::<[u8; 32]>(), valid: bool) {
            let mut hello = [0; HELLO_BYTES];
            hello[..40].copy_from_slice(&first);
            hello[40..].copy_from_slice(&second);
            if valid {
                hello[..8].copy_from_slice(&MAGIC);
                hello[8..12].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
            }
            let mut listener = Conversation::accept(identity(1, 5, 9), [2; 32]).0;
            match listener.receive(&hello) {
                Ok(_) => prop_assert!(matches!(listener.receive(&second), Err(HandshakeFault::Unproven))),
                Err(fault) => prop_assert!(matches!(fault, HandshakeFault::NoRing)),
            }
        }
    }
}
