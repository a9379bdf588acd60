//! Files whose name ends in `.gz`. They can not be read from the middle, so they are inflated as a whole: in a
//! stream to find out what they hold, into memory to read their records.

use flate2::write::MultiGzDecoder;
use std::io::{self, Write};

/// Largest inflated file. Larger ones have to be stored uncompressed, which also lets several workers share one.
pub(crate) const INFLATED_BYTES_LIMIT: u64 = 1 << 30;

/// Whether a file is read through gzip, by its name.
pub(crate) fn is_compressed(name: &str) -> bool {
    name.ends_with(".gz")
}

/// Inflates pieces of a file as they come, and passes the content on to `sink`.
pub(crate) struct Inflater<S: FnMut(&[u8])> {
    decoder: MultiGzDecoder<Limited<S>>,
}

struct Limited<S> {
    sink: S,
    total: u64,
}

impl<S: FnMut(&[u8])> Write for Limited<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.total += bytes.len() as u64;
        if self.total > INFLATED_BYTES_LIMIT {
            let text =
                format!("it inflates to more than {INFLATED_BYTES_LIMIT} bytes; store it uncompressed");
            return Err(io::Error::other(text));
        }
        (self.sink)(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: FnMut(&[u8])> Inflater<S> {
    pub(crate) fn new(sink: S) -> Self {
        Inflater { decoder: MultiGzDecoder::new(Limited { sink, total: 0 }) }
    }

    /// Takes the next piece.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), String> {
        self.decoder.write_all(piece).map_err(|error| words(&error))
    }

    /// Passes on everything that can be known of the pieces so far.
    pub(crate) fn flush(&mut self) -> Result<(), String> {
        self.decoder.flush().map_err(|error| words(&error))
    }

    /// Checks the end and gives back the inflated size.
    pub(crate) fn finish(self) -> Result<u64, String> {
        self.decoder.finish().map(|limited| limited.total).map_err(|error| words(&error))
    }
}

fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::Other => error.to_string(),
        _ => format!("the gzip stream is truncated or corrupt ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Compression, write::GzEncoder};

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn inflate(file: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let mut content = Vec::new();
        let mut inflater = Inflater::new(|bytes: &[u8]| content.extend_from_slice(bytes));
        file.chunks(piece).try_for_each(|piece| inflater.push(piece))?;
        let total = inflater.finish()?;
        assert_eq!(total, content.len() as u64);
        Ok(content)
    }

    #[test]
    fn pieces_of_any_size_and_joined_files_inflate() {
        let content: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8).collect();
        let mut file = gzip(&content[..30_000]);
        file.extend(gzip(&content[30_000..]));
        for piece in [1, 7, 4096, 1 << 20] {
            assert_eq!(inflate(&file, piece).unwrap(), content);
        }
    }

    #[test]
    fn damage_is_an_error() {
        let file = gzip(&[5; 1_000]);
        for len in 1..file.len() {
            assert!(inflate(&file[..len], 64).is_err(), "cut at {len}");
        }
        for at in 0..file.len() {
            let mut damaged = file.clone();
            damaged[at] ^= 0x55;
            // Time, name of the operating system and flags of the header carry no content.
            assert!(inflate(&damaged, 64).map_or(true, |content| content == [5; 1_000]), "damage at {at}");
        }
        assert!(inflate(b"plain text", 64).unwrap_err().contains("corrupt"));
    }

    #[test]
    fn bombs_stop_at_the_limit() {
        let zeros = vec![0; 1 << 20];
        let bomb: Vec<u8> = (0..1_100).flat_map(|_| gzip(&zeros)).collect();
        let mut inflater = Inflater::new(|_: &[u8]| {});
        let error = bomb.chunks(1 << 16).try_for_each(|piece| inflater.push(piece)).unwrap_err();
        assert!(error.contains("store it uncompressed"), "{error}");
    }
}
