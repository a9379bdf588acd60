//! Memory that is planned once: which numbers may lie in the same place, and how tasks write to one buffer at
//! the same time.

use crate::team::Team;
use std::marker::PhantomData;
use std::ops::Range;

/// Regions begin at multiples of this many numbers: a cache line, so that tasks do not share lines.
pub(crate) const ALIGN: usize = 16;

/// Numbers that are alive from one point of a pass to another, both included.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// Numbers.
    pub(crate) len: usize,
    /// First point at which they are written.
    pub(crate) from: usize,
    /// Last point at which they are read.
    pub(crate) to: usize,
}

/// Gives every lifetime an offset so that two that overlap in time do not overlap in memory; returns the
/// offsets and the size of the whole. Largest first, each at the lowest offset that is free.
pub(crate) fn assign(lifetimes: &[Lifetime]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|i| (std::cmp::Reverse(lifetimes[*i].len), *i));
    let mut offsets = vec![0; lifetimes.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let own = lifetimes[i];
        let len = own.len.next_multiple_of(ALIGN);
        let mut rivals: Vec<Range<usize>> = placed
            .iter()
            .filter(|j| lifetimes[**j].from <= own.to && own.from <= lifetimes[**j].to)
            .map(|j| offsets[*j]..offsets[*j] + lifetimes[*j].len.next_multiple_of(ALIGN))
            .collect();
        rivals.sort_by_key(|range| range.start);
        let mut offset = 0;
        for rival in rivals {
            if offset + len <= rival.start {
                break;
            }
            offset = offset.max(rival.end);
        }
        offsets[i] = offset;
        total = total.max(offset + len);
        placed.push(i);
    }
    (offsets, total)
}

/// A buffer that begins at a cache line.
pub(crate) struct Buffer {
    numbers: Vec<f32>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// `len` zeros.
    pub(crate) fn new(len: usize) -> Buffer {
        let numbers = vec![0.0f32; len + ALIGN];
        let start = numbers.as_ptr().align_offset(ALIGN * size_of::<f32>());
        Buffer { numbers, start, len }
    }

    /// The buffer, for tasks that write at the same time.
    pub(crate) fn share(&mut self) -> Shared<'_> {
        Shared::new(&mut self.numbers[self.start..self.start + self.len])
    }
}

/// A borrowed buffer of which several tasks write different parts at the same time.
#[derive(Clone, Copy)]
pub(crate) struct Shared<'a> {
    start: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

// SAFETY: parts are handed out by unsafe functions only, whose callers promise not to overlap.
unsafe impl Send for Shared<'_> {}
// SAFETY: as above.
unsafe impl Sync for Shared<'_> {}

impl<'a> Shared<'a> {
    pub(crate) fn new(buffer: &'a mut [f32]) -> Self {
        Shared { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// A part that nobody writes.
    ///
    /// # Safety
    /// Nobody writes to `range` while the slice lives.
    pub(crate) unsafe fn read(&self, range: Range<usize>) -> &'a [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "the part lies within the buffer");
        // SAFETY: within the buffer, which is borrowed for 'a; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// A part that nobody else reads or writes.
    ///
    /// # Safety
    /// Nobody else uses `range` while the slice lives.
    pub(crate) unsafe fn write(&self, range: Range<usize>) -> &'a mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "the part lies within the buffer");
        // SAFETY: within the buffer, which is borrowed for 'a; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

/// What is done with a chunk: its range, and that part of every array.
pub(crate) type ChunkWork<'a> = dyn Fn(Range<usize>, &mut [&mut [f32]]) + Sync + 'a;

/// Cuts arrays of one length into chunks at the same places and lets the team work on them: `work` gets the
/// range of a chunk, and that part of every array.
///
/// # Panics
/// When the arrays differ in length.
pub(crate) fn for_chunks<const N: usize>(
    team: &mut Team,
    chunk: usize,
    arrays: [&mut [f32]; N],
    work: &ChunkWork<'_>,
) {
    let len = arrays.first().map_or(0, |array| array.len());
    assert!(
        arrays.iter().all(|array| array.len() == len),
        "arrays that are updated together have one length"
    );
    let shared = arrays.map(Shared::new);
    team.tasks(len.div_ceil(chunk), &|index, _| {
        let range = index * chunk..((index + 1) * chunk).min(len);
        // SAFETY: every index is handed out once, and the ranges of different indices do not overlap.
        let mut parts = shared.map(|array| unsafe { array.write(range.clone()) });
        work(range, &mut parts);
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_lives_at_the_same_time_lies_apart(
            raw in proptest::collection::vec((1usize..200, 0usize..12, 0usize..6), 1..24)
        ) {
            let lifetimes: Vec<Lifetime> =
                raw.iter().map(|(len, from, more)| Lifetime { len: *len, from: *from, to: from + more }).collect();
            let (offsets, total) = assign(&lifetimes);
            for (i, a) in lifetimes.iter().enumerate() {
                prop_assert!(offsets[i] % ALIGN == 0 && offsets[i] + a.len <= total);
                for (j, b) in lifetimes.iter().enumerate().skip(i + 1) {
                    let together = a.from <= b.to && b.from <= a.to;
                    let apart = offsets[i] + a.len <= offsets[j] || offsets[j] + b.len <= offsets[i];
                    prop_assert!(!together || apart, "{a:?} at {} and {b:?} at {}", offsets[i], offsets[j]);
                }
            }
        }
    }

    #[test]
    fn memory_is_used_again() {
        let life = |from, to| Lifetime { len: 100, from, to };
        let (offsets, total) = assign(&[life(0, 1), life(1, 2), life(2, 3), life(3, 4)]);
        assert_eq!((offsets[0], offsets[1]), (offsets[2], offsets[3]));
        assert_eq!(total, 2 * 112);
    }

    #[test]
    fn chunks_are_the_same_part_of_every_array() {
        let mut team = Team::new(3).unwrap();
        let (mut a, mut b): (Vec<f32>, Vec<f32>) = ((0..1000).map(|i| i as f32).collect(), vec![0.0; 1000]);
        for_chunks(&mut team, 64, [&mut a, &mut b], &|range, parts| {
            let [a, b] = parts else { panic!("two arrays") };
            assert_eq!(a.len(), range.len());
            b.iter_mut().zip(&**a).for_each(|(b, a)| *b = a + range.start as f32);
        });
        assert!(b.iter().enumerate().all(|(i, b)| *b == (i + i / 64 * 64) as f32));
    }

    #[test]
    fn buffers_begin_at_a_cache_line() {
        let mut buffer = Buffer::new(33);
        let shared = buffer.share();
        // SAFETY: the only part that is taken.
        let all = unsafe { shared.write(0..33) };
        assert_eq!(all.as_ptr() as usize % 64, 0);
        assert!(all.iter().all(|v| *v == 0.0));
    }
}
