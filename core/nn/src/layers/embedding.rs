//! Embedding: `y[t] = W[x[t]]`, rows of a table.
//!
//! x (T) of whole numbers below `num_embeddings`, W [num_embeddings, embedding_dim], y (T, F = embedding_dim).
//! `dW[i] = Σ dy[t]` over all t with x[t] = i, in the order of records and steps. The row `padding_idx` stays as it is.
//! With `sparse` the gradient is that of the touched rows alone ([`crate::SparseRows`]). Numbers of the record are
//! `f32`, exact for whole numbers below 2²⁴: larger tables are refused.

use crate::kernels::prefetch::prefetch;
use crate::kernels::rows::add_row;
use crate::layer::{
    Backward, Forward, Init, Layer, Misfit, Needs, ParameterKind, ParameterSpec, Sharded, Tabled,
    WeightsShard,
};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;
use std::ops::Range;

/// One line for the documentation.
pub(crate) const DOC: &str = "rows of a learned table, one for each number of the record (PyTorch Embedding)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("num_embeddings", "required", "rows of the table: the record's numbers are below it"),
    ParamDoc::new("embedding_dim", "required", "numbers of a row"),
    ParamDoc::new(
        "padding_idx",
        "none",
        "a row that is 0 at the start and is not learned; negative: from the end",
    ),
    SPARSE,
];

/// Of tables whose gradient can be single rows.
pub(crate) const SPARSE: ParamDoc = ParamDoc::new(
    "sparse",
    "\"no\"",
    "gradients of touched rows alone: \"exact\" updates as a dense one does, \"lazy\" leaves the other rows alone",
);

/// Whole numbers up to here are exact in `f32`.
const MAX_ROWS: usize = 1 << 24;
/// How many rows ahead of the one that is copied or added memory is asked for: rows lie anywhere.
const ROWS_AHEAD: usize = 8;
/// Pieces of the table for its gradient: each reads all ids.
const SHARDS: usize = 16;

/// Reads the parameter [`SPARSE`].
pub(crate) fn read_sparse(reader: &mut ParamReader<'_>) -> &'static str {
    reader.choice("sparse", &["no", "exact", "lazy"], Some("no"))
}

/// A table of rows, as embeddings have it.
pub(super) struct RowTable {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) padding: Option<usize>,
    pub(super) kind: ParameterKind,
}

impl RowTable {
    pub(super) fn read(reader: &mut ParamReader<'_>) -> RowTable {
        let mut rows = reader.count("num_embeddings", 1, None);
        let columns = reader.count("embedding_dim", 1, None);
        if rows > MAX_ROWS {
            reader.problem(
                "num_embeddings",
                format!("more than {MAX_ROWS} rows: ids are exact below that only"),
            );
            rows = MAX_ROWS;
        }
        let count = rows as i64;
        let padding =
            reader.has("padding_idx").then(|| reader.integer("padding_idx", -count..=count - 1, None));
        let padding = padding.map(|row| row.rem_euclid(count) as usize);
        let kind = match read_sparse(reader) {
            "no" => ParameterKind::Learned,
            sparse => ParameterKind::Rows { lazy: sparse == "lazy" },
        };
        RowTable { rows, columns, padding, kind }
    }

    pub(super) fn parameters(&self) -> Vec<ParameterSpec> {
        let init = match self.padding {
            Some(zero) => Init::NormalRows { zero },
            None => Init::Normal { std: 1.0 },
        };
        let weight = ParameterSpec::learned("weight", vec![self.rows, self.columns], init);
        vec![ParameterSpec { kind: self.kind, ..weight }]
    }

    /// The row that a number of a record means. Batches were checked for numbers that mean none.
    pub(super) fn row<'a>(&self, params: &'a [f32], id: f32) -> &'a [f32] {
        &params[id as usize * self.columns..][..self.columns]
    }

    /// Whether the gradient is that of rows.
    pub(super) fn is_sparse(&self) -> bool {
        self.kind != ParameterKind::Learned
    }

    /// The row of a number that has a gradient.
    pub(super) fn learned_row(&self, id: f32) -> Option<u32> {
        (!self.is_padding(id)).then_some(id as u32)
    }

    pub(super) fn is_padding(&self, id: f32) -> bool {
        self.padding == Some(id as usize)
    }

    pub(super) fn shards(&self) -> usize {
        self.rows.min(SHARDS)
    }

    /// Rows of a shard.
    pub(super) fn shard(&self, shard: usize) -> Range<usize> {
        let shards = self.shards();
        shard * self.rows / shards..(shard + 1) * self.rows / shards
    }

    /// Adds `gradient` to the row of `id` in `dparams`, which holds the rows `rows`.
    pub(super) fn add(&self, dparams: &mut [f32], rows: &Range<usize>, id: f32, gradient: &[f32]) {
        if self.learns(rows, id) {
            add_row(self.gradient_row(dparams, rows, id), gradient);
        }
    }

    /// The row of `id` in `dparams`, which holds the rows `rows`.
    fn gradient_row<'a>(&self, dparams: &'a mut [f32], rows: &Range<usize>, id: f32) -> &'a mut [f32] {
        &mut dparams[(id as usize - rows.start) * self.columns..][..self.columns]
    }

    /// Whether `rows` hold the row of `id`, and it has a gradient.
    fn learns(&self, rows: &Range<usize>, id: f32) -> bool {
        rows.contains(&(id as usize)) && !self.is_padding(id)
    }
}

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let table = RowTable::read(reader);
    let mut dims = input.dims().to_vec();
    dims.push(table.columns);
    Ok(Box::new(Embedding { table, output: Shape::new(&dims)? }))
}

struct Embedding {
    table: RowTable,
    output: Shape,
}

impl Embedding {
    fn gradient(&self, x: &[f32], dy: &[f32], rows: &Range<usize>, dparams: &mut [f32]) {
        let columns = self.table.columns;
        let gradients =
            || x.iter().zip(dy.chunks_exact(columns)).filter(|(id, _)| self.table.learns(rows, **id));
        let ask = |(_, dy): (&f32, &[f32])| prefetch(dy.as_ptr(), columns);
        let mut coming = gradients();
        coming.by_ref().take(ROWS_AHEAD).for_each(ask);
        for (id, dy) in gradients() {
            coming.next().into_iter().for_each(ask);
            add_row(self.table.gradient_row(dparams, rows, *id), dy);
        }
    }
}

impl Layer for Embedding {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.table.parameters()
    }

    fn whole_below(&self, _: usize) -> Option<usize> {
        Some(self.table.rows)
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        let ask = |id: &f32| {
            let row = self.table.row(pass.params, *id);
            prefetch(row.as_ptr(), row.len());
        };
        pass.x.iter().take(ROWS_AHEAD).for_each(ask);
        for (i, (id, y)) in pass.x.iter().zip(pass.y.chunks_exact_mut(self.table.columns)).enumerate() {
            pass.x.get(i + ROWS_AHEAD).into_iter().for_each(ask);
            y.copy_from_slice(self.table.row(pass.params, *id));
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.fill(0.0);
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

impl Tabled for Embedding {
    fn row(&self, id: f32) -> Option<u32> {
        self.table.learned_row(id)
    }

    fn gradient_row(&self, index: usize) -> usize {
        index
    }
}

impl Sharded for Embedding {
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
        golden::check_layer("embedding", 1e-6);
        golden::check_layer("embedding_padded", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("embedding", 2e-3);
    }
}
