//! Blocks of a vector, and the order in which a stream visits them.

use std::ops::Range;

/// How the elements of a vector are cut: into segments that are worked on one after the other, and each segment into
/// blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    elements: usize,
    segments: usize,
    blocks: usize,
    align: usize,
}

/// Borders of blocks lie on multiples of this many elements, so that sums run over whole cache lines.
const BLOCK_ALIGN: usize = 16;

impl Partition {
    /// Nearly equal blocks; some are empty when there are few elements.
    pub(crate) fn balanced(elements: usize, blocks: usize, segments: usize) -> Self {
        assert!(blocks > 0 && segments > 0, "a vector has at least one block");
        Partition { elements, segments, blocks, align: BLOCK_ALIGN }
    }

    /// `blocks` blocks of `slot` elements each.
    pub(crate) fn slots(slot: usize, blocks: usize) -> Self {
        Partition { elements: slot * blocks, segments: 1, blocks, align: 1 }
    }

    /// Number of segments.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> usize {
        self.segments
    }

    /// The elements of block `block` of segment `segment`.
    pub(crate) fn block(&self, segment: usize, block: usize) -> Range<usize> {
        let start = self.cut(self.elements, segment, self.segments);
        let length = self.cut(self.elements, segment + 1, self.segments) - start;
        start + self.cut(length, block, self.blocks)..start + self.cut(length, block + 1, self.blocks)
    }

    /// Where part `index` of `parts` starts.
    fn cut(&self, length: usize, index: usize, parts: usize) -> usize {
        if index == parts {
            return length;
        }
        let exact = (length as u128 * index as u128 / parts as u128) as usize;
        exact / self.align * self.align
    }
}

/// `count` blocks in a row, upwards or downwards, modulo the number of blocks; the same in each of some segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Walk {
    first: usize,
    downwards: bool,
    count: usize,
    first_segment: usize,
    segments: usize,
}

impl Walk {
    /// `first`, `first + 1`, … of the first segment.
    pub(crate) fn up(first: usize, count: usize) -> Self {
        Walk { first, downwards: false, count, first_segment: 0, segments: 1 }
    }

    /// `first`, `first − 1`, … of the first segment.
    pub(crate) fn down(first: usize, count: usize) -> Self {
        Walk { downwards: true, ..Self::up(first, count) }
    }

    /// The same blocks of other segments.
    pub(crate) fn in_segments(self, segments: Range<usize>) -> Self {
        Walk { first_segment: segments.start, segments: segments.len(), ..self }
    }

    /// How many blocks are visited.
    pub(crate) fn steps(&self) -> usize {
        self.count * self.segments
    }

    /// The step in its segment.
    pub(crate) fn step_in_segment(&self, step: usize) -> usize {
        step % self.count
    }

    /// The elements visited at `step`.
    fn block(&self, step: usize, partition: &Partition) -> Range<usize> {
        debug_assert!(step < self.steps() && self.first < partition.blocks);
        let (blocks, offset) = (partition.blocks, step % self.count % partition.blocks);
        let block = if self.downwards { self.first + blocks - offset } else { self.first + offset };
        partition.block(self.first_segment + step / self.count, block % blocks)
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
    /// The start of the stream; the first `adds` blocks of each segment are added, elements have `wire_bytes` bytes.
    pub(crate) fn new(walk: Walk, adds: usize, partition: Partition, wire_bytes: usize) -> Self {
        let mut cursor = Cursor { walk, partition, wire_bytes, adds, step: 0, offset: 0 };
        cursor.skip_empty();
        cursor
    }

    /// The step, and bytes into its block. Never the end of a block: that is the start of the next one that is not empty.
    pub(crate) fn position(&self) -> (usize, usize) {
        (self.step, self.offset)
    }

    /// Whether the stream has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.step == self.walk.steps()
    }

    /// Bytes that are left of the present block.
    pub(crate) fn left_in_block(&self) -> usize {
        if self.is_done() { 0 } else { self.block(self.step).len() * self.wire_bytes - self.offset }
    }

    fn block(&self, step: usize) -> Range<usize> {
        self.walk.block(step, &self.partition)
    }

    fn adds(&self, step: usize) -> bool {
        self.walk.step_in_segment(step) < self.adds
    }

    fn skip_empty(&mut self) {
        while !self.is_done() && self.left_in_block() == 0 {
            (self.step, self.offset) = (self.step + 1, 0);
        }
    }

    /// What comes next in one piece, merged over neighbouring blocks; `None` at the end.
    pub(crate) fn run(&self) -> Option<Run> {
        if self.is_done() {
            return None;
        }
        let adds = self.adds(self.step);
        let here = self.block(self.step);
        let mut end = here.end;
        for step in self.step + 1..self.walk.steps() {
            let next = self.block(step);
            if next.start != end || self.adds(step) != adds || self.walk.downwards {
                break;
            }
            end = next.end;
        }
        Some(Run { bytes: here.start * self.wire_bytes + self.offset..end * self.wire_bytes, adds })
    }

    /// Moves `bytes` on, at most to the end of the present run.
    pub(crate) fn advance(&mut self, mut bytes: usize) {
        while bytes > 0 {
            let taken = self.left_in_block().min(bytes);
            (self.offset, bytes) = (self.offset + taken, bytes - taken);
            self.skip_empty();
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
                for segments in [1, 2, 7] {
                    let partition = Partition::balanced(elements, blocks, segments);
                    let mut end = 0;
                    for index in 0..blocks * segments {
                        let block = partition.block(index / blocks, index % blocks);
                        assert_eq!(block.start, end);
                        assert!(block.end >= block.start);
                        assert!(block.len() <= elements / blocks / segments + 2 + 2 * BLOCK_ALIGN);
                        end = block.end;
                    }
                    assert_eq!(end, elements);
                }
            }
        }
    }

    #[test]
    fn neighbouring_blocks_are_one_run_until_the_vector_wraps_or_adding_ends() {
        let slots = Partition::slots(10, 4);
        let mut cursor = Cursor::new(Walk::up(2, 4), 0, slots, 2);
        assert_eq!((cursor.position(), cursor.left_in_block()), ((0, 0), 20));
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
    fn a_walk_goes_round_in_each_segment_and_skips_empty_blocks() {
        // Blocks of 32 elements in 4 are 0, 0, 16 and 16 long.
        let walk = Walk::down(1, 6).in_segments(1..3);
        let mut cursor = Cursor::new(walk, 3, Partition::balanced(96, 4, 3), 1);
        let mut runs = Vec::new();
        while let Some(run) = cursor.run() {
            runs.push((cursor.position().0, run.bytes.start, run.bytes.end, run.adds));
            cursor.advance(run.bytes.len());
        }
        let start = |segment| Partition::balanced(96, 4, 3).block(segment, 0).start;
        assert_eq!((start(1), start(2)), (32, 64));
        let block = |b: usize, segment| Partition::balanced(96, 4, 3).block(segment, b);
        let expected: Vec<_> = (0..12)
            .map(|step| (step, block([1, 0, 3, 2, 1, 0][step % 6], 1 + step / 6), step % 6 < 3))
            .filter(|(_, block, _)| !block.is_empty())
            .map(|(step, block, adds)| (step, block.start, block.end, adds))
            .collect();
        assert!(!expected.is_empty());
        assert_eq!(runs, expected);
    }
}
