//! Projections of all records at once; then record by record and head by head, so that scores stay in the cache.

use super::Attention;
use crate::kernels::attention::shares;
use crate::kernels::elementwise::add_row;
use crate::kernels::gemm::{Matrix, multiply};
use crate::layer::Forward;

impl Attention {
    pub(super) fn run_forward(&self, pass: Forward<'_>) {
        let (isa, e, records) = (pass.context.isa, self.features, pass.records);
        let params = self.params(pass.params);
        let (kept, p) = self.kept_mut(records, pass.saved);
        let inputs = self.inputs(pass.x, pass.others);
        for (part, (input, to)) in
            inputs.into_iter().zip([&mut *kept.q, &mut *kept.k, &mut *kept.v]).enumerate()
        {
            let weight = Matrix::new(&params.in_weight[part * e * e..], e, e);
            multiply(isa, Matrix::new(input, input.len() / e, e), weight.transposed(), to, e, false);
            if self.bias {
                add_row(to, &params.in_bias[part * e..][..e]);
            }
        }
        let scale = self.scale();
        kept.q.iter_mut().for_each(|q| *q *= scale);
        let mask = pass.others.last().copied().filter(|_| self.masked).unwrap_or_default();
        let dropped = &mut pass.scratch[..self.head_shares()];
        for (i, p) in p.chunks_exact_mut(self.head_shares()).enumerate() {
            let (record, head) = (i / self.heads, i % self.heads);
            let q = self.head(kept.q, record, head, self.queries);
            let k = self.head(kept.k, record, head, self.keys);
            let v = self.head(kept.v, record, head, self.keys);
            multiply(isa, q, k.transposed(), p, self.keys, false);
            self.mask(p, mask.get(record * self.keys..).unwrap_or_default());
            shares(isa, p, self.keys);
            let p = if self.dropout.is_some() && pass.context.training {
                dropped.copy_from_slice(p);
                self.drop(record, head, pass.context, dropped);
                &*dropped
            } else {
                p
            };
            let o = &mut kept.o[record * self.queries * e + self.columns(head).start..];
            multiply(isa, Matrix::new(p, self.queries, self.keys), v, o, e, false);
        }
        let weight = Matrix::new(params.out_weight, e, e);
        let o = Matrix::new(kept.o, records * self.queries, e);
        multiply(isa, o, weight.transposed(), pass.y, e, false);
        if self.bias {
            add_row(pass.y, params.out_bias);
        }
    }

    /// The columns of a head, for the `rows` rows of a record.
    pub(super) fn head<'a>(&self, numbers: &'a [f32], record: usize, head: usize, rows: usize) -> Matrix<'a> {
        let start = record * rows * self.features + self.columns(head).start;
        Matrix::strided(&numbers[start..], rows, self.depth(), self.features)
    }

    /// Sets the scores of keys that are not looked at to -∞; `mask` begins with that of the record, or is empty.
    fn mask(&self, scores: &mut [f32], mask: &[f32]) {
        if !self.causal && mask.is_empty() {
            return;
        }
        for (t, row) in scores.chunks_exact_mut(self.keys).enumerate() {
            for (score, _) in row.iter_mut().zip(mask).filter(|(_, masked)| **masked != 0.0) {
                *score = f32::NEG_INFINITY;
            }
            if self.causal {
                row.iter_mut().skip(t + 1).for_each(|score| *score = f32::NEG_INFINITY);
            }
        }
    }
}
