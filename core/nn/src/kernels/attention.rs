//! What attention does with its scores: shares that add up to 1, row by row and in place.

use super::lanes::{LANES, Lanes};
use super::math::exp_of_negative;
use super::softmax::largest;
use super::{Isa, Kernel};

/// Row by row `x = exp(s x - max s x) / Σ exp(s x - max s x)`: the shares of keys, for scores x and a scale s above 0. A
/// row of -∞, whose keys are all masked, gives 0.
///
/// # Panics
/// When the slice is not whole rows.
pub(crate) fn shares(isa: Isa, scale: f32, x: &mut [f32], columns: usize) {
    assert!(x.len().is_multiple_of(columns), "whole rows");
    isa.run(Shares { scale, x, columns });
}

/// Row by row `d = s p (d - Σ p d)`: from the gradient of the shares p to that of the scores.
///
/// # Panics
/// When the slices differ in length, or are not whole rows.
pub(crate) fn shares_gradient(isa: Isa, scale: f32, p: &[f32], d: &mut [f32], columns: usize) {
    assert!(p.len() == d.len() && p.len().is_multiple_of(columns), "every share has a gradient");
    isa.run(SharesGradient { scale, p, d, columns });
}

struct Shares<'a> {
    scale: f32,
    x: &'a mut [f32],
    columns: usize,
}

/// The largest number of a row of `len` at `x`, where numbers can be compared.
///
/// # Safety
/// `x` points at `len` numbers, at least one.
#[inline(always)]
unsafe fn row_max<V: Lanes>(x: *const f32, len: usize) -> f32 {
    // SAFETY: the caller vouches for `len` numbers; the last vector ends with the row.
    unsafe {
        if len < LANES {
            return largest(std::slice::from_raw_parts(x, len));
        }
        let mut max = V::load(x.add(len - LANES));
        for i in (0..len - LANES).step_by(LANES) {
            max = V::load(x.add(i)).max(max);
        }
        let mut lanes = [0.0; LANES];
        max.store(lanes.as_mut_ptr());
        largest(&lanes)
    }
}

impl Kernel for Shares<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let columns = self.columns;
        for row in self.x.chunks_exact_mut(columns) {
            // SAFETY: a row has `columns` numbers.
            let max = unsafe { row_max::<V>(row.as_ptr(), columns) };
            if max == f32::NEG_INFINITY {
                row.fill(0.0);
                continue;
            }
            let (mut sum, max, scale) = (V::splat(0.0), V::splat(max), V::splat(self.scale));
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: `count` numbers of the row are left; lanes behind them are read as 0 and add nothing.
                unsafe {
                    let at = row.as_mut_ptr().add(i);
                    exp_of_negative(V::load_first(at, count).sub(max).mul(scale)).store_first(at, count);
                    sum = sum.add(V::load_first(at, count));
                }
            }
            let factor = V::splat(1.0 / sum.sum());
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: as above.
                unsafe {
                    let at = row.as_mut_ptr().add(i);
                    V::load_first(at, count).mul(factor).store_first(at, count);
                }
            }
        }
    }
}

struct SharesGradient<'a> {
    scale: f32,
    p: &'a [f32],
    d: &'a mut [f32],
    columns: usize,
}

impl Kernel for SharesGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let columns = self.columns;
        for (p, d) in self.p.chunks_exact(columns).zip(self.d.chunks_exact_mut(columns)) {
            let mut sum = V::splat(0.0);
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: `count` numbers of the rows are left; lanes behind them are 0 and add nothing.
                unsafe {
                    let d = V::load_first(d.as_ptr().add(i), count);
                    sum = V::load_first(p.as_ptr().add(i), count).fma(d, sum);
                }
            }
            let (sum, scale) = (V::splat(sum.sum()), V::splat(self.scale));
            for i in (0..columns).step_by(LANES) {
                let count = LANES.min(columns - i);
                // SAFETY: as above.
                unsafe {
                    let at = d.as_mut_ptr().add(i);
                    let p = V::load_first(p.as_ptr().add(i), count);
                    p.mul(scale).mul(V::load_first(at, count).sub(sum)).store_first(at, count);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_right_and_the_same_on_every_cpu() {
        const SCALE: f32 = 0.75;
        for columns in [1, 2, 15, 16, 17, 40] {
            let x: Vec<f32> = (0..3 * columns).map(|i| ((i * 7) % 13) as f32 * 0.9 - 4.0).collect();
            let d: Vec<f32> = (0..3 * columns).map(|i| ((i * 5) % 11) as f32 - 5.0).collect();
            let results = |isa| {
                let (mut p, mut d) = (x.clone(), d.clone());
                shares(isa, SCALE, &mut p, columns);
                shares_gradient(isa, SCALE, &p, &mut d, columns);
                (p, d)
            };
            let (p, gradient) = results(Isa::portable());
            for ((p, x), (g, d)) in
                p.chunks(columns).zip(x.chunks(columns)).zip(gradient.chunks(columns).zip(d.chunks(columns)))
            {
                let sum: f64 = x.iter().map(|x| f64::from(SCALE * x).exp()).sum();
                let exact: Vec<f64> = x.iter().map(|x| f64::from(SCALE * x).exp() / sum).collect();
                let product: f64 = exact.iter().zip(d).map(|(p, d)| p * f64::from(*d)).sum();
                for i in 0..columns {
                    assert!((f64::from(p[i]) - exact[i]).abs() < 1e-6);
                    assert!(
                        (f64::from(g[i]) - f64::from(SCALE) * exact[i] * (f64::from(d[i]) - product)).abs()
                            < 1e-5
                    );
                }
            }
            assert!(Isa::available().into_iter().all(|isa| results(isa) == (p.clone(), gradient.clone())));
            let mut masked = vec![f32::NEG_INFINITY; columns];
            shares(Isa::best(), SCALE, &mut masked, columns);
            assert!(masked.iter().all(|p| *p == 0.0), "where all is masked nothing gets a share");
        }
    }
}
