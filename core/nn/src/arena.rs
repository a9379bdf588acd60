//! Memory that is planned once: which numbers may lie in the same place, and how tasks write to one buffer at
//! the same time.

use crate::kernels::prefetch::prefetch;
use crate::pages::zeros;
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
        let numbers = zeros(len + ALIGN);
        let start = numbers.as_ptr().align_offset(ALIGN * size_of::<f32>());
        Buffer { numbers, start, len }
    }

    /// The buffer, for tasks that write at the same time.
    pub(crate) fn share(&mut self) -> Shared<'_> {
        Shared::new(&mut self.numbers[self.start..self.start + self.len])
    }
}

/// A borrowed buffer of which several tasks write different parts at the same time.
pub(crate) struct Shared<'a, T = f32> {
    start: *mut T,
    len: usize,
    buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: parts are handed out by unsafe functions only, whose callers promise not to overlap.
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(buffer: &'a mut [T]) -> Self {
        Shared { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// A buffer that nobody writes to: only its parts to be read may be asked for.
    pub(crate) fn reading(buffer: &'a [T]) -> Self {
        Shared { start: buffer.as_ptr().cast_mut(), len: buffer.len(), buffer: PhantomData }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Without the lifetime, for those who keep it between uses.
    ///
    /// # Safety
    /// It is used only while the buffer lives and is borrowed for it.
    pub(crate) unsafe fn unbound(self) -> Shared<'static, T>
    where
        T: 'static,
    {
        Shared { start: self.start, len: self.len, buffer: PhantomData }
    }

    /// A part that nobody writes.
    ///
    /// # Safety
    /// Nobody writes to `range` while the slice lives.
    pub(crate) unsafe fn read(&self, range: Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.len, "the part lies within the buffer");
        // SAFETY: within the buffer, which is borrowed for 'a; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// A part that nobody else reads or writes.
    ///
    /// # Safety
    /// Nobody else uses `range` while the slice lives.
    pub(crate) unsafe fn write(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "the part lies within the buffer");
        // SAFETY: within the buffer, which is borrowed for 'a; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }
}

impl<'a> Shared<'a> {
    /// Asks for a part to be brought near, for whoever uses it soon.
    pub(crate) fn prefetch(&self, range: Range<usize>) {
        if range.end <= self.len {
            prefetch(self.start.wrapping_add(range.start), range.len());
        }
    }

    /// The same of a buffer that may be empty: nothing then.
    ///
    /// # Safety
    /// As [`Shared::write`].
    pub(crate) unsafe fn write_if_any(&self, range: Range<usize>) -> &'a mut [f32] {
        // SAFETY: the caller's promise.
        if self.len == 0 { &mut [] } else { unsafe { self.write(range) } }
    }
}

/// Most arrays that belong to pieces alone.
pub(crate) const MAX_OWN: usize = 4;

/// A part of some flat buffers, and the same part of arrays that hold nothing else than what all pieces cover.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Piece {
    /// Number of the range it was cut from.
    pub(crate) of: usize,
    /// Place in the flat buffers.
    pub(crate) flat: Range<usize>,
    /// Where it begins in the arrays of its own.
    pub(crate) own: usize,
}

/// Pieces of ranges that lie apart: what tasks can work on at the same time.
pub(crate) struct Pieces(Vec<Piece>);

impl Pieces {
    /// Cuts ranges into pieces of at most `most` numbers.
    ///
    /// # Panics
    /// When the ranges are not in order and apart.
    pub(crate) fn cut(ranges: &[Range<usize>], most: usize) -> Pieces {
        Pieces::cut_behind(0, ranges, most)
    }

    /// The same, where the arrays of their own begin with `own` other numbers.
    ///
    /// # Panics
    /// As [`Pieces::cut`].
    pub(crate) fn cut_behind(own: usize, ranges: &[Range<usize>], most: usize) -> Pieces {
        assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start), "ranges lie apart, in order");
        let (mut pieces, mut own) = (Vec::new(), own);
        for (of, range) in ranges.iter().enumerate() {
            for start in range.clone().step_by(most) {
                let flat = start..range.end.min(start + most);
                pieces.push(Piece { of, flat: flat.clone(), own });
                own += flat.len();
            }
        }
        Pieces(pieces)
    }

    /// Leaves pieces out; the others stay where they are.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Piece) -> bool) {
        self.0.retain(keep);
    }

    /// In order.
    pub(crate) fn list(&self) -> &[Piece] {
        &self.0
    }
}

/// What is done with a piece: its number, that part of every flat buffer (nothing of an empty one), and that part
/// of every array of its own.
pub(crate) type PieceWork<'a, const F: usize> = dyn Fn(usize, [&mut [f32]; F], &mut [&mut [f32]]) + Sync + 'a;

