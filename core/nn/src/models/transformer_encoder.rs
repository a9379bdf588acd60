//! A Transformer encoder, as PyTorch's `TransformerEncoder`: layers of one kind on top of each other, and a layer norm
//! at the end on request.

use super::transformer_encoder_layer::{self, MASK};
use super::{count, layer};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC: &str = "Transformer encoder layers on top of each other (PyTorch TransformerEncoder)";
/// Parameters: two, and those of a layer.
pub(crate) const PARAMS: &[ParamDoc] = &{
    let layers = ParamDoc::new("num_layers", "required", "layers, each with parameters of its own");
    let norm = ParamDoc::new("norm", "false", "whether a layer norm comes last");
    let mut params = [layers; transformer_encoder_layer::PARAMS.len() + 2];
    params[1] = norm;
    let mut i = 0;
    while i + 2 < params.len() {
        params[i + 2] = transformer_encoder_layer::PARAMS[i];
        i += 1;
    }
    params
};

/// More layers than this are a typing mistake.
const MAX_LAYERS: usize = 1000;

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let mut layers = reader.count("num_layers", 1, None);
    if layers > MAX_LAYERS {
        reader.problem("num_layers", format!("more than {MAX_LAYERS}"));
        layers = 1;
    }
    let (norm, model) = (reader.flag("norm", false), reader.count("d_model", 1, None));
    let eps = reader.number("layer_norm_eps", 0.0..=f64::MAX, Some(1e-5));
    let (bias, mask) = (reader.flag("bias", true), reader.flag("padding_mask", false));
    let inner = reader.given(transformer_encoder_layer::PARAMS.iter().map(|param| param.name));
    let mut list = Vec::new();
    let mut before = "input".to_string();
    for i in 0..layers {
        let name = format!("layers.{i}");
        let mut one = layer("transformer_encoder_layer").with("name", name.as_str());
        one.params.0.extend(inner.0.clone());
        if mask {
            one = one.with("inputs", Value::List(vec![before.as_str().into(), MASK.into()]));
        }
        list.push(one);
        before = name;
    }
    if norm {
        let last = layer("layer_norm").with("name", "norm").with("normalized_shape", count(model));
        list.push(last.with("eps", eps).with("bias", bias));
    }
    list
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_model("transformer_encoder", 1e-5);
    }
}
