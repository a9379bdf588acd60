//! Numbers dropped at random.

use super::lanes::Lanes;
use super::{Isa, Kernel};
use crate::random::RecordRandom;

/// Quads of random words that are made together.
const QUADS: usize = 16;

/// Sets numbers whose random word is below `threshold` to 0 and multiplies the others by `factor`; the words of a
/// record begin with the quad `first`.
pub(crate) fn drop(
    isa: Isa,
    (random, first): (&RecordRandom, usize),
    (threshold, factor): (u64, f32),
    numbers: &mut [f32],
) {
    isa.run(Drop { random, first, threshold, factor, numbers });
}

struct Drop<'a> {
    random: &'a RecordRandom,
    first: usize,
    threshold: u64,
    factor: f32,
    numbers: &'a mut [f32],
}

impl Kernel for Drop<'_> {
    type Output = ();

    /// Whole numbers are no business of [`Lanes`]: the loops over arrays become vectors of the CPU it stands for.
    #[inline(always)]
    fn run<V: Lanes>(self) {
        let kept = |word: u32| if u64::from(word) < self.threshold { 0.0 } else { self.factor };
        for (block, numbers) in self.numbers.chunks_mut(4 * QUADS).enumerate() {
            let words = self.random.quads::<QUADS>(self.first + block * QUADS);
            let mut factors = [[0.0f32; 4]; QUADS];
            for (quad, factors) in factors.iter_mut().enumerate() {
                for (factor, words) in factors.iter_mut().zip(&words) {
                    *factor = kept(words[quad]);
                }
            }
            numbers.iter_mut().zip(factors.as_flattened()).for_each(|(number, factor)| {
                // What is dropped is 0, also where it was no number.
                *number = if *factor == 0.0 { 0.0 } else { *number * factor };
            });
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
                let mut own = numbers.clone();
                drop(isa, (&random, first), (1 << 30, 1.5), &mut own);
                assert_eq!(own, expected, "{isa}");
            }
        }
    }
}
