//! Maxima of windows. Images have `c` channels last; a planar image is `c` images of one channel.
//!
//! NaN wins against every number, as in PyTorch. A gradient goes to the first largest number of its window in
//! reading order, or to the last that is NaN.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};

/// One row of an image seen through one column of windows: output column `o + first` of `count` looks at image
/// column `from + o · stride`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowTap {
    /// Place in the window, in reading order.
    pub(crate) number: u32,
    /// First output column whose number lies on the image.
    pub(crate) first: usize,
    /// Output columns whose number lies on the image.
    pub(crate) count: usize,
    /// Image column that the first one looks at.
    pub(crate) from: usize,
    /// Image columns from one output column to the next.
    pub(crate) stride: usize,
    /// Channels.
    pub(crate) c: usize,
}

/// Which number of its window an output is, in as many bytes as windows need.
///
/// # Safety
/// Any bits are a value, and it is aligned wherever an `f32` is.
pub(crate) unsafe trait Mark: Copy + PartialEq {
    /// Stands for an output that has not seen a number yet.
    const NONE: Self;

    /// The mark of a place in the window.
    fn of(number: u32) -> Self;
}

// SAFETY: a byte.
unsafe impl Mark for u8 {
    const NONE: u8 = u8::MAX;

    #[inline(always)]
    fn of(number: u32) -> u8 {
        number as u8
    }
}

// SAFETY: the size and alignment of an f32.
unsafe impl Mark for u32 {
    const NONE: u32 = u32::MAX;

    #[inline(always)]
    fn of(number: u32) -> u32 {
        number
    }
}

/// The marks that lie in memory for numbers.
pub(crate) fn marks<M: Mark>(numbers: &[f32]) -> &[M] {
    // SAFETY: the same bytes, which are marks by the promise of the trait.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast(), size_of_val(numbers) / size_of::<M>()) }
}

/// The same, to be written. Any bits are an `f32` too.
pub(crate) fn marks_mut<M: Mark>(numbers: &mut [f32]) -> &mut [M] {
    let count = size_of_val(numbers) / size_of::<M>();
    // SAFETY: as of [`marks`].
    unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr().cast(), count) }
}

/// Raises `largest` (a row of outputs) to the numbers of `x` (a row of the image) that `tap` sees, and marks in `marks`
/// which tap each comes from.
pub(crate) fn raise<M: Mark>(isa: Isa, tap: RowTap, x: &[f32], (largest, marks): (&mut [f32], &mut [M])) {
    isa.run(Raise { tap, x, largest, marks });
}

struct Raise<'a, M> {
    tap: RowTap,
    x: &'a [f32],
    largest: &'a mut [f32],
    marks: &'a mut [M],
}

impl<M: Mark> Kernel for Raise<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let RowTap { number, first, count, from, stride, c } = self.tap;
        let own = M::of(number);
        let outputs = first * c..(first + count) * c;
        let largest = self.largest[outputs.clone()].chunks_exact_mut(c);
        let outputs = largest.zip(self.marks[outputs].chunks_exact_mut(c));
        // With one channel the numbers of neighbouring windows lie `stride` apart, with more they lie together.
        for ((largest, marks), x) in outputs.zip(self.x[from * c..].chunks(stride * c)) {
            for ((largest, mark), x) in largest.iter_mut().zip(marks).zip(x) {
                let wins = *x > *largest || x.is_nan() || *mark == M::NONE;
                *largest = if wins { *x } else { *largest };
                *mark = if wins { own } else { *mark };
            }
        }
    }
}

/// Gives the gradients `dy` of a row of outputs that come from `tap` to what it sees.
pub(crate) fn give_back<M: Mark>(isa: Isa, tap: RowTap, (dy, marks): (&[f32], &[M]), dx: &mut [f32]) {
    isa.run(GiveBack { tap, dy, marks, dx });
}

struct GiveBack<'a, M> {
    tap: RowTap,
    dy: &'a [f32],
    marks: &'a [M],
    dx: &'a mut [f32],
}

