//! TFile, the container format of aggregated logs: blocks of key-value records, each block compressed by itself.
//!
//! ```text
//! file   = magic(16) block* metablock* meta-index i64(offset of meta-index) u16 u16(version) magic(16)
//! index  = vint(count) { string("data:" name) string(codec) region }*
//! region = vlong(offset) vlong(compressed bytes) vlong(raw bytes)
//! block  = { vint(length) key value }*          value = { vint(-length) bytes }* vint(length) bytes
//! ```
//!
//! The meta block `BCFile.index` lists the regions of the data blocks. Sources: `org.apache.hadoop.io.file.tfile`
//! (`TFile`, `BCFile`, `Utils`, `Chunk`). Values are streamed, never held; nothing is allocated on a length's
//! word; the codecs `none` and `gz` (a raw zlib stream) are known.

use super::LogError;
use flate2::read::ZlibDecoder;
use std::cell::RefCell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

/// First and last bytes of a TFile.
const MAGIC: [u8; 16] =
    [0xd1, 0x11, 0xd3, 0x68, 0x91, 0xb5, 0xd7, 0xb6, 0x39, 0xdf, 0x41, 0x40, 0x92, 0xba, 0xe1, 0x50];
/// Offset of the meta index, version, magic.
const TAIL_BYTES: u64 = 8 + 4 + 16;
/// Version of BCFile that is read.
const MAJOR_VERSION: u16 = 1;
/// Largest meta index or meta block, raw; an index of 100,000 blocks needs 1 MiB.
const MAX_META_BYTES: u64 = 16 << 20;
/// Meta blocks in a file; there are three.
const MAX_META_BLOCKS: i64 = 1024;
/// Longest name of a meta block or codec.
const MAX_NAME_BYTES: i64 = 1024;
/// Longest key (`TFile.MAX_KEY_SIZE`).
const MAX_KEY_BYTES: i64 = 64 << 10;
/// Name of the meta block that lists the data blocks.
const DATA_INDEX: &str = "data:BCFile.index";
/// Bytes asked of the source at once.
const READ_BYTES: usize = 64 << 10;

/// The source: fills the whole buffer from this offset, or fails.
pub type ReadAt<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

/// Takes the key and the value of a record.
pub type VisitRecord<'v> = dyn FnMut(&[u8], &mut dyn Read) -> Result<(), LogError> + 'v;

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Region {
    offset: u64,
    compressed: u64,
    raw: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Codec {
    None,
    Gz,
}

/// The source and the first failure of it, so that it can be told from corrupt data.
struct Source<'a> {
    read_at: &'a mut ReadAt<'a>,
    failure: Option<io::Error>,
}

/// An open TFile.
pub struct TFile<'a> {
    source: Rc<RefCell<Source<'a>>>,
    codec: Codec,
    blocks: Vec<Region>,
}

fn corrupt(what: impl Into<String>) -> LogError {
    LogError::Corrupt(what.into())
}

impl<'a> TFile<'a> {
    /// Opens a file of `length` bytes.
    ///
    /// # Errors
    /// [`LogError::NotTFile`] when it is something else, [`LogError::Corrupt`] when its index is broken.
    pub fn open(read_at: &'a mut ReadAt<'a>, length: u64) -> Result<Self, LogError> {
        let source = Rc::new(RefCell::new(Source { read_at, failure: None }));
        let mut file = TFile { source, codec: Codec::None, blocks: Vec::new() };
        if length < MAGIC.len() as u64 + TAIL_BYTES {
            return Err(LogError::NotTFile(format!("{length} bytes are too few")));
        }
        let index = file.meta_index(length)?;
        let mut index = file.meta_bytes(Codec::None, index)?;
        let count = vint(&mut index)?;
        if !(0..=MAX_META_BLOCKS).contains(&count) {
            return Err(corrupt(format!("{count} meta blocks")));
        }
        let mut data_index = None;
        for _ in 0..count {
            let (name, codec, region) =
                (string(&mut index)?, string(&mut index)?, region(&mut index, length)?);
            if name == DATA_INDEX {
                data_index = Some((self::codec(&codec)?, region));
            }
        }
        let (index_codec, region_of_index) = data_index.ok_or_else(|| corrupt("no index of data blocks"))?;
        let mut index = file.meta_bytes(index_codec, region_of_index)?;
        file.codec = codec(&string(&mut index)?)?;
        let count = vint(&mut index)?;
        for _ in 0..count {
            // Each takes three bytes and more of the index, so a wrong count ends soon.
            file.blocks.push(region(&mut index, length)?);
        }
        Ok(file)
    }

