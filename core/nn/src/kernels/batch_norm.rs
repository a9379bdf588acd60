//! Sweeps of batch norm over rows of channels: every row is one pixel (or one record) of C numbers.
//!
//! Vectors run along channels; each channel's sums over the rows of one call are in the order of the rows.

use super::lanes::{LANES, Lanes};
use super::{Bounds, Isa, Kernel};

/// For each channel of some rows, with the first row as origin: `sums[c] = Σ (x - x₀)`,
/// `squares[c] = Σ (x - x₀)²`. With an origin among the numbers the squares keep their digits however far the
/// numbers are from 0.
///
/// # Panics
/// When there is no whole row, or the slices do not fit.
pub(crate) fn moments(isa: Isa, x: &[f32], sums: &mut [f32], squares: &mut [f32]) {
    let c = sums.len();
    assert!(squares.len() == c && c > 0 && x.len() >= c && x.len().is_multiple_of(c), "rows of channels");
    isa.run(Moments { x, sums, squares });
}

struct Moments<'a> {
    x: &'a [f32],
    sums: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Kernel for Moments<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let c = self.sums.len();
        let mut first = 0;
        while first < c {
            if V::WIDE && first + TOGETHER * LANES <= c {
                self.channels::<V, TOGETHER>(first);
                first += TOGETHER * LANES;
            } else {
                self.channels::<V, 1>(first);
                first += LANES;
            }
        }
    }
}

/// Vectors of channels whose sums run side by side, so that an addition need not wait for the one before.
const TOGETHER: usize = 4;

/// Numbers of vector `v` of those that begin at channel `first` of `c`.
#[inline(always)]
fn lanes_at(first: usize, v: usize, c: usize) -> (usize, usize) {
    (first + v * LANES, LANES.min(c - first - v * LANES))
}

impl Moments<'_> {
    #[inline(always)]
    fn channels<V: Lanes, const B: usize>(&mut self, first: usize) {
        let c = self.sums.len();
        let (mut sums, mut squares) = ([V::splat(0.0); B], [V::splat(0.0); B]);
        let load = |row: &[f32], v: usize| {
            let (at, count) = lanes_at(first, v, c);
            // SAFETY: the vector lies within the row, which has C channels.
            unsafe { V::load_first(row.as_ptr().add(at), count) }
        };
        let origin: [V; B] = std::array::from_fn(|v| load(self.x, v));
        for row in self.x.chunks_exact(c) {
            for v in 0..B {
                let x = load(row, v).sub(origin[v]);
                sums[v] = sums[v].add(x);
                squares[v] = x.fma(x, squares[v]);
            }
        }
        for v in 0..B {
            let (at, count) = lanes_at(first, v, c);
            // SAFETY: the vector lies within the C channels.
            unsafe {
                sums[v].store_first(self.sums.as_mut_ptr().add(at), count);
                squares[v].store_first(self.squares.as_mut_ptr().add(at), count);
            }
        }
    }
}

/// How rows become outputs: `y = x · factor + offset`, plus `other`, within `bounds`.
#[derive(Clone, Copy)]
pub(crate) struct Affine<'a> {
    /// One factor a channel.
    pub(crate) factor: &'a [f32],
    /// One offset a channel.
    pub(crate) offset: &'a [f32],
    /// As many rows as x.
    pub(crate) other: Option<&'a [f32]>,
    /// What is left of that.
    pub(crate) bounds: Bounds,
}

/// Writes y.
///
/// # Panics
/// When the slices do not fit.
pub(crate) fn apply(isa: Isa, affine: Affine<'_>, x: &[f32], y: &mut [f32]) {
    let c = affine.factor.len();
    assert!(
        affine.offset.len() == c && c > 0 && x.len() == y.len() && x.len().is_multiple_of(c),
        "rows of channels"
    );
    assert!(affine.other.is_none_or(|other| other.len() == x.len()), "as many rows are added");
    isa.run(Apply { affine, x, y });
}

struct Apply<'a> {
    affine: Affine<'a>,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Affine { factor, offset, other, bounds } = self.affine;
        let c = factor.len();
        for start in (0..self.x.len()).step_by(c) {
            for first in (0..c).step_by(LANES) {
                let count = LANES.min(c - first);
                // SAFETY: `first + count` is at most C, and rows are whole in all slices.
                unsafe {
                    let x = V::load_first(self.x.as_ptr().add(start + first), count);
                    let factor = V::load_first(factor.as_ptr().add(first), count);
                    let mut y = x.fma(factor, V::load_first(offset.as_ptr().add(first), count));
                    if let Some(other) = other {
                        y = y.add(V::load_first(other.as_ptr().add(start + first), count));
                    }
                    bounds.clip(y).store_first(self.y.as_mut_ptr().add(start + first), count);
                }
            }
        }
    }
}

/// Where dy passes: everywhere, where the output is within bounds, or where `x · factor + offset` is.
#[derive(Clone, Copy)]
pub(crate) enum Passes<'a> {
    /// There are no bounds.
    All,
    /// Where y is within the bounds.
    Output(&'a [f32], Bounds),
    /// Where the affine of x, (factor, offset), is.
    Affine(&'a [f32], &'a [f32], Bounds),
}