/// Lets the team work on pieces.
///
/// # Panics
/// When a piece lies outside of a buffer that is not empty, or there are more than [`MAX_OWN`] own arrays.
pub(crate) fn for_pieces<const F: usize>(
    team: &mut Team,
    pieces: &Pieces,
    flat: [&mut [f32]; F],
    own: &mut [Vec<f32>],
    work: &PieceWork<'_, F>,
) {
    let count = own.len();
    assert!(count <= MAX_OWN, "at most {MAX_OWN} arrays lie beside the parameters, not {count}");
    let mut own = own.iter_mut();
    let own: [Shared<'_>; MAX_OWN] =
        std::array::from_fn(|_| Shared::new(own.next().map_or(&mut [], |array| &mut array[..])));
    let flat = flat.map(Shared::new);
    team.tasks(pieces.0.len(), &|index, _| {
        let piece = &pieces.0[index];
        let (begin, len) = (piece.own, piece.flat.len());
        // SAFETY: every index is handed out once, and pieces overlap neither in the flat buffers nor in their own
        // arrays: `cut` made them from ranges that lie apart.
        let flat = flat.map(|array| unsafe { array.write_if_any(piece.flat.clone()) });
        // SAFETY: as above.
        let mut own = own.map(|array| unsafe { array.write_if_any(begin..begin + len) });
        work(index, flat, &mut own[..count]);
    });
}

/// Some rows of a table in flat buffers, and of arrays that hold nothing else than what pieces cover.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    /// Rising.
    pub(crate) rows: &'a [u32],
    pub(crate) columns: usize,
    /// Where the table begins in the flat buffers.
    pub(crate) flat: usize,
    /// Where it begins in the arrays of its own.
    pub(crate) own: usize,
}

/// Rows that a task of [`for_rows`] works on.
const TASK_ROWS: usize = 32;
/// How many rows ahead of the one that is worked on memory is asked for: rows lie anywhere, and their first use would
/// wait for memory each time.
const ROWS_AHEAD: usize = 3;

/// Lets the team work on rows: their number among `rows`, and that row of every array as in [`for_pieces`].
///
/// # Panics
/// When the rows do not rise or lie outside of a buffer, or there are more than [`MAX_OWN`] own arrays.
pub(crate) fn for_rows<const F: usize>(
    team: &mut Team,
    table: Rows<'_>,
    flat: [&mut [f32]; F],
    own: &mut [Vec<f32>],
    work: &PieceWork<'_, F>,
) {
    let Rows { rows, columns, flat: flat_start, own: own_start } = table;
    let count = own.len();
    assert!(count <= MAX_OWN, "at most {MAX_OWN} arrays lie beside the parameters, not {count}");
    assert!(rows.windows(2).all(|pair| pair[0] < pair[1]), "rows rise, so that no two are the same");
    let mut own = own.iter_mut();
    let own: [Shared<'_>; MAX_OWN] =
        std::array::from_fn(|_| Shared::new(own.next().map_or(&mut [], |array| &mut array[..])));
    let flat = flat.map(Shared::new);
    let place = |start: usize, row: u32| start + row as usize * columns..start + (row as usize + 1) * columns;
    let ask = |row: u32| {
        flat.iter().for_each(|array| array.prefetch(place(flat_start, row)));
        own[..count].iter().for_each(|array| array.prefetch(place(own_start, row)));
    };
    team.tasks(rows.len().div_ceil(TASK_ROWS), &|task, _| {
        let numbers = task * TASK_ROWS..((task + 1) * TASK_ROWS).min(rows.len());
        rows[numbers.clone()].iter().take(ROWS_AHEAD).for_each(|row| ask(*row));
        for number in numbers {
            if let Some(row) = rows.get(number + ROWS_AHEAD) {
                ask(*row);
            }
            // SAFETY: every number is handed out once, and rows rise: no two tasks have the same row.
            let flat = flat.map(|array| unsafe { array.write_if_any(place(flat_start, rows[number])) });
            // SAFETY: as above.
            let mut own = own.map(|array| unsafe { array.write_if_any(place(own_start, rows[number])) });
            work(number, flat, &mut own[..count]);
        }
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
    fn pieces_are_the_same_part_of_every_array() {
        let mut team = Team::new(3).unwrap();
        let pieces = Pieces::cut(&[10..300, 300..301, 500..1000], 64);
        assert_eq!(pieces.list().iter().map(|piece| piece.of).collect::<Vec<_>>()[4..8], [0, 1, 2, 2]);
        let mut a: Vec<f32> = (0..1000).map(|i| i as f32).collect();
        let (mut b, mut own) = (vec![0.0; 1000], [vec![0.0; 791]]);
        for_pieces(&mut team, &pieces, [&mut a, &mut b, &mut []], &mut own, &|_, [a, b, none], own| {
            assert!(a.len() <= 64 && own.len() == 1 && none.is_empty());
            b.iter_mut().zip(&mut *own[0]).zip(&*a).for_each(|((b, own), a)| (*b, *own) = (*a, *a));
        });
        let covered = |i: usize| (10..301).contains(&i) || (500..1000).contains(&i);
        assert!((0..1000).all(|i| b[i] == if covered(i) { i as f32 } else { 0.0 }));
        let expected: Vec<f32> = (0..1000).filter(|i| covered(*i)).map(|i| i as f32).collect();
        assert_eq!(own[0], expected, "own arrays hold what the pieces cover and nothing else");
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
