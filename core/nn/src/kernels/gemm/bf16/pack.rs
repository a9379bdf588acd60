//! Numbers rounded to bf16 and laid out for [`super::Band`]: pairs of the inner dimension side by side.

use super::super::super::Kernel;
use super::super::super::lanes::{LANES, Lanes};
use super::super::pack::exchanged;
use super::STEP;

/// Where a matrix lies: the number at (i, l) is `start + i · across + l · along`. `along` counts the inner dimension;
/// fast where one of the two distances is 1.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Source {
    pub(in crate::kernels) start: *const f32,
    pub(in crate::kernels) across: usize,
    pub(in crate::kernels) along: usize,
}

impl Source {
    /// The part from (i, l) on.
    pub(in crate::kernels) fn at(self, i: usize, l: usize) -> Source {
        Source { start: self.start.wrapping_add(i * self.across + l * self.along), ..self }
    }
}

/// A vector of pairs for each of sixteen lines over one step; what lies outside of `lines × length` is 0.
///
/// # Safety
/// The source has so many lines and numbers of each.
#[inline(always)]
pub(in crate::kernels) unsafe fn lines_of_pairs<V: Lanes>(
    from: Source,
    lines: usize,
    length: usize,
) -> [V; LANES] {
    // SAFETY: the caller vouches for it.
    unsafe {
        if from.along == 1 { by_line(from, lines, length) } else { exchanged(by_pair(from, lines, length)) }
    }
}

/// A vector of lines for each of sixteen pairs of one step; what lies outside of `lines × length` is 0.
///
/// # Safety
/// As [`lines_of_pairs`].
#[inline(always)]
pub(in crate::kernels) unsafe fn pairs_of_lines<V: Lanes>(
    from: Source,
    lines: usize,
    length: usize,
) -> [V; LANES] {
    // SAFETY: the caller vouches for it.
    unsafe {
        if from.along == 1 { exchanged(by_line(from, lines, length)) } else { by_pair(from, lines, length) }
    }
}

/// # Safety
/// As [`lines_of_pairs`]; the numbers of a line lie side by side.
#[inline(always)]
unsafe fn by_line<V: Lanes>(from: Source, lines: usize, length: usize) -> [V; LANES] {
    let mut square = [V::splat(0.0); LANES];
    for (i, line) in square.iter_mut().enumerate().take(lines) {
        let start = from.start.wrapping_add(i * from.across);
        // SAFETY: the caller vouches for `length` numbers.
        let (even, odd) = unsafe {
            if length >= STEP {
                V::load(start).deinterleave(V::load(start.add(LANES)))
            } else {
                let second = V::load_first(start.wrapping_add(LANES), length.saturating_sub(LANES));
                V::load_first(start, length.min(LANES)).deinterleave(second)
            }
        };
        *line = even.bf16_pairs(odd);
    }
    square
}

/// # Safety
/// As [`lines_of_pairs`].
#[inline(always)]
unsafe fn by_pair<V: Lanes>(from: Source, lines: usize, length: usize) -> [V; LANES] {
    let mut square = [V::splat(0.0); LANES];
    for (pair, pairs) in square.iter_mut().enumerate().take(length.div_ceil(2)) {
        // SAFETY: the caller vouches for it.
        unsafe {
            let even: V = across(from.at(0, 2 * pair), lines);
            let odd =
                if 2 * pair + 1 < length { across(from.at(0, 2 * pair + 1), lines) } else { V::splat(0.0) };
            *pairs = even.bf16_pairs(odd);
        }
    }
    square
}

/// The first number of each of at most sixteen lines.
///
/// # Safety
/// The source has them.
#[inline(always)]
unsafe fn across<V: Lanes>(from: Source, lines: usize) -> V {
    let lines = lines.min(LANES);
    // SAFETY: the caller vouches for `lines` numbers.
    unsafe {
        if from.across == 1 {
            return V::load_first(from.start, lines);
        }
        let mut numbers = [0.0; LANES];
        for (i, number) in numbers.iter_mut().enumerate().take(lines) {
            *number = *from.start.add(i * from.across);
        }
        V::load(numbers.as_ptr())
    }
}

/// Lines of a matrix as `to[step][line]`, each of [`STEP`] numbers, the last step filled up with zeros.
pub(in crate::kernels) struct PackLines {
    pub(in crate::kernels) from: Source,
    pub(in crate::kernels) lines: usize,
    pub(in crate::kernels) length: usize,
    /// `lines × length` numbers of bf16, of whole steps.
    pub(in crate::kernels) to: *mut f32,
}

impl Kernel for PackLines {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for l in (0..self.length).step_by(STEP) {
            let to = self.to.wrapping_add(l / STEP * self.lines * LANES);
            for i in (0..self.lines).step_by(LANES) {
                let lines = (self.lines - i).min(LANES);
                // SAFETY: whoever makes one vouches for the source and for the room.
                unsafe {
                    let square = lines_of_pairs::<V>(self.from.at(i, l), lines, self.length - l);
                    for (line, pairs) in square.into_iter().enumerate().take(lines) {
                        pairs.store(to.add((i + line) * LANES));
                    }
                }
            }
        }
    }
}

/// At most 32 columns of a matrix, as lines, for [`super::Band::b`].
pub(in crate::kernels) struct PackPanel {
    pub(in crate::kernels) from: Source,
    pub(in crate::kernels) columns: usize,
    pub(in crate::kernels) length: usize,
    /// [`super::panel_len`] pairs.
    pub(in crate::kernels) to: *mut f32,
}

impl Kernel for PackPanel {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let mut to = self.to;
        for l in (0..self.length).step_by(STEP) {
            for i in (0..self.columns).step_by(LANES) {
                let lines = (self.columns - i).min(LANES);
                // SAFETY: whoever makes one vouches for the source and for the room.
                unsafe {
                    let square = pairs_of_lines::<V>(self.from.at(i, l), lines, self.length - l);
                    for pairs in square {
                        pairs.store(to);
                        to = to.add(LANES);
                    }
                }
            }
        }
    }
}
