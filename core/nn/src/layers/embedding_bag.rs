//! Embedding bag: the sum or mean of the rows of a table, `y = Σ W[x[t]]`.
//!
//! x (T) of whole numbers below `num_embeddings`, W [num_embeddings, embedding_dim], y (F = embedding_dim). Numbers that
//! are `padding_idx` count for nothing, neither in the sum nor in the mean: records of different lengths are filled up
//! with them. A bag of nothing else gives 0. `dW[i] = Σ dy` over all t with x[t] = i, for the mean divided by its count.

use super::embedding::{RowTable, SPARSE};
use crate::layer::{Backward, Forward, Layer, Misfit, Needs, ParameterSpec, Sharded, Tabled, WeightsShard};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;
use std::ops::Range;

/// One line for the documentation.
pub(crate) const DOC: &str = "sum or mean of rows of a learned table (PyTorch EmbeddingBag)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("num_embeddings", "required", "rows of the table: the record's numbers are below it"),
    ParamDoc::new("embedding_dim", "required", "numbers of a row"),
    ParamDoc::new("padding_idx", "none", "a number that stands for no row; negative: from the end"),
    ParamDoc::new("mode", "\"mean\"", "\"mean\" or \"sum\""),
    SPARSE,
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let table = RowTable::read(reader);
    let mean = reader.choice("mode", &["mean", "sum"], Some("mean")) == "mean";
    let Some(ids) = input.as_flat() else {
        return Err(Misfit(format!(
            "embedding_bag needs flat records of ids, the layer before gives {input}"
        )));
    };
    let output = Shape::flat(table.columns)?;
    Ok(Box::new(EmbeddingBag { table, ids, mean, output }))
}

struct EmbeddingBag {
    table: RowTable,
    /// Ids of a record.
    ids: usize,
    mean: bool,
    output: Shape,
}

impl EmbeddingBag {
    /// What each row of a bag counts for.
    fn factor(&self, bag: &[f32]) -> f32 {
        let count = bag.iter().filter(|id| !self.table.is_padding(**id)).count();
        if self.mean && count > 0 { 1.0 / count as f32 } else { 1.0 }
    }

    /// From `dy` that is the gradient of each row, as backward leaves it.
    fn gradient(&self, x: &[f32], dy: &[f32], rows: &Range<usize>, dparams: &mut [f32]) {
        for (bag, dy) in x.chunks_exact(self.ids).zip(dy.chunks_exact(self.table.columns)) {
            bag.iter().for_each(|id| self.table.add(dparams, rows, *id, dy));
        }
    }
}

impl Layer for EmbeddingBag {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.table.parameters()
    }

    fn flops(&self) -> u64 {
        (self.ids * self.table.columns) as u64
    }

    fn whole_below(&self, _: usize) -> Option<usize> {
        Some(self.table.rows)
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        for (bag, y) in pass.x.chunks_exact(self.ids).zip(pass.y.chunks_exact_mut(self.table.columns)) {
            y.fill(0.0);
            for id in bag.iter().filter(|id| !self.table.is_padding(**id)) {
                y.iter_mut().zip(self.table.row(pass.params, *id)).for_each(|(y, w)| *y += w);
            }
            let factor = self.factor(bag);
            y.iter_mut().for_each(|y| *y *= factor);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.fill(0.0);
        }
        for (bag, dy) in pass.x.chunks_exact(self.ids).zip(pass.dy.chunks_exact_mut(self.table.columns)) {
            let factor = self.factor(bag);
            dy.iter_mut().for_each(|dy| *dy *= factor);
        }
        if let Some(dparams) = pass.dparams {
            self.gradient(pass.x, pass.dy, &(0..self.table.rows), dparams);
        }
    }

    fn sharded(&self) -> Option<&dyn Sharded> {
        (!self.table.is_sparse()).then_some(self)
    }

    fn tabled(&self) -> Option<&dyn Tabled> {
        self.table.is_sparse().then_some(self)
    }
}

impl Tabled for EmbeddingBag {
    fn row(&self, id: f32) -> Option<u32> {
        self.table.learned_row(id)
    }

    fn gradient_row(&self, index: usize) -> usize {
        index / self.ids
    }
}

impl Sharded for EmbeddingBag {
    fn shards(&self, _: usize, _: usize) -> usize {
        self.table.shards()
    }

    fn shard_ranges(&self, shard: usize, _: usize) -> [Range<usize>; 2] {
        let rows = self.table.shard(shard);
        [rows.start * self.table.columns..rows.end * self.table.columns, 0..0]
    }

    fn weights_shard(&self, pass: WeightsShard<'_>) {
        let [dparams, _] = pass.dparams;
        if !pass.accumulate {
            dparams.fill(0.0);
        }
        self.gradient(pass.x, pass.dy, &self.table.shard(pass.shard), dparams);
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("embedding_bag", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("embedding_bag", 2e-3);
    }
}