/// What [`backward_sums`] and [`backward_apply`] read.
#[derive(Clone, Copy)]
pub(crate) struct Normed<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) mean: &'a [f32],
    /// 1 / standard deviation.
    pub(crate) inverse: &'a [f32],
    pub(crate) passes: Passes<'a>,
}

impl Normed<'_> {
    /// dy of some channels where it passes.
    ///
    /// # Safety
    /// `count` numbers lie behind `at` in x, dy and y, behind `first` in the rest.
    #[inline(always)]
    unsafe fn passed<V: Lanes>(&self, dy: V, at: usize, first: usize, count: usize) -> V {
        // SAFETY: the caller vouches for it.
        unsafe {
            match self.passes {
                Passes::All => dy,
                Passes::Output(y, bounds) => bounds.derivative(V::load_first(y.as_ptr().add(at), count), dy),
                Passes::Affine(factor, offset, bounds) => {
                    let x = V::load_first(self.x.as_ptr().add(at), count);
                    let factor = V::load_first(factor.as_ptr().add(first), count);
                    let y = x.fma(factor, V::load_first(offset.as_ptr().add(first), count));
                    bounds.derivative(y, dy)
                }
            }
        }
    }
}

/// `sums[c] = Σ dy`, `products[c] = Σ dy · x̂` over the rows, of dy where it passes. With `keep`, what passed is
/// left in dy.
///
/// # Panics
/// When the slices do not fit.
pub(crate) fn backward_sums(
    isa: Isa,
    normed: Normed<'_>,
    dy: &mut [f32],
    keep: bool,
    (sums, products): (&mut [f32], &mut [f32]),
) {
    check(&normed, dy.len());
    assert!(sums.len() == normed.mean.len() && products.len() == sums.len(), "one sum a channel");
    isa.run(BackwardSums { normed, dy, keep, sums, products });
}

fn check(normed: &Normed<'_>, rows: usize) {
    let c = normed.mean.len();
    assert!(
        c > 0 && normed.inverse.len() == c && normed.x.len() == rows && rows.is_multiple_of(c),
        "rows of channels"
    );
    match normed.passes {
        Passes::All => {}
        Passes::Output(y, _) => assert_eq!(y.len(), rows, "an output for every gradient"),
        Passes::Affine(factor, offset, _) => assert!(factor.len() == c && offset.len() == c, "one a channel"),
    }
}

struct BackwardSums<'a> {
    normed: Normed<'a>,
    dy: &'a mut [f32],
    keep: bool,
    sums: &'a mut [f32],
    products: &'a mut [f32],
}

impl Kernel for BackwardSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let c = self.sums.len();
        let mut first = 0;
        while first < c {
            if V::WIDE && first + TOGETHER * LANES <= c {
                self.channels::<V, TOGETHER>(first);
                first += TOGETHER * LANES;
            } else {
                self.channels::<V, 1>(first);
                first += LANES;
            }
        }
    }
}

impl BackwardSums<'_> {
    #[inline(always)]
    fn channels<V: Lanes, const B: usize>(&mut self, first: usize) {
        let Normed { x, mean, inverse, .. } = self.normed;
        let c = mean.len();
        let (mut sums, mut products) = ([V::splat(0.0); B], [V::splat(0.0); B]);
        // SAFETY: the vectors lie within the C channels, and `check` found the rows whole in all slices.
        unsafe {
            let of = |channels: &[f32], v: usize| {
                let (at, count) = lanes_at(first, v, c);
                V::load_first(channels.as_ptr().add(at), count)
            };
            let means: [V; B] = std::array::from_fn(|v| of(mean, v));
            for start in (0..self.dy.len()).step_by(c) {
                for v in 0..B {
                    let (channel, count) = lanes_at(first, v, c);
                    let at = start + channel;
                    let dy = V::load_first(self.dy.as_ptr().add(at), count);
                    let dy = self.normed.passed(dy, at, channel, count);
                    if self.keep {
                        dy.store_first(self.dy.as_mut_ptr().add(at), count);
                    }
                    sums[v] = sums[v].add(dy);
                    let x = V::load_first(x.as_ptr().add(at), count).sub(means[v]);
                    products[v] = dy.fma(x, products[v]);
                }
            }
            for v in 0..B {
                let (at, count) = lanes_at(first, v, c);
                sums[v].store_first(self.sums.as_mut_ptr().add(at), count);
                let product = products[v].mul(of(inverse, v));
                product.store_first(self.products.as_mut_ptr().add(at), count);
            }
        }
    }
}

/// `dx = factor · dy + slope · (x - mean) + offset`, of dy where it passes, one factor, slope and offset a channel.
#[derive(Clone, Copy)]
pub(crate) struct Line<'a> {
    pub(crate) factor: &'a [f32],
    pub(crate) slope: &'a [f32],
    pub(crate) offset: &'a [f32],
}

