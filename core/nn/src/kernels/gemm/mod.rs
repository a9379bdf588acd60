//! Matrix products, by kernels of our own ([`blocked`]) or, as a choice at build, by a BLAS ([`blas`]).
//!
//! With an [`Isa`] that rounds operands to bf16 all of them are [`bf16`]'s.
//!
//! Every element of a product is summed over the inner dimension in one fixed order, which neither the other two
//! dimensions nor the instructions change: **a product has the same bits on every CPU, and however its rows and
//! columns are dealt to tasks**. A BLAS promises neither.

pub(in crate::kernels) mod bf16;
#[cfg(feature = "blas")]
mod blas;
mod blocked;
mod pack;
mod prepacked;

use super::Isa;
pub use prepacked::Prepacked;

/// A matrix in a slice: `rows × cols`, with the distances between neighbours in both directions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    size: [usize; 2],
    stride: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Rows one after the other.
    pub(crate) fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Matrix::strided(data, rows, cols, cols)
    }

    /// Rows `stride` numbers apart.
    ///
    /// # Panics
    /// When the slice is too short, or rows overlap.
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(
            fits(data.len(), rows, cols, stride),
            "{rows} × {cols} by {stride} in {} numbers",
            data.len()
        );
        Matrix { data, size: [rows, cols], stride: [stride, 1] }
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        let ([rows, cols], [down, right]) = (self.size, self.stride);
        Matrix { data: self.data, size: [cols, rows], stride: [right, down] }
    }
}

/// Whether `rows` rows of `cols` numbers, `stride` apart, lie within `len` numbers.
fn fits(len: usize, rows: usize, cols: usize, stride: usize) -> bool {
    rows == 0 || cols == 0 || (cols <= stride && (rows - 1) * stride + cols <= len)
}

/// Computes `c = a · b`, or `c += a · b` when `accumulate`, for `c` of `stride` numbers a row.
///
/// # Panics
/// When the sizes do not fit each other or the slices.
pub(crate) fn multiply(
    isa: Isa,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
) {
    let ([m, k], [inner, n]) = (a.size, b.size);
    assert_eq!(k, inner, "the columns of a are the rows of b");
    assert!(fits(c.len(), m, n, stride), "{m} × {n} by {stride} in {} numbers", c.len());
    if isa.bf16().is_some() && m * n * k > 0 {
        return bf16::multiply(isa, a, b, c, stride, accumulate);
    }
    #[cfg(feature = "blas")]
    if blas::multiply(a, b, c, stride, accumulate) {
        return;
    }
    isa.run(blocked::Product { a, b, c, stride, accumulate });
}

