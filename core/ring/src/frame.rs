//! What travels on links: the header in front of a stream, and the notice of a rank that gives up.
//!
//! Both have a fixed size and are compared with what is expected: nothing is ever allocated by a length from
//! outside. What follows a header is implied by header, world and ranks.

use crate::{algorithm::Algorithm, format::Format};

/// Bytes of a [`Header`].
pub(crate) const HEADER_BYTES: usize = 40;
/// Bytes of a notice.
pub(crate) const NOTICE_BYTES: usize = 256;
/// Bytes of its text; the length is one byte.
const NOTICE_TEXT_BYTES: usize = NOTICE_BYTES - 21;

const HEADER_MAGIC: [u8; 4] = *b"RSf1";
const NOTICE_MAGIC: [u8; 4] = *b"RSn1";

/// Which collective a stream belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Sum of a vector over all ranks.
    AllReduce(Algorithm),
    /// One blob from every rank to every rank.
    AllGather,
    /// A vector from one rank to all.
    Broadcast {
        /// The rank that has it.
        root: u32,
    },
    /// Nothing but waiting for everybody.
    Barrier,
}

impl Kind {
    fn code(self) -> (u8, u32) {
        match self {
            Kind::AllReduce(Algorithm::Exchange) => (1, 0),
            Kind::AllReduce(Algorithm::Halving) => (2, 0),
            Kind::AllReduce(Algorithm::Ring) => (3, 0),
            Kind::AllGather => (4, 0),
            Kind::Broadcast { root } => (5, root),
            Kind::Barrier => (6, 0),
        }
    }

    fn describe(code: u8, root: u32) -> String {
        match code {
            1 => "all-reduce by exchange".into(),
            2 => "all-reduce by halving".into(),
            3 => "all-reduce round the ring".into(),
            4 => "all-gather".into(),
            5 => format!("broadcast from rank {root}"),
            6 => "barrier".into(),
            other => format!("unknown operation {other}"),
        }
    }
}

/// What stands in front of the bytes of a round: everything that must be the same at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Generation of the ring.
    pub(crate) generation: u64,
    /// Number of the operation in this generation, from 0.
    pub(crate) operation: u64,
    /// The collective.
    pub(crate) kind: Kind,
    /// Number of the round in the operation.
    pub(crate) round: u16,
    /// What the elements are.
    pub(crate) format: Format,
    /// The caller's number of the vector (bucket).
    pub(crate) tag: u32,
    /// Elements of the whole vector, or of one blob.
    pub(crate) elements: u64,
}

impl Header {
    /// As it travels.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let (kind, root) = self.kind.code();
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&HEADER_MAGIC);
        bytes[4..6].copy_from_slice(&[kind, self.format.code()]);
        bytes[6..8].copy_from_slice(&self.round.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.generation.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.operation.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.elements.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.tag.to_le_bytes());
        bytes[36..40].copy_from_slice(&root.to_le_bytes());
        bytes
    }
}

/// What the header in `bytes` announces, for an error message.
pub(crate) fn describe_header(bytes: &[u8; HEADER_BYTES]) -> String {
    if bytes[..4] != HEADER_MAGIC {
        return format!("bytes that are no frame ({:02x?} …)", &bytes[..8]);
    }
    let kind = Kind::describe(bytes[4], u32_at(bytes, 36));
    let format = Format::from_code(bytes[5]).map_or("unknown elements".into(), |f| format!("{f:?} elements"));
    format!(
        "{kind} of {} {format} (generation {}, operation {}, round {}, bucket {})",
        u64_at(bytes, 24),
        u64_at(bytes, 8),
        u64_at(bytes, 16),
        u16::from_le_bytes([bytes[6], bytes[7]]),
        u32_at(bytes, 32),
    )
}

/// Why a rank shuts its links down, told to both neighbours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// The reason.
    pub(crate) reason: Reason,
    /// The rank that noticed it first.
    pub(crate) by: u32,
    /// The rank it is about.
    pub(crate) about: u32,
    /// More about it, cut to what fits.
    pub(crate) text: String,
}

/// Kinds of notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The rank has finished all its operations: no failure.
    Left = 1,
    /// A rank's connection broke.
    Lost = 2,
    /// A rank was silent for too long.
    Silent = 3,
    /// A rank was told to stop.
    Aborted = 4,
    /// Two ranks run different operations.
    Mismatch = 5,
}

