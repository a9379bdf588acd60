//! Layers, one file each, always in the same order: what it computes, its parameters, how it is built, forward,
//! backward, tests with numbers from an oracle. Names, defaults and weight layouts are PyTorch's.

pub(crate) mod activation;
pub(crate) mod add;
pub(crate) mod avg_pool2d;
pub(crate) mod batch_norm;
pub(crate) mod concat;
pub(crate) mod conv2d;
mod conv_columns;
mod conv_planar;
mod dims;
pub(crate) mod dropout;
pub(crate) mod flatten;
pub(crate) mod linear;
pub(crate) mod log_softmax;
pub(crate) mod max_pool2d;
pub(crate) mod multiply;
pub(crate) mod relayout;
pub(crate) mod relu;
pub(crate) mod sigmoid;
pub(crate) mod tanh;
mod window;