    /// Checks the tail; returns where the meta index is.
    fn meta_index(&mut self, length: u64) -> Result<Region, LogError> {
        let mut tail = [0; TAIL_BYTES as usize];
        let tail_at = length - TAIL_BYTES;
        self.read_exact_at(tail_at, &mut tail)?;
        let mut head = [0; MAGIC.len()];
        self.read_exact_at(0, &mut head)?;
        if tail[12..] != MAGIC || head != MAGIC {
            return Err(LogError::NotTFile("its first or last bytes differ".into()));
        }
        let major = u16::from_be_bytes([tail[8], tail[9]]);
        if major != MAJOR_VERSION {
            return Err(LogError::NotTFile(format!("version {major}")));
        }
        let offset = u64::from_be_bytes(std::array::from_fn(|i| tail[i]));
        let bytes = tail_at.checked_sub(offset).ok_or_else(|| corrupt("its index starts after its end"))?;
        Ok(Region { offset, compressed: bytes, raw: bytes })
    }

    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), LogError> {
        (self.source.borrow_mut().read_at)(offset, buffer).map_err(LogError::Read)
    }

    /// The whole of a meta block.
    fn meta_bytes(&mut self, codec: Codec, region: Region) -> Result<io::Cursor<Vec<u8>>, LogError> {
        if region.raw > MAX_META_BYTES || region.compressed > MAX_META_BYTES {
            return Err(corrupt(format!("an index of {} bytes", region.raw)));
        }
        let mut bytes = Vec::new();
        let read = self.reader(codec, region).take(MAX_META_BYTES).read_to_end(&mut bytes);
        self.checked(read.map_err(|error| corrupt(format!("its index cannot be read: {error}"))))?;
        Ok(io::Cursor::new(bytes))
    }

    /// `result`, unless the source has failed: then that.
    fn checked<T>(&self, result: Result<T, LogError>) -> Result<T, LogError> {
        match self.source.borrow_mut().failure.take() {
            Some(failure) => Err(LogError::Read(failure)),
            None => result,
        }
    }

    /// The raw bytes of a region.
    fn reader(&self, codec: Codec, region: Region) -> Box<dyn Read + 'a> {
        let bytes =
            RegionReader { source: self.source.clone(), next: region.offset, left: region.compressed };
        let bytes = BufReader::with_capacity(READ_BYTES, bytes);
        match codec {
            Codec::None => Box::new(bytes.take(region.raw)),
            Codec::Gz => {
                Box::new(BufReader::with_capacity(READ_BYTES, ZlibDecoder::new(bytes).take(region.raw)))
            }
        }
    }

    /// Calls `visit` with the key and the value of each record, in order. What it does not read of a value is
    /// passed over.
    ///
    /// # Errors
    /// Those of `visit`, and [`LogError::Corrupt`], after all records before the corrupt place.
    pub fn records(&mut self, visit: &mut VisitRecord<'_>) -> Result<(), LogError> {
        for block in self.blocks.clone() {
            let mut block = self.reader(self.codec, block);
            let outcome = block_records(&mut *block, visit);
            self.checked(outcome)?;
        }
        Ok(())
    }
}

fn block_records(block: &mut dyn Read, visit: &mut VisitRecord<'_>) -> Result<(), LogError> {
    loop {
        let mut first = [0];
        match read_some(block, &mut first) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(corrupt(format!("a block breaks off: {error}"))),
        }
        let length = vint_from(first[0] as i8, block)?;
        if !(0..=MAX_KEY_BYTES).contains(&length) {
            return Err(corrupt(format!("a key of {length} bytes")));
        }
        let mut key = vec![0; length as usize];
        block.read_exact(&mut key).map_err(|error| corrupt(format!("a key breaks off: {error}")))?;
        let mut value = Value { block, left: 0, last: false };
        visit(&key, &mut value)?;
        io::copy(&mut value, &mut io::sink())
            .map_err(|error| corrupt(format!("the value of a record breaks off: {error}")))?;
    }
}

/// Part of the file, as a stream.
struct RegionReader<'a> {
    source: Rc<RefCell<Source<'a>>>,
    next: u64,
    left: u64,
}

