//! Gated recurrent unit (Cho et al. 2014), as PyTorch's `GRU`, whose reset gate works on the sum over the state.
//!
//! With σ for the sigmoid, and rows of weights in this order: `r = σ(W_ir x + b_ir + W_hr h + b_hr)`, `z` alike,
//! `n = tanh(W_in x + b_in + r (W_hn h + b_hn))`, `h = (1 - z) n + z h`. Shapes, lengths and outputs: see
//! [`super::recurrent`].

use super::recurrent;
use crate::kernels::recurrent::Cell;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "gated recurrent units over the steps of a sequence; a second input is its length (PyTorch GRU)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = recurrent::PARAMS;

pub(crate) fn build(reader: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    recurrent::build(Cell::Gru, "gru", reader, inputs)
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("gru", 5e-6);
        golden::check_layer("gru_lengths", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("gru", 4e-3);
        golden::check_layer_gradient("gru_lengths", 4e-3);
    }
}
