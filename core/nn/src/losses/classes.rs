//! What the losses over classes share: the check of the output shape, and the rank of the right class.

use crate::layer::Misfit;
use crate::shape::Shape;

/// Number of classes of a flat output.
pub(crate) fn count(loss: &str, output: &Shape) -> Result<usize, Misfit> {
    match output.as_flat() {
        Some(classes) if classes >= 2 => Ok(classes),
        _ => Err(Misfit(format!(
            "{loss} needs one output a class, a flat record of at least 2; the model gives {output}"
        ))),
    }
}

/// How many classes stand before `class`: those with a larger output, and those before it with the same.
/// A class whose output is not a number stands behind all others.
pub(crate) fn rank(outputs: &[f32], class: usize) -> usize {
    let own = outputs[class];
    if own.is_nan() {
        return outputs.len();
    }
    outputs.iter().enumerate().filter(|(i, other)| **other > own || (**other == own && *i < class)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_the_first_class_and_nan_to_none() {
        let outputs = [0.5, 2.0, 2.0, f32::NAN, -1.0];
        assert_eq!([0, 1, 2, 3, 4].map(|class| rank(&outputs, class)), [2, 0, 1, 5, 3]);
    }

    #[test]
    fn one_output_can_not_tell_classes_apart() {
        assert!(count("cross_entropy", &Shape::flat(1).unwrap()).is_err());
        assert!(count("cross_entropy", &Shape::image(2, 2, 3).unwrap()).unwrap_err().0.contains("2 × 2 × 3"));
        assert_eq!(count("cross_entropy", &Shape::flat(10).unwrap()), Ok(10));
    }
}
