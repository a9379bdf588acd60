//! Multi-head attention (Vaswani et al. 2017), as PyTorch's `MultiheadAttention`.
//!
//! `q = x_q W_qᵀ + b_q`, k and v alike; for each head, of d = E / heads columns, `p = softmax(q kᵀ / √d)` over the keys
//! and `o = p v`; `y = o W_oᵀ + b_o`. Queries (T, E), keys and values (S, E), y (T, E); in_proj_weight holds W_q, W_k
//! and W_v one below the other.
//!
//! Inputs: one sequence that attends to itself, or queries, keys and values; behind them, if need be, a mask of the
//! keys (S), where every number but 0 means that nobody looks at that key. A query all of whose keys are masked gets
//! o = 0, as PyTorch's scaled_dot_product_attention gives (its other path gives NaN).
//!
//! `saved` holds, for a block of records: q, k and v, o, and of each record and head p, before dropout. Where a sequence
//! attends to itself q, k and v are one product, whose rows hold the three side by side.

mod backward;
mod forward;

use super::projection::{Projection, Weights};
use crate::kernels::Isa;
use crate::kernels::gemm::Matrix;
use crate::layer::{Backward, Context, Forward, Init, Layer, Misfit, Needs, ParameterSpec};
use crate::layers::dims::sequence;
use crate::layers::dropout::Mask;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "attention of a sequence to itself, or of queries to keys and values; last, a mask (PyTorch MultiheadAttention)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("num_heads", "required", "heads, each of an equal part of the features"),
    ParamDoc::new("embed_dim", "from the input", "features, checked when given"),
    ParamDoc::new("dropout", "0", "share of the attention that is dropped in training"),
    ParamDoc::new("bias", "true", "whether learned numbers are added by the projections"),
    ParamDoc::new("causal", "false", "whether a step sees no key behind it"),
];

/// Rows of matrix products that make a block large enough.
const LEAST_ROWS: usize = 16;

pub(crate) fn build(reader: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    let heads = reader.count("num_heads", 1, None);
    let expected = reader.has("embed_dim").then(|| reader.count("embed_dim", 1, None));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.0));
    let bias = reader.flag("bias", true);
    let causal = reader.flag("causal", false);
    let [queries, features] = sequence("multi_head_attention", &inputs[0])?;
    let (own, masked) = match inputs.len() {
        1 | 2 => (true, inputs.len() == 2),
        3 | 4 => (false, inputs.len() == 4),
        count => {
            let message =
                "multi_head_attention reads a sequence, or queries, keys and values, and perhaps a mask";
            return Err(Misfit(format!("{message}; {count} inputs are given")));
        }
    };
    let key_shape = if own { &inputs[0] } else { &inputs[1] };
    let [keys, key_features] = sequence("multi_head_attention", key_shape)?;
    if key_features != features || (!own && inputs[2] != *key_shape) {
        return Err(Misfit(format!(
            "queries, keys and values need one number of features, and keys the steps of values: here {}, {} and {}",
            inputs[0], inputs[1], inputs[2]
        )));
    }
    if let Some(expected) = expected.filter(|expected| *expected != features) {
        return Err(Misfit(format!("embed_dim = {expected}, but the layer before gives {}", inputs[0])));
    }
    if !features.is_multiple_of(heads) {
        return Err(Misfit(format!(
            "{features} features can not be divided into num_heads = {heads} equal parts"
        )));
    }
    if let Some(mask) = inputs.last().filter(|mask| masked && mask.as_flat() != Some(keys)) {
        return Err(Misfit(format!("the mask has a number for each of the {keys} keys, not {mask}")));
    }
    let dropout = (dropout > 0.0).then(|| Mask::new(dropout));
    let output = inputs[0].clone();
    Ok(Box::new(Attention { queries, keys, features, heads, own, masked, dropout, bias, causal, output }))
}

struct Attention {
    queries: usize,
    keys: usize,
    features: usize,
    heads: usize,
    /// Whether keys and values are the queries.
    own: bool,
    masked: bool,
    dropout: Option<Mask>,
    bias: bool,
    causal: bool,
    output: Shape,
}

/// What lies in the layer's parameters, or in their gradients.
struct Arrays<T> {
    /// `[3 E, E]`
    in_weight: T,
    /// `[3 E]`, or empty.
    in_bias: T,
    /// `[E, E]`
    out_weight: T,
    /// `[E]`, or empty.
    out_bias: T,
}

/// What lies in `saved`, or the gradients of it, for all records of a block.
struct Kept<T> {
    /// q, k and v: `[records, T, 3 E]`, or `[records, T, E]` and twice `[records, S, E]`.
    projected: T,
    /// `[records, T, E]`
    o: T,
    /// What lies behind them.
    rest: T,
}

/// One of q, k and v.
#[derive(Clone, Copy)]
struct Part {
    /// Where its first row begins in [`Kept::projected`].
    start: usize,
    /// Numbers from a row to the next.
    stride: usize,
    /// Rows of a record.
    rows: usize,
}

