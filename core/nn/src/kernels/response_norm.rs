//! Local response norm over rows of channels: every row is one pixel, and vectors run along its channels.
//!
//! A window of channels is a few loads from a copy of the row with zeros around it, added in their order.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};
use std::ops::Range;

/// The power that bases are raised to, -β.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Power {
    /// β is this many quarters: roots and products.
    Quarters(u8),
    /// Any β, number by number, by libm: the same bits on every machine.
    Any(f32),
}

impl Power {
    /// Most quarters.
    const MOST: f64 = 8.0;

    /// For β = `beta`.
    pub(crate) fn new(beta: f64) -> Self {
        let quarters = 4.0 * beta;
        if quarters.fract() == 0.0 && (0.0..=Self::MOST).contains(&quarters) {
            Power::Quarters(quarters as u8)
        } else {
            Power::Any(beta as f32)
        }
    }

    /// `base` to the power of β; bases are above 0.
    #[inline(always)]
    fn of<V: Lanes>(self, base: V) -> V {
        match self {
            Power::Quarters(quarters) => {
                let half = base.sqrt();
                let mut power = match quarters % 4 {
                    0 => V::splat(1.0),
                    1 => half.sqrt(),
                    2 => half,
                    // One root less to wait for than the product of the two others.
                    _ => base.mul(half).sqrt(),
                };
                for _ in 0..quarters / 4 {
                    power = power.mul(base);
                }
                power
            }
            Power::Any(beta) => {
                let mut lanes = [0.0f32; LANES];
                // SAFETY: the array holds sixteen numbers.
                unsafe {
                    base.store(lanes.as_mut_ptr());
                    lanes.iter_mut().for_each(|base| *base = libm::powf(*base, beta));
                    V::load(lanes.as_ptr())
                }
            }
        }
    }
}

/// `y = x · base^-β` with `base = k + scale · Σ x²` over a window of channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResponseNorm {
    /// Channels.
    pub(crate) c: usize,
    /// Channels of the window before its own; fewer than there are.
    pub(crate) before: usize,
    /// Channels of the window behind its own; fewer than there are.
    pub(crate) behind: usize,
    /// k.
    pub(crate) k: f32,
    /// What a window's sum is multiplied by.
    pub(crate) scale: f32,
    /// β.
    pub(crate) power: Power,
    /// β itself.
    pub(crate) beta: f32,
}

impl ResponseNorm {
    /// Numbers of a row with zeros around it, up to the end of the last vector.
    fn padded(&self) -> usize {
        self.before + self.c.next_multiple_of(LANES) + self.behind + LANES
    }

    /// Scratch numbers of [`ResponseNorm::forward`].
    pub(crate) fn forward_scratch(&self) -> usize {
        self.padded()
    }

    /// Scratch numbers of [`ResponseNorm::backward`].
    pub(crate) fn backward_scratch(&self) -> usize {
        2 * self.padded() + self.c
    }

    /// Writes y.
    ///
    /// # Panics
    /// When the slices do not fit.
    pub(crate) fn forward(self, isa: Isa, x: &[f32], y: &mut [f32], scratch: &mut [f32]) {
        assert!(x.len() == y.len() && x.len().is_multiple_of(self.c), "rows of channels");
        assert!(scratch.len() >= self.forward_scratch(), "scratch for a row");
        isa.run(RowsForward { norm: self, x, y, scratch });
    }

    /// Writes `dx = dy base^-β - 2 β scale x Σ dy x base^-(β + 1)`, Σ over the channels that see this one.
    ///
    /// # Panics
    /// When the slices do not fit.
    pub(crate) fn backward(self, isa: Isa, x: &[f32], dy: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
        assert!(
            x.len() == dx.len() && dy.len() == dx.len() && x.len().is_multiple_of(self.c),
            "rows of channels"
        );
        assert!(scratch.len() >= self.backward_scratch(), "scratch for a row");
        isa.run(RowsBackward { norm: self, x, dy, dx, scratch });
    }

    /// Writes the squares of a row behind `before` zeros.
    ///
    /// # Safety
    /// `x` points at C numbers, `squares` at room for a padded row.
    #[inline(always)]
    unsafe fn square<V: Lanes>(&self, x: *const f32, squares: *mut f32) {
        for first in (0..self.c).step_by(LANES) {
            // SAFETY: the vector lies within the row; a whole one fits into the padded row.
            unsafe {
                let x = V::load_first(x.add(first), LANES.min(self.c - first));
                x.mul(x).store(squares.add(self.before + first));
            }
        }
    }

    /// The base of the vector of channels that begins at `first`.
    ///
    /// # Safety
    /// `squares` points at what [`ResponseNorm::square`] wrote, with zeros around it; `first` is a channel.
    #[inline(always)]
    unsafe fn base<V: Lanes>(&self, squares: *const f32, first: usize) -> V {
        // SAFETY: the window's vectors end before the padded row does.
        let sum = unsafe { window_sum::<V>(squares, first..first + self.before + self.behind + 1) };
        sum.fma(V::splat(self.scale), V::splat(self.k))
    }
}

/// Sum of the vectors that begin at `starts`.
///
/// # Safety
/// `from` points at sixteen readable numbers behind every start.
#[inline(always)]
unsafe fn window_sum<V: Lanes>(from: *const f32, starts: Range<usize>) -> V {
    let mut sum = V::splat(0.0);
    for start in starts {
        // SAFETY: the caller vouches for it.
        sum = sum.add(unsafe { V::load(from.add(start)) });
    }
    sum
}

