//! What layers ask about the dimensions of their inputs.

use crate::layer::Misfit;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// Reads `dim`: a dimension of a record as `shape` has them, from 0, or from the end when negative.
pub(super) fn read_dim(reader: &mut ParamReader<'_>, shape: &Shape, default: i64) -> usize {
    let dims = shape.dims().len();
    // A record has few dimensions.
    let count = i64::try_from(dims).unwrap_or(i64::MAX);
    let dim = reader.integer("dim", -count..=count - 1, Some(default));
    usize::try_from(if dim < 0 { dim + count } else { dim }).unwrap_or(dims - 1).min(dims - 1)
}

/// The shape that all inputs of `layer` have.
pub(super) fn same_shape(layer: &str, inputs: &[Shape]) -> Result<Shape, Misfit> {
    match inputs.iter().find(|shape| **shape != inputs[0]) {
        Some(other) => {
            Err(Misfit(format!("{layer} needs inputs of one shape, not {} and {other}", inputs[0])))
        }
        None => Ok(inputs[0].clone()),
    }
}
