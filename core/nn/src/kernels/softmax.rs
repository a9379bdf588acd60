//! Sums of exponentials, for softmax and its logarithm.

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

#[cfg(test)]
mod tests {
    use super::*;

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
