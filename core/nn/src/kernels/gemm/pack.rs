//! Parts of matrices rearranged for the inner loop: strips of some rows or columns, so that what a step of the
//! inner dimension needs lies together.

use super::super::lanes::{LANES, Lanes};
use std::ops::Range;

/// Steps of a strip that are copied before those of the next.
const STEPS: usize = 16;

/// Where a matrix lies: the number at (i, l) is `start + i · across + l · along`. `along` counts the inner
/// dimension; one of the two distances is 1.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) start: *const f32,
    pub(super) across: usize,
    pub(super) along: usize,
}

impl Source {
    /// The part that begins at (i, l).
    #[inline(always)]
    pub(super) fn at(self, i: usize, l: usize) -> Source {
        Source { start: self.start.wrapping_add(i * self.across + l * self.along), ..self }
    }
}

/// Rows or columns that lie together step by step.
#[derive(Clone, Copy)]
pub(super) struct Strip {
    /// The first of them.
    pub(super) first: usize,
    /// How many there are.
    pub(super) size: usize,
    /// Numbers from a step to the next: at least `size`; what is left is 0.
    pub(super) width: usize,
}

/// Copies strips over `length` steps of the inner dimension, one behind the other: step l of the strip from row or column
/// `first` on to `to[first · length + l · width..]`.
///
/// # Safety
/// The source has all rows or columns of the strips and `length` steps, and what lies between its numbers can be read too;
/// `to` has room for all strips.
#[inline(always)]
pub(super) unsafe fn pack<V: Lanes>(
    from: Source,
    strips: impl Iterator<Item = Strip> + Clone,
    length: usize,
    to: *mut f32,
) {
    let Source { start, across, .. } = from;
    // SAFETY: rows, columns and steps are those of the source.
    unsafe {
        if across == 1 {
            // Some steps at a time, so that what lies between strips in a cache line is still there for the next.
            for l in (0..length).step_by(STEPS) {
                let steps = l..(l + STEPS).min(length);
                for strip in strips.clone() {
                    copy::<V>(from, strip, steps.clone(), length, to);
                }
            }
            return;
        }
        for Strip { first, size, width } in strips {
            let (from, to) = (start.add(first * across), to.add(first * length));
            for i in (0..width).step_by(LANES) {
                let rows = size.saturating_sub(i).min(LANES);
                for l in (0..length).step_by(LANES) {
                    let square = transposed::<V>(from.wrapping_add(i * across + l), across, rows, length - l);
                    for (step, column) in square.into_iter().take(length - l).enumerate() {
                        column.store_first(to.add((l + step) * width + i), width - i);
                    }
                }
            }
        }
    }
}

/// Copies some steps of a strip whose rows or columns lie side by side.
///
/// # Safety
/// As of [`pack`]; the steps before are copied.
#[inline(always)]
unsafe fn copy<V: Lanes>(from: Source, strip: Strip, steps: Range<usize>, length: usize, to: *mut f32) {
    let (Source { start, along, .. }, Strip { first, size, width }) = (from, strip);
    // Whole vectors stand over the end of a step. In the source the next step follows, in `to` so many later ones, which
    // are written after it.
    let over = (LANES - 1).div_ceil(width);
    let whole =
        if along >= LANES { length.saturating_sub(over).clamp(steps.start, steps.end) } else { steps.start };
    // The last vector of a step comes first, as it stands over the end.
    for i in (0..width).step_by(LANES).rev() {
        // What is missing in a strip is 0.
        let whole = if size >= width.min(i + LANES) { whole } else { steps.start };
        // SAFETY: the caller vouches for it, and what is said above.
        unsafe {
            let mut from = start.add(first + i.min(size) + steps.start * along);
            let mut to = to.add(first * length + i + steps.start * width);
            for _ in steps.start..whole {
                V::load(from).store(to);
                (from, to) = (from.wrapping_add(along), to.wrapping_add(width));
            }
            for _ in whole..steps.end {
                V::load_first(from, size.saturating_sub(i)).store_first(to, width - i);
                (from, to) = (from.wrapping_add(along), to.wrapping_add(width));
            }
        }
    }
}

/// Sixteen columns of sixteen rows, as rows; what lies outside of `rows × columns` is 0.
///
/// # Safety
/// `from` points at `rows` rows of `columns` numbers, `stride` apart.
#[inline(always)]
unsafe fn transposed<V: Lanes>(from: *const f32, stride: usize, rows: usize, columns: usize) -> [V; LANES] {
    let mut square = [V::splat(0.0); LANES];
    for (i, row) in square.iter_mut().enumerate().take(rows) {
        // SAFETY: the caller vouches for it.
        *row = unsafe { V::load_first(from.add(i * stride), columns) };
    }
    exchanged(square)
}

/// Rows as columns.
#[inline(always)]
pub(in crate::kernels) fn exchanged<V: Lanes>(mut square: [V; LANES]) -> [V; LANES] {
    // The place of a number is written in eight bits, four of its row and four of its column. Interleaving the
    // upper half of the rows with the lower half moves the highest bit to the lowest place; four times exchanges
    // rows and columns.
    for _ in 0..4 {
        let before = square;
        for i in 0..LANES / 2 {
            (square[2 * i], square[2 * i + 1]) = before[i].interleave(before[i + LANES / 2]);
        }
    }
    square
}
