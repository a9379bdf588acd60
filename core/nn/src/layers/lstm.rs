//! LSTM (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000), as PyTorch's `LSTM`.
//!
//! `i, f, g, o = W_ih x + b_ih + W_hh h + b_hh`, in this order of rows; with σ for the sigmoid
//! `c = σ(f) c + σ(i) tanh(g)`, `h = σ(o) tanh(c)`. Shapes, lengths and outputs: see [`super::recurrent`].

use super::recurrent;
use crate::kernels::recurrent::Cell;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "long short-term memory over the steps of a sequence; a second input is its length (PyTorch LSTM)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = recurrent::PARAMS;

pub(crate) fn build(reader: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    recurrent::build(Cell::Lstm, "lstm", reader, inputs)
}

#[cfg(test)]
mod tests {
    use crate::golden;
    use crate::random::RandomKey;
    use crate::shape::Shape;
    use ringspin_job::Component;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("lstm", 5e-6);
        golden::check_layer("lstm_lengths", 5e-6);
        golden::check_layer_bf16("lstm", 3e-2);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("lstm", 4e-3);
        golden::check_layer_gradient("lstm_lengths", 4e-3);
    }

    #[test]
    fn drops_between_layers_with_the_same_mask_in_both_passes() {
        let shape = Shape::new(&[3, 2]).unwrap();
        let component = Component::new("x", "lstm").with("hidden_size", 2).with("num_layers", 2);
        let whole = golden::single_layer(&component.clone().with("dropout", 1.0), &shape);
        let (params, x) = (golden::noise(1, 96), golden::noise(2, 6));
        let key = RandomKey { seed: 7, step: 3, lane: 1 };
        // All that the second layer sees is its bias.
        let y = whole.forward_training(&params, &x, key);
        let other = whole.forward_training(&params, &golden::noise(3, 6), key);
        assert_eq!(y, other);
        let half = golden::single_layer(&component.with("dropout", 0.5), &shape);
        let y = half.forward_training(&params, &x, key);
        assert_ne!(y, half.forward_training(&params, &x, RandomKey { step: 4, ..key }));
        // The differences see the mask that the gradient used.
        let dx = half.backward_training(&params, &x, &[1.0; 6], key).dx;
        for i in 0..6 {
            let moved = |by: f32| {
                let mut x = x.clone();
                x[i] += by;
                half.forward_training(&params, &x, key).iter().sum::<f32>()
            };
            let difference = (moved(1e-2) - moved(-1e-2)) / 2e-2;
            assert!((difference - dx[i]).abs() < 1e-3, "{i}: {difference} {}", dx[i]);
        }
    }
}
