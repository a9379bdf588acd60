//! Blocks of a vector, and the order in which a stream visits them.

use std::ops::Range;

/// How the elements of a vector are cut into blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    elements: usize,
    blocks: usize,
    align: usize,
}

/// Borders of blocks lie on multiples of this many elements, so that sums run over whole cache lines.
const BLOCK_ALIGN: usize = 16;

impl Partition {
    /// Nearly equal blocks; some are empty when there are few elements.
    pub(crate) fn balanced(elements: usize, blocks: usize) -> Self {
        assert!(blocks > 0, "a vector has at least one block");
        Partition { elements, blocks, align: BLOCK_ALIGN }
    }

    /// `blocks` blocks of `slot` elements each.
    pub(crate) fn slots(slot: usize, blocks: usize) -> Self {
        Partition { elements: slot * blocks, blocks, align: 1 }
    }

    /// Number of blocks.
    pub(crate) fn blocks(&self) -> usize {
        self.blocks
    }

    /// The elements of block `index`.
    pub(crate) fn block(&self, index: usize) -> Range<usize> {
        self.start(index)..self.start(index + 1)
    }

    fn start(&self, index: usize) -> usize {
        if index == self.blocks {
            return self.elements;
        }
        let exact = (self.elements as u128 * index as u128 / self.blocks as u128) as usize;
        exact / self.align * self.align
    }
}

/// `count` blocks in a row, upwards or downwards, modulo the number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    first: usize,
    downwards: bool,
    count: usize,
}

impl Walk {
    /// `first`, `first + 1`, …
    pub(crate) fn up(first: usize, count: usize) -> Self {
        Walk { first, downwards: false, count }
    }

    /// `first`, `first − 1`, …
    pub(crate) fn down(first: usize, count: usize) -> Self {
        Walk { first, downwards: true, count }
    }

    /// How many blocks are visited.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// The block visited at `step`.
    pub(crate) fn block(&self, step: usize, blocks: usize) -> usize {
        debug_assert!(step < self.count && self.first < blocks);
        let step = step % blocks;
        if self.downwards { (self.first + blocks - step) % blocks } else { (self.first + step) % blocks }
    }
}

/// A stretch of a stream that lies in one piece in memory, in bytes of the wire format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Where it lies, as if the whole vector were in wire format.
    pub(crate) bytes: Range<usize>,
    /// Whether it is added (receive streams).
    pub(crate) adds: bool,
}

/// A position in the stream that a [`Walk`] over a [`Partition`] makes, in bytes of the wire format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    walk: Walk,
    partition: Partition,
    wire_bytes: usize,
    adds: usize,
    step: usize,
    offset: usize,
}

impl Cursor {
    /// The start of the stream; its first `adds` blocks are added, elements have `wire_bytes` bytes.
    pub(crate) fn new(walk: Walk, adds: usize, partition: Partition, wire_bytes: usize) -> Self {
        Cursor { walk, partition, wire_bytes, adds, step: 0, offset: 0 }
    }

    /// Bytes of the first `blocks` blocks of the stream.
    pub(crate) fn prefix(&self, blocks: usize) -> usize {
        let full_turns = blocks / self.partition.blocks();
        let rest: usize = (full_turns * self.partition.blocks()..blocks).map(|s| self.block(s).len()).sum();
        (full_turns * self.partition.elements + rest) * self.wire_bytes
    }

    /// Bytes of the whole stream.
    pub(crate) fn total(&self) -> usize {
        self.prefix(self.walk.count())
    }

    fn block(&self, step: usize) -> Range<usize> {
        self.partition.block(self.walk.block(step, self.partition.blocks()))
    }

    /// What comes next in one piece, merged over neighbouring blocks; `None` at the end.
    pub(crate) fn run(&mut self) -> Option<Run> {
        while self.step < self.walk.count() && self.offset == self.block(self.step).len() * self.wire_bytes {
            (self.step, self.offset) = (self.step + 1, 0);
        }
        if self.step == self.walk.count() {
            return None;
        }
        let adds = self.step < self.adds;
        let here = self.block(self.step);
        let mut end = here.end;
        for step in self.step + 1..self.walk.count() {
            let next = self.block(step);
            if next.start != end || (step < self.adds) != adds || self.walk.downwards {
                break;
            }
            end = next.end;
        }
        Some(Run { bytes: here.start * self.wire_bytes + self.offset..end * self.wire_bytes, adds })
    }

    /// Moves `bytes` on, at most to the end of the present run.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let left = self.block(self.step).len() * self.wire_bytes - self.offset;
            let taken = left.min(bytes);
            (self.offset, bytes) = (self.offset + taken, bytes - taken);
            if bytes > 0 {
                (self.step, self.offset) = (self.step + 1, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_vector_of_any_length_once() {
        for elements in [0, 1, 15, 16, 17, 1000, 4096, 1 << 40] {
            for blocks in 1..40 {
                let partition = Partition::balanced(elements, blocks);
                let mut end = 0;
                for block in (0..blocks).map(|i| partition.block(i)) {
                    assert_eq!(block.start, end);
                    assert!(block.end >= block.start && block.len() <= elements / blocks + 1 + BLOCK_ALIGN);
                    end = block.end;
                }
                assert_eq!(end, elements);
            }
        }
    }

    #[test]
    fn neighbouring_blocks_are_one_run_until_the_vector_wraps_or_adding_ends() {
        let slots = Partition::slots(10, 4);
        let mut cursor = Cursor::new(Walk::up(2, 4), 0, slots, 2);
        assert_eq!((cursor.total(), cursor.prefix(1)), (80, 20));
        assert_eq!(cursor.run(), Some(Run { bytes: 40..80, adds: false }));
        cursor.advance(25);
        assert_eq!(cursor.run(), Some(Run { bytes: 65..80, adds: false }));
        cursor.advance(15);
        assert_eq!(cursor.run(), Some(Run { bytes: 0..40, adds: false }));
        cursor.advance(40);
        assert_eq!(cursor.run(), None);

        let mut cursor = Cursor::new(Walk::up(0, 4), 1, slots, 1);
        assert_eq!(cursor.run(), Some(Run { bytes: 0..10, adds: true }));
        cursor.advance(10);
        assert_eq!(cursor.run(), Some(Run { bytes: 10..40, adds: false }));
    }

    #[test]
    fn a_walk_down_goes_round_more_than_once_and_skips_empty_blocks() {
        let mut cursor = Cursor::new(Walk::down(1, 6), 3, Partition::balanced(20, 4), 1);
        let mut runs = Vec::new();
        while let Some(run) = cursor.run() {
            cursor.advance(run.bytes.len());
            runs.push(run);
        }
        // Blocks of 20 elements in 4 are 0..0, 0..0, 0..0 and 0..20 or the like: only non-empty ones appear.
        assert!(runs.iter().all(|run| !run.bytes.is_empty()));
        assert_eq!(runs.iter().map(|run| run.bytes.len()).sum::<usize>(), cursor.total());
    }
}
