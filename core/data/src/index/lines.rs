//! Which lines belong to a byte range, and how many records they are.
//!
//! As Hadoop's `LineRecordReader` splits text: a line belongs to the range its first byte is in. So a range that
//! does not start at the first line skips to the first line break (looking one byte back, for a line may start
//! right at the range), and reads past its end to finish its last line. Every line belongs to exactly one range,
//! wherever the cuts are.

use crate::formats::csv::{LINE_BYTES_LIMIT, is_blank};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Whole lines that are read together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TextChunk {
    /// Offset of the first line.
    pub offset: u64,
    /// Bytes, line ends included.
    pub bytes: u64,
    /// Lines that are records.
    pub records: u32,
    /// All lines.
    pub lines: u32,
}

/// Takes a file's bytes in pieces, from [`LineScanner::first_byte`] on, and finds the chunks of one range.
#[derive(Debug)]
pub(super) struct LineScanner {
    end: u64,
    chunk_bytes: u64,
    /// Still before the first line of the range.
    skipping: bool,
    /// Offset of the next byte to come.
    position: u64,
    /// Offset of the line that is being read, and its first byte once known.
    line_start: u64,
    line_first: u8,
    chunk: TextChunk,
    found: Vec<TextChunk>,
    done: bool,
}

impl LineScanner {
    /// `range` of a file whose lines start at `first_line_at`, in chunks of about `chunk_bytes`.
    pub(super) fn new(range: Range<u64>, first_line_at: u64, chunk_bytes: u64) -> LineScanner {
        let skipping = range.start > first_line_at;
        let position = if skipping { range.start - 1 } else { first_line_at };
        LineScanner {
            end: range.end,
            chunk_bytes,
            skipping,
            position,
            line_start: position,
            line_first: 0,
            chunk: TextChunk { offset: position, ..TextChunk::default() },
            found: Vec::new(),
            done: position >= range.end,
        }
    }

    /// Where the bytes have to start.
    pub(super) fn first_byte(&self) -> u64 {
        self.position
    }

    /// Whether it needs no more bytes.
    pub(super) fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// Offset and words about a line without end.
    pub(super) fn push(&mut self, piece: &[u8]) -> Result<(), (u64, String)> {
        let start = self.position;
        self.position += piece.len() as u64;
        let mut from = 0;
        for at in memchr::memchr_iter(b'\n', piece) {
            if self.done {
                return Ok(());
            }
            if self.line_start >= start && at > from {
                self.line_first = piece[from];
            }
            self.end_line(start + at as u64, start + at as u64 + 1);
            from = at + 1;
        }
        if self.line_start >= start && from < piece.len() {
            self.line_first = piece[from];
        }
        if !self.done && self.position - self.line_start > LINE_BYTES_LIMIT as u64 {
            let text = format!("a line of more than {LINE_BYTES_LIMIT} bytes; is this a text file?");
            return Err((self.line_start, text));
        }
        Ok(())
    }

    /// The line that is being read ends at `end`; the next one starts at `next`.
    fn end_line(&mut self, end: u64, next: u64) {
        if self.skipping {
            self.skipping = false;
            self.chunk.offset = next;
        } else {
            let blank = match end - self.line_start {
                0 => true,
                1 => is_blank(&[self.line_first]),
                _ => false,
            };
            self.chunk.lines += 1;
            self.chunk.records += u32::from(!blank);
        }
        self.line_start = next;
        self.done = next >= self.end;
        if self.done || next - self.chunk.offset >= self.chunk_bytes {
            self.close_chunk(next);
        }
    }

    fn close_chunk(&mut self, next: u64) {
        if self.chunk.lines > 0 {
            self.found.push(TextChunk { bytes: next - self.chunk.offset, ..self.chunk });
        }
        self.chunk = TextChunk { offset: next, ..TextChunk::default() };
    }

    /// The chunks, once the range is done or the file has ended.
    pub(super) fn finish(mut self) -> Vec<TextChunk> {
        if !self.done {
            if self.line_start < self.position && !self.skipping {
                // The last line of the file, without a line break.
                self.end_line(self.position, self.position);
            }
            self.close_chunk(self.position);
        }
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scan(text: &[u8], range: Range<u64>, first_line_at: u64, chunk: u64, piece: usize) -> Vec<TextChunk> {
        let mut scanner = LineScanner::new(range, first_line_at, chunk);
        for piece in text[(scanner.first_byte() as usize).min(text.len())..].chunks(piece) {
            if scanner.is_done() {
                break;
            }
            scanner.push(piece).unwrap();
        }
        scanner.finish()
    }

    #[test]
    fn a_line_belongs_to_the_range_it_starts_in() {
        let text = b"one\ntwo\nthree";
        let starts = |range| -> Vec<u64> { scan(text, range, 0, 1, 2).iter().map(|c| c.offset).collect() };
        assert_eq!(starts(0..4), [0]);
        assert_eq!(starts(0..5), [0, 4]);
        assert_eq!(starts(4..8), [4]);
        assert_eq!(starts(5..9), [8]);
        assert_eq!(starts(9..13), [0u64; 0]);
    }

    #[test]
    fn blank_lines_are_lines_but_no_records() {
        let chunks = scan(b"a\r\n\r\n\n\nb\r\n", 0..10, 0, 1 << 20, 1);
        assert_eq!(chunks, [TextChunk { offset: 0, bytes: 10, records: 2, lines: 5 }]);
    }

    #[test]
    fn endless_lines_are_refused() {
        let mut scanner = LineScanner::new(0..1 << 40, 0, 1 << 20);
        let piece = vec![b'x'; 1 << 20];
        let error = (0..100).find_map(|_| scanner.push(&piece).err()).unwrap();
        assert!(error.0 == 0 && error.1.contains("is this a text file?"));
    }

    proptest! {
        #[test]
        fn any_cuts_give_every_line_once(
            text in "([a-b]{0,6}(\r?\n|\n\n)){0,30}[a-b]{0,3}",
            cuts in proptest::collection::vec(0u64..120, 0..8),
            (chunk, piece) in (1u64..40, 1usize..50),
            header in 0u64..2,
        ) {
            let text = text.as_bytes();
            let first = if header == 0 { 0 } else { text.iter().position(|b| *b == b'\n').map_or(0, |p| p as u64 + 1) };
            let size = text.len() as u64;
            let mut cuts: Vec<u64> = cuts.into_iter().filter(|c| *c > first && *c < size).chain([first, size]).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let mut found = Vec::new();
            for pair in cuts.windows(2) {
                found.extend(scan(text, pair[0]..pair[1], first, chunk, piece));
            }
            let mut at = first;
            for chunk in &found {
                prop_assert_eq!(chunk.offset, at);
                at += chunk.bytes;
                let lines = &text[chunk.offset as usize..at as usize];
                prop_assert!(lines.ends_with(b"\n") || at == size);
                let starts = lines.split_inclusive(|b| *b == b'\n');
                prop_assert_eq!(starts.clone().count() as u32, chunk.lines);
                let records = starts.filter(|l| !matches!(*l, b"\n" | b"\r\n" | b"\r")).count();
                prop_assert_eq!(records as u32, chunk.records);
            }
            prop_assert_eq!(at, size);
        }
    }
}
