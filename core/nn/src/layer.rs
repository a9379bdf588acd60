//! What a layer is: the contract between the layers and the engine that runs them.
//!
//! A layer is built once, for one input shape, and never changes afterwards: parameters, activations and
//! gradients are slices that the engine hands in. It works on whole records and knows neither threads nor
//! where its slices lie; the engine calls it for a few records at a time, on any thread.
//!
//! Letters: N records, H rows, W columns, C channels, F features; `x` input, `y` output, `dx` and `dy` the
//! gradients of the loss with respect to them.

use crate::kernels::Isa;
use crate::random::RandomKey;
use crate::shape::{Layout, Shape};
use std::any::Any;

/// A learned array of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// PyTorch's name within the layer, such as `weight`.
    pub name: &'static str,
    /// PyTorch's shape, such as `[out, in, kh, kw]`; the numbers lie in this order.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
}

impl ParameterSpec {
    /// Numbers in the array.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Distribution a parameter is drawn from before training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform from `-bound` to `bound`.
    Uniform {
        /// Largest magnitude.
        bound: f32,
    },
    /// The same number everywhere.
    Constant(f32),
}

/// Which of its own values a layer reads again in backward; the engine keeps only these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Reads `x`.
    pub input: bool,
    /// Reads `y`.
    pub output: bool,
}

/// What is the same for all records of a call.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Instructions for kernels.
    pub isa: Isa,
    /// Whether the pass is part of training (dropout drops) or of evaluation.
    pub training: bool,
    /// What random numbers depend on.
    pub key: RandomKey,
    /// Place of the layer in the model, another coordinate of random numbers.
    pub layer: u32,
    /// Index within the micro-batch of the first record of this call.
    pub first_record: usize,
}

/// Arguments of [`Layer::forward`]: `records` records one after the other in `x` and `y`.
pub struct Forward<'a> {
    /// Records in this call.
    pub records: usize,
    /// The layer's parameters, in the order of [`Layer::parameters`].
    pub params: &'a [f32],
    /// What [`Layer::pack`] wrote.
    pub packed: &'a [f32],
    /// Inputs.
    pub x: &'a [f32],
    /// Outputs, to be overwritten.
    pub y: &'a mut [f32],
    /// [`Layer::scratch`] numbers of undefined content.
    pub scratch: &'a mut [f32],
    /// What is the same for all records.
    pub context: Context,
}

/// Arguments of [`Layer::backward`]; slices as in [`Forward`].
pub struct Backward<'a> {
    /// Records in this call.
    pub records: usize,
    /// The layer's parameters.
    pub params: &'a [f32],
    /// What [`Layer::pack`] wrote.
    pub packed: &'a [f32],
    /// Inputs; empty unless [`Needs::input`].
    pub x: &'a [f32],
    /// Outputs; empty unless [`Needs::output`].
    pub y: &'a [f32],
    /// Gradient of the outputs. The layer may overwrite it; a layer whose parameter gradients are computed by
    /// [`Sharded`] leaves in it what [`Sharded::weights_shard`] needs.
    pub dy: &'a mut [f32],
    /// Gradient of the inputs, to be overwritten; `None` when nothing before the layer learns.
    pub dx: Option<&'a mut [f32]>,
    /// Gradient of the parameters, to be **added to**; `None` when [`Sharded::weights_shard`] does it.
    pub dparams: Option<&'a mut [f32]>,
    /// [`Layer::scratch`] numbers of undefined content.
    pub scratch: &'a mut [f32],
    /// What is the same for all records.
    pub context: Context,
}

/// A step of the network from one value to the next.
pub trait Layer: Any + Send + Sync {
    /// Shape of an output record.
    fn output(&self) -> &Shape;

    /// The learned arrays; they lie one after the other in the flat buffer.
    fn parameters(&self) -> Vec<ParameterSpec> {
        Vec::new()
    }

    /// Floating-point operations of one record's forward pass, a multiply-add counted as two.
    fn flops(&self) -> u64 {
        0
    }

    /// The layout the layer wants its input in, given the one it would get without conversion.
    fn wants(&self, given: Layout) -> Layout {
        let _ = given;
        Layout::ChannelsLast
    }

    /// Told once, at build: the layout the input comes in (what [`Layer::wants`] answered). Returns the layout
    /// of the output.
    fn arrange(&mut self, input: Layout) -> Layout {
        input
    }

    /// Whether the output is the input, number by number, in training too: the engine then leaves the layer
    /// out. Asked after [`Layer::arrange`].
    fn is_identity(&self) -> bool {
        false
    }

    /// What backward reads again.
    fn needs(&self) -> Needs;

    /// Scratch numbers a call for `records` records needs.
    fn scratch(&self, records: usize) -> usize {
        let _ = records;
        0
    }

    /// Numbers that [`Layer::pack`] derives from the parameters.
    fn packed(&self) -> usize {
        0
    }

    /// Rearranges the parameters once a pass, for kernels that want another order.
    fn pack(&self, params: &[f32], packed: &mut [f32]) {
        let _ = (params, packed);
    }

    /// Computes `y` from `x`.
    fn forward(&self, pass: Forward<'_>);

    /// Computes `dx` and adds to `dparams`, from `dy`.
    fn backward(&self, pass: Backward<'_>);

    /// The parameter gradients of a large layer, cut by parameters instead of by records.
    fn sharded(&self) -> Option<&dyn Sharded> {
        None
    }
}

/// A layer whose parameter gradient can be computed piece by piece over all records, so that no thread needs
/// a copy of it and no sum is split.
pub trait Sharded: Sync {
    /// Pieces: a fixed number, whatever the number of threads.
    fn shards(&self) -> usize;

    /// The parameters of piece `shard`, as ranges of the layer's parameters. Together the pieces hold every
    /// parameter once.
    fn shard_ranges(&self, shard: usize) -> [std::ops::Range<usize>; 2];

    /// Computes the gradients of piece `shard` over all `records` records; adds to what is there when
    /// `pass.accumulate`.
    fn weights_shard(&self, shard: usize, pass: WeightsShard<'_>);
}

/// Arguments of [`Sharded::weights_shard`].
pub struct WeightsShard<'a> {
    /// Records of the micro-batch.
    pub records: usize,
    /// All inputs.
    pub x: &'a [f32],
    /// What [`Layer::backward`] left in `dy`, for all records.
    pub dy: &'a [f32],
    /// Gradients of the piece's parameters: one slice a range of [`Sharded::shard_ranges`].
    pub dparams: [&'a mut [f32]; 2],
    /// Whether to add to the gradients instead of overwriting them.
    pub accumulate: bool,
    /// Instructions for kernels.
    pub isa: Isa,
}

/// Why a layer does not fit its input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit(pub String);

impl From<String> for Misfit {
    fn from(message: String) -> Self {
        Misfit(message)
    }
}