impl Read for RegionReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if want == 0 {
            return Ok(0);
        }
        let source = &mut *self.source.borrow_mut();
        if let Err(failure) = (source.read_at)(self.next, &mut buffer[..want]) {
            let told = io::Error::new(failure.kind(), failure.to_string());
            source.failure.get_or_insert(failure);
            return Err(told);
        }
        self.next += want as u64;
        self.left -= want as u64;
        Ok(want)
    }
}

/// The chunks of a value, as a stream.
struct Value<'b> {
    block: &'b mut dyn Read,
    left: u64,
    last: bool,
}

impl Read for Value<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while self.left == 0 {
            if self.last {
                return Ok(0);
            }
            let length =
                vint(self.block).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            (self.last, self.left) = (length >= 0, length.unsigned_abs());
        }
        let want = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let got = read_some(self.block, &mut buffer[..want])?;
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= got as u64;
        Ok(got)
    }
}

/// One read that is not interrupted.
fn read_some(from: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

fn codec(name: &str) -> Result<Codec, LogError> {
    match name {
        "none" => Ok(Codec::None),
        "gz" => Ok(Codec::Gz),
        other => Err(LogError::Codec(other.to_owned())),
    }
}

fn region(from: &mut dyn Read, length: u64) -> Result<Region, LogError> {
    let mut next =
        || vint(from).and_then(|n| u64::try_from(n).map_err(|_| corrupt(format!("a region at {n}"))));
    let region = Region { offset: next()?, compressed: next()?, raw: next()? };
    match region.offset.checked_add(region.compressed).is_some_and(|end| end <= length) {
        true => Ok(region),
        false => Err(corrupt(format!("a region of {} bytes at {}", region.compressed, region.offset))),
    }
}

/// A name: vint length and UTF-8.
fn string(from: &mut dyn Read) -> Result<String, LogError> {
    let length = vint(from)?;
    if !(0..=MAX_NAME_BYTES).contains(&length) {
        return Err(corrupt(format!("a name of {length} bytes")));
    }
    let mut bytes = vec![0; length as usize];
    from.read_exact(&mut bytes).map_err(|error| corrupt(format!("a name breaks off: {error}")))?;
    String::from_utf8(bytes).map_err(|_| corrupt("a name is not UTF-8"))
}

/// An integer as `tfile.Utils.readVLong` reads it: unlike all other Hadoop, short forms are biased.
fn vint(from: &mut dyn Read) -> Result<i64, LogError> {
    let mut first = [0];
    from.read_exact(&mut first).map_err(|error| corrupt(format!("a number breaks off: {error}")))?;
    vint_from(first[0] as i8, from)
}

fn vint_from(first: i8, from: &mut dyn Read) -> Result<i64, LogError> {
    if first >= -32 {
        return Ok(i64::from(first));
    }
    let mut rest = [0u8; 8];
    // The highest bits of the short forms sit in the first byte, which is why so many values are spent on them.
    let (bias, bytes) = match (i16::from(first) + 128) / 8 {
        7..=11 => (Some(52), 1),
        3..=6 => (Some(88), 2),
        1..=2 => (Some(112), 3),
        _ => (None, usize::from((i16::from(first) + 129) as u16)),
    };
    if bias.is_none() && bytes < 4 {
        return Err(corrupt("a number of impossible length"));
    }
    let rest = &mut rest[..bytes];
    from.read_exact(rest).map_err(|error| corrupt(format!("a number breaks off: {error}")))?;
    let start = match bias {
        Some(bias) => i64::from(first) + bias,
        None => i64::from(rest[0] as i8) >> 7, // all ones when negative
    };
    Ok(rest.iter().fold(start, |sum, byte| sum << 8 | i64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(bytes: &[u8]) -> Option<i64> {
        let mut rest = bytes;
        vint(&mut rest).ok().filter(|_| rest.is_empty())
    }

    #[test]
    fn numbers_are_read_as_hadoop_writes_them() {
        let vectors = include_str!("../../tests/fixtures/vlongs.txt");
        let mut count = 0;
        for line in vectors.lines() {
            let (value, hex) = line.split_once(' ').unwrap();
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            assert_eq!(number(&bytes), Some(value.parse().unwrap()), "{line}");
            assert_eq!(number(&bytes[..bytes.len() - 1]), None, "{line}");
            count += 1;
        }
        assert!(count > 300);
    }

    #[test]
    fn lengths_that_hadoop_never_writes_are_corrupt() {
        for first in [0x80u8, 0x81, 0x82] {
            assert_eq!(number(&[&[first][..], &[0; 8]].concat()), None, "{first:x}");
        }
    }
}
