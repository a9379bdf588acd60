//! The arithmetic of a reduction: adding what arrived, and bf16.
//!
//! Plain loops that the compiler vectorises; on x86-64 the same loops are compiled a second time for AVX2 and
//! chosen at run time. Results are the same bits either way: these loops neither reassociate nor contract.
//! Layout: `wire` holds little-endian elements without alignment, one array of bytes each.

/// A loop over a chunk. `run` must be inlined so that it is compiled for the features of its caller.
trait Kernel {
    fn run(self);
}

/// Runs a kernel with the widest vectors this processor has.
fn run_vectorised(kernel: impl Kernel) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, which is all that `run_avx2` asks for.
        return unsafe { run_avx2(kernel) };
    }
    kernel.run();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2(kernel: impl Kernel) {
    kernel.run();
}

struct AddF32<'a>(&'a mut [f32], &'a [[u8; 4]]);

impl Kernel for AddF32<'_> {
    #[inline(always)]
    fn run(self) {
        for (sum, wire) in self.0.iter_mut().zip(self.1) {
            *sum += f32::from_le_bytes(*wire);
        }
    }
}

struct AddI64<'a>(&'a mut [i64], &'a [[u8; 8]]);

impl Kernel for AddI64<'_> {
    #[inline(always)]
    fn run(self) {
        for (sum, wire) in self.0.iter_mut().zip(self.1) {
            *sum = sum.wrapping_add(i64::from_le_bytes(*wire));
        }
    }
}

struct AddBf16<'a>(&'a mut [f32], &'a [[u8; 2]]);

impl Kernel for AddBf16<'_> {
    #[inline(always)]
    fn run(self) {
        for (sum, wire) in self.0.iter_mut().zip(self.1) {
            *sum += widen(u16::from_le_bytes(*wire));
        }
    }
}

struct StoreBf16<'a>(&'a mut [f32], &'a [[u8; 2]]);

impl Kernel for StoreBf16<'_> {
    #[inline(always)]
    fn run(self) {
        for (value, wire) in self.0.iter_mut().zip(self.1) {
            *value = widen(u16::from_le_bytes(*wire));
        }
    }
}

struct EncodeBf16<'a>(&'a [f32], &'a mut [[u8; 2]]);

impl Kernel for EncodeBf16<'_> {
    #[inline(always)]
    fn run(self) {
        for (value, wire) in self.0.iter().zip(self.1) {
            *wire = round(*value).to_le_bytes();
        }
    }
}

struct RoundBf16<'a>(&'a mut [f32]);

impl Kernel for RoundBf16<'_> {
    #[inline(always)]
    fn run(self) {
        for value in self.0 {
            *value = widen(round(*value));
        }
    }
}

#[inline(always)]
fn widen(bf16: u16) -> f32 {
    f32::from_bits(u32::from(bf16) << 16)
}

/// f32 to bf16, to nearest even; a NaN stays one (quiet, upper payload and sign kept).
#[inline(always)]
fn round(value: f32) -> u16 {
    let bits = value.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    let quiet_nan = (bits >> 16) | 0x40;
    (if value.is_nan() { quiet_nan } else { nearest }) as u16
}

/// `sums[i] += wire[i]`
pub(crate) fn add_f32(sums: &mut [f32], wire: &[[u8; 4]]) {
    assert_eq!(sums.len(), wire.len(), "as many sums as values on the wire");
    run_vectorised(AddF32(sums, wire));
}

/// `sums[i] += wire[i]`, wrapping.
pub(crate) fn add_i64(sums: &mut [i64], wire: &[[u8; 8]]) {
    assert_eq!(sums.len(), wire.len(), "as many sums as values on the wire");
    run_vectorised(AddI64(sums, wire));
}

/// `sums[i] += wire[i]`, where the wire has bf16.
pub(crate) fn add_bf16(sums: &mut [f32], wire: &[[u8; 2]]) {
    assert_eq!(sums.len(), wire.len(), "as many sums as values on the wire");
    run_vectorised(AddBf16(sums, wire));
}

