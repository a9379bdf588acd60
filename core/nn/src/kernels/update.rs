//! Parameter updates: one sweep over parameters, gradients and state, whatever the formula.
//!
//! The formulas are with the optimizers: each is a [`Rule`] for sixteen numbers at a time.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};

/// What an optimizer does to the numbers at one place of its arrays; `N` states.
pub(crate) trait Rule<const N: usize>: Copy {
    /// The new parameters and states from parameters `w`, gradients `g` and states.
    fn apply<V: Lanes>(self, w: V, g: V, states: [V; N]) -> (V, [V; N]);
}

/// What an optimizer measures of a whole array before it changes it.
pub(crate) trait Measured<const N: usize>: Copy {
    /// Two numbers of which the sums of squares are wanted, and the new states.
    fn look<V: Lanes>(self, w: V, g: V, states: [V; N]) -> ([V; 2], [V; N]);
}

/// Changes parameters and states by `rule`.
///
/// # Panics
/// When the arrays differ in length, or there are not `N` states.
pub(crate) fn sweep<R: Rule<N>, const N: usize>(
    isa: Isa,
    rule: R,
    params: &mut [f32],
    grads: &[f32],
    states: &mut [&mut [f32]],
) {
    let (len, states) = (params.len(), pointers::<N>(params.len(), grads, states));
    isa.run(Sweep { rule, params: params.as_mut_ptr(), grads: grads.as_ptr(), states, len });
}

/// Changes states by `rule` and returns the two sums of squares.
///
/// # Panics
/// When the arrays differ in length, or there are not `N` states.
pub(crate) fn measure<R: Measured<N>, const N: usize>(
    isa: Isa,
    rule: R,
    params: &[f32],
    grads: &[f32],
    states: &mut [&mut [f32]],
) -> [f64; 2] {
    let (len, states) = (params.len(), pointers::<N>(params.len(), grads, states));
    isa.run(Look { rule, params: params.as_ptr(), grads: grads.as_ptr(), states, len })
}

fn pointers<const N: usize>(len: usize, grads: &[f32], states: &mut [&mut [f32]]) -> [*mut f32; N] {
    assert_eq!(grads.len(), len, "every parameter has a gradient");
    assert_eq!(states.len(), N, "an optimizer gets the states it asked for");
    assert!(states.iter().all(|state| state.len() == len), "every parameter has its states");
    std::array::from_fn(|i| states[i].as_mut_ptr())
}

struct Sweep<R, const N: usize> {
    rule: R,
    params: *mut f32,
    grads: *const f32,
    states: [*mut f32; N],
    len: usize,
}

impl<R: Rule<N>, const N: usize> Kernel for Sweep<R, N> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for i in (0..self.len).step_by(LANES) {
            let count = LANES.min(self.len - i);
            // SAFETY: `i + count` is at most the length that `pointers` checked for all arrays.
            unsafe {
                let w = load::<V>(self.params.add(i), count);
                let g = load::<V>(self.grads.add(i), count);
                let states = self.states.map(|state| load::<V>(state.add(i), count));
                let (w, states) = self.rule.apply(w, g, states);
                store(w, self.params.add(i), count);
                for (new, state) in states.into_iter().zip(self.states) {
                    store(new, state.add(i), count);
                }
            }
        }
    }
}

struct Look<R, const N: usize> {
    rule: R,
    params: *const f32,
    grads: *const f32,
    states: [*mut f32; N],
    len: usize,
}

impl<R: Measured<N>, const N: usize> Kernel for Look<R, N> {
    type Output = [f64; 2];

