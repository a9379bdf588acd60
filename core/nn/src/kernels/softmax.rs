//! Softmax and sums of exponentials.

use super::lanes::{LANES, Lanes};
use super::math::exp_of_negative;
use super::{Isa, Kernel};

/// The largest number; NaN only when all are.
pub(crate) fn largest(x: &[f32]) -> f32 {
    x.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

/// `Σ exp(x - max)`, where no number is larger than `max`.
pub(crate) fn exp_sum(isa: Isa, x: &[f32], max: f32) -> f32 {
    isa.run(ExpSum { x, max, out: None })
}

/// `out = exp(x - max)`, where no number is larger than `max`; returns the sum.
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn exp_into(isa: Isa, x: &[f32], max: f32, out: &mut [f32]) -> f32 {
    assert_eq!(x.len(), out.len(), "every number has an exponential");
    isa.run(ExpSum { x, max, out: Some(out) })
}

struct ExpSum<'a> {
    x: &'a [f32],
    max: f32,
    out: Option<&'a mut [f32]>,
}

impl Kernel for ExpSum<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<V: Lanes>(self) -> f32 {
        let mut sum = V::splat(0.0);
        let out = self.out.map(<[f32]>::as_mut_ptr);
        for i in (0..self.x.len()).step_by(LANES) {
            let count = LANES.min(self.x.len() - i);
            let mut kept = [0.0f32; LANES];
            // SAFETY: `i + count` is at most the length of `x` and of `out`; `kept` holds sixteen numbers, and
            // those behind `count` stay 0, so that they add nothing.
            unsafe {
                let x = V::load_first(self.x.as_ptr().add(i), count);
                let e = exp_of_negative(x.sub(V::splat(self.max)));
                if let Some(out) = out {
                    e.store_first(out.add(i), count);
                }
                e.store_first(kept.as_mut_ptr(), count);
                sum = sum.add(V::load(kept.as_ptr()));
            }
        }
        sum.sum()
    }
}

/// `y = exp(x - max) / Σ exp(x - max)` down the columns of x, rows of `columns` numbers.
///
/// # Panics
/// When the slices differ in length, or hold no whole rows.
pub(crate) fn softmax(isa: Isa, columns: usize, x: &[f32], y: &mut [f32]) {
    assert!(x.len() == y.len() && x.len().is_multiple_of(columns), "whole rows");
    if columns == 1 {
        let factor = 1.0 / exp_into(isa, x, largest(x), y);
        y.iter_mut().for_each(|y| *y *= factor);
    } else {
        isa.run(Columns { columns, x, y });
    }
}

struct Columns<'a> {
    columns: usize,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for first in (0..self.columns).step_by(LANES) {
            let count = LANES.min(self.columns - first);
            let starts = || (first..self.x.len()).step_by(self.columns);
            // SAFETY: `first + count` is at most the number of columns: the vectors lie within the rows of both.
            unsafe {
                let mut max = V::splat(f32::NEG_INFINITY);
                for at in starts() {
                    max = V::load_first(self.x.as_ptr().add(at), count).max(max);
                }
                let mut sum = V::splat(0.0);
                for at in starts() {
                    let e = exp_of_negative(V::load_first(self.x.as_ptr().add(at), count).sub(max));
                    sum = sum.add(e);
                    e.store_first(self.y.as_mut_ptr().add(at), count);
                }
                let factor = V::splat(1.0).div(sum);
                for at in starts() {
                    let to = self.y.as_mut_ptr().add(at);
                    V::load_first(to, count).mul(factor).store_first(to, count);
                }
            }
        }
    }
}

/// `dx = y (dy - Σ dy y)` down the columns, rows of `columns` numbers.
///
/// # Panics
/// When the slices differ in length, or hold no whole rows.
pub(crate) fn softmax_backward(isa: Isa, columns: usize, (y, dy): (&[f32], &[f32]), dx: &mut [f32]) {
    assert!(y.len() == dy.len() && y.len() == dx.len() && y.len().is_multiple_of(columns), "whole rows");
    isa.run(Backward { columns, y, dy, dx });
}

struct Backward<'a> {
    columns: usize,
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        // A single column lies like a single row, along which vectors can go.
        let row = self.columns == 1;
        let (columns, step) = if row { (self.y.len(), LANES) } else { (self.columns, self.columns) };
        for first in (0..if row { 1 } else { columns }).step_by(LANES) {
            let starts = || (first..self.y.len()).step_by(step);
            let count = |at: usize| LANES.min(if row { columns - at } else { columns - first });
            // SAFETY: `at + count(at)` is at most the end of a row in all slices.
            unsafe {
                let mut sum = V::splat(0.0);
                for at in starts() {
                    let y = V::load_first(self.y.as_ptr().add(at), count(at));
                    sum = y.fma(V::load_first(self.dy.as_ptr().add(at), count(at)), sum);
                }
                let sum = if row { V::splat(sum.sum()) } else { sum };
                for at in starts() {
                    let y = V::load_first(self.y.as_ptr().add(at), count(at));
                    let dy = V::load_first(self.dy.as_ptr().add(at), count(at));
                    y.mul(dy.sub(sum)).store_first(self.dx.as_mut_ptr().add(at), count(at));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_is_right_and_the_same_on_every_cpu() {
        for (rows, columns) in [(1, 1), (37, 1), (3, 2), (5, 17), (2, 40), (1, 16)] {
            let x: Vec<f32> = (0..rows * columns).map(|i| ((i * 7) % 13) as f32 * 0.9 - 4.0).collect();
            let dy: Vec<f32> = x.iter().map(|x| 1.0 - 0.3 * x).collect();
            let run = |isa| {
                let (mut y, mut dx) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                softmax(isa, columns, &x, &mut y);
                softmax_backward(isa, columns, (&y, &dy), &mut dx);
                (y, dx)
            };
            let (y, dx) = run(Isa::portable());
            for c in 0..columns {
                let column = |of: &[f32]| -> Vec<f64> {
                    of[c..].iter().step_by(columns).map(|v| f64::from(*v)).collect()
                };
                let total: f64 = column(&x).iter().map(|x| x.exp()).sum();
                let inner: f64 = column(&y).iter().zip(column(&dy)).map(|(y, dy)| y * dy).sum();
                for (row, x) in column(&x).iter().enumerate() {
                    let (y, dx) = (column(&y)[row], column(&dx)[row]);
                    assert!((y - x.exp() / total).abs() < 1e-6, "{rows} × {columns}");
                    assert!((dx - y * (column(&dy)[row] - inner)).abs() < 1e-5, "{rows} × {columns}");
                }
            }
            for isa in Isa::available() {
                assert_eq!(run(isa), (y.clone(), dx.clone()), "{isa}");
            }
        }
    }

    #[test]
    fn sums_are_right_and_the_same_on_every_cpu() {
        for len in [1, 2, 10, 16, 17, 100] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 7) % 13) as f32 * 0.9 - 4.0).collect();
            let max = largest(&x);
            let exact: f64 = x.iter().map(|x| f64::from(*x - max).exp()).sum();
            let mut out = vec![0.0; len];
            let expected = exp_into(Isa::portable(), &x, max, &mut out);
            assert!((f64::from(expected) - exact).abs() < 1e-6 * exact);
            for isa in Isa::available() {
                let mut own = vec![0.0; len];
                assert_eq!((exp_sum(isa, &x, max), exp_into(isa, &x, max, &mut own)), (expected, expected));
                assert_eq!(own, out, "{isa}");
            }
        }
    }
}
