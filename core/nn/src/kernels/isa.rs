//! Which instructions a kernel is compiled for, chosen at run time.

use super::lanes::Lanes;
use super::portable::Portable;
use std::fmt;

/// The instructions that kernels use, and what operands of matrix products are rounded to: a value of this type proves
/// that the CPU has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa {
    level: Level,
    bf16: Option<Bf16>,
}

/// How products of bf16 are computed; the bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bf16 {
    /// By the tiles of AMX.
    #[cfg(target_arch = "x86_64")]
    Tiles,
    /// By multiplications of f32.
    Lanes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// Widest first.
    #[cfg(target_arch = "x86_64")]
    const ALL: &[Level] = &[Level::Avx512, Level::Avx2, Level::Portable];
    #[cfg(not(target_arch = "x86_64"))]
    const ALL: &[Level] = &[Level::Portable];

    /// Place of its name in [`Isa::NAMES`].
    fn rank(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => 0,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => 1,
            Level::Portable => 2,
        }
    }

    fn detected(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && Level::Avx2.detected()
            }
        }
    }
}

/// A loop written over [`Lanes`], with its arguments as fields. `run` must be `#[inline(always)]`, so that it
/// is compiled for the instructions of the caller.
pub(crate) trait Kernel {
    /// What the loop returns.
    type Output;
    /// Runs the loop.
    fn run<V: Lanes>(self) -> Self::Output;
}

impl Isa {
    /// What instructions are called in jobs and flags, widest first.
    pub const NAMES: [&str; 3] = ["avx512", "avx2", "portable"];

    /// The widest instructions this CPU has.
    pub fn best() -> Isa {
        // The unit tests run once more with fewer: `scripts/test unit`.
        #[cfg(test)]
        if let Ok(name) = std::env::var("RINGSPIN_TEST_ISA") {
            return Isa::at_most(&name).expect("RINGSPIN_TEST_ISA is one of Isa::NAMES");
        }
        Isa::widest_from(0)
    }

    /// The widest instructions this CPU has that are not wider than those of this name; `None` when
    /// [`Isa::NAMES`] does not have it.
    pub fn at_most(name: &str) -> Option<Isa> {
        Isa::NAMES.iter().position(|known| *known == name).map(Isa::widest_from)
    }

    fn widest_from(rank: usize) -> Isa {
        let level = Level::ALL.iter().copied().find(|level| level.rank() >= rank && level.detected());
        Isa::of(level.unwrap_or(Level::Portable))
    }

    /// Plain Rust, for every CPU; slow where the CPU has no fused multiply-add.
    pub fn portable() -> Isa {
        Isa::of(Level::Portable)
    }

    /// Everything this CPU can run, widest first; the last is [`Isa::portable`].
    pub fn available() -> Vec<Isa> {
        Level::ALL.iter().copied().filter(|level| level.detected()).map(Isa::of).collect()
    }

    const fn of(level: Level) -> Isa {
        Isa { level, bf16: None }
    }

    /// The same with operands of matrix products rounded to bf16, or not: by the tiles of AMX where the CPU has them and
    /// the level is the widest, otherwise with the same bits by multiplications of f32, which takes longer than products
    /// of f32.
    #[must_use]
    pub fn with_bf16(self, bf16: bool) -> Isa {
        #[cfg(target_arch = "x86_64")]
        if bf16 && self.level == Level::Avx512 && super::gemm::bf16::has_tiles() {
            return Isa { bf16: Some(Bf16::Tiles), ..self };
        }
        Isa { bf16: bf16.then_some(Bf16::Lanes), ..self }
    }

    /// The same with products of bf16 computed without tiles.
    #[cfg(test)]
    pub(super) fn imitating_bf16(self) -> Isa {
        Isa { bf16: Some(Bf16::Lanes), ..self }
    }

    /// Whether operands of matrix products are rounded to bf16, and these instructions have none for it.
    pub fn imitates_bf16(self) -> bool {
        self.bf16 == Some(Bf16::Lanes)
    }

    /// How products of bf16 are computed, where operands are rounded to it.
    pub(super) fn bf16(self) -> Option<Bf16> {
        self.bf16
    }

