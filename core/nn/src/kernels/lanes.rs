//! Sixteen numbers at once, whatever the CPU calls them.
//!
//! Every kernel is written once, over [`Lanes`], and compiled three times: AVX-512 (one register), AVX2 with
//! FMA (two registers) and portable Rust (an array). All three do the same operations in the same order on the
//! same sixteen lanes, so **a kernel gives the same bits on all of them**, and the portable one is the scalar
//! twin that the others are tested against.

/// Numbers in one vector.
pub(crate) const LANES: usize = 16;

/// The `count` (at most 16) numbers at `i`, or `otherwise` where the slice is empty.
///
/// # Safety
/// The slice is empty or has `i + count` numbers.
#[inline(always)]
pub(crate) unsafe fn load_or<V: Lanes>(numbers: &[f32], i: usize, count: usize, otherwise: f32) -> V {
    if numbers.is_empty() {
        return V::splat(otherwise);
    }
    // SAFETY: the caller vouches for it.
    unsafe { V::load_first(numbers.as_ptr().add(i), count) }
}

/// `W` vectors, one after the other.
///
/// # Safety
/// They are there.
#[inline(always)]
pub(crate) unsafe fn vectors<V: Lanes, const W: usize>(from: *const f32) -> [V; W] {
    let mut vectors = [V::splat(0.0); W];
    for (v, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: the caller vouches for it.
        *vector = unsafe { V::load(from.add(v * LANES)) };
    }
    vectors
}

/// Sixteen `f32`. Values of the CPU-specific types exist only below [`super::Isa::run`], which has made sure
/// that the CPU has the instructions.
pub(crate) trait Lanes: Copy {
    /// Whether the register file has room for some 24 of these; otherwise for six.
    const WIDE: bool;

    /// The same number in every lane.
    fn splat(value: f32) -> Self;

    /// Reads sixteen numbers.
    ///
    /// # Safety
    /// `from` points at sixteen readable numbers; no alignment is needed.
    unsafe fn load(from: *const f32) -> Self;

    /// Writes sixteen numbers.
    ///
    /// # Safety
    /// `to` points at room for sixteen numbers; no alignment is needed.
    unsafe fn store(self, to: *mut f32);

    /// Reads the first `count` (at most 16) numbers; the other lanes are 0.
    ///
    /// # Safety
    /// `from` points at `count` readable numbers.
    unsafe fn load_first(from: *const f32, count: usize) -> Self;

    /// Writes the first `count` (at most 16) numbers.
    ///
    /// # Safety
    /// `to` points at room for `count` numbers.
    unsafe fn store_first(self, to: *mut f32, count: usize);

    /// `self + other`
    fn add(self, other: Self) -> Self;
    /// `self - other`
    fn sub(self, other: Self) -> Self;
    /// `self * other`
    fn mul(self, other: Self) -> Self;
    /// `self / other`
    fn div(self, other: Self) -> Self;
    /// `self * by + plus`, rounded once.
    fn fma(self, by: Self, plus: Self) -> Self;
    /// Square root, rounded correctly.
    fn sqrt(self) -> Self;
    /// Absolute value.
    fn abs(self) -> Self;
    /// `self > other ? self : other`: `other` where one of the two is not a number.
    fn max(self, other: Self) -> Self;
    /// `self < other ? self : other`: `other` where one of the two is not a number.
    fn min(self, other: Self) -> Self;
    /// `self > other ? yes : no`, lane by lane.
    fn if_greater(self, other: Self, yes: Self, no: Self) -> Self;
    /// `self == other ? yes : no`, lane by lane.
    fn if_equal(self, other: Self, yes: Self, no: Self) -> Self;
    /// The magnitude of `self` with the sign of `sign`.
    fn with_sign(self, sign: Self) -> Self;
    /// Nearest whole number, ties to even.
    fn round(self) -> Self;
    /// 2 to the power of `self`, which holds whole numbers from -127 (gives 0) to 127.
    fn exp2_whole(self) -> Self;
    /// Even and odd numbers of the thirty-two in `(self, next)`.
    fn deinterleave(self, next: Self) -> (Self, Self);
    /// The inverse of [`Lanes::deinterleave`].
    fn interleave(self, odd: Self) -> (Self, Self);
    /// Pairs of bf16, those of `self` in the lower halves of the lanes: both rounded to nearest, ties to even, numbers
    /// below the smallest normal one to 0, as Intel's `VCVTNE2PS2BF16` does.
    fn bf16_pairs(self, high: Self) -> Self;
    /// The numbers of such pairs.
    fn split_bf16_pairs(self) -> (Self, Self);
    /// Sum of all lanes: halves are added to halves, 8 + 8, 4 + 4, 2 + 2, 1 + 1.
    fn sum(self) -> f32;
}
