//! Elements in memory and on the wire.

use crate::kernels;
use bytemuck::{cast_slice, cast_slice_mut};

/// What a vector is made of, and how it travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// f32, as it lies.
    F32,
    /// f32 in memory, bf16 on the wire.
    Bf16,
    /// i64, as it lies.
    I64,
    /// Bytes that are never added.
    Bytes,
}

impl Format {
    /// Its number in frame headers.
    pub(crate) fn code(self) -> u8 {
        match self {
            Format::F32 => 1,
            Format::Bf16 => 2,
            Format::I64 => 3,
            Format::Bytes => 4,
        }
    }

    /// The format with that number.
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        [Format::F32, Format::Bf16, Format::I64, Format::Bytes].into_iter().find(|f| f.code() == code)
    }

    /// Bytes of an element in memory.
    pub(crate) fn memory_bytes(self) -> usize {
        match self {
            Format::F32 | Format::Bf16 => 4,
            Format::I64 => 8,
            Format::Bytes => 1,
        }
    }

    /// Bytes of an element on the wire.
    pub(crate) fn wire_bytes(self) -> usize {
        match self {
            Format::Bf16 => 2,
            other => other.memory_bytes(),
        }
    }

    /// Whether memory and wire hold the same bytes, so that nothing is copied on the way.
    pub(crate) fn is_direct(self) -> bool {
        self != Format::Bf16
    }

    /// Writes `memory` as it travels.
    pub(crate) fn encode(self, memory: &[u8], wire: &mut [u8]) {
        match self {
            Format::Bf16 => kernels::encode_bf16(cast_slice(memory), wire.as_chunks_mut().0),
            _ => wire.copy_from_slice(memory),
        }
    }

    /// Replaces `memory` by what arrived.
    pub(crate) fn store(self, wire: &[u8], memory: &mut [u8]) {
        match self {
            Format::Bf16 => kernels::store_bf16(cast_slice_mut(memory), wire.as_chunks().0),
            _ => memory.copy_from_slice(wire),
        }
    }

    /// Adds what arrived to `memory`.
    pub(crate) fn add(self, wire: &[u8], memory: &mut [u8]) {
        match self {
            Format::F32 => kernels::add_f32(cast_slice_mut(memory), wire.as_chunks().0),
            Format::Bf16 => kernels::add_bf16(cast_slice_mut(memory), wire.as_chunks().0),
            Format::I64 => kernels::add_i64(cast_slice_mut(memory), wire.as_chunks().0),
            Format::Bytes => unreachable!("no operation adds bytes"),
        }
    }

    /// Gives `memory` the values that the wire can carry.
    pub(crate) fn settle(self, memory: &mut [u8]) {
        if self == Format::Bf16 {
            kernels::round_bf16(cast_slice_mut(memory));
        }
    }
}
