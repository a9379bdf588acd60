//! Numbers dropped at random.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};
use crate::random::RecordRandom;

/// Quads of random words that are made together: half a vector of words, in lanes of 64 bits.
const QUADS: usize = LANES / 2;

/// Which numbers are dropped, and what becomes of the others.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    /// Random words below it drop a number.
    pub(crate) threshold: u32,
    /// What the others are multiplied by; 0 drops all.
    pub(crate) factor: f32,
}

/// `to = from`, but 0 where a number is dropped and `factor` times as much elsewhere; the words of a record begin with
/// the quad `first`. The same numbers of `also` are dropped, where they lie.
///
/// # Panics
/// When the slices differ in length.
pub(crate) fn drop(
    isa: Isa,
    (random, first): (&RecordRandom, usize),
    share: Share,
    (from, to): (&[f32], &mut [f32]),
    also: Option<&mut [f32]>,
) {
    assert_eq!(from.len(), to.len(), "dropout writes as many numbers as it reads");
    assert!(also.as_ref().is_none_or(|also| also.len() == from.len()), "the same of other numbers");
    let (from, len, also) = (from.as_ptr(), from.len(), also.map(<[f32]>::as_mut_ptr));
    isa.run(Drop { random, first, share, from, to: to.as_mut_ptr(), also, len });
}

/// `numbers` as [`drop`] would write them.
pub(crate) fn drop_in_place(
    isa: Isa,
    (random, first): (&RecordRandom, usize),
    share: Share,
    numbers: &mut [f32],
) {
    let (to, len) = (numbers.as_mut_ptr(), numbers.len());
    isa.run(Drop { random, first, share, from: to, to, also: None, len });
}

/// `from`, `to` and `also` point at `len` numbers each; the first two may be the same.
struct Drop<'a> {
    random: &'a RecordRandom,
    first: usize,
    share: Share,
    from: *const f32,
    to: *mut f32,
    also: Option<*mut f32>,
    len: usize,
}

impl Kernel for Drop<'_> {
    type Output = ();

    /// Whole numbers are no business of [`Lanes`]: the loops over arrays become vectors of the CPU it stands for.
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let Share { threshold, factor } = self.share;
        let (threshold, kept) = (u64::from(threshold), u64::from(factor.to_bits()));
        let mut at = 0;
        while at < self.len {
            let [a, b, c, d] = self.random.quads::<QUADS>(self.first + at / 4);
            // Factors in the order in which two interleavings of vectors give that of the numbers.
            let (mut even, mut odd) = ([0u64; QUADS], [0u64; QUADS]);
            for i in 0..QUADS {
                even[i] = of(a[i], threshold, kept) | of(c[i], threshold, kept) << 32;
                odd[i] = of(b[i], threshold, kept) | of(d[i], threshold, kept) << 32;
            }
            // SAFETY: both arrays hold a whole vector; what is read and written lies below `len`.
            unsafe {
                let (first, second) = V::load(even.as_ptr().cast()).interleave(V::load(odd.as_ptr().cast()));
                self.apply(first, (self.from, self.to), at);
                self.apply(second, (self.from, self.to), at + LANES);
                if let Some(also) = self.also {
                    self.apply(first, (also, also), at);
                    self.apply(second, (also, also), at + LANES);
                }
            }
            at += 4 * QUADS;
        }
    }
}

/// The bits of the factor of a number with this random word.
#[inline(always)]
fn of(word: u64, threshold: u64, kept: u64) -> u64 {
    if word & 0xffff_ffff < threshold { 0 } else { kept }
}

impl Drop<'_> {
    /// Multiplies the numbers from `at` on, where there are any.
    ///
    /// # Safety
    /// As of the struct.
    #[inline(always)]
    unsafe fn apply<V: Lanes>(&self, factors: V, (from, to): (*const f32, *mut f32), at: usize) {
        let left = self.len.saturating_sub(at);
        // SAFETY: the struct's pointers stand for `len` numbers.
        unsafe {
            let numbers = V::load_first(from.wrapping_add(at), left);
            // What is dropped is 0, also where it was no number.
            let zero = V::splat(0.0);
            factors.if_equal(zero, zero, numbers.mul(factors)).store_first(to.wrapping_add(at), left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::RandomKey;

    #[test]
    fn the_words_are_those_of_the_quads_on_every_cpu() {
        let random = RandomKey { seed: 3, step: 4, lane: 5 }.record(6, 7);
        for (len, first) in [(1, 0), (4, 9), (63, 2), (64, 0), (131, 5)] {
            let numbers: Vec<f32> = (0..len).map(|i| i as f32 + 1.0).collect();
            let expected = numbers.iter().enumerate().map(|(i, number)| {
                let word = random.quad(first + i / 4)[i % 4];
                if word < 1 << 30 { 0.0 } else { number * 1.5 }
            });
            let expected: Vec<f32> = expected.collect();
            for isa in Isa::available() {
                let share = Share { threshold: 1 << 30, factor: 1.5 };
                let (mut own, mut other) = (numbers.clone(), vec![f32::NAN; len]);
                drop_in_place(isa, (&random, first), share, &mut own);
                assert_eq!(own, expected, "{isa}");
                own.clone_from(&numbers);
                drop(isa, (&random, first), share, (&numbers, &mut other), Some(&mut own));
                assert_eq!([other, own], [expected.clone(), expected.clone()], "{isa}");
            }
        }
    }
}
