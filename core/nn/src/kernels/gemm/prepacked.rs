//! Products with a `b` that is packed once and used many times: the weights of a recurrent layer, step after step.
//!
//! The same sums in the same order as [`super::multiply`], and so the same bits.

use super::super::Kernel;
use super::super::lanes::{LANES, Lanes};
use super::Matrix;
use super::blocked::{DEPTH, Packed, ROWS, Strips, Tile, widest};
use super::pack::{Source, pack};

/// Columns of a strip: those of the widest tile, so that what is packed is the same on every CPU.
const STRIP: usize = 2 * LANES;

/// Numbers that [`prepack`] writes for a matrix of `rows × cols`.
pub(crate) fn packed_len(rows: usize, cols: usize) -> usize {
    rows.saturating_mul(cols.next_multiple_of(STRIP))
}

/// Packs `b`: for each DEPTH of its rows, for each STRIP of its columns, row by row; 0 behind the last column.
///
/// # Panics
/// When there is no room for [`packed_len`] numbers.
pub(crate) fn prepack(b: Matrix<'_>, to: &mut [f32]) {
    let ([rows, cols], [down, right]) = (b.size, b.stride);
    let padded = cols.next_multiple_of(STRIP);
    for first in (0..rows).step_by(DEPTH) {
        let depth = DEPTH.min(rows - first);
        let block = &mut to[first * padded..][..depth * padded];
        for (strip, numbers) in block.chunks_exact_mut(depth * STRIP).enumerate() {
            for (l, row) in numbers.chunks_exact_mut(STRIP).enumerate() {
                for (i, number) in row.iter_mut().enumerate() {
                    let col = strip * STRIP + i;
                    *number = if col < cols { b.data[(first + l) * down + col * right] } else { 0.0 };
                }
            }
        }
    }
}

/// Computes `c = a · b`, or `c += a · b` when `accumulate`, for `c` of `n` columns, rows `stride` numbers apart, and
/// `b` as [`prepack`] left it.
///
/// # Panics
/// When the sizes do not fit each other or the slices.
pub(crate) fn multiply_packed(
    isa: super::Isa,
    a: Matrix<'_>,
    (packed, n): (&[f32], usize),
    (c, stride): (&mut [f32], usize),
    accumulate: bool,
) {
    let [m, k] = a.size;
    assert_eq!(packed.len(), packed_len(k, n), "b was packed for this inner dimension and these columns");
    assert!(super::fits(c.len(), m, n, stride), "{m} × {n} by {stride} in {} numbers", c.len());
    isa.run(Product { a, packed, n, c, stride, accumulate });
}

struct Product<'a> {
    a: Matrix<'a>,
    packed: &'a [f32],
    n: usize,
    c: &'a mut [f32],
    stride: usize,
    accumulate: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let ([m, k], n, padded) = (self.a.size, self.n, self.n.next_multiple_of(STRIP));
        let mut a_packed = Packed::<{ ROWS * DEPTH }>::new();
        let a_to = a_packed.start();
        let [down, right] = self.a.stride;
        let a = Source { start: self.a.data.as_ptr(), across: down, along: right };
        for l in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - l);
            for i in (0..m).step_by(ROWS) {
                let strips = Strips::of::<V>(ROWS.min(m - i));
                // SAFETY: `multiply_packed` has checked that a, b and c lie within their slices; rows, columns and
                // depths stay below m, n and k, and within what is packed.
                unsafe {
                    for (first, height) in strips.each() {
                        pack::<V>(a.at(i + first, l), height, depth, a_to.add(first * depth), height);
                    }
                    for j in (0..n).step_by(widest::<V>()) {
                        let strip = j / STRIP * STRIP;
                        let b = self.packed.as_ptr().add(l * padded + strip * depth + (j - strip));
                        for (first, height) in strips.each() {
                            let c = self.c.as_mut_ptr().add((i + first) * self.stride + j);
                            let (a, columns) = (a_to.add(first * depth), widest::<V>().min(n - j));
                            let (stride, add) = (self.stride, self.accumulate || l > 0);
                            Tile { depth, a, b, step: STRIP, c, stride, columns, add }.run::<V>(height);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(all(test, not(feature = "blas")))]
mod tests {
    use super::*;
    use crate::kernels::Isa;
    use crate::kernels::gemm::multiply;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn products_have_the_bits_of_the_ordinary_ones(
            m in prop_oneof![1usize..40, 90usize..110],
            n in 1usize..80,
            k in prop_oneof![1usize..40, 250usize..270],
            transposed: bool,
            gap in 0usize..3,
        ) {
            let numbers = |count: usize, seed: usize| -> Vec<f32> {
                (0..count).map(|i| ((i * 31 + seed * 17) % 29) as f32 * 0.25 - 3.0).collect()
            };
            let (a, b, stride) = (numbers(m * (k + gap), 1), numbers(k * n, 2), n + gap);
            let a = Matrix::strided(&a, m, k, k + gap);
            let b = if transposed { Matrix::new(&b, n, k).transposed() } else { Matrix::new(&b, k, n) };
            let mut packed = vec![f32::NAN; packed_len(k, n)];
            prepack(b, &mut packed);
            for isa in Isa::available() {
                let (mut expected, mut c) = (vec![7.0; m * stride], vec![7.0; m * stride]);
                for accumulate in [false, true] {
                    multiply(isa, a, b, &mut expected, stride, accumulate);
                    multiply_packed(isa, a, (&packed, n), (&mut c, stride), accumulate);
                    prop_assert_eq!(&c, &expected, "{}", isa);
                }
            }
        }
    }
}
