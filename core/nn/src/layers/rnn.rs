//! Simple recurrent network (Elman 1990), as PyTorch's `RNN`.
//!
//! `h = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or relu instead of tanh. Shapes, lengths and outputs: see
//! [`super::recurrent`].

use super::recurrent;
use crate::kernels::recurrent::Cell;
use crate::layer::{Layer, Misfit};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "simple recurrent network over the steps of a sequence; a second input is its length (PyTorch RNN)";
/// Parameters: those of all recurrent layers, and one.
pub(crate) const PARAMS: &[ParamDoc] = &{
    let mut params =
        [ParamDoc::new("nonlinearity", "\"tanh\"", "\"tanh\" or \"relu\""); recurrent::PARAMS.len() + 1];
    let mut i = 0;
    while i < recurrent::PARAMS.len() {
        params[i] = recurrent::PARAMS[i];
        i += 1;
    }
    params
};

pub(crate) fn build(reader: &mut ParamReader<'_>, inputs: &[Shape]) -> Result<Box<dyn Layer>, Misfit> {
    let tanh = reader.choice("nonlinearity", &["tanh", "relu"], Some("tanh")) == "tanh";
    recurrent::build(if tanh { Cell::Tanh } else { Cell::Relu }, "rnn", reader, inputs)
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("rnn", 5e-6);
        golden::check_layer("rnn_lengths", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("rnn", 4e-3);
    }
}
