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

/// Rows of a record of a layer that works on the last dimension, and the numbers of a row: a flat record is one
/// row, a sequence one row a time step.
pub(super) fn rows(layer: &str, input: &Shape) -> Result<[usize; 2], Misfit> {
    input.as_flat().map(|features| [1, features]).or(input.as_sequence()).ok_or_else(|| {
        Misfit(format!(
            "{layer} needs flat records or sequences (T × F), the layer before gives {input}; put a flatten \
             between them"
        ))
    })
}

/// Time steps and features of an input that has to be a sequence.
pub(super) fn sequence(layer: &str, input: &Shape) -> Result<[usize; 2], Misfit> {
    input
        .as_sequence()
        .ok_or_else(|| Misfit(format!("{layer} needs sequences (T × F), the layer before gives {input}")))
}

/// Most dimensions that anybody counts.
const MAX_DIMS: i64 = 8;

/// Reads the number of a dimension, from the end when negative; [`dim_of`] says whether a record has it.
pub(super) fn read_dim_number(reader: &mut ParamReader<'_>, key: &'static str, default: i64) -> i64 {
    reader.integer(key, -MAX_DIMS..=MAX_DIMS - 1, Some(default))
}

/// The dimension `dim` of a record of `shape`, counted from 0, or from the end when negative.
pub(super) fn dim_of(layer: &str, dim: i64, shape: &Shape) -> Result<usize, Misfit> {
    let dims = shape.dims().len();
    let from_start = usize::try_from(dim).ok().filter(|dim| *dim < dims);
    let from_end =
        usize::try_from(-dim).ok().filter(|back| *back > 0).and_then(|back| dims.checked_sub(back));
    from_start.or(from_end).ok_or_else(|| {
        Misfit(format!(
            "{layer} has dimension {dim}, but the layer before gives {shape}, of {dims} dimensions"
        ))
    })
}

/// A record seen along one dimension: `outer` blocks of `count` rows of `inner` numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Along {
    pub(super) outer: usize,
    pub(super) count: usize,
    pub(super) inner: usize,
}

impl Along {
    /// `shape` along `dim`.
    pub(super) fn new(shape: &Shape, dim: usize) -> Self {
        let (before, own) = shape.dims().split_at(dim);
        Along { outer: before.iter().product(), count: own[0], inner: own[1..].iter().product() }
    }
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

/// The shape that both inputs of `layer` have.
pub(super) fn two_of_one_shape(layer: &str, inputs: &[Shape]) -> Result<Shape, Misfit> {
    let shape = same_shape(layer, inputs)?;
    match inputs.len() {
        2 => Ok(shape),
        count => Err(Misfit(format!("{layer} reads two inputs, {count} are given"))),
    }
}
