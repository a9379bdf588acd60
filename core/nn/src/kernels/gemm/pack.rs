//! Parts of matrices rearranged for the inner loop: strips of some rows or columns, so that what a step of the
//! inner dimension needs lies together.

use super::super::lanes::{LANES, Lanes};

/// Where a matrix lies: the number at (i, l) is `start + i · across + l · along`. `along` counts the inner
/// dimension; one of the two distances is 1.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) start: *const f32,
    pub(super) across: usize,
    pub(super) along: usize,
}

impl Source {
    /// # Safety
    /// The number at (i, l) lies within the matrix.
    pub(super) unsafe fn at(self, i: usize, l: usize) -> Source {
        // SAFETY: the caller vouches for it.
        Source { start: unsafe { self.start.add(i * self.across + l * self.along) }, ..self }
    }
}

/// Copies `width` (at most `strip`) rows or columns over `length` steps of the inner dimension to
/// `to[l · strip + i]`; where `width` is less than `strip`, what is left is 0 up to the next whole vector.
///
/// # Safety
/// The source has `width × length` numbers; `to` has room for `length · strip + LANES`.
#[inline(always)]
pub(super) unsafe fn pack<V: Lanes>(from: Source, width: usize, length: usize, to: *mut f32, strip: usize) {
    // SAFETY: `i` and `l` stay below width and length; a store of a whole vector stands over the end of the last
    // step by less than LANES numbers, for which there is room, and over others before they are written.
    unsafe {
        if from.across == 1 {
            for l in 0..length {
                let (from, to) = (from.start.add(l * from.along), to.add(l * strip));
                let mut i = 0;
                while i < width {
                    V::load_first(from.add(i), width - i).store(to.add(i));
                    i += LANES;
                }
                while i < strip {
                    V::splat(0.0).store(to.add(i));
                    i += LANES;
                }
            }
            return;
        }
        for i in (0..strip).step_by(LANES) {
            let rows = width.saturating_sub(i).min(LANES);
            for l in (0..length).step_by(LANES) {
                let square =
                    transposed::<V>(from.start.add(i * from.across + l), from.across, rows, length - l);
                for (step, column) in square.into_iter().take(length - l).enumerate() {
                    column.store_first(to.add((l + step) * strip + i), strip - i);
                }
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
