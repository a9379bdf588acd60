//! [`Lanes`] as one AVX-512 register.

use super::lanes::{LANES, Lanes};
use std::arch::x86_64::*;

/// Sixteen numbers in a `zmm` register.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

/// Calls intrinsics on values in registers.
macro_rules! cpu {
    ($call:expr) => {{
        // SAFETY: values of this type exist only below `Isa::run`, which found AVX-512 F, BW, DQ and VL.
        unsafe { $call }
    }};
}

#[inline(always)]
fn first(count: usize) -> __mmask16 {
    ((1u32 << count.min(LANES)) - 1) as __mmask16
}

/// The nearest bf16, in the upper halves; what the lower halves hold says nothing.
#[inline(always)]
fn bf16(x: __m512) -> __m512i {
    cpu!({
        let bits = _mm512_castps_si512(x);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        let sign = _mm512_and_si512(bits, _mm512_set1_epi32(i32::MIN));
        let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x);
        let tiny = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(_mm512_abs_ps(x), _mm512_set1_ps(f32::MIN_POSITIVE));
        let rounded = _mm512_mask_blend_epi32(nan, rounded, quiet);
        _mm512_mask_blend_epi32(tiny, rounded, sign)
    })
}

impl Lanes for Avx512 {
    const WIDE: bool = true;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Avx512(cpu!(_mm512_set1_ps(value)))
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for sixteen readable numbers.
        Avx512(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for room for sixteen numbers.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: masked lanes are not read; the caller vouches for the others.
        Avx512(unsafe { _mm512_maskz_loadu_ps(first(count), from) })
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: masked lanes are not written; the caller vouches for the others.
        unsafe { _mm512_mask_storeu_ps(to, first(count), self.0) }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Avx512(cpu!(_mm512_add_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Avx512(cpu!(_mm512_sub_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Avx512(cpu!(_mm512_mul_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Avx512(cpu!(_mm512_div_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn fma(self, by: Self, plus: Self) -> Self {
        Avx512(cpu!(_mm512_fmadd_ps(self.0, by.0, plus.0)))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        Avx512(cpu!(_mm512_sqrt_ps(self.0)))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        Avx512(cpu!(_mm512_abs_ps(self.0)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        Avx512(cpu!(_mm512_max_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        Avx512(cpu!(_mm512_min_ps(self.0, other.0)))
    }
    #[inline(always)]
    fn if_greater(self, other: Self, yes: Self, no: Self) -> Self {
        let mask = cpu!(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(self.0, other.0));
        Avx512(cpu!(_mm512_mask_blend_ps(mask, no.0, yes.0)))
    }
    #[inline(always)]
    fn if_equal(self, other: Self, yes: Self, no: Self) -> Self {
        let mask = cpu!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(self.0, other.0));
        Avx512(cpu!(_mm512_mask_blend_ps(mask, no.0, yes.0)))
    }
    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        let bit = cpu!(_mm512_set1_ps(-0.0));
        let sign = cpu!(_mm512_and_ps(sign.0, bit));
        Avx512(cpu!(_mm512_or_ps(_mm512_andnot_ps(bit, self.0), sign)))
    }
    #[inline(always)]
    fn round(self) -> Self {
        Avx512(cpu!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0)))
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        let exponent = cpu!(_mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127)));
        Avx512(cpu!(_mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))))
    }
    #[inline(always)]
    fn deinterleave(self, next: Self) -> (Self, Self) {
        let even = cpu!(_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
        let odd = cpu!(_mm512_add_epi32(even, _mm512_set1_epi32(1)));
        (
            Avx512(cpu!(_mm512_permutex2var_ps(self.0, even, next.0))),
            Avx512(cpu!(_mm512_permutex2var_ps(self.0, odd, next.0))),
        )
    }
    #[inline(always)]
    fn interleave(self, odd: Self) -> (Self, Self) {
        let low = cpu!(_mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
        let high = cpu!(_mm512_add_epi32(low, _mm512_set1_epi32(8)));
        (
            Avx512(cpu!(_mm512_permutex2var_ps(self.0, low, odd.0))),
            Avx512(cpu!(_mm512_permutex2var_ps(self.0, high, odd.0))),
        )
    }
    #[inline(always)]
    fn bf16_pairs(self, high: Self) -> Self {
        let (low, high) = (bf16(self.0), bf16(high.0));
        // Bits of `low`, moved down, where the mask is 0; of `high` where it is 1.
        let pairs = cpu!(_mm512_ternarylogic_epi32::<0xd8>(
            _mm512_srli_epi32::<16>(low),
            high,
            _mm512_set1_epi32(0xffff_0000_u32.cast_signed())
        ));
        Avx512(cpu!(_mm512_castsi512_ps(pairs)))
    }
    #[inline(always)]
    fn split_bf16_pairs(self) -> (Self, Self) {
        let pairs = cpu!(_mm512_castps_si512(self.0));
        let high = cpu!(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000_u32.cast_signed())));
        let low = cpu!(_mm512_slli_epi32::<16>(pairs));
        (Avx512(cpu!(_mm512_castsi512_ps(low))), Avx512(cpu!(_mm512_castsi512_ps(high))))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let low = cpu!(_mm512_castps512_ps256(self.0));
        let high = cpu!(_mm512_extractf32x8_ps::<1>(self.0));
        super::avx2::sum8(cpu!(_mm256_add_ps(low, high)))
    }
}
