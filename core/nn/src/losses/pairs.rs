//! What the losses of two inputs share: an output record holds both, first x1, then x2, each half of it.

use crate::layer::Misfit;
use crate::shape::Shape;

/// Numbers of one of the two inputs.
pub(crate) fn half(loss: &str, output: &Shape) -> Result<usize, Misfit> {
    match output.as_flat() {
        Some(numbers) if numbers % 2 == 0 => Ok(numbers / 2),
        _ => Err(Misfit(format!(
            "{loss} needs flat outputs of even length, its two inputs one after the other; the model gives {output}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_outputs_are_no_pairs() {
        assert_eq!(half("margin_ranking", &Shape::flat(6).unwrap()), Ok(3));
        let text = half("margin_ranking", &Shape::flat(3).unwrap()).unwrap_err().0;
        assert!(text.contains("even length") && text.ends_with("gives 3"), "{text}");
        assert!(half("margin_ranking", &Shape::image(2, 2, 2).unwrap()).is_err());
    }
}
