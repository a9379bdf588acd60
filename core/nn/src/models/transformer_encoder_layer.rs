//! A layer of a Transformer encoder (Vaswani et al. 2017), as PyTorch's `TransformerEncoderLayer`: attention of a
//! sequence to itself and two linear layers on each step, each with a way around it and a layer norm behind it, or in
//! front with `norm_first` (Xiong et al. 2020). x and y (T, d_model).

use super::{count, layer};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC: &str =
    "attention and a feed-forward network with norms and ways around (PyTorch TransformerEncoderLayer)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("d_model", "required", "features of a step"),
    ParamDoc::new("nhead", "required", "heads of the attention"),
    ParamDoc::new("dim_feedforward", "2048", "features between the two linear layers"),
    ParamDoc::new(
        "dropout",
        "0.1",
        "share that is dropped in training: of attention, and in three more places",
    ),
    ParamDoc::new("activation", "\"relu\"", "\"relu\" or \"gelu\""),
    ParamDoc::new("layer_norm_eps", "1e-5", "added to variances"),
    ParamDoc::new("norm_first", "false", "whether norms stand before attention and linear layers"),
    ParamDoc::new("bias", "true", "whether linear layers, attention and norms add learned numbers"),
    ParamDoc::new("causal", "false", "whether a step sees no step behind it"),
    ParamDoc::new(
        "padding_mask",
        "false",
        "whether a second input (T) says, by other numbers than 0, what is padding",
    ),
];

/// What a further input of a model is called inside.
pub(super) const MASK: &str = "input2";

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let parts = Parts::read(reader);
    parts.list()
}

struct Parts {
    model: usize,
    heads: usize,
    forward: usize,
    dropout: f64,
    activation: &'static str,
    eps: f64,
    norm_first: bool,
    bias: bool,
    causal: bool,
    mask: bool,
}

impl Parts {
    fn read(reader: &mut ParamReader<'_>) -> Parts {
        Parts {
            model: reader.count("d_model", 1, None),
            heads: reader.count("nhead", 1, None),
            forward: reader.count("dim_feedforward", 1, Some(2048)),
            dropout: reader.number("dropout", 0.0..=1.0, Some(0.1)),
            activation: reader.choice("activation", &["relu", "gelu"], Some("relu")),
            eps: reader.number("layer_norm_eps", 0.0..=f64::MAX, Some(1e-5)),
            norm_first: reader.flag("norm_first", false),
            bias: reader.flag("bias", true),
            causal: reader.flag("causal", false),
            mask: reader.flag("padding_mask", false),
        }
    }

    fn list(&self) -> Vec<Component> {
        let [before, between, after]: [Vec<Component>; 3] = if self.norm_first {
            [vec![self.norm("norm1")], vec![self.norm("norm2")], vec![]]
        } else {
            [vec![], vec![self.norm("norm1")], vec![self.norm("norm2")]]
        };
        let mut layers = before;
        layers.push(self.attention(if self.norm_first { "norm1" } else { "input" }));
        layers.extend(self.dropped("dropout1"));
        layers.push(self.around("add1", "input", self.end("dropout1", "self_attn")));
        layers.extend(between);
        layers.push(self.linear("linear1", self.forward));
        layers.push(layer(self.activation).with("name", "activation"));
        layers.extend(self.dropped("dropout"));
        layers.push(self.linear("linear2", self.model));
        layers.extend(self.dropped("dropout2"));
        let around = if self.norm_first { "add1" } else { "norm1" };
        layers.push(self.around("add2", around, self.end("dropout2", "linear2")));
        layers.extend(after);
        layers
    }

    fn norm(&self, name: &str) -> Component {
        let norm = layer("layer_norm").with("name", name).with("normalized_shape", count(self.model));
        norm.with("eps", self.eps).with("bias", self.bias)
    }

    fn attention(&self, input: &str) -> Component {
        let inputs = std::iter::once(input).chain(self.mask.then_some(MASK)).map(Value::from);
        layer("multi_head_attention")
            .with("name", "self_attn")
            .with("inputs", Value::List(inputs.collect()))
            .with("embed_dim", count(self.model))
            .with("num_heads", count(self.heads))
            .with("dropout", self.dropout)
            .with("bias", self.bias)
            .with("causal", self.causal)
    }

    fn linear(&self, name: &str, outputs: usize) -> Component {
        layer("linear").with("name", name).with("out_features", count(outputs)).with("bias", self.bias)
    }

    fn dropped(&self, name: &str) -> Option<Component> {
        (self.dropout > 0.0).then(|| layer("dropout").with("name", name).with("p", self.dropout))
    }

    /// The last of a layer and the dropout behind it, if there is one.
    fn end(&self, dropout: &'static str, layer: &'static str) -> &'static str {
        if self.dropout > 0.0 { dropout } else { layer }
    }

    fn around(&self, name: &str, from: &str, to: &str) -> Component {
        layer("add").with("name", name).with("inputs", Value::List(vec![from.into(), to.into()]))
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_model("transformer_encoder_layer", 1e-5);
    }
}
