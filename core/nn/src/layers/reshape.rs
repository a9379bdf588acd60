//! Reshape: the numbers of a record in another shape, `y = x` number by number.
//!
//! x and y of shapes with as many numbers, in the order in which records have them, the last dimension fastest. For
//! vectors and sequences that is PyTorch's `reshape`. **Images differ**: their channels are last here and first in
//! PyTorch, so that the same sizes hold other numbers. A vector that PyTorch reshapes to (C, H, W) becomes that image by
//! `reshape` to [C, H W] and `transpose`, then `reshape` to [H, W, C]; an image that PyTorch flattens is `flatten`ed.

use super::identity::Same;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::{MAX_RECORD_ELEMENTS, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "its input in another shape, channels last (PyTorch reshape)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] =
    &[ParamDoc::new("shape", "required", "sizes of a record without the batch; one can be -1, what is left")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let sizes = reader.integers("shape", -1..=MAX_RECORD_ELEMENTS as i64, None);
    let output = sized(&sizes, input.elements()).ok_or_else(|| {
        Misfit(format!(
            "{sizes:?} is no shape of the {} numbers of {input}, which the layer before gives",
            input.elements()
        ))
    })?;
    let output = Shape::new(&output)?;
    if output.elements() != input.elements() {
        return Err(Misfit(format!(
            "{output} has not as many numbers as {input}, which the layer before gives"
        )));
    }
    Ok(Box::new(Same { output, any_layout: false }))
}

/// The sizes with -1 replaced by what is left of `elements`; `None` when nothing whole is, or several are -1.
fn sized(sizes: &[i64], elements: usize) -> Option<Vec<usize>> {
    let given = sizes.iter().filter(|size| **size != -1);
    let given = given.map(|size| usize::try_from(*size).ok());
    let product = given.clone().try_fold(1usize, |product, size| product.checked_mul(size?))?;
    let missing = sizes.len() - given.count();
    if missing > 1 || product == 0 || !elements.is_multiple_of(product) {
        return None;
    }
    Some(sizes.iter().map(|size| usize::try_from(*size).unwrap_or(elements / product)).collect())
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("reshape", 0.0);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("reshape", 2e-3);
    }
}