impl Attention {
    /// Columns of a head.
    fn depth(&self) -> usize {
        self.features / self.heads
    }

    /// What products of q and k are multiplied by.
    fn scale(&self) -> f32 {
        1.0 / (self.depth() as f32).sqrt()
    }

    /// Shares of one head of a record.
    fn head_shares(&self) -> usize {
        self.queries * self.keys
    }

    fn array_lens(&self) -> [usize; 4] {
        let (e, bias) = (self.features, usize::from(self.bias));
        [3 * e * e, 3 * e * bias, e * e, e * bias]
    }

    fn params<'a>(&self, params: &'a [f32]) -> Arrays<&'a [f32]> {
        let [a, b, c, _] = self.array_lens();
        let (in_weight, rest) = params.split_at(a);
        let (in_bias, rest) = rest.split_at(b);
        let (out_weight, out_bias) = rest.split_at(c);
        Arrays { in_weight, in_bias, out_weight, out_bias }
    }

    fn gradients<'a>(&self, params: &'a mut [f32]) -> Arrays<&'a mut [f32]> {
        let [a, b, c, _] = self.array_lens();
        let (in_weight, rest) = params.split_at_mut(a);
        let (in_bias, rest) = rest.split_at_mut(b);
        let (out_weight, out_bias) = rest.split_at_mut(c);
        Arrays { in_weight, in_bias, out_weight, out_bias }
    }

    /// How many projections there are of inputs: one of all three where keys and values are the queries.
    fn groups(&self) -> usize {
        if self.own { 1 } else { 3 }
    }

    /// What makes q, k and v, or each of them.
    fn in_projection(&self) -> Projection {
        Projection { inputs: self.features, outputs: 3 * self.features / self.groups() }
    }

    /// What makes y of o.
    fn out_projection(&self) -> Projection {
        Projection { inputs: self.features, outputs: self.features }
    }

    /// Queries, keys and values among the inputs.
    fn inputs<'a>(&self, x: &'a [f32], others: &[&'a [f32]]) -> [&'a [f32]; 3] {
        if self.own { [x; 3] } else { [x, others[0], others[1]] }
    }

    /// Numbers that the projection makes of an input.
    fn projected(&self, input: &[f32]) -> usize {
        input.len() / self.features * self.in_projection().outputs
    }

    /// The weights of a projection of inputs, and its biases.
    fn in_weights<'a>(
        &self,
        params: &Arrays<&'a [f32]>,
        packed: &'a [f32],
        group: usize,
    ) -> (Weights<'a>, &'a [f32]) {
        let (projection, packed) = (self.in_projection(), &packed[self.out_projection().packed(true)..]);
        let (weights, width, each) = (projection.weights(), projection.outputs, packed.len() / self.groups());
        let bias = if self.bias { &params.in_bias[group * width..][..width] } else { &[] };
        ((&params.in_weight[group * weights..][..weights], &packed[group * each..][..each]), bias)
    }

    /// The packed weights of the last projection.
    fn out_packed<'a>(&self, packed: &'a [f32]) -> &'a [f32] {
        &packed[..self.out_projection().packed(true)]
    }

    /// q, k and v of some records.
    fn parts(&self, records: usize) -> [Part; 3] {
        let (e, q, k) = (self.features, records * self.queries, records * self.keys);
        let part = |start, stride, rows| Part { start, stride, rows };
        if self.own {
            return [0, e, 2 * e].map(|start| part(start, 3 * e, self.queries));
        }
        [part(0, e, self.queries), part(q * e, e, self.keys), part((q + k) * e, e, self.keys)]
    }

    /// Numbers of q, k and v, and of o.
    fn kept_lens(&self, records: usize) -> [usize; 2] {
        let o = records * self.queries * self.features;
        [o + 2 * records * self.keys * self.features, o]
    }

    fn kept<'a>(&self, records: usize, numbers: &'a [f32]) -> Kept<&'a [f32]> {
        let [projected, o] = self.kept_lens(records);
        let (projected, rest) = numbers.split_at(projected);
        let (o, rest) = rest.split_at(o);
        Kept { projected, o, rest }
    }

    fn kept_mut<'a>(&self, records: usize, numbers: &'a mut [f32]) -> Kept<&'a mut [f32]> {
        let [projected, o] = self.kept_lens(records);
        let (projected, rest) = numbers.split_at_mut(projected);
        let (o, rest) = rest.split_at_mut(o);
        Kept { projected, o, rest }
    }

    /// Where the columns of a head of a record begin in q, k or v.
    fn start(&self, part: Part, record: usize, head: usize) -> usize {
        part.start + record * part.rows * part.stride + head * self.depth()
    }

    /// The columns of a head of a record in q, k or v.
    fn head<'a>(&self, projected: &'a [f32], part: Part, record: usize, head: usize) -> Matrix<'a> {
        let start = self.start(part, record, head);
        Matrix::strided(&projected[start..], part.rows, self.depth(), part.stride)
    }

    /// Whether shares are dropped in a pass.
    fn drops(&self, context: Context) -> Option<Mask> {
        self.dropout.filter(|_| context.training)
    }

    /// Writes the shares of a head of a record, `[T][S]`, as dropout leaves them. `also` gets the same numbers dropped.
    fn drop(
        &self,
        (mask, context): (Mask, Context),
        [record, head]: [usize; 2],
        (shares, dropped): (&[f32], &mut [f32]),
        also: Option<&mut [f32]>,
    ) {
        let random = context.key.record(context.layer, context.first_record + record);
        let mut also = also.map(|also| also.chunks_exact_mut(self.keys));
        for (t, (from, to)) in
            shares.chunks_exact(self.keys).zip(dropped.chunks_exact_mut(self.keys)).enumerate()
        {
            let first = (head * self.queries + t) * self.keys.div_ceil(4);
            let also = also.as_mut().and_then(Iterator::next);
            mask.copy(context.isa, (&random, first), (from, to), also);
        }
    }
}

