//! The few forms of Hadoop's `Writable` that token files and token identifiers are made of.
//!
//! Source: `org.apache.hadoop.io.WritableUtils` (variable-length integers) and `Text`.

/// Why bytes could not be read, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct WritableError {
    /// Offset of the field that is wrong.
    pub at: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Reads fields from a slice, front to back.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    /// Offset of the next field.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Everything that has not been read.
    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn error<T>(at: usize, what: impl Into<String>) -> Result<T, WritableError> {
        Err(WritableError { at, what: what.into() })
    }

    /// The next `length` bytes, which must be there: nothing is allocated for them.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], WritableError> {
        let left = self.bytes.len() - self.at;
        if length > left {
            return Self::error(self.at, format!("{length} bytes are announced, {left} are there"));
        }
        let bytes = &self.bytes[self.at..self.at + length];
        self.at += length;
        Ok(bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, WritableError> {
        Ok(self.take(1)?[0])
    }

    /// `WritableUtils.readVLong`.
    pub(super) fn vlong(&mut self) -> Result<i64, WritableError> {
        let first = self.byte()? as i8;
        let (length, negative) = match first {
            -112..=127 => return Ok(i64::from(first)),
            -120..=-113 => (-112 - i32::from(first), false),
            -128..=-121 => (-120 - i32::from(first), true),
        };
        let value =
            self.take(length as usize)?.iter().fold(0i64, |value, byte| value << 8 | i64::from(*byte));
        Ok(if negative { !value } else { value })
    }

    /// `WritableUtils.readVInt`.
    pub(super) fn vint(&mut self) -> Result<i32, WritableError> {
        let at = self.at;
        let value = self.vlong()?;
        i32::try_from(value).or_else(|_| Self::error(at, format!("{value} does not fit 32 bits")))
    }

    /// A count or length: a vint that is not negative.
    pub(super) fn length(&mut self) -> Result<usize, WritableError> {
        let at = self.at;
        let value = self.vint()?;
        usize::try_from(value).or_else(|_| Self::error(at, format!("a length of {value}")))
    }

    /// A length and that many bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], WritableError> {
        let length = self.length()?;
        self.take(length)
    }

    /// `Text.readString`.
    pub(super) fn text(&mut self) -> Result<&'a str, WritableError> {
        let at = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).or_else(|_| Self::error(at, "a text that is not UTF-8"))
    }
}

/// `WritableUtils.writeVLong`; `writeVInt` is the same.
pub(super) fn write_vlong(out: &mut Vec<u8>, value: i64) {
    if (-112..=127).contains(&value) {
        out.push(value as u8);
        return;
    }
    let (magnitude, base) = if value < 0 { (!value, -120i8) } else { (value, -112i8) };
    let length = 8 - magnitude.leading_zeros() as usize / 8;
    out.push((base - length as i8) as u8);
    out.extend_from_slice(&magnitude.to_be_bytes()[8 - length..]);
}

/// A length and the bytes; also `Text.writeString`.
pub(super) fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    write_vlong(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn edges_are_written_as_java_does() {
        for (value, bytes) in [
            (0, &[0x00][..]),
            (127, &[0x7f]),
            (128, &[0x8f, 0x80]),
            (255, &[0x8f, 0xff]),
            (256, &[0x8e, 0x01, 0x00]),
            (-1, &[0xff]),
            (-112, &[0x90]),
            (-113, &[0x87, 0x70]),
            (-256, &[0x87, 0xff]),
            (-257, &[0x86, 0x01, 0x00]),
            (i64::from(i32::MAX), &[0x8c, 0x7f, 0xff, 0xff, 0xff]),
            (i64::MAX, &[0x88, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (i64::MIN, &[0x80, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] {
            let mut out = Vec::new();
            write_vlong(&mut out, value);
            assert_eq!(out, bytes, "{value}");
            let mut reader = Reader::new(bytes);
            assert_eq!((reader.vlong(), reader.rest()), (Ok(value), &[][..]));
        }
    }

    proptest! {
        #[test]
        fn numbers_and_texts_round_trip(value in any::<i64>(), text in ".{0,300}") {
            let mut out = Vec::new();
            write_vlong(&mut out, value);
            write_bytes(&mut out, text.as_bytes());
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.vlong(), Ok(value));
            prop_assert_eq!(reader.text(), Ok(text.as_str()));
            prop_assert!(reader.rest().is_empty());
        }
    }

    #[test]
    fn wrong_lengths_and_texts_name_their_place() {
        assert_eq!(Reader::new(&[0x8c, 0x80, 0, 0, 0]).vint().unwrap_err().at, 0);
        assert!(Reader::new(&[0xff]).length().unwrap_err().what.contains("-1"));
        let error = Reader::new(&[0x8c, 0x7f, 0xff, 0xff, 0xff, 1]).bytes().unwrap_err();
        assert_eq!(error.to_string(), "byte 5: 2147483647 bytes are announced, 1 are there");
        assert!(Reader::new(&[1, 0xff]).text().unwrap_err().what.contains("UTF-8"));
        assert!(Reader::new(&[]).byte().is_err());
    }
}
