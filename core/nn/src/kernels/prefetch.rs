//! Asking for memory before it is needed.

/// Numbers of a cache line.
const LINE: usize = 16;

/// Asks for `len` numbers from `start` on to be brought into the first-level cache. Reads nothing: any address will do.
#[inline(always)]
pub(crate) fn prefetch(start: *const f32, len: usize) {
    ask::<FIRST_LEVEL>(start, len);
}

/// As [`prefetch`], into the second-level cache: what is needed only after all that the first level holds now.
#[inline(always)]
pub(crate) fn prefetch_second(start: *const f32, len: usize) {
    ask::<SECOND_LEVEL>(start, len);
}

/// The hints of x86-64's `prefetcht0` and `prefetcht1`.
const FIRST_LEVEL: i32 = 3;
const SECOND_LEVEL: i32 = 2;

#[inline(always)]
fn ask<const HINT: i32>(start: *const f32, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..len).step_by(LINE) {
        // SAFETY: a hint, which has no effect that a program can see, whatever the address.
        unsafe { std::arch::x86_64::_mm_prefetch::<HINT>(start.wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (start, len, LINE);
}
