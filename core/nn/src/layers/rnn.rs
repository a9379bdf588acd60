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
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("hidden_size", "required", "numbers of a state"),
    ParamDoc::new("input_size", "from the input", "features of a step, checked when given"),
    ParamDoc::new("num_layers", "1", "layers on top of each other"),
    ParamDoc::new("bias", "true", "whether learned numbers are added to the sums"),
    ParamDoc::new("dropout", "0", "share of the numbers between layers that is dropped in training"),
    ParamDoc::new(
        "bidirectional",
        "false",
        "whether a second direction goes from the last step to the first",
    ),
    ParamDoc::new(
        "output",
        "\"all\"",
        "\"all\": the states of all steps; \"last\": those after the last step (of both directions)",
    ),
    ParamDoc::new("nonlinearity", "\"tanh\"", "\"tanh\" or \"relu\""),
];

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
