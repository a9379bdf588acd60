//! Parameter updates: one sweep over parameters, gradients and state.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};

/// Numbers of one update of SGD; `optimizers::sgd` has the formula.
#[derive(Clone, Copy)]
pub(crate) struct Sgd {
    /// Learning rate.
    pub(crate) rate: f32,
    /// Multiple of the weights added to the gradient.
    pub(crate) weight_decay: f32,
    /// Share of the old momentum that stays.
    pub(crate) momentum: f32,
    /// Share of the gradient that enters the momentum.
    pub(crate) fresh: f32,
    /// Nesterov: share of the new momentum added to the gradient.
    pub(crate) ahead: Option<f32>,
}

/// One update of SGD.
pub(crate) fn sgd(isa: Isa, numbers: Sgd, params: &mut [f32], grads: &[f32], momentum: Option<&mut [f32]>) {
    assert_eq!(params.len(), grads.len(), "every parameter has a gradient");
    match momentum {
        Some(momentum) => {
            assert_eq!(params.len(), momentum.len(), "every parameter has a momentum");
            isa.run(SgdSweep { numbers, params, grads, momentum, has_momentum: true });
        }
        None => isa.run(SgdSweep { numbers, params, grads, momentum: &mut [], has_momentum: false }),
    }
}

struct SgdSweep<'a> {
    numbers: Sgd,
    params: &'a mut [f32],
    grads: &'a [f32],
    momentum: &'a mut [f32],
    has_momentum: bool,
}

impl Kernel for SgdSweep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let n = self.numbers;
        let rate = V::splat(-n.rate);
        for i in (0..self.params.len()).step_by(LANES) {
            let count = LANES.min(self.params.len() - i);
            // SAFETY: `i + count` is at most the length that `sgd` checked for all arrays; the momentum is
            // touched only when it is there.
            unsafe {
                let at = self.params.as_mut_ptr().add(i);
                let w = V::load_first(at, count);
                let g = V::load_first(self.grads.as_ptr().add(i), count);
                let mut g = V::splat(n.weight_decay).fma(w, g);
                if self.has_momentum {
                    let at = self.momentum.as_mut_ptr().add(i);
                    let old = V::load_first(at, count).mul(V::splat(n.momentum));
                    let b = g.fma(V::splat(n.fresh), old);
                    b.store_first(at, count);
                    g = match n.ahead {
                        Some(ahead) => b.fma(V::splat(ahead), g),
                        None => b,
                    };
                }
                rate.fma(g, w).store_first(at, count);
            }
        }
    }
}

/// Numbers of one update of Adam; `optimizers::adam` has the formula.
#[derive(Clone, Copy)]
pub(crate) struct Adam {
    /// Memory of the mean.
    pub(crate) beta1: f32,
    /// Memory of the squares.
    pub(crate) beta2: f32,
    /// rate / (1 - β₁ᵗ)
    pub(crate) step: f32,
    /// 1 / √(1 - β₂ᵗ)
    pub(crate) root: f32,
    /// Added to the root of the squares.
    pub(crate) eps: f32,
    /// Multiple of the weights added to the gradient.
    pub(crate) weight_decay: f32,
}

/// One update of Adam.
pub(crate) fn adam(
    isa: Isa,
    numbers: Adam,
    params: &mut [f32],
    grads: &[f32],
    (mean, square): (&mut [f32], &mut [f32]),
) {
    let len = params.len();
    assert!(grads.len() == len && mean.len() == len && square.len() == len, "all arrays have one length");
    isa.run(AdamSweep { numbers, params, grads, mean, square });
}

struct AdamSweep<'a> {
    numbers: Adam,
    params: &'a mut [f32],
    grads: &'a [f32],
    mean: &'a mut [f32],
    square: &'a mut [f32],
}

impl Kernel for AdamSweep<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let n = self.numbers;
        for i in (0..self.params.len()).step_by(LANES) {
            let count = LANES.min(self.params.len() - i);
            // SAFETY: `i + count` is at most the length that `adam` checked for all arrays.
            unsafe {
                let (at, mean, square) = (
                    self.params.as_mut_ptr().add(i),
                    self.mean.as_mut_ptr().add(i),
                    self.square.as_mut_ptr().add(i),
                );
                let w = V::load_first(at, count);
                let g = V::splat(n.weight_decay).fma(w, V::load_first(self.grads.as_ptr().add(i), count));
                let m = V::load_first(mean, count);
                let m = g.sub(m).fma(V::splat(1.0 - n.beta1), m);
                let v = V::load_first(square, count).mul(V::splat(n.beta2));
                let v = g.mul(g).fma(V::splat(1.0 - n.beta2), v);
                m.store_first(mean, count);
                v.store_first(square, count);
                let divisor = v.sqrt().fma(V::splat(n.root), V::splat(n.eps));
                V::splat(-n.step).fma(m.div(divisor), w).store_first(at, count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bits from every instruction set, at lengths around a vector's.
    #[test]
    fn updates_give_the_bits_of_their_scalar_twin() {
        for len in [1, 15, 16, 17, 100] {
            let number = |i: usize, k: usize| ((i * 37 + k * 11) % 23) as f32 * 0.07 - 0.7;
            let array = |k| (0..len).map(|i| number(i, k)).collect::<Vec<f32>>();
            let run = |isa| {
                let (mut w, mut b, mut m) = (array(0), array(2), array(3));
                let mut v: Vec<f32> = array(4).iter().map(|v| v.abs()).collect();
                let numbers =
                    Sgd { rate: 0.1, weight_decay: 0.01, momentum: 0.9, fresh: 1.0, ahead: Some(0.9) };
                sgd(isa, numbers, &mut w, &array(1), Some(&mut b));
                sgd(isa, Sgd { ahead: None, ..numbers }, &mut w, &array(1), None);
                let numbers =
                    Adam { beta1: 0.9, beta2: 0.999, step: 0.01, root: 1.5, eps: 1e-8, weight_decay: 0.01 };
                adam(isa, numbers, &mut w, &array(1), (&mut m, &mut v));
                (w, b, m, v)
            };
            let expected = run(Isa::portable());
            for isa in Isa::available() {
                assert_eq!(run(isa), expected, "{isa}, {len} numbers");
            }
        }
    }
}
