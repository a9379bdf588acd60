//! The only door to a BLAS, for builds with the feature `openblas` or `mkl`.

use super::Matrix;
// Links the BLAS that ndarray calls.
use blas_src as _;
use ndarray::linalg::general_mat_mul;
use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder};
#[cfg(feature = "openblas")]
use openblas_src as _;

/// Up to this size in all three directions ndarray calls no BLAS but a kernel that allocates.
const SMALL: usize = 7;

/// `c = a · b` or `c += a · b`; `false`, and nothing done, where the product is too small for a BLAS.
pub(super) fn multiply(a: Matrix<'_>, b: Matrix<'_>, c: &mut [f32], stride: usize, accumulate: bool) -> bool {
    let ([m, k], n) = (a.size, b.size[1]);
    if m.max(n).max(k) <= SMALL || m.min(n).min(k) == 0 {
        return false;
    }
    serial();
    fn view(matrix: Matrix<'_>) -> ArrayView2<'_, f32> {
        let shape = (matrix.size[0], matrix.size[1]).strides((matrix.stride[0], matrix.stride[1]));
        ArrayView2::from_shape(shape, matrix.data).expect("the matrix lies within its slice")
    }
    let mut c = ArrayViewMut2::from_shape((m, n).strides((stride, 1)), c).expect("c lies within its slice");
    general_mat_mul(1.0, &view(a), &view(b), if accumulate { 1.0 } else { 0.0 }, &mut c);
    true
}

/// Threads are ours (`team`): OpenBLAS gets one. It must still be the build with threads, since the one without
/// hands the same work space to calls from different threads, and computes nonsense then.
#[cfg(feature = "openblas")]
fn serial() {
    unsafe extern "C" {
        fn openblas_set_num_threads(threads: std::ffi::c_int);
        fn openblas_get_parallel() -> std::ffi::c_int;
    }
    static ONCE: std::sync::Once = std::sync::Once::new();
    // SAFETY: functions of OpenBLAS that take any number.
    ONCE.call_once(|| unsafe {
        assert_ne!(
            openblas_get_parallel(),
            0,
            "OpenBLAS was built without threads and is not safe to be called from ours"
        );
        openblas_set_num_threads(1);
    });
}

#[cfg(not(feature = "openblas"))]
fn serial() {}
