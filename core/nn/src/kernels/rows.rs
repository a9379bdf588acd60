//! Rows of a matrix: one added to all of them, or all added up.

use super::lanes::{LANES, Lanes};
use super::{Isa, Kernel};

/// Adds `row` to every row of `matrix`.
///
/// # Panics
/// When the row is empty.
pub(crate) fn add_row(matrix: &mut [f32], row: &[f32]) {
    for target in matrix.chunks_exact_mut(row.len()) {
        target.iter_mut().zip(row).for_each(|(target, value)| *target += value);
    }
}

/// Adds every whole row that a slice holds to `sums`, the first row first: rows `stride` numbers apart, of as many numbers as
/// there are sums.
///
/// # Panics
/// When rows overlap.
pub(crate) fn sum_rows(isa: Isa, (matrix, stride): (&[f32], usize), sums: &mut [f32]) {
    let columns = sums.len();
    assert!(columns <= stride, "rows of {columns} numbers, {stride} apart");
    if columns == 0 || matrix.len() < columns {
        return;
    }
    let rows = (matrix.len() + stride - columns) / stride;
    isa.run(SumRows { matrix, stride, rows, sums });
}

/// Vectors that are summed together: enough that no sum waits for the one before, where there are as many.
const TOGETHER: usize = 4;

struct SumRows<'a> {
    matrix: &'a [f32],
    stride: usize,
    rows: usize,
    sums: &'a mut [f32],
}

impl Kernel for SumRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(mut self) {
        let columns = self.sums.len();
        let whole = columns - columns % (TOGETHER * LANES);
        for first in (0..whole).step_by(TOGETHER * LANES) {
            self.strip::<V, TOGETHER>(first, LANES);
        }
        for first in (whole..columns).step_by(LANES) {
            self.strip::<V, 1>(first, LANES.min(columns - first));
        }
    }
}

impl SumRows<'_> {
    /// `W` vectors of columns from `first` on, the last of `count` numbers.
    #[inline(always)]
    fn strip<V: Lanes, const W: usize>(&mut self, first: usize, count: usize) {
        let count = |v: usize| if v + 1 == W { count } else { LANES };
        let to = self.sums[first..].as_mut_ptr();
        let mut sums = [V::splat(0.0); W];
        // SAFETY: all columns of the strip are within the sums, and within every row, of which the slice holds the last.
        unsafe {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = V::load_first(to.add(v * LANES), count(v));
            }
            for row in 0..self.rows {
                let row = self.matrix.as_ptr().add(row * self.stride + first);
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = sum.add(V::load_first(row.add(v * LANES), count(v)));
                }
            }
            for (v, sum) in sums.into_iter().enumerate() {
                sum.store_first(to.add(v * LANES), count(v));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_are_summed_in_their_order(rows in 0usize..20, columns in 1usize..150, gap in 0usize..5) {
            let stride = columns + gap;
            let matrix: Vec<f32> = (0..(rows * stride).saturating_sub(gap)).map(|i| (i * 31 % 97) as f32 * 0.37).collect();
            let start: Vec<f32> = (0..columns).map(|i| i as f32 * 0.01).collect();
            let mut expected = start.clone();
            matrix.chunks(stride).for_each(|row| {
                expected.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            });
            for isa in Isa::available() {
                let mut sums = start.clone();
                sum_rows(isa, (&matrix, stride), &mut sums);
                prop_assert_eq!(&sums, &expected, "{}", isa);
            }
        }
    }
}
