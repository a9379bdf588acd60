//! Matrix products: the only door to BLAS (OpenBLAS, linked statically, one thread a call).

// Links the BLAS that ndarray calls.
use blas_src as _;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
use openblas_src as _;

/// Up to this size in all three directions ndarray calls no BLAS but a kernel that allocates; a plain loop is
/// as fast there.
const SMALL: usize = 7;

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
    pub(crate) fn strided(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        Matrix { data, size: [rows, cols], stride: [stride, 1] }
    }

    /// Rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        let ([rows, cols], [down, right]) = (self.size, self.stride);
        Matrix { data: self.data, size: [cols, rows], stride: [right, down] }
    }
}

/// Computes `c = a · b + beta · c` for `c` of `stride` numbers a row.
///
/// # Panics
/// When the sizes do not fit each other or the slices.
pub(crate) fn multiply(a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32], stride: usize) {
    let ([m, k], [inner, n]) = (a.size, b.size);
    assert_eq!(k, inner, "the columns of a are the rows of b");
    if m.max(n).max(k) <= SMALL {
        return multiply_small(a, b, beta, c, stride);
    }
    fn view(matrix: Matrix<'_>) -> ArrayView2<'_, f32> {
        let shape = (matrix.size[0], matrix.size[1]).strides((matrix.stride[0], matrix.stride[1]));
        ArrayView2::from_shape(shape, matrix.data).expect("the matrix lies within its slice")
    }
    let mut c = ArrayViewMut2::from_shape((m, n).strides((stride, 1)), c).expect("c lies within its slice");
    general_mat_mul(1.0, &view(a), &view(b), beta, &mut c);
}

fn multiply_small(a: Matrix<'_>, b: Matrix<'_>, beta: f32, c: &mut [f32], stride: usize) {
    for i in 0..a.size[0] {
        for j in 0..b.size[1] {
            let mut sum = 0.0;
            for l in 0..a.size[1] {
                let (a, b) =
                    (&a.data[i * a.stride[0] + l * a.stride[1]], &b.data[l * b.stride[0] + j * b.stride[1]]);
                sum = a.mul_add(*b, sum);
            }
            let c = &mut c[i * stride + j];
            // 0 · NaN would be NaN: what is not asked for is not read.
            *c = if beta == 0.0 { sum } else { beta.mul_add(*c, sum) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_sizes_and_orders_are_right() {
        let numbers = |count: usize, seed: usize| -> Vec<f32> {
            (0..count).map(|i| ((i * 31 + seed * 17) % 29) as f32 * 0.25 - 3.0).collect()
        };
        for (m, n, k) in [(1, 1, 1), (3, 7, 5), (8, 1, 9), (1, 12, 3), (17, 33, 10), (2, 100, 64)] {
            let (a, b) = (numbers(m * k, 1), numbers(k * n, 2));
            let mut expected = vec![0.0f64; m * n];
            for i in 0..m {
                for j in 0..n {
                    expected[i * n + j] =
                        (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * n + j])).sum();
                }
            }
            let (mut at, mut bt) = (vec![0.0; m * k], vec![0.0; k * n]);
            (0..m * k).for_each(|i| at[i % k * m + i / k] = a[i]);
            (0..k * n).for_each(|i| bt[i % n * k + i / n] = b[i]);
            for (ta, tb) in [(false, false), (true, false), (false, true), (true, true)] {
                let a = if ta { Matrix::new(&at, k, m).transposed() } else { Matrix::new(&a, m, k) };
                let b = if tb { Matrix::new(&bt, n, k).transposed() } else { Matrix::new(&b, k, n) };
                let mut c = vec![f32::NAN; m * (n + 3)];
                multiply(a, b, 0.0, &mut c, n + 3);
                for (i, expected) in expected.iter().enumerate() {
                    let got = f64::from(c[i / n * (n + 3) + i % n]);
                    assert!(
                        (got - expected).abs() <= 1e-4 * (1.0 + expected.abs()),
                        "{m} {n} {k}: {got} {expected}"
                    );
                }
                assert!(m == 1 || c[n].is_nan(), "numbers between the rows are left alone");
                c.iter_mut().for_each(|c| *c = 2.0);
                multiply(a, b, 1.0, &mut c, n + 3);
                assert!((f64::from(c[0]) - expected[0] - 2.0).abs() < 1e-3);
            }
        }
    }
}