impl Layer for Attention {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let e = self.features;
        let rows = e.saturating_mul(3);
        // PyTorch's defaults: Xavier uniform for the first projections, Kaiming uniform with a = √5 for the last.
        let first = Init::Uniform { bound: (6.0 / (4.0 * e as f32)).sqrt() };
        let last = Init::Uniform { bound: 1.0 / (e as f32).sqrt() };
        let zeros = |name, shape| self.bias.then(|| ParameterSpec::learned(name, shape, Init::Constant(0.0)));
        let arrays = [
            Some(ParameterSpec::learned("in_proj_weight", vec![rows, e], first)),
            zeros("in_proj_bias", vec![rows]),
            Some(ParameterSpec::learned("out_proj.weight", vec![e, e], last)),
            zeros("out_proj.bias", vec![e]),
        ];
        arrays.into_iter().flatten().collect()
    }

    fn flops(&self) -> u64 {
        let (t, s, e) = (self.queries as u64, self.keys as u64, self.features as u64);
        4 * e * e * (t + s) + 4 * t * s * e
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn least_records(&self) -> usize {
        LEAST_ROWS.div_ceil(self.queries)
    }

    fn rows(&self) -> usize {
        self.queries
    }

    fn saved(&self, records: usize) -> usize {
        self.kept_lens(records).iter().sum::<usize>() + records * self.heads * self.head_shares()
    }

    fn scratch(&self, records: usize) -> usize {
        self.kept_lens(records).iter().sum::<usize>() + 2 * self.head_shares()
    }

    fn packed(&self, learns: bool) -> usize {
        // The gradient of o is needed by all training; prediction packs for it what it could do without.
        self.groups() * self.in_projection().packed(learns) + self.out_projection().packed(true)
    }

    fn pack(&self, isa: Isa, params: &[f32], packed: &mut [f32]) {
        let (params, projection) = (self.params(params), self.in_projection());
        let (last, rest) = packed.split_at_mut(self.out_projection().packed(true));
        self.out_projection().pack(isa, params.out_weight, last);
        if rest.is_empty() {
            return;
        }
        let each = rest.len() / self.groups();
        for (packed, weight) in
            rest.chunks_exact_mut(each).zip(params.in_weight.chunks_exact(projection.weights()))
        {
            projection.pack(isa, weight, packed);
        }
    }

    fn forward(&self, pass: Forward<'_>) {
        self.run_forward(pass);
    }

    fn backward(&self, pass: Backward<'_>) {
        self.run_backward(pass);
    }
}

#[cfg(test)]
mod tests {
    use crate::golden::{self, noise, single_layer};
    use crate::random::RandomKey;
    use crate::shape::Shape;
    use ringspin_job::Component;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("multi_head_attention", 5e-6);
        golden::check_layer_bf16("multi_head_attention", 3e-2);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("multi_head_attention", 4e-3);
    }

    #[test]
    fn drops_the_same_shares_in_both_passes() {
        let component = Component::new("x", "multi_head_attention").with("num_heads", 2).with("dropout", 0.5);
        let layer = single_layer(&component, &Shape::new(&[3, 4]).unwrap());
        let (params, x, key) = (noise(1, 80), noise(2, 24), RandomKey { seed: 7, step: 3, lane: 1 });
        let y = layer.forward_training(&params, &x, key);
        assert_ne!(y, layer.forward_training(&params, &x, RandomKey { step: 4, ..key }));
        let dx = layer.backward_training(&params, &x, &[1.0; 24], key).dx;
        for i in 0..24 {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[i] += by;
                layer.forward_training(&params, &x, key).iter().map(|y| f64::from(*y)).sum::<f64>()
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((difference - f64::from(dx[i])).abs() < 4e-3, "{i}: {difference} {}", dx[i]);
        }
    }
}