struct RowsForward<'a> {
    norm: ResponseNorm,
    x: &'a [f32],
    y: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for RowsForward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (norm, c) = (self.norm, self.norm.c);
        let squares = &mut self.scratch[..norm.padded()];
        squares.fill(0.0);
        let squares = squares.as_mut_ptr();
        for (x, y) in self.x.chunks_exact(c).zip(self.y.chunks_exact_mut(c)) {
            // SAFETY: rows have C numbers and `squares` is a padded row, zero where no square was written.
            unsafe {
                norm.square::<V>(x.as_ptr(), squares);
                for first in (0..c).step_by(LANES) {
                    let count = LANES.min(c - first);
                    let power = norm.power.of(norm.base::<V>(squares, first));
                    let x = V::load_first(x.as_ptr().add(first), count);
                    x.div(power).store_first(y.as_mut_ptr().add(first), count);
                }
            }
        }
    }
}

struct RowsBackward<'a> {
    norm: ResponseNorm,
    x: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl Kernel for RowsBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (norm, c) = (self.norm, self.norm.c);
        let (squares, rest) = self.scratch.split_at_mut(norm.padded());
        // Products are seen from the other side: as many zeros stand before them as a window has behind.
        let (products, direct) = rest.split_at_mut(norm.padded());
        squares.fill(0.0);
        products.fill(0.0);
        let (squares, products, direct) = (squares.as_mut_ptr(), products.as_mut_ptr(), direct.as_mut_ptr());
        let factor = V::splat(-2.0 * norm.beta * norm.scale);
        let rows = self.x.chunks_exact(c).zip(self.dy.chunks_exact(c));
        for ((x, dy), dx) in rows.zip(self.dx.chunks_exact_mut(c)) {
            // SAFETY: rows and `direct` have C numbers; `squares` and `products` are padded rows, zero where
            // nothing was written.
            unsafe {
                norm.square::<V>(x.as_ptr(), squares);
                for first in (0..c).step_by(LANES) {
                    let count = LANES.min(c - first);
                    let x = V::load_first(x.as_ptr().add(first), count);
                    let dy = V::load_first(dy.as_ptr().add(first), count);
                    let base = norm.base::<V>(squares, first);
                    // dy base^-(β + 1); a single division gives both powers.
                    let inner = dy.div(norm.power.of(base).mul(base));
                    inner.mul(base).store_first(direct.add(first), count);
                    x.mul(inner).store(products.add(norm.behind + first));
                }
                for first in (0..c).step_by(LANES) {
                    let count = LANES.min(c - first);
                    let x = V::load_first(x.as_ptr().add(first), count);
                    let seen = window_sum::<V>(products, first..first + norm.before + norm.behind + 1);
                    let direct = V::load_first(direct.add(first), count);
                    seen.mul(x).fma(factor, direct).store_first(dx.as_mut_ptr().add(first), count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::noise;

    fn run(isa: Isa, norm: ResponseNorm, rows: usize) -> (Vec<f32>, Vec<f32>) {
        let (x, dy) = (noise(1, rows * norm.c), noise(2, rows * norm.c));
        let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
        norm.forward(isa, &x, &mut y, &mut vec![f32::NAN; norm.forward_scratch()]);
        norm.backward(isa, &x, &dy, &mut dx, &mut vec![f32::NAN; norm.backward_scratch()]);
        (y, dx)
    }

    #[test]
    fn rows_are_right_and_the_same_on_every_cpu() {
        for (rows, c, before, behind) in
            [(1, 1, 0, 0), (3, 5, 2, 1), (2, 16, 2, 2), (4, 37, 3, 4), (2, 70, 36, 36)]
        {
            for beta in [0.0, 0.25, 0.5, 0.75, 1.0, 1.75, 0.6] {
                let (k, scale) = (1.5f32, 0.4f32);
                let power = Power::new(beta);
                let norm = ResponseNorm { c, before, behind, k, scale, power, beta: beta as f32 };
                let (y, dx) = run(Isa::portable(), norm, rows);
                let (x, dy) = (noise(1, rows * c), noise(2, rows * c));
                for (i, (y, dx)) in y.iter().zip(&dx).enumerate() {
                    let (row, own) = (i / c * c, i % c);
                    let at = |of: &[f32], channel: usize| f64::from(of[row + channel]);
                    let window = |own: usize| own.saturating_sub(before)..(own + behind + 1).min(c);
                    let base = |own: usize| {
                        let sum: f64 = window(own).map(|j| at(&x, j) * at(&x, j)).sum();
                        f64::from(k) + f64::from(scale) * sum
                    };
                    let expected = at(&x, own) * base(own).powf(-beta);
                    assert!((f64::from(*y) - expected).abs() < 1e-6, "{norm:?}: {y} {expected}");
                    let seen: f64 = (0..c)
                        .filter(|j| window(*j).contains(&own))
                        .map(|j| at(&dy, j) * at(&x, j) * base(j).powf(-beta - 1.0))
                        .sum();
                    let expected = at(&dy, own) * base(own).powf(-beta)
                        - 2.0 * beta * f64::from(scale) * at(&x, own) * seen;
                    assert!((f64::from(*dx) - expected).abs() < 3e-6, "{norm:?}: {dx} {expected}");
                }
                for isa in Isa::available() {
                    assert_eq!(run(isa, norm, rows), (y.clone(), dx.clone()), "{isa} {norm:?}");
                }
            }
        }
    }
}