    #[inline(always)]
    fn run<V: Lanes>(self) -> [f64; 2] {
        let mut sums = [Squares::default(), Squares::default()];
        for i in (0..self.len).step_by(LANES) {
            let count = LANES.min(self.len - i);
            // SAFETY: `i + count` is at most the length that `pointers` checked for all arrays.
            unsafe {
                let w = load::<V>(self.params.add(i), count);
                let g = load::<V>(self.grads.add(i), count);
                let states = self.states.map(|state| load::<V>(state.add(i), count));
                let (seen, states) = self.rule.look(w, g, states);
                for (new, state) in states.into_iter().zip(self.states) {
                    store(new, state.add(i), count);
                }
                sums[0].add(seen[0], count);
                sums[1].add(seen[1], count);
            }
        }
        sums.map(Squares::sum)
    }
}

/// # Safety
/// `from` points at `count` readable numbers, at most 16.
#[inline(always)]
unsafe fn load<V: Lanes>(from: *const f32, count: usize) -> V {
    // SAFETY: the caller's promise.
    unsafe { if count == LANES { V::load(from) } else { V::load_first(from, count) } }
}

/// # Safety
/// `to` points at room for `count` numbers, at most 16.
#[inline(always)]
unsafe fn store<V: Lanes>(numbers: V, to: *mut f32, count: usize) {
    // SAFETY: the caller's promise.
    unsafe { if count == LANES { numbers.store(to) } else { numbers.store_first(to, count) } }
}

/// A sum of squares in f64, lane by lane until the end.
#[derive(Clone, Copy, Default)]
struct Squares([f64; LANES]);

impl Squares {
    /// Adds the first `count` numbers.
    #[inline(always)]
    fn add<V: Lanes>(&mut self, numbers: V, count: usize) {
        let mut lanes = [0.0f32; LANES];
        // SAFETY: room for sixteen numbers.
        unsafe { numbers.store(lanes.as_mut_ptr()) };
        if count < LANES {
            lanes[count..].fill(0.0);
        }
        for (sum, lane) in self.0.iter_mut().zip(lanes) {
            *sum += f64::from(lane) * f64::from(lane);
        }
    }

    #[inline(always)]
    fn sum(self) -> f64 {
        self.0.iter().sum()
    }
}

/// What is done to gradients before an optimizer sees them: penalties on the weights are added, then magnitudes
/// are limited, then all is scaled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shaping {
    /// Multiple of the weights' signs that is added.
    pub(crate) l1: f32,
    /// Multiple of the weights that is added.
    pub(crate) l2: f32,
    /// Largest magnitude; infinite for no limit.
    pub(crate) limit: f32,
    /// What the result is multiplied by.
    pub(crate) scale: f32,
}

impl Shaping {
    /// Gradients stay as they are.
    pub(crate) const NONE: Shaping = Shaping { l1: 0.0, l2: 0.0, limit: f32::INFINITY, scale: 1.0 };
}

/// Gradients are what is changed, parameters what is read.
impl Rule<0> for Shaping {
    #[inline(always)]
    fn apply<V: Lanes>(self, g: V, w: V, _: [V; 0]) -> (V, [V; 0]) {
        let zero = V::splat(0.0);
        let sign = w.if_equal(zero, zero, V::splat(1.0).with_sign(w));
        let g = sign.fma(V::splat(self.l1), V::splat(self.l2).fma(w, g));
        // `min` and `max` return their second operand where they can not compare: NaN stays.
        let g = V::splat(-self.limit).max(V::splat(self.limit).min(g));
        (g.mul(V::splat(self.scale)), [])
    }
}

/// Shapes gradients in place.
///
/// # Panics
/// When the arrays differ in length.
pub(crate) fn shape(isa: Isa, shaping: Shaping, params: &[f32], grads: &mut [f32]) {
    if shaping != Shaping::NONE {
        sweep(isa, shaping, grads, params, &mut []);
    }
}

/// Whether no number is infinite or none.
pub(crate) fn is_finite(numbers: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    // Without a branch for each, so that whole vectors are looked at.
    let finite =
        |run: &[f32]| !run.iter().fold(false, |bad, number| bad | (number.to_bits() & EXPONENT == EXPONENT));
    numbers.chunks(4096).all(finite)
}

