//! Models by name: functions from parameters to a list of layers, the same list a job file could hold.

pub(crate) mod autoencoder;
pub(crate) mod inception_v1;
pub(crate) mod inception_v3;
pub(crate) mod lenet5;
pub(crate) mod mlp;
pub(crate) mod mobilenet;
mod net;
pub(crate) mod resnet;
pub(crate) mod vgg;

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
