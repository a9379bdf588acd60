//! An autoencoder: `inputs → hidden → inputs` with ReLU and a sigmoid at the end, as BigDL's for MNIST (784, 32).
//! Its target is its input in 0..1: train it with `mse` and `input.reconstruct = true`, without mean and std.

use super::{count, layer};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader};

/// One line for the documentation.
pub(crate) const DOC: &str = "autoencoder with one hidden layer and outputs in 0..1, as BigDL's for MNIST";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("hidden", "32", "numbers that a record is reduced to"),
    ParamDoc::new("outputs", "784", "numbers of a record"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let hidden = reader.count("hidden", 1, Some(32));
    let outputs = reader.count("outputs", 1, Some(784));
    vec![
        layer("flatten"),
        layer("linear").with("out_features", count(hidden)),
        layer("relu"),
        layer("linear").with("out_features", count(outputs)),
        layer("sigmoid"),
    ]
}