impl<M: Mark> Kernel for GiveBack<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let RowTap { number, first, count, from, stride, c } = self.tap;
        let outputs = first * c..(first + count) * c;
        let outputs = self.dy[outputs.clone()].chunks_exact(c).zip(self.marks[outputs].chunks_exact(c));
        let own = M::of(number);
        for ((dy, marks), dx) in outputs.zip(self.dx[from * c..].chunks_mut(stride * c)) {
            for ((dy, mark), dx) in dy.iter().zip(marks).zip(dx) {
                *dx += if *mark == own { *dy } else { 0.0 };
            }
        }
    }
}

/// Halves planes of `h × w` numbers: windows of 2 × 2, two apart, no padding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Halve {
    /// Rows of a plane of x.
    pub(crate) h: usize,
    /// Columns of a plane of x.
    pub(crate) w: usize,
}

impl Halve {
    fn check(&self, x: usize, y: usize) {
        let (x_plane, y_plane) = (self.h * self.w, (self.h / 2) * (self.w / 2));
        assert!(x.is_multiple_of(x_plane) && y == x / x_plane * y_plane, "whole planes");
    }
}

/// The largest number of each window.
pub(crate) fn halve(isa: Isa, sizes: Halve, x: &[f32], y: &mut [f32]) {
    sizes.check(x.len(), y.len());
    isa.run(HalveForward { sizes, x, y });
}

/// Gives `dy` to the largest numbers of the windows of `x`, and 0 to the others.
pub(crate) fn halve_backward(isa: Isa, sizes: Halve, x: &[f32], dy: &[f32], dx: &mut [f32]) {
    sizes.check(x.len(), dy.len());
    assert_eq!(x.len(), dx.len(), "every number has a gradient");
    isa.run(HalveBackward { sizes, x, dy, dx });
}

/// `a > b ? a : b`, and NaN where one is.
#[inline(always)]
fn larger<V: Lanes>(a: V, b: V) -> V {
    a.if_equal(a, a.max(b), a)
}

/// Thirty-two numbers from `at` on, of which `count` exist, as even and odd ones.
///
/// # Safety
/// `at` points at `count` readable numbers.
#[inline(always)]
unsafe fn load_pairs<V: Lanes>(at: *const f32, count: usize) -> (V, V) {
    // SAFETY: the caller vouches for `count`; the second half is not read where it does not exist.
    let (low, high) = unsafe {
        if count >= 2 * LANES {
            (V::load(at), V::load(at.add(LANES)))
        } else {
            let rest = count.saturating_sub(LANES);
            (V::load_first(at, count.min(LANES)), V::load_first(at.wrapping_add(LANES), rest))
        }
    };
    low.deinterleave(high)
}

/// The inverse of [`load_pairs`].
///
/// # Safety
/// `at` points at room for `count` numbers.
#[inline(always)]
unsafe fn store_pairs<V: Lanes>((even, odd): (V, V), at: *mut f32, count: usize) {
    let (low, high) = even.interleave(odd);
    // SAFETY: the caller vouches for `count`; the second half is not written where it does not exist.
    unsafe {
        if count >= 2 * LANES {
            low.store(at);
            high.store(at.add(LANES));
        } else {
            low.store_first(at, count.min(LANES));
            high.store_first(at.wrapping_add(LANES), count.saturating_sub(LANES));
        }
    }
}

struct HalveForward<'a> {
    sizes: Halve,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for HalveForward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Halve { h, w } = self.sizes;
        let half = w / 2;
        let planes = self.x.chunks_exact(h * w).zip(self.y.chunks_exact_mut(((h / 2) * half).max(1)));
        for (x, y) in planes {
            for (rows, y) in x.chunks_exact(2 * w).zip(y.chunks_exact_mut(half)) {
                for o in (0..half).step_by(LANES) {
                    let count = LANES.min(half - o);
                    // SAFETY: `2 (o + count)` is at most `w`: both rows have these pairs, and y its numbers.
                    unsafe {
                        let above = load_pairs::<V>(rows.as_ptr().add(2 * o), 2 * count);
                        let below = load_pairs::<V>(rows.as_ptr().add(w + 2 * o), 2 * count);
                        let largest = larger(larger(above.0, above.1), larger(below.0, below.1));
                        largest.store_first(y.as_mut_ptr().add(o), count);
                    }
                }
            }
        }
    }
}

