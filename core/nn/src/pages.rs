//! Memory in large pages. A step of a large model sweeps over gigabytes and reads rows that lie pages apart; with pages
//! of 4 KiB, walks through the page tables are a visible part of it. Linux gives pages of 2 MiB to those who ask
//! (`transparent_hugepage` is `madvise` on most distributions, and `never` is respected).

/// Bytes of a large page; what is smaller is left as it is.
#[cfg(target_os = "linux")]
const LARGE_PAGE: usize = 2 << 20;

/// `len` zeros, in large pages where the kernel has them. Nothing is touched: pages come as they are first written.
pub fn zeros(len: usize) -> Vec<f32> {
    let numbers = vec![0.0f32; len];
    #[cfg(target_os = "linux")]
    advise(&numbers);
    numbers
}

/// Asks for large pages for those that lie within the numbers.
#[cfg(target_os = "linux")]
fn advise(numbers: &[f32]) {
    let range = numbers.as_ptr_range();
    let (start, end) = ((range.start as usize).next_multiple_of(LARGE_PAGE), range.end as usize);
    let len = end.saturating_sub(start) / LARGE_PAGE * LARGE_PAGE;
    if len > 0 {
        // SAFETY: whole pages of the numbers; the advice changes nothing of what is read or written there. Where it
        // is refused, pages stay small.
        unsafe { libc::madvise(start as *mut libc::c_void, len, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_of_any_length_are_zeros() {
        for len in [0, 1, 1 << 19, (3 << 19) + 7] {
            let mut numbers = zeros(len);
            assert_eq!(numbers.len(), len);
            assert!(numbers.iter().all(|number| *number == 0.0));
            numbers.fill(1.0);
        }
    }
}
