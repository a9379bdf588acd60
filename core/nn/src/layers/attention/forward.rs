//! Projections of all records at once; then record by record and head by head, so that scores stay in the cache.

use super::Attention;
use crate::kernels::attention::shares;
use crate::kernels::gemm::{Matrix, multiply};
use crate::kernels::rows::add_row;
use crate::layer::Forward;

impl Attention {
    pub(super) fn run_forward(&self, pass: Forward<'_>) {
        let (isa, e, records, context) = (pass.context.isa, self.features, pass.records, pass.context);
        let params = self.params(pass.params);
        let kept = self.kept_mut(records, pass.saved);
        let mut projected = &mut *kept.projected;
        for (group, input) in self.inputs(pass.x, pass.others).into_iter().enumerate().take(self.groups()) {
            let (to, rest) = projected.split_at_mut(self.projected(input));
            projected = rest;
            let (weights, bias) = self.in_weights(&params, pass.packed, group);
            let width = self.in_projection().outputs;
            self.in_projection().forward(isa, (input, e), weights, (to, width));
            if self.bias {
                add_row(to, bias);
            }
        }
        let [q, k, v] = self.parts(records);
        let mask = pass.others.last().copied().filter(|_| self.masked).unwrap_or_default();
        let dropped = &mut pass.scratch[..self.head_shares()];
        for (i, p) in kept.rest.chunks_exact_mut(self.head_shares()).enumerate() {
            let (record, head) = (i / self.heads, i % self.heads);
            let of = |part| self.head(kept.projected, part, record, head);
            multiply(isa, of(q), of(k).transposed(), p, self.keys, false);
            self.mask(p, mask.get(record * self.keys..).unwrap_or_default());
            shares(isa, self.scale(), p, self.keys);
            let p = match self.drops(context) {
                Some(mask) => {
                    self.drop((mask, context), [record, head], (p, dropped), None);
                    &*dropped
                }
                None => p,
            };
            let o = &mut kept.o[record * self.queries * e + head * self.depth()..];
            multiply(isa, Matrix::new(p, self.queries, self.keys), of(v), o, e, false);
        }
        let weights = (params.out_weight, self.out_packed(pass.packed));
        self.out_projection().forward(isa, (kept.o, e), weights, (pass.y, e));
        if self.bias {
            add_row(pass.y, params.out_bias);
        }
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