/// Computes `dW = dyᵀ x`, or `dW += dyᵀ x` when `accumulate`: the gradient of weights `[outputs, inputs]`, from those of rows
/// of outputs and the rows of inputs. Both come with the numbers from a row to the next.
///
/// # Panics
/// When the slices do not fit the sizes.
pub fn weights_gradient(
    isa: Isa,
    [rows, outputs, inputs]: [usize; 3],
    (dy, dy_stride): (&[f32], usize),
    (x, x_stride): (&[f32], usize),
    dweights: &mut [f32],
    accumulate: bool,
) {
    let dy = Matrix::strided(dy, rows, outputs, dy_stride).transposed();
    multiply(isa, dy, Matrix::strided(x, rows, inputs, x_stride), dweights, inputs, accumulate);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 31 + seed * 17) % 29) as f32 * 0.25 - 3.0).collect()
    }

    fn transpose(x: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|i| x[i % rows * cols + i / rows]).collect()
    }

    /// The product in double precision.
    fn exact(a: &[f32], b: &[f32], [m, n, k]: [usize; 3]) -> Vec<f64> {
        let at = |i: usize, j: usize| (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
        (0..m * n).map(|i| at(i / n, i % n)).collect()
    }

    /// Sizes around those of tiles, panels and blocks.
    fn sizes() -> impl Strategy<Value = [usize; 3]> {
        let size = || prop_oneof![1usize..40, 90usize..110, 250usize..270];
        [size(), size(), prop_oneof![0usize..40, 250usize..270, 500usize..520]]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn products_are_right_and_the_same_on_every_cpu(
            [m, n, k] in sizes(), ta: bool, tb: bool, gap in 0usize..3, wide in prop_oneof![0usize..3, 1020usize..1030],
        ) {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let expected = exact(&a, &b, [m, n, k]);
            let bt = transpose(&b, k, n);
            // Transposed, with gaps between the rows or a page from one to the next; the last ends with its numbers.
            let (apart, at) = (m.max(wide), transpose(&a, m, k));
            let rows = at.chunks(m).flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(f32::NAN, apart - m)));
            let at: Vec<f32> = rows.take((k * apart).saturating_sub(apart - m)).collect();
            let a = if ta { Matrix::strided(&at, k, m, apart).transposed() } else { Matrix::new(&a, m, k) };
            let b = if tb { Matrix::new(&bt, n, k).transposed() } else { Matrix::new(&b, k, n) };
            let stride = n + gap;
            let mut first: Option<Vec<u32>> = None;
            for isa in Isa::available() {
                let mut c = vec![f32::NAN; m * stride];
                multiply(isa, a, b, &mut c, stride, false);
                for (i, expected) in expected.iter().enumerate() {
                    let got = f64::from(c[i / n * stride + i % n]);
                    let limit = 1e-5 * (1.0 + k as f64);
                    prop_assert!((got - expected).abs() <= limit, "{isa} {i}: {got} {expected}");
                }
                let between = c.chunks(stride).flat_map(|row| &row[n..]);
                prop_assert!(between.into_iter().all(|c| c.is_nan()), "numbers between the rows are left alone");
                multiply(isa, a, b, &mut c, stride, true);
                let bits: Vec<u32> = c.iter().map(|c| c.to_bits()).collect();
                if cfg!(not(feature = "blas")) {
                    prop_assert_eq!(first.get_or_insert_with(|| bits.clone()), &bits, "{}", isa);
                }
            }
        }

        /// What the invariant of the module says: a row, a column or a part of them has the bits it has in the whole.
        #[test]
        #[cfg(not(feature = "blas"))]
        fn parts_have_the_bits_of_the_whole([m, n, k] in sizes(), row in 0.0..1.0, column in 0.0..1.0) {
            let (a, b) = (numbers(m * k, 3), numbers(k * n, 4));
            let (i, j) = ((row * m as f64) as usize, (column * n as f64) as usize);
            let mut whole = vec![0.0; m * n];
            multiply(Isa::best(), Matrix::new(&a, m, k), Matrix::new(&b, k, n), &mut whole, n, false);
            let mut part = vec![0.0; (m - i) * (n - j)];
            let rest = Matrix::strided(&b[j.min(b.len())..], k, n - j, n);
            multiply(Isa::best(), Matrix::new(&a[i * k..], m - i, k), rest, &mut part, n - j, false);
            for (at, part) in part.iter().enumerate() {
                let whole = whole[(i + at / (n - j)) * n + j + at % (n - j)];
                prop_assert_eq!(whole.to_bits(), part.to_bits());
            }
        }
    }

    #[test]
    fn infinities_and_what_is_no_number_come_out_as_such() {
        let a = [f32::INFINITY, 1.0, f32::NAN, 1.0];
        let mut c = [0.0; 4];
        multiply(
            Isa::best(),
            Matrix::new(&a, 2, 2),
            Matrix::new(&[1.0, 0.0, 0.0, 1.0], 2, 2),
            &mut c,
            2,
            false,
        );
        assert!(c[0].is_infinite() && c[1].is_nan() && c[2].is_nan() && c[3].is_nan());
    }
}
