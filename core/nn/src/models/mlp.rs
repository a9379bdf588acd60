//! A multi-layer perceptron: linear layers with an activation, and dropout on request, between them.

use super::{count, layer};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC: &str = "multi-layer perceptron: hidden linear layers with an activation between them";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("hidden", "required", "sizes of the hidden layers, such as [128, 64]"),
    ParamDoc::new("outputs", "10", "outputs: classes, or numbers to predict"),
    ParamDoc::new("activation", "\"relu\"", "\"relu\", \"tanh\" or \"sigmoid\""),
    ParamDoc::new("dropout", "0", "share of hidden units dropped in training"),
];

/// A model with more layers than this is a typing mistake.
const MAX_HIDDEN: usize = 10_000;

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let mut hidden = reader.counts("hidden", 1, None);
    let outputs = reader.count("outputs", 1, Some(10));
    let activation = reader.choice("activation", &["relu", "tanh", "sigmoid"], Some("relu"));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.0));
    if hidden.len() > MAX_HIDDEN {
        reader.problem("hidden", format!("more than {MAX_HIDDEN} layers"));
        hidden.truncate(MAX_HIDDEN);
    }
    // The input may be an image; a flat input passes through.
    let mut layers = vec![layer("flatten")];
    for size in hidden {
        layers.push(layer("linear").with("out_features", count(size)));
        layers.push(layer(activation));
        if dropout > 0.0 {
            layers.push(layer("dropout").with("p", Value::Float(dropout)));
        }
    }
    layers.push(layer("linear").with("out_features", count(outputs)));
    layers
}

#[cfg(test)]
mod tests {
    use crate::{Model, Registry, Shape};
    use ringspin_job::{Component, ModelSpec, Value};

    #[test]
    fn has_the_layers_that_were_asked_for() {
        let hidden = Value::List(vec![Value::Int(32), Value::Int(16)]);
        let model = Component::new("model", "mlp")
            .with("hidden", hidden)
            .with("outputs", Value::Int(3))
            .with("activation", Value::Text("tanh".into()))
            .with("dropout", Value::Float(0.5));
        let spec = ModelSpec { model, layers: Vec::new() };
        let input = Shape::image(4, 5, 2).unwrap();
        let loss = Component::new("loss", "cross_entropy");
        let model = Model::build(&Registry::standard(), &spec, &input, &loss).unwrap();
        assert_eq!(model.parameter_count(), 40 * 32 + 32 + 32 * 16 + 16 + 16 * 3 + 3);
        let names: Vec<&str> = model.parameters().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["1.weight", "1.bias", "4.weight", "4.bias", "7.weight", "7.bias"]);
    }
}