    /// Runs `kernel` compiled for these instructions.
    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self.level {
            Level::Portable => kernel.run::<Portable>(),
            // SAFETY: an `Isa` of this level is made only after `detected` found the features below.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { run_avx2(kernel) },
            // SAFETY: an `Isa` of this level is made only after `detected` found the features below.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { run_avx512(kernel) },
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<super::avx2::Avx2>()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<super::avx512::Avx512>()
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.level {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "AVX-512",
        })?;
        match self.bf16 {
            None => Ok(()),
            #[cfg(target_arch = "x86_64")]
            Some(Bf16::Tiles) => f.write_str(" and AMX, bf16"),
            Some(Bf16::Lanes) => f.write_str(", bf16 imitated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::LANES;
    use super::*;

    /// Every operation of `Lanes` on the same two vectors, results one after the other.
    struct Everything<'a> {
        a: &'a [f32; LANES],
        b: &'a [f32; LANES],
        count: usize,
    }

    impl Kernel for Everything<'_> {
        type Output = Vec<u32>;

        #[inline(always)]
        fn run<V: Lanes>(self) -> Vec<u32> {
            // SAFETY: both arrays hold sixteen numbers, and so does every chunk that is written.
            unsafe {
                let (a, b) = (V::load(self.a.as_ptr()), V::load(self.b.as_ptr()));
                let part = V::load_first(self.a.as_ptr(), self.count);
                let ((even, odd), (first, second)) = (a.deinterleave(b), a.interleave(b));
                let whole = a.round().max(V::splat(-127.0)).min(V::splat(127.0));
                let mut vectors =
                    vec![a.add(b), a.sub(b), a.mul(b), a.div(b), a.fma(b, part), a.abs().sqrt()];
                vectors.extend([
                    a.abs(),
                    a.max(b),
                    a.min(b),
                    a.if_greater(b, part, b),
                    a.if_equal(b, part, b),
                ]);
                vectors.extend([
                    a.with_sign(b),
                    a.round(),
                    whole.exp2_whole(),
                    even,
                    odd,
                    first,
                    second,
                    part,
                ]);
                let (low, high) = a.bf16_pairs(b).split_bf16_pairs();
                vectors.extend([low, high, V::splat(a.sum())]);
                let mut out = vec![0.0f32; LANES * (vectors.len() + 1)];
                for (i, vector) in vectors.iter().enumerate() {
                    vector.store(out.as_mut_ptr().add(LANES * i));
                }
                a.store_first(out.as_mut_ptr().add(LANES * vectors.len()), self.count);
                // NaNs are equal whatever their payload: which one survives is the CPU's choice.
                out.iter().map(|v| if v.is_nan() { 0x7fc0_0000 } else { v.to_bits() }).collect()
            }
        }
    }

    #[test]
    fn a_name_is_a_limit() {
        assert_eq!(Isa::at_most("portable"), Some(Isa::portable()));
        assert_eq!(Isa::at_most("sse9"), None);
        for (rank, name) in Isa::NAMES.iter().enumerate() {
            assert!(Isa::at_most(name).is_some_and(|isa| isa.level.rank() >= rank), "{name}");
        }
    }

    #[test]
    fn every_operation_gives_the_bits_of_its_scalar_twin() {
        let numbers = [0.0, -0.0, 1.0, -1.5, 2.5, 1e-38, 1e38, -3e38, f32::INFINITY, f32::NAN, 126.4, 0.3];
        for shift in 0..numbers.len() {
            let a: [f32; LANES] = std::array::from_fn(|i| numbers[(i + shift) % numbers.len()]);
            let b: [f32; LANES] = std::array::from_fn(|i| numbers[(i * 5 + 3 * shift) % numbers.len()]);
            for count in 0..=LANES {
                let expected = Isa::portable().run(Everything { a: &a, b: &b, count });
                for isa in Isa::available() {
                    assert_eq!(isa.run(Everything { a: &a, b: &b, count }), expected, "{isa}, count {count}");
                }
            }
        }
    }
}