/// Sum of the squares, in f64.
pub(crate) fn sum_of_squares(isa: Isa, numbers: &[f32]) -> f64 {
    #[derive(Clone, Copy)]
    struct Only;
    impl Measured<0> for Only {
        #[inline(always)]
        fn look<V: Lanes>(self, w: V, _: V, _: [V; 0]) -> ([V; 2], [V; 0]) {
            ([w, V::splat(0.0)], [])
        }
    }
    measure(isa, Only, numbers, numbers, &mut [])[0]
}

/// `average = average + share · (numbers - average)`.
///
/// # Panics
/// When the arrays differ in length.
pub(crate) fn average(isa: Isa, share: f32, average: &mut [f32], numbers: &[f32]) {
    #[derive(Clone, Copy)]
    struct Towards(f32);
    impl Rule<0> for Towards {
        #[inline(always)]
        fn apply<V: Lanes>(self, average: V, number: V, _: [V; 0]) -> (V, [V; 0]) {
            (number.sub(average).fma(V::splat(self.0), average), [])
        }
    }
    sweep(isa, Towards(share), average, numbers, &mut []);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(i: usize, k: usize) -> f32 {
        ((i * 37 + k * 11) % 23) as f32 * 0.07 - 0.7
    }

    fn array(len: usize, k: usize) -> Vec<f32> {
        (0..len).map(|i| number(i, k)).collect()
    }

    /// Uses every operand, so that a mistake in any shows.
    #[derive(Clone, Copy)]
    struct Both;

    impl Rule<2> for Both {
        #[inline(always)]
        fn apply<V: Lanes>(self, w: V, g: V, [a, b]: [V; 2]) -> (V, [V; 2]) {
            let a = g.fma(V::splat(0.3), a);
            let b = a.mul(a).add(b.abs()).sqrt();
            (w.sub(a.div(b.add(V::splat(0.1)))), [a, b])
        }
    }

    impl Measured<2> for Both {
        #[inline(always)]
        fn look<V: Lanes>(self, w: V, g: V, [a, b]: [V; 2]) -> ([V; 2], [V; 2]) {
            ([w.add(a), g.sub(b)], [b, a])
        }
    }

    #[test]
    fn the_same_bits_from_every_instruction_set_at_any_length() {
        for len in [0, 1, 15, 16, 17, 100] {
            let run = |isa| {
                let (mut w, mut g) = (array(len, 0), array(len, 1));
                let (mut a, mut b) = (array(len, 2), array(len, 3));
                let shaping = Shaping { l1: 0.1, l2: 0.2, limit: 0.5, scale: 0.9 };
                shape(isa, shaping, &w, &mut g);
                sweep(isa, Both, &mut w, &g, &mut [&mut a, &mut b]);
                let sums = measure(isa, Both, &w, &g, &mut [&mut a, &mut b]);
                average(isa, 0.25, &mut a, &w);
                (w, g, a, b, sums, sum_of_squares(isa, &array(len, 4)))
            };
            let expected = run(Isa::portable());
            for isa in Isa::available() {
                assert_eq!(run(isa), expected, "{isa}, {len} numbers");
            }
        }
    }

    #[test]
    fn gradients_are_penalised_then_limited_then_scaled() {
        let (w, mut g) = ([2.0, -2.0, 0.0, 1.0, 1.0], [0.5, 0.5, 0.5, 9.0, f32::NAN]);
        shape(Isa::best(), Shaping { l1: 0.25, l2: 0.5, limit: 1.0, scale: 2.0 }, &w, &mut g);
        assert_eq!(g[..4], [2.0, -1.5, 1.0, 2.0]);
        assert!(g[4].is_nan(), "what is not finite is not hidden");
    }

    #[test]
    fn squares_add_up_beyond_the_range_of_f32() {
        let sum = sum_of_squares(Isa::best(), &[1e30; 33]);
        assert!((sum / 33e60 - 1.0).abs() < 1e-6, "{sum}");
    }
}
