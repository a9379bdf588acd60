//! Numbers as they lie in binary files.

use serde::{Deserialize, Serialize};

/// Type and byte order of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Element {
    /// Unsigned byte; as an input it becomes 0..1.
    U8,
    /// Signed byte.
    I8,
    /// 16-bit integer, big endian.
    I16Be,
    /// 32-bit integer, big endian.
    I32Be,
    /// 32-bit float, big endian.
    F32Be,
    /// 64-bit float, big endian.
    F64Be,
    /// 32-bit float, little endian.
    F32Le,
    /// Unsigned 16-bit integer, big endian; only as a label.
    U16Be,
    /// Unsigned 32-bit integer, big endian; only as a label.
    U32Be,
}

impl Element {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Element::U8 | Element::I8 => 1,
            Element::I16Be | Element::U16Be => 2,
            Element::I32Be | Element::F32Be | Element::F32Le | Element::U32Be => 4,
            Element::F64Be => 8,
        }
    }

    /// Whether it may have a fraction.
    pub fn is_float(self) -> bool {
        matches!(self, Element::F32Be | Element::F64Be | Element::F32Le)
    }

    /// The number at the start of `bytes`, which has at least [`Element::bytes`].
    pub(crate) fn read(self, bytes: &[u8]) -> f64 {
        fn take<const N: usize>(bytes: &[u8]) -> [u8; N] {
            let mut taken = [0; N];
            taken.copy_from_slice(&bytes[..N]);
            taken
        }
        match self {
            Element::U8 => f64::from(bytes[0]),
            Element::I8 => f64::from(bytes[0] as i8),
            Element::I16Be => f64::from(i16::from_be_bytes(take(bytes))),
            Element::U16Be => f64::from(u16::from_be_bytes(take(bytes))),
            Element::I32Be => f64::from(i32::from_be_bytes(take(bytes))),
            Element::U32Be => f64::from(u32::from_be_bytes(take(bytes))),
            Element::F32Be => f64::from(f32::from_be_bytes(take(bytes))),
            Element::F32Le => f64::from(f32::from_le_bytes(take(bytes))),
            Element::F64Be => f64::from_be_bytes(take(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_reads_what_was_written() {
        for (element, bytes, expected) in [
            (Element::U8, vec![200], 200.0),
            (Element::I8, vec![200], -56.0),
            (Element::I16Be, (-300i16).to_be_bytes().to_vec(), -300.0),
            (Element::U16Be, 65_000u16.to_be_bytes().to_vec(), 65_000.0),
            (Element::I32Be, (-70_000i32).to_be_bytes().to_vec(), -70_000.0),
            (Element::U32Be, 4_000_000_000u32.to_be_bytes().to_vec(), 4e9),
            (Element::F32Be, 1.5f32.to_be_bytes().to_vec(), 1.5),
            (Element::F32Le, (-2.25f32).to_le_bytes().to_vec(), -2.25),
            (Element::F64Be, 1e300f64.to_be_bytes().to_vec(), 1e300),
        ] {
            assert_eq!(element.bytes(), bytes.len());
            assert_eq!(element.read(&bytes), expected, "{element:?}");
        }
    }
}