struct HalveBackward<'a> {
    sizes: Halve,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for HalveBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Halve { h, w } = self.sizes;
        let half = w / 2;
        if h % 2 == 1 || w % 2 == 1 {
            // A last row or column that no window sees.
            self.dx.fill(0.0);
        }
        let outputs = self.dy.chunks_exact(((h / 2) * half).max(1));
        for ((x, dx), dy) in self.x.chunks_exact(h * w).zip(self.dx.chunks_exact_mut(h * w)).zip(outputs) {
            let rows = x.chunks_exact(2 * w).zip(dx.chunks_exact_mut(2 * w));
            for ((x, dx), dy) in rows.zip(dy.chunks_exact(half)) {
                for o in (0..half).step_by(LANES) {
                    let count = LANES.min(half - o);
                    // SAFETY: `2 (o + count)` is at most `w`: rows of x and dx have these pairs, and dy its
                    // numbers.
                    unsafe {
                        let above = load_pairs::<V>(x.as_ptr().add(2 * o), 2 * count);
                        let below = load_pairs::<V>(x.as_ptr().add(w + 2 * o), 2 * count);
                        let dy = V::load_first(dy.as_ptr().add(o), count);
                        let [a, b, c, d] = share([above.0, above.1, below.0, below.1], dy);
                        store_pairs((a, b), dx.as_mut_ptr().add(2 * o), 2 * count);
                        store_pairs((c, d), dx.as_mut_ptr().add(w + 2 * o), 2 * count);
                    }
                }
            }
        }
    }
}

/// Gives `dy` to the first of four numbers that equals their largest.
#[inline(always)]
fn share<V: Lanes>(x: [V; 4], dy: V) -> [V; 4] {
    let zero = V::splat(0.0);
    let largest = x[0].max(x[1]).max(x[2].max(x[3]));
    let mut left = dy;
    let mut shares = [zero; 4];
    for i in 0..3 {
        shares[i] = x[i].if_equal(largest, left, zero);
        left = x[i].if_equal(largest, zero, left);
    }
    // What no other got belongs to the last.
    shares[3] = left;
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halving_is_the_same_on_every_cpu_and_right() {
        for (h, w) in [(2, 2), (3, 5), (4, 24), (24, 24), (2, 33), (6, 70), (5, 1), (1, 8)] {
            let x: Vec<f32> = (0..2 * h * w).map(|i| ((i * 37) % 19) as f32).collect();
            let (rows, columns) = (h / 2, w / 2);
            let dy: Vec<f32> = (0..2 * rows * columns).map(|i| i as f32 + 1.0).collect();
            let sizes = Halve { h, w };
            for isa in Isa::available() {
                let (mut y, mut dx) = (vec![f32::NAN; dy.len()], vec![f32::NAN; x.len()]);
                halve(isa, sizes, &x, &mut y);
                halve_backward(isa, sizes, &x, &dy, &mut dx);
                let mut expected = vec![0.0; x.len()];
                for (i, dy) in dy.iter().enumerate() {
                    let (plane, r, c) = (i / (rows * columns), i / columns % rows, i % columns);
                    let at = plane * h * w + 2 * r * w + 2 * c;
                    let window = [at, at + 1, at + w, at + w + 1];
                    let mut winner = window[0];
                    for i in window {
                        winner = if x[i] > x[winner] { i } else { winner };
                    }
                    assert_eq!(y[i], x[winner], "{isa} {h} {w}");
                    expected[winner] = *dy;
                }
                assert_eq!(dx, expected, "{isa} {h} {w}");
            }
        }
    }

    #[test]
    fn what_is_not_a_number_wins() {
        for place in 0..4 {
            let mut x = [1.0, 2.0, 3.0, 4.0];
            x[place] = f32::NAN;
            for isa in Isa::available() {
                let mut y = [0.0];
                halve(isa, Halve { h: 2, w: 2 }, &x, &mut y);
                assert!(y[0].is_nan(), "{isa}, place {place}");
            }
        }
    }
}