impl Notice {
    /// As it travels.
    pub(crate) fn encode(&self, generation: u64) -> [u8; NOTICE_BYTES] {
        let mut bytes = [0; NOTICE_BYTES];
        let mut end = self.text.len().min(NOTICE_TEXT_BYTES);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        bytes[..4].copy_from_slice(&NOTICE_MAGIC);
        bytes[4..12].copy_from_slice(&generation.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.by.to_le_bytes());
        bytes[16..20].copy_from_slice(&((self.reason as u32) << 24 | self.about).to_le_bytes());
        bytes[20] = end as u8;
        bytes[21..21 + end].copy_from_slice(&self.text.as_bytes()[..end]);
        bytes
    }

    /// The notice in `bytes`, or what is wrong with it.
    pub(crate) fn decode(bytes: &[u8; NOTICE_BYTES], generation: u64) -> Result<Self, String> {
        if bytes[..4] != NOTICE_MAGIC || u64_at(bytes, 4) != generation {
            return Err(format!(
                "bytes that are no notice of generation {generation} ({:02x?} …)",
                &bytes[..12]
            ));
        }
        let word = u32_at(bytes, 16);
        let reasons = [Reason::Left, Reason::Lost, Reason::Silent, Reason::Aborted, Reason::Mismatch];
        let reason = reasons.into_iter().find(|reason| *reason as u32 == word >> 24);
        let reason = reason.ok_or_else(|| format!("a notice of unknown kind {}", word >> 24))?;
        let end = usize::from(bytes[20]).min(NOTICE_TEXT_BYTES);
        let text = String::from_utf8_lossy(&bytes[21..21 + end]).into_owned();
        Ok(Notice { reason, by: u32_at(bytes, 12), about: word & MAX_NOTICE_RANK, text })
    }
}

/// Ranks in notices have 24 bits.
pub(crate) const MAX_NOTICE_RANK: u32 = (1 << 24) - 1;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            generation: 3,
            operation: 7,
            kind: Kind::AllReduce(Algorithm::Ring),
            round: 0,
            format: Format::F32,
            tag: 2,
            elements: 1 << 32,
        }
    }

    #[test]
    fn a_header_tells_everything_that_must_agree() {
        let bytes = header().encode();
        let text = describe_header(&bytes);
        assert_eq!(
            text,
            "all-reduce round the ring of 4294967296 F32 elements (generation 3, operation 7, round 0, bucket 2)"
        );
        let others = [
            Header { generation: 4, ..header() },
            Header { operation: 8, ..header() },
            Header { kind: Kind::AllReduce(Algorithm::Halving), ..header() },
            Header { kind: Kind::Broadcast { root: 1 }, ..header() },
            Header { round: 1, ..header() },
            Header { format: Format::Bf16, ..header() },
            Header { tag: 3, ..header() },
            Header { elements: 5, ..header() },
        ];
        assert!(
            others.iter().all(|other| other.encode() != bytes && describe_header(&other.encode()) != text)
        );
    }

    #[test]
    fn notices_come_back_as_they_were_sent_and_are_cut_between_characters() {
        let long = "ö".repeat(200);
        for (text, expected) in [("host gone", "host gone".to_string()), (&long, "ö".repeat(117))] {
            let notice = Notice { reason: Reason::Lost, by: 3, about: 70_000, text: text.into() };
            let back = Notice::decode(&notice.encode(9), 9).unwrap();
            assert_eq!(back, Notice { text: expected, ..notice });
        }
    }

    proptest! {
        #[test]
        fn garbage_is_described_and_never_believed(start in any::<[u8; 32]>(), more in any::<[u8; 32]>(), magic: bool) {
            let mut bytes = [0; NOTICE_BYTES];
            bytes[..32].copy_from_slice(&start);
            bytes[32..64].copy_from_slice(&more);
            if magic {
                bytes[..4].copy_from_slice(&NOTICE_MAGIC);
            } else {
                prop_assert!(Notice::decode(&bytes, 1).is_err());
            }
            let _ = Notice::decode(&bytes, u64_at(&bytes, 4));
            let mut header = [0; HEADER_BYTES];
            header.copy_from_slice(&bytes[..HEADER_BYTES]);
            prop_assert!(!describe_header(&header).is_empty());
        }
    }
}
