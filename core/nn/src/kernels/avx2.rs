//! [`Lanes`] as two AVX2 registers.

use super::lanes::{LANES, Lanes};
use std::arch::x86_64::*;

/// Sixteen numbers in two `ymm` registers: lanes 0 to 7 and 8 to 15.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256, __m256);

/// Calls intrinsics on values in registers.
macro_rules! cpu {
    ($call:expr) => {{
        // SAFETY: values of this type exist only below `Isa::run`, which found AVX2 and FMA.
        unsafe { $call }
    }};
}

/// Sum of eight lanes, halves added to halves.
#[inline(always)]
pub(super) fn sum8(lanes: __m256) -> f32 {
    cpu!({
        let four = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    })
}

/// Mask of the first `count` of eight lanes.
#[inline(always)]
fn first(count: usize) -> __m256i {
    cpu!(_mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
}

/// The nearest bf16, in the upper halves; what the lower halves hold says nothing.
#[inline(always)]
fn bf16(x: __m256) -> __m256i {
    cpu!({
        let bits = _mm256_castps_si256(x);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let sign = _mm256_and_si256(bits, _mm256_set1_epi32(i32::MIN));
        let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x));
        let abs = _mm256_andnot_ps(_mm256_set1_ps(-0.0), x);
        let tiny = _mm256_cmp_ps::<_CMP_LT_OQ>(abs, _mm256_set1_ps(f32::MIN_POSITIVE));
        let rounded = _mm256_blendv_epi8(rounded, quiet, nan);
        _mm256_blendv_epi8(rounded, sign, _mm256_castps_si256(tiny))
    })
}

impl Avx2 {
    #[inline(always)]
    fn zip(self, other: Self, op: impl Fn(__m256, __m256) -> __m256) -> Self {
        Avx2(op(self.0, other.0), op(self.1, other.1))
    }

    #[inline(always)]
    fn map(self, op: impl Fn(__m256) -> __m256) -> Self {
        Avx2(op(self.0), op(self.1))
    }
}

impl Lanes for Avx2 {
    const WIDE: bool = false;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        let half = cpu!(_mm256_set1_ps(value));
        Avx2(half, half)
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller vouches for sixteen readable numbers.
        unsafe { Avx2(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller vouches for room for sixteen numbers.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, count: usize) -> Self {
        // SAFETY: masked lanes are not read; the caller vouches for the others. The second half is offset
        // with wrapping arithmetic since it may lie behind the end, where nothing is read.
        unsafe {
            let low = _mm256_maskload_ps(from, first(count));
            let high = _mm256_maskload_ps(from.wrapping_add(8), first(count.saturating_sub(8)));
            Avx2(low, high)
        }
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize) {
        // SAFETY: as in `load_first`, for writing.
        unsafe {
            _mm256_maskstore_ps(to, first(count), self.0);
            _mm256_maskstore_ps(to.wrapping_add(8), first(count.saturating_sub(8)), self.1);
        }
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.zip(other, |a, b| cpu!(_mm256_add_ps(a, b)))
    }
    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| cpu!(_mm256_sub_ps(a, b)))
    }
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.zip(other, |a, b| cpu!(_mm256_mul_ps(a, b)))
    }
    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.zip(other, |a, b| cpu!(_mm256_div_ps(a, b)))
    }
    #[inline(always)]
    fn fma(self, by: Self, plus: Self) -> Self {
        Avx2(cpu!(_mm256_fmadd_ps(self.0, by.0, plus.0)), cpu!(_mm256_fmadd_ps(self.1, by.1, plus.1)))
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.map(|a| cpu!(_mm256_sqrt_ps(a)))
    }
    #[inline(always)]
    fn abs(self) -> Self {
        self.map(|a| cpu!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a)))
    }
    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.zip(other, |a, b| cpu!(_mm256_max_ps(a, b)))
    }
    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.zip(other, |a, b| cpu!(_mm256_min_ps(a, b)))
    }
    #[inline(always)]
    fn if_greater(self, other: Self, yes: Self, no: Self) -> Self {
        let pick = |a, b, yes, no| cpu!(_mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)));
        Avx2(pick(self.0, other.0, yes.0, no.0), pick(self.1, other.1, yes.1, no.1))
    }
    #[inline(always)]
    fn if_equal(self, other: Self, yes: Self, no: Self) -> Self {
        let pick = |a, b, yes, no| cpu!(_mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)));
        Avx2(pick(self.0, other.0, yes.0, no.0), pick(self.1, other.1, yes.1, no.1))
    }
    #[inline(always)]
    fn with_sign(self, sign: Self) -> Self {
        self.zip(sign, |a, s| {
            cpu!({
                let bit = _mm256_set1_ps(-0.0);
                _mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(s, bit))
            })
        })
    }
    #[inline(always)]
    fn round(self) -> Self {
        self.map(|a| cpu!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a)))
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        self.map(|a| {
            cpu!({
                let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
            })
        })
    }
    #[inline(always)]
    fn deinterleave(self, next: Self) -> (Self, Self) {
        // Within 128-bit halves first, then the 64-bit quarters into order.
        let pick = |a, b| {
            cpu!({
                let even = _mm256_shuffle_ps::<0b10_00_10_00>(a, b);
                let odd = _mm256_shuffle_ps::<0b11_01_11_01>(a, b);
                let order = |v| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(v)));
                (order(even), order(odd))
            })
        };
        let ((even_low, odd_low), (even_high, odd_high)) = (pick(self.0, self.1), pick(next.0, next.1));
        (Avx2(even_low, even_high), Avx2(odd_low, odd_high))
    }
    #[inline(always)]
    fn interleave(self, odd: Self) -> (Self, Self) {
        let mix = |even, odd| {
            cpu!({
                let low = _mm256_unpacklo_ps(even, odd);
                let high = _mm256_unpackhi_ps(even, odd);
                (_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
            })
        };
        let ((a, b), (c, d)) = (mix(self.0, odd.0), mix(self.1, odd.1));
        (Avx2(a, b), Avx2(c, d))
    }
    #[inline(always)]
    fn bf16_pairs(self, high: Self) -> Self {
        self.zip(high, |low, high| {
            cpu!({
                let low = _mm256_srli_epi32::<16>(bf16(low));
                _mm256_castsi256_ps(_mm256_blend_epi16::<0b1010_1010>(low, bf16(high)))
            })
        })
    }
    #[inline(always)]
    fn split_bf16_pairs(self) -> (Self, Self) {
        let low = |pairs| cpu!(_mm256_slli_epi32::<16>(_mm256_castps_si256(pairs)));
        let upper = cpu!(_mm256_set1_epi32(0xffff_0000_u32.cast_signed()));
        let high = |pairs| cpu!(_mm256_and_si256(_mm256_castps_si256(pairs), upper));
        (
            self.map(|pairs| cpu!(_mm256_castsi256_ps(low(pairs)))),
            self.map(|pairs| cpu!(_mm256_castsi256_ps(high(pairs)))),
        )
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        sum8(cpu!(_mm256_add_ps(self.0, self.1)))
    }
}

const _: () = assert!(LANES == 16);
