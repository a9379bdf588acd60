//! Products of rows with the weights of a layer: `y = x Wᵀ`, and backward `dx = dy W` and `dW = dyᵀ x`.

use crate::kernels::Isa;
use crate::kernels::gemm::{Matrix, Prepacked, multiply, weights_gradient};

/// Rows of numbers: the slice, and the numbers from a row to the next.
pub(super) type Rows<'a> = (&'a [f32], usize);
/// The same, to be written.
pub(super) type RowsMut<'a> = (&'a mut [f32], usize);
/// The weights of a layer, `[outputs, inputs]`, and what [`Projection::pack`] made of them: nothing where every product is
/// to pack for itself.
pub(super) type Weights<'a> = (&'a [f32], &'a [f32]);

/// The sizes of W `[outputs, inputs]`.
#[derive(Clone, Copy)]
pub(super) struct Projection {
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

impl Projection {
    pub(super) fn weights(self) -> usize {
        self.inputs * self.outputs
    }

    fn products(self) -> [Prepacked; 2] {
        let (inner, columns) = (self.inputs, self.outputs);
        [Prepacked { inner, columns }, Prepacked { inner: columns, columns: inner }]
    }

    /// Numbers of the packed weights: for x, and with `gradient` for dy too. A BLAS packs for itself.
    pub(super) fn packed(self, gradient: bool) -> usize {
        if cfg!(feature = "blas") {
            return 0;
        }
        let [forward, backward] = self.products().map(|product| product.packed());
        forward + if gradient { backward } else { 0 }
    }

    /// Packs weights into as many numbers as [`Projection::packed`] said.
    pub(super) fn pack(self, isa: Isa, weight: &[f32], packed: &mut [f32]) {
        if packed.is_empty() {
            return;
        }
        let [forward, backward] = self.products();
        let (first, second) = packed.split_at_mut(forward.packed());
        forward.pack(isa, weight, true, first);
        if !second.is_empty() {
            backward.pack(isa, weight, false, second);
        }
    }

    /// `y = x Wᵀ`, for as many rows as y has.
    pub(super) fn forward(self, isa: Isa, x: Rows<'_>, (weight, packed): Weights<'_>, y: RowsMut<'_>) {
        let [product, _] = self.products();
        if !packed.is_empty() {
            return product.multiply(isa, x, packed, y, false);
        }
        let x = Matrix::strided(x.0, rows(y.0.len(), y.1, self.outputs), self.inputs, x.1);
        multiply(isa, x, Matrix::new(weight, self.outputs, self.inputs).transposed(), y.0, y.1, false);
    }

    /// `dx = dy W`, or `dx += dy W` with `accumulate`; packed weights are packed for the gradient too.
    pub(super) fn backward(
        self,
        isa: Isa,
        dy: Rows<'_>,
        (weight, packed): Weights<'_>,
        dx: RowsMut<'_>,
        accumulate: bool,
    ) {
        let [forward, product] = self.products();
        if !packed.is_empty() {
            return product.multiply(isa, dy, &packed[forward.packed()..], dx, accumulate);
        }
        let dy = Matrix::strided(dy.0, rows(dx.0.len(), dx.1, self.inputs), self.outputs, dy.1);
        multiply(isa, dy, Matrix::new(weight, self.outputs, self.inputs), dx.0, dx.1, accumulate);
    }

    /// `dW += dyᵀ x`, over as many rows as dy has.
    pub(super) fn gradient(self, isa: Isa, dy: Rows<'_>, x: Rows<'_>, dweight: &mut [f32]) {
        let count = rows(dy.0.len(), dy.1, self.outputs);
        weights_gradient(isa, [count, self.outputs, self.inputs], dy, x, dweight, true);
    }
}

/// How many rows of `columns` numbers there are in `len`.
fn rows(len: usize, stride: usize, columns: usize) -> usize {
    (len + stride - columns) / stride
}
