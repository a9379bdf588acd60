//! Fully connected: `y = x Wᵀ + b`.
//!
//! x (F = in) or (T, F = in), W [out, in], b [out], y (F = out) or (T, F = out): every time step of a sequence is a
//! row of its own, with the same weights. `dx = dy W`, `dW = dyᵀ x`, `db = Σ dy` over the records and time steps.

use super::dims::rows;
use super::linear_whole::WHOLE_WEIGHTS;
use super::projection::Projection;
use crate::kernels::Isa;
use crate::kernels::gemm::weights_gradient;
use crate::kernels::rows::{add_row, sum_rows};
use crate::layer::{
    Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec, Sharded, WeightsShard, Wide,
};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;
use std::ops::Range;

/// One line for the documentation.
pub(crate) const DOC: &str = "fully connected layer (PyTorch Linear)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("out_features", "required", "outputs"),
    ParamDoc::new("in_features", "from the input", "inputs, checked when given"),
    ParamDoc::new("bias", "true", "whether a learned number is added to each output"),
];

/// From this many weights on, their gradient is cut by outputs over the whole micro-batch instead of being
/// computed block by block and added up: fewer numbers move.
const SHARDED_WEIGHTS: usize = 8 * 1024;
/// From this many weights on, packing them for a product takes as long as multiplying some rows with them.
const PACKED_WEIGHTS: usize = 32 * 1024;
/// So many rows make up for it.
const PACKED_ROWS: usize = 64;
/// Most outputs of a shard, where there are shards for all threads: each packs the whole input.
const SHARD_ROWS: usize = 256;
/// Rows of inputs for which a shard has little to pack.
const FEW_ROWS: usize = 64;
/// Most numbers of a shard then: 1 MiB.
const FEW_NUMBERS: usize = 256 * 1024;
/// Shards that are aimed at where a BLAS computes products.
const BLAS_SHARDS: usize = 8;
/// Fewest outputs of a shard.
const LEAST_SHARD_ROWS: usize = 32;

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let outputs = reader.count("out_features", 1, None);
    let expected = reader.has("in_features").then(|| reader.count("in_features", 1, None));
    let bias = reader.flag("bias", true);
    let [rows, inputs] = rows("linear", input)?;
    let mut dims = input.dims().to_vec();
    dims[input.dims().len() - 1] = outputs;
    let output = Shape::new(&dims)?;
    if let Some(expected) = expected.filter(|expected| *expected != inputs) {
        return Err(Misfit(format!("in_features = {expected}, but the layer before gives {input}")));
    }
    Ok(Box::new(Linear { rows, inputs, outputs, bias, output }))
}

pub(super) struct Linear {
    /// Of a record.
    pub(super) rows: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) bias: bool,
    pub(super) output: Shape,
}

impl Linear {
    pub(super) fn weights(&self) -> usize {
        self.inputs * self.outputs
    }

    /// Outputs of a shard.
    fn shard_rows(&self, shard: usize, shards: usize) -> Range<usize> {
        shard * self.outputs / shards..(shard + 1) * self.outputs / shards
    }

    fn projection(&self) -> Projection {
        Projection { inputs: self.inputs, outputs: self.outputs }
    }
}

impl Layer for Linear {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        // PyTorch's default: Kaiming uniform with a = √5, which is 1/√in for weight and bias alike.
        let init = Init::Uniform { bound: 1.0 / (self.inputs as f32).sqrt() };
        let weight = ParameterSpec::learned("weight", vec![self.outputs, self.inputs], init);
        let bias = ParameterSpec::learned("bias", vec![self.outputs], init);
        if self.bias { vec![weight, bias] } else { vec![weight] }
    }

    fn flops(&self) -> u64 {
        2 * (self.rows * self.weights()) as u64
    }

    fn rows(&self) -> usize {
        self.rows
    }

    fn least_records(&self) -> usize {
        if self.weights() >= PACKED_WEIGHTS { PACKED_ROWS.div_ceil(self.rows) } else { 1 }
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn packed(&self, learns: bool) -> usize {
        if self.weights() < WHOLE_WEIGHTS { self.projection().packed(learns) } else { 0 }
    }

    fn pack(&self, isa: Isa, params: &[f32], packed: &mut [f32]) {
        self.projection().pack(isa, &params[..self.weights()], packed);
    }

    fn forward(&self, pass: Forward<'_>) {
        let (isa, (weight, bias)) = (pass.context.isa, pass.params.split_at(self.weights()));
        let (x, y) = ((pass.x, self.inputs), (&mut *pass.y, self.outputs));
        self.projection().forward(isa, x, (weight, pass.packed), y);
        if self.bias {
            add_row(pass.y, bias);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let isa = pass.context.isa;
        if let Some(dx) = pass.dx {
            let weights = (&pass.params[..self.weights()], pass.packed);
            self.projection().backward(isa, (pass.dy, self.outputs), weights, (dx, self.inputs), false);
        }
        if let Some(dparams) = pass.dparams {
            let (dweight, dbias) = dparams.split_at_mut(self.weights());
            self.projection().gradient(isa, (pass.dy, self.outputs), (pass.x, self.inputs), dweight);
            if self.bias {
                sum_rows(isa, (pass.dy, self.outputs), dbias);
            }
        }
    }

    fn sharded(&self) -> Option<&dyn Sharded> {
        (self.weights() >= SHARDED_WEIGHTS).then_some(self)
    }

    fn wide(&self) -> Option<&dyn Wide> {
        (self.weights() >= WHOLE_WEIGHTS).then_some(self)
    }
}

impl Sharded for Linear {
    fn shards(&self, records: usize, threads: usize) -> usize {
        // The bits of a BLAS depend on how its work is cut, and may not depend on threads.
        let threads = if cfg!(feature = "blas") { BLAS_SHARDS } else { threads };
        // Where little has to be packed, gradients are to stay in the cache until somebody reads them.
        let few = records * self.rows <= FEW_ROWS;
        let most = if few { (FEW_NUMBERS / self.inputs).clamp(1, SHARD_ROWS) } else { SHARD_ROWS };
        let rows = self.outputs.div_ceil(threads).max(LEAST_SHARD_ROWS).min(most);
        self.outputs.div_ceil(rows)
    }

    fn shard_ranges(&self, shard: usize, shards: usize) -> [Range<usize>; 2] {
        let rows = self.shard_rows(shard, shards);
        let bias = if self.bias { self.weights() + rows.start..self.weights() + rows.end } else { 0..0 };
        [rows.start * self.inputs..rows.end * self.inputs, bias]
    }

    fn weights_shard(&self, pass: WeightsShard<'_>) {
        let rows = self.shard_rows(pass.shard, pass.shards);
        let [dweight, dbias] = pass.dparams;
        let size = [pass.records * self.rows, rows.len(), self.inputs];
        let (dy, x) = ((&pass.dy[rows.start..], self.outputs), (pass.x, self.inputs));
        weights_gradient(pass.isa, size, dy, x, dweight, pass.accumulate);
        if self.bias {
            if !pass.accumulate {
                dbias.fill(0.0);
            }
            sum_rows(pass.isa, dy, dbias);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("linear", 3e-6);
        golden::check_layer("linear_rows", 3e-6);
    }

    #[test]
    fn agrees_with_pytorch_in_bf16() {
        golden::check_layer_bf16("linear", 2e-2);
        golden::check_layer_bf16("linear_rows", 2e-2);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("linear", 2e-3);
        golden::check_layer_gradient("linear_rows", 2e-3);
    }
}
