//! The way back: head by head from the gradient of o to those of q, k and v; then the projections.

use super::Attention;
use crate::kernels::attention::shares_gradient;
use crate::kernels::elementwise::sum_rows;
use crate::kernels::gemm::{Matrix, multiply};
use crate::layer::Backward;

impl Attention {
    pub(super) fn run_backward(&self, pass: Backward<'_>) {
        let (isa, e, records, context) = (pass.context.isa, self.features, pass.records, pass.context);
        let params = self.params(pass.params);
        let mut dparams = pass.dparams.map(|dparams| self.gradients(dparams));
        let (kept, p) = self.kept(records, pass.saved);
        let (d, rest) = self.kept_mut(records, pass.scratch);
        let rows = records * self.queries;
        let dy = Matrix::new(pass.dy, rows, e);
        multiply(isa, dy, Matrix::new(params.out_weight, e, e), d.o, e, false);
        if let Some(to) = &mut dparams {
            multiply(isa, dy.transposed(), Matrix::new(kept.o, rows, e), to.out_weight, e, true);
            if self.bias {
                sum_rows(pass.dy, e, to.out_bias);
            }
        }
        let (dp, rest) = rest.split_at_mut(self.head_shares());
        let dropped = &mut rest[..self.head_shares()];
        for (i, p) in p.chunks_exact(self.head_shares()).enumerate() {
            let (record, head) = (i / self.heads, i % self.heads);
            let of = |numbers, rows| self.head(numbers, record, head, rows);
            let start = |rows: usize| record * rows * e + self.columns(head).start;
            let dout = of(d.o, self.queries);
            multiply(isa, dout, of(kept.v, self.keys).transposed(), dp, self.keys, false);
            let used = if self.dropout.is_some() && context.training {
                dropped.copy_from_slice(p);
                self.drop(record, head, context, dropped);
                self.drop(record, head, context, dp);
                &*dropped
            } else {
                p
            };
            let used = Matrix::new(used, self.queries, self.keys);
            multiply(isa, used.transposed(), dout, &mut d.v[start(self.keys)..], e, false);
            shares_gradient(isa, p, dp, self.keys);
            let dscores = Matrix::new(dp, self.queries, self.keys);
            multiply(isa, dscores, of(kept.k, self.keys), &mut d.q[start(self.queries)..], e, false);
            // q is kept times the scale, which is what scores and so the gradient of k are made with.
            let q = of(kept.q, self.queries);
            multiply(isa, dscores.transposed(), q, &mut d.k[start(self.keys)..], e, false);
        }
        let scale = self.scale();
        d.q.iter_mut().for_each(|q| *q *= scale);
        let inputs = self.inputs(pass.x, pass.others);
        let mut dinputs = [pass.dx, None, None];
        for (gradient, to) in pass.dothers.iter_mut().zip(1..) {
            match dinputs.get_mut(to).filter(|_| !self.own) {
                Some(place) => *place = gradient.as_deref_mut(),
                None => gradient.iter_mut().for_each(|mask| mask.fill(0.0)),
            }
        }
        for (part, (input, gradient)) in inputs.into_iter().zip([d.q, d.k, d.v]).enumerate() {
            let (rows, gradient) = (input.len() / e, &*gradient);
            let matrix = Matrix::new(gradient, rows, e);
            // One sequence gets the gradient of all three.
            if let Some(dinput) = &mut dinputs[if self.own { 0 } else { part }] {
                let weight = Matrix::new(&params.in_weight[part * e * e..], e, e);
                multiply(isa, matrix, weight, dinput, e, self.own && part > 0);
            }
            if let Some(to) = &mut dparams {
                let dweight = &mut to.in_weight[part * e * e..][..e * e];
                multiply(isa, matrix.transposed(), Matrix::new(input, rows, e), dweight, e, true);
                if self.bias {
                    sum_rows(gradient, e, &mut to.in_bias[part * e..][..e]);
                }
            }
        }
    }
}
