//! Layers, one file each, always in the same order: what it computes, its parameters, how it is built, forward,
//! backward, tests with numbers from an oracle. Names, defaults and weight layouts are PyTorch's.

pub(crate) mod activation;
pub(crate) mod add;
pub(crate) mod attention;
pub(crate) mod avg_pool2d;
pub(crate) mod batch_norm;
pub(crate) mod concat;
pub(crate) mod conv2d;
mod conv_planar;
mod conv_whole;
mod dims;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod embedding_bag;
pub(crate) mod flatten;
pub(crate) mod gru;
pub(crate) mod layer_norm;
pub(crate) mod linear;
mod linear_whole;
pub(crate) mod log_softmax;
pub(crate) mod lstm;
pub(crate) mod max_pool2d;
pub(crate) mod multiply;
mod recurrent;
pub(crate) mod relayout;
pub(crate) mod relu;
pub(crate) mod rnn;
pub(crate) mod sigmoid;
pub(crate) mod tanh;
mod window;