/// `values[i] = wire[i]`, where the wire has bf16.
pub(crate) fn store_bf16(values: &mut [f32], wire: &[[u8; 2]]) {
    assert_eq!(values.len(), wire.len(), "as many values as on the wire");
    run_vectorised(StoreBf16(values, wire));
}

/// `wire[i] = values[i]`, rounded to nearest even.
pub(crate) fn encode_bf16(values: &[f32], wire: &mut [[u8; 2]]) {
    assert_eq!(values.len(), wire.len(), "as many values as on the wire");
    run_vectorised(EncodeBf16(values, wire));
}

/// Rounds every value to the nearest bf16.
pub(crate) fn round_bf16(values: &mut [f32]) {
    run_vectorised(RoundBf16(values));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bit patterns that matter, and many others.
    fn samples(count: usize) -> Vec<f32> {
        let special = [
            0,
            0x8000_0000,
            1,
            0x7f80_0000,
            0xff80_0000,
            0x7f80_0001,
            0xffc0_1234,
            0x7f7f_ffff,
            0x3f80_8000,
            0x3f81_8000,
        ];
        let mut state = 1u32;
        let random = std::iter::repeat_with(move || {
            state = state.wrapping_mul(1664525).wrapping_add(1013904223);
            state ^ (state >> 13)
        });
        special.into_iter().chain(random).take(count).map(f32::from_bits).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    #[test]
    fn bf16_rounds_as_the_half_crate_does() {
        for count in [0, 1, 7, 8, 9, 31, 33, 100_000] {
            let values = samples(count);
            let expected: Vec<half::bf16> = values.iter().map(|value| half::bf16::from_f32(*value)).collect();
            let mut wire = vec![[0; 2]; count];
            encode_bf16(&values, &mut wire);
            for (at, (ours, theirs)) in wire.iter().zip(&expected).enumerate() {
                assert_eq!(u16::from_le_bytes(*ours), theirs.to_bits(), "{:08x}", values[at].to_bits());
            }
            let (mut stored, mut rounded) = (vec![0.0; count], values.clone());
            store_bf16(&mut stored, &wire);
            round_bf16(&mut rounded);
            let widened: Vec<f32> = expected.iter().map(|value| value.to_f32()).collect();
            assert_eq!((bits(&stored), bits(&rounded)), (bits(&widened), bits(&widened)));
        }
    }

    #[test]
    fn vectors_give_the_same_bits_as_scalars_at_odd_lengths() {
        for count in [0, 1, 3, 15, 16, 17, 1001] {
            // Sums of NaNs have payloads that depend on the order of operands; all else is exact.
            let finite: Vec<f32> =
                samples(count).into_iter().map(|v| if v.is_finite() { v } else { 1.5 }).collect();
            let (mut fast, mut slow) = (finite.clone(), finite.clone());
            let wire: Vec<[u8; 4]> = finite.iter().rev().map(|value| value.to_le_bytes()).collect();
            add_f32(&mut fast, &wire);
            AddF32(&mut slow, &wire).run();
            assert_eq!(bits(&fast), bits(&slow));

            let mut wire = vec![[0; 2]; count];
            encode_bf16(&finite, &mut wire);
            let (mut fast, mut slow) = (finite.clone(), finite.clone());
            add_bf16(&mut fast, &wire);
            for (sum, value) in slow.iter_mut().zip(&wire) {
                *sum += half::bf16::from_le_bytes(*value).to_f32();
            }
            assert_eq!(bits(&fast), bits(&slow));

            let mut sums: Vec<i64> = (0..count as i64).map(|i| (i64::MAX - 2).wrapping_add(i)).collect();
            let wire: Vec<[u8; 8]> = (0..count as i64).map(|i| (i * 3).to_le_bytes()).collect();
            add_i64(&mut sums, &wire);
            assert!(sums.iter().zip(0..).all(|(sum, i)| *sum == (i64::MAX - 2).wrapping_add(4 * i)));
        }
    }
}
