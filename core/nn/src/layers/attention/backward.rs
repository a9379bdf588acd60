//! The way back: head by head from the gradient of o to those of q, k and v; then the projections.

use super::Attention;
use crate::kernels::attention::shares_gradient;
use crate::kernels::gemm::{Matrix, multiply};
use crate::kernels::rows::sum_rows;
use crate::layer::Backward;

impl Attention {
    pub(super) fn run_backward(&self, pass: Backward<'_>) {
        let (isa, e, records, context) = (pass.context.isa, self.features, pass.records, pass.context);
        let params = self.params(pass.params);
        let mut dparams = pass.dparams.map(|dparams| self.gradients(dparams));
        let (kept, d) = (self.kept(records, pass.saved), self.kept_mut(records, pass.scratch));
        let weights = (params.out_weight, self.out_packed(pass.packed));
        self.out_projection().backward(isa, (pass.dy, e), weights, (d.o, e), false);
        if let Some(to) = &mut dparams {
            self.out_projection().gradient(isa, (pass.dy, e), (kept.o, e), to.out_weight);
            if self.bias {
                sum_rows(isa, (pass.dy, e), to.out_bias);
            }
        }
        let [q, k, v] = self.parts(records);
        let (dp, rest) = d.rest.split_at_mut(self.head_shares());
        let dropped = &mut rest[..self.head_shares()];
        for (i, p) in kept.rest.chunks_exact(self.head_shares()).enumerate() {
            let (record, head) = (i / self.heads, i % self.heads);
            let of = |part| self.head(kept.projected, part, record, head);
            let start = |part| self.start(part, record, head);
            let dout = &d.o[record * self.queries * e + head * self.depth()..];
            let dout = Matrix::strided(dout, self.queries, self.depth(), e);
            multiply(isa, dout, of(v).transposed(), dp, self.keys, false);
            let used = match self.drops(context) {
                Some(mask) => {
                    self.drop((mask, context), [record, head], (p, dropped), Some(dp));
                    &*dropped
                }
                None => p,
            };
            let used = Matrix::new(used, self.queries, self.keys);
            multiply(isa, used.transposed(), dout, &mut d.projected[start(v)..], v.stride, false);
            shares_gradient(isa, self.scale(), p, dp, self.keys);
            let dscores = Matrix::new(dp, self.queries, self.keys);
            multiply(isa, dscores, of(k), &mut d.projected[start(q)..], q.stride, false);
            multiply(isa, dscores.transposed(), of(q), &mut d.projected[start(k)..], k.stride, false);
        }
        let mut dinputs = [pass.dx, None, None];
        for (gradient, to) in pass.dothers.iter_mut().zip(1..) {
            match dinputs.get_mut(to).filter(|_| !self.own) {
                Some(place) => *place = gradient.as_deref_mut(),
                None => gradient.iter_mut().for_each(|mask| mask.fill(0.0)),
            }
        }
        let (projection, inputs) = (self.in_projection(), self.inputs(pass.x, pass.others));
        let (width, mut gradients) = (projection.outputs, &*d.projected);
        for (group, (input, dinput)) in inputs.into_iter().zip(dinputs).enumerate().take(self.groups()) {
            let (gradient, rest) = gradients.split_at(self.projected(input));
            gradients = rest;
            if let Some(dinput) = dinput {
                let (weights, _) = self.in_weights(&params, pass.packed, group);
                projection.backward(isa, (gradient, width), weights, (dinput, e), false);
            }
            if let Some(to) = &mut dparams {
                let dweight = &mut to.in_weight[group * projection.weights()..][..projection.weights()];
                projection.gradient(isa, (gradient, width), (input, e), dweight);
                if self.bias {
                    sum_rows(isa, (gradient, width), &mut to.in_bias[group * width..][..width]);
                }
            }
        }
    }
}
