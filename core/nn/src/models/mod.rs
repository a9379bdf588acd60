//! Models by name: functions from parameters to a list of layers, the same list a job file could hold.

pub(crate) mod lenet5;
pub(crate) mod mlp;
pub(crate) mod transformer_encoder;
pub(crate) mod transformer_encoder_layer;

use ringspin_job::{Component, Value};

/// A layer without a path of its own: `Model::build` gives it one.
fn layer(name: &str) -> Component {
    Component::new("", name)
}

/// A count as a job file would write it.
fn count(value: usize) -> Value {
    // Counts come from job files as i64 and are handed on unchanged.
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}