/// Writes dx, or adds to it.
///
/// # Panics
/// When the slices do not fit.
pub(crate) fn backward_apply(
    isa: Isa,
    normed: Normed<'_>,
    line: Line<'_>,
    dy: &[f32],
    dx: &mut [f32],
    add: bool,
) {
    assert_eq!(dx.len(), dy.len(), "as many gradients go out as come in");
    let (dx, rows) = (dx.as_mut_ptr(), dy.len());
    isa.run(BackwardApply::new(normed, line, (dy.as_ptr(), dx), rows, add));
}

/// As [`backward_apply`], with dx where dy lies.
///
/// # Panics
/// When the slices do not fit.
pub(crate) fn backward_apply_in_place(isa: Isa, normed: Normed<'_>, line: Line<'_>, dx: &mut [f32]) {
    let (at, rows) = (dx.as_mut_ptr(), dx.len());
    isa.run(BackwardApply::new(normed, line, (at.cast_const(), at), rows, false));
}

struct BackwardApply<'a> {
    normed: Normed<'a>,
    line: Line<'a>,
    /// `rows` numbers to read and as many to write, which may be the same.
    dy: *const f32,
    dx: *mut f32,
    rows: usize,
    add: bool,
}

impl<'a> BackwardApply<'a> {
    fn new(
        normed: Normed<'a>,
        line: Line<'a>,
        (dy, dx): (*const f32, *mut f32),
        rows: usize,
        add: bool,
    ) -> Self {
        check(&normed, rows);
        let c = normed.mean.len();
        assert!(line.factor.len() == c && line.slope.len() == c && line.offset.len() == c, "one a channel");
        BackwardApply { normed, line, dy, dx, rows, add }
    }
}

impl Kernel for BackwardApply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Normed { x, mean, .. } = self.normed;
        let c = mean.len();
        for start in (0..self.rows).step_by(c) {
            for first in (0..c).step_by(LANES) {
                let (at, count) = (start + first, LANES.min(c - first));
                // SAFETY: `first + count` is at most C, and `check` found the rows whole in all slices; whoever makes
                // one vouches for dy and dx.
                unsafe {
                    let of = |channels: &[f32]| V::load_first(channels.as_ptr().add(first), count);
                    let dy = V::load_first(self.dy.add(at), count);
                    let dy = self.normed.passed(dy, at, first, count);
                    let x = V::load_first(x.as_ptr().add(at), count).sub(of(mean));
                    let dx = dy.fma(of(self.line.factor), x.fma(of(self.line.slope), of(self.line.offset)));
                    let to = self.dx.add(at);
                    let dx = if self.add { V::load_first(to, count).add(dx) } else { dx };
                    dx.store_first(to, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::noise;

    /// All sweeps over the same rows, results one after the other.
    fn sweeps(isa: Isa, rows: usize, c: usize) -> Vec<u32> {
        let (x, y) = (noise(1, rows * c), noise(2, rows * c));
        let channels = |seed| noise(seed, c);
        let (factor, offset, mean) = (channels(3), channels(4), channels(5));
        let (mut sums, mut squares) = (vec![f32::NAN; c], vec![f32::NAN; c]);
        moments(isa, &x, &mut sums, &mut squares);
        let mut out = [sums.clone(), squares.clone()].concat();
        for (other, bounds) in [(None, Bounds::NONE), (Some(&y[..]), Bounds::RELU6)] {
            let mut to = vec![f32::NAN; rows * c];
            apply(isa, Affine { factor: &factor, offset: &offset, other, bounds }, &x, &mut to);
            out.extend(to);
        }
        for passes in
            [Passes::All, Passes::Output(&y, Bounds::RELU6), Passes::Affine(&factor, &offset, Bounds::RELU)]
        {
            let normed = Normed { x: &x, mean: &mean, inverse: &factor, passes };
            let mut dy = noise(6, rows * c);
            backward_sums(isa, normed, &mut dy, true, (&mut sums, &mut squares));
            let line = Line { factor: &factor, slope: &offset, offset: &mean };
            let mut dx = vec![1.0; rows * c];
            backward_apply(isa, normed, line, &dy, &mut dx, true);
            out.extend([&sums[..], &squares, &dy, &dx].concat());
            backward_apply(isa, normed, line, &dy, &mut dx, false);
            backward_apply_in_place(isa, normed, line, &mut dy);
            assert_eq!(dy, dx, "in place");
        }
        assert!(out.iter().all(|v| v.is_finite()));
        out.iter().map(|v| v.to_bits()).collect()
    }

    #[test]
    fn sweeps_give_the_bits_of_their_scalar_twin() {
        for (rows, c) in [(1, 1), (3, 15), (7, 16), (2, 17), (5, 70), (3, 130)] {
            let expected = sweeps(Isa::portable(), rows, c);
            for isa in Isa::available() {
                assert_eq!(sweeps(isa, rows, c), expected, "{isa}, {rows} rows of {c}");
            }
        }
    }
}
