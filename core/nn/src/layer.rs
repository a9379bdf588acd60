//! What a layer is: the contract between the layers and the engine that runs them.
//!
//! A layer is built once, for one input shape, and never changes afterwards: parameters, activations and
//! gradients are slices that the engine hands in. It works on whole records and knows neither threads nor
//! where its slices lie; the engine calls it for a few records at a time, on any thread. Layers that want all
//! records at once, and the threads, are [`Wide`].
//!
//! Letters: N records, H rows, W columns, C channels, T time steps, F features; `x` input, `y` output, `dx` and `dy` the
//! gradients of the loss with respect to them.

use crate::kernels::Isa;
use crate::random::RandomKey;
use crate::shape::{Layout, Shape};
use crate::team::Team;
use std::any::Any;
use std::borrow::Cow;
use std::ops::Range;

/// A learned array of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    /// PyTorch's name within the layer, such as `weight`.
    pub name: Cow<'static, str>,
    /// PyTorch's shape, such as `[out, in, kh, kw]`; the numbers lie in this order.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Whether it is learned.
    pub kind: ParameterKind,
}

/// What becomes of a parameter in an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// The optimizer changes it by its gradient.
    Learned,
    /// A statistic of the data, such as a running mean: what the layer adds to its "gradient" is subtracted
    /// from it as it is, whatever the optimizer. So it is summed over lanes and workers like gradients are, and is
    /// the same on all of them.
    Statistic,
    /// A table (rows, columns) of which a pass touches few rows: its gradient are those rows
    /// ([`crate::SparseRows`]). The only parameter of a layer that is [`Tabled`].
    Rows {
        /// Whether an update leaves alone what it does not touch, rows and what the optimizer keeps of them; otherwise
        /// these see a gradient of 0.
        lazy: bool,
    },
}

impl ParameterSpec {
    /// An array that is learned.
    pub fn learned(name: impl Into<Cow<'static, str>>, shape: Vec<usize>, init: Init) -> Self {
        ParameterSpec { name: name.into(), shape, init, kind: ParameterKind::Learned }
    }

    /// A statistic that starts with the same number everywhere.
    pub fn statistic(name: impl Into<Cow<'static, str>>, shape: Vec<usize>, start: f32) -> Self {
        let init = Init::Constant(start);
        ParameterSpec { name: name.into(), shape, init, kind: ParameterKind::Statistic }
    }

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
    /// Normal, around 0.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Rows of a table, normal around 0 with deviation 1, except for one that is 0.
    NormalRows {
        /// The row of zeros.
        zero: usize,
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
    /// 1 / records of the whole step, over all lanes and batches: what a record's statistics count for.
    pub scale: f32,
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
    /// The further inputs of a layer that joins several.
    pub others: &'a [&'a [f32]],
    /// Outputs, to be overwritten.
    pub y: &'a mut [f32],
    /// [`Layer::saved`] numbers that backward gets again.
    pub saved: &'a mut [f32],
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
    /// The further inputs of a layer that joins several; empty unless [`Layer::reads_others`].
    pub others: &'a [&'a [f32]],
    /// Outputs; empty unless [`Needs::output`].
    pub y: &'a [f32],
    /// What forward left in [`Forward::saved`].
    pub saved: &'a [f32],
    /// Gradient of the outputs. The layer may overwrite it; a layer whose parameter gradients are computed by
    /// [`Sharded`] leaves in it what [`Sharded::weights_shard`] needs.
    pub dy: &'a mut [f32],
    /// Gradient of the inputs, to be overwritten; `None` when nothing before the layer learns, or when it is
    /// `dy` itself as the layer leaves it ([`Layer::passes`]).
    pub dx: Option<&'a mut [f32]>,
    /// Whether to add to `dx` instead of overwriting it; only where [`Layer::adds`].
    pub add: bool,
    /// Gradients of the further inputs, as `dx`.
    pub dothers: &'a mut [Option<&'a mut [f32]>],
    /// Gradient of the parameters, to be **added to**; `None` when [`Sharded::weights_shard`] does it.
    pub dparams: Option<&'a mut [f32]>,
    /// Whether there is anything in `dparams` to add to. Only ever false for layers that are [`Wide`], which then
    /// overwrite what is there.
    pub accumulate: bool,
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

    /// The input (0 is `x`) whose gradient is `dy` as [`Layer::backward`] leaves it, so that nothing has to be
    /// copied where the engine can arrange for it.
    fn passes(&self) -> Option<usize> {
        None
    }

    /// Whether [`Layer::backward`] can add to `dx`.
    fn adds(&self) -> bool {
        false
    }

    /// Whether the output is the input, number by number, in training too: the engine then leaves the layer
    /// out. Asked after [`Layer::arrange`].
    fn is_identity(&self) -> bool {
        false
    }

    /// For an input (0 is `x`) whose numbers are more than quantities, rows of a table or lengths: the number that
    /// all of them are below. They are whole and not negative. A pass can not fail, so that batches are checked
    /// before ([`crate::Model::check`]); such inputs come from the record itself.
    fn whole_below(&self, input: usize) -> Option<usize> {
        let _ = input;
        None
    }

    /// Which numbers of `x` the output consists of, in their order, when all that the layer does is to copy them.
    fn copies(&self) -> Option<Range<usize>> {
        None
    }

    /// What backward reads again.
    fn needs(&self) -> Needs;

    /// Whether backward reads the further inputs of a layer that joins several.
    fn reads_others(&self) -> bool {
        self.needs().input
    }

    /// Scratch numbers a call for `records` records needs.
    fn scratch(&self, records: usize) -> usize {
        let _ = records;
        0
    }

    /// Fewest records that a call should get, where there are as many: for layers whose matrix products have a row
    /// a record.
    fn least_records(&self) -> usize {
        1
    }

    /// Rows of a record in the layer's matrix products, where they are many: a few records are then enough for a
    /// block, even of layers with many weights.
    fn rows(&self) -> usize {
        1
    }

    /// Numbers that forward keeps for backward. Unless the layer is [`Wide`], so many a record. A call of backward
    /// gets the records of one call of forward, so that the layer may arrange theirs together as it likes.
    fn saved(&self, records: usize) -> usize {
        let _ = records;
        0
    }

    /// Numbers that [`Layer::pack`] derives from the parameters; `learns` says whether backward will be asked for `dx`.
    fn packed(&self, learns: bool) -> usize {
        let _ = learns;
        0
    }

    /// Rearranges the parameters once a pass, for kernels of these instructions that want another order; `packed` has as
    /// many numbers as [`Layer::packed`] said.
    fn pack(&self, isa: Isa, params: &[f32], packed: &mut [f32]) {
        let _ = (isa, params, packed);
    }

    /// Computes `y` from `x`. Not called for a layer that is [`Wide`].
    fn forward(&self, pass: Forward<'_>);

    /// Computes `dx` and adds to `dparams`, from `dy`. Not called for a layer that is [`Wide`].
    fn backward(&self, pass: Backward<'_>);

    /// The layer as one that takes all records at once, when it is.
    fn wide(&self) -> Option<&dyn Wide> {
        None
    }

    /// The parameter gradients of a large layer, cut by parameters instead of by records.
    fn sharded(&self) -> Option<&dyn Sharded> {
        None
    }

    /// The layer as one whose parameter is a table of [`ParameterKind::Rows`], when it is.
    fn tabled(&self) -> Option<&dyn Tabled> {
        None
    }
}

/// A layer that looks its inputs up in a table, whose gradient are single rows. `backward` gets no `dparams`.
pub trait Tabled: Sync {
    /// The row that a number of the inputs means; `None` when it has no gradient.
    fn row(&self, id: f32) -> Option<u32>;

    /// The row of `dy`, as [`Layer::backward`] leaves it, that is the gradient for input `index`.
    fn gradient_row(&self, index: usize) -> usize;
}

/// A layer whose parameter gradient can be computed piece by piece over all records, so that no thread needs
/// a copy of it and no sum is split. Passes may update it at once ([`crate::Workspace::with_updates`]).
pub trait Sharded: Sync {
    /// Pieces for so many records and threads, with more records not more. How the parameters are cut changes no bit of
    /// their gradients.
    fn shards(&self, records: usize, threads: usize) -> usize;

    /// The parameters of piece `shard` of `shards`, as ranges of the layer's parameters. Together the pieces hold every
    /// parameter once.
    fn shard_ranges(&self, shard: usize, shards: usize) -> [Range<usize>; 2];

    /// Computes the gradients of a piece over all `records` records; adds to what is there when `pass.accumulate`.
    fn weights_shard(&self, pass: WeightsShard<'_>);
}

/// A layer that takes all records of a micro-batch at once and divides the work itself: because it needs them
/// all (batch norm), or because a record is work for many threads (large convolutions).
///
/// It cuts its work into tasks none of which divides a sum, so that no bit depends on the number of threads.
pub trait Wide: Sync {
    /// Scratch numbers for `records` records on `threads` threads.
    fn scratch(&self, records: usize, threads: usize) -> usize;

    /// Whether what it gives for a record depends on the other records of the batch in prediction too.
    fn mixes_records(&self) -> bool {
        false
    }

    /// Derives the [`Layer::packed`] numbers of a layer that is only for prediction from its parameters, once.
    fn prepare(&self, (team, isa): (&mut Team, Isa), params: &[f32], packed: &mut [f32]) {
        let _ = (team, isa, params, packed);
    }

    /// As [`Layer::forward`]; nothing is packed but what [`Wide::prepare`] wrote.
    fn forward(&self, team: &mut Team, pass: Forward<'_>);

    /// As [`Layer::backward`], with nothing packed and `dparams` always there when the layer has parameters and is not
    /// [`Sharded`]; see [`Backward::accumulate`].
    fn backward(&self, team: &mut Team, pass: Backward<'_>);
}

/// Arguments of [`Sharded::weights_shard`].
pub struct WeightsShard<'a> {
    /// Which piece, and how many there are.
    pub shard: usize,
    /// See `shard`.
    pub shards: usize,
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
