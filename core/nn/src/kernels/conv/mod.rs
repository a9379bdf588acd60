//! Convolutions of a whole micro-batch, channels last, on all threads of a team.
//!
//! | module | filters | passes |
//! |---|---|---|
//! | [`correlation`] | of any size, stride, padding, dilation and groups: direct | forward, backward-data |
//! | [`pointwise`] | of one pixel: a matrix product on the image as it lies | forward, backward-data |
//! | [`gradient`] | any: outer products, direct | backward-weights |
//! | [`depthwise`] | one a channel | forward, backward-data |
//! | [`expanded`] | one pixel, then one a channel, together | forward |
//! | [`depthwise_gradient`] | one a channel | backward-weights |
//! | [`bf16_gradient`] | any, of enough channels, operands rounded to bf16 | backward-weights |
//! | [`winograd`] | 3 × 3, stride 1: a quarter of the multiplications | all |
//!
//! Each pass is planned once for its sizes ([`Forward`], [`BackwardData`], [`BackwardWeights`]), says how much scratch
//! it needs, and cuts its work into tasks. No sum is divided between tasks: **the bits of a result depend neither on the
//! threads nor on the CPU.** Weights are packed once a step.
//!
//! Refuses to: allocate in a pass, choose threads, know layers.

mod bf16;
mod bf16_gradient;
mod correlation;
mod depthwise;
mod depthwise_gradient;
mod expanded;
mod gather;
mod geometry;
mod gradient;
mod pointwise;
mod size;
#[cfg(test)]
mod tests;
pub(in crate::kernels) mod tile;
mod weights;
mod winograd;

use super::{Bounds, Isa};
use crate::team::Team;
use bf16_gradient::GradientOfPairs;
use correlation::{Correlation, Job};
use depthwise::Depthwise;
use depthwise_gradient::DepthwiseGradient;
use expanded::{Expanded, First};
pub use gather::Prologue;
use gradient::{Gradient, GradientJob};
use pointwise::Pointwise;
pub use size::ConvSize;
use std::marker::PhantomData;
use winograd::{Winograd, WinogradGradient};

/// What a result begins with.
#[derive(Clone, Copy, Debug)]
pub enum Begin<'a> {
    /// Nothing: what is there is overwritten.
    Zero,
    /// A number for each output channel.
    Bias(&'a [f32]),
    /// What is there: the pass adds to it.
    Present,
}

/// Arguments of [`Forward::run`].
pub struct ForwardArgs<'a> {
    /// Images.
    pub records: usize,
    /// `[records, H, W, C]`
    pub x: &'a [f32],
    /// As [`Forward::pack`] wrote them.
    pub weights: &'a [f32],
    /// `[records, OH, OW, K]`
    pub y: &'a mut [f32],
    /// What y begins with.
    pub begin: Begin<'a>,
    /// What is left of the results.
    pub bounds: Bounds,
    /// What happens to x as it is read.
    pub prologue: Option<Prologue<'a>>,
}

/// Arguments of [`BackwardData::run`].
pub struct BackwardDataArgs<'a> {
    /// Images.
    pub records: usize,
    /// `[records, OH, OW, K]`
    pub dy: &'a [f32],
    /// As [`BackwardData::pack`] wrote them.
    pub weights: &'a [f32],
    /// `[records, H, W, C]`
    pub dx: &'a mut [f32],
    /// Whether to add to what is in dx.
    pub add: bool,
}

/// Arguments of [`BackwardWeights::run`].
pub struct BackwardWeightsArgs<'a> {
    /// Images.
    pub records: usize,
    /// `[records, H, W, C]`
    pub x: &'a [f32],
    /// `[records, OH, OW, K]`
    pub dy: &'a [f32],
    /// What happens to x as it is read.
    pub prologue: Option<Prologue<'a>>,
    /// `[K, C / groups, kh, kw]`
    pub dweights: &'a mut [f32],
    /// `[K]`
    pub dbias: Option<&'a mut [f32]>,
    /// Whether to add to what is in both.
    pub add: bool,
}

/// The planned forward pass of a convolution.
#[derive(Debug)]
pub struct Forward {
    size: ConvSize,
    how: Correlating,
}

/// The planned backward-data of a convolution.
#[derive(Debug)]
pub struct BackwardData {
    size: ConvSize,
    how: Correlating,
}

/// The planned backward-weights of a convolution.
#[derive(Debug)]
pub struct BackwardWeights {
    size: ConvSize,
    how: Summing,
}

/// Which algorithms may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whether 3 × 3 filters with stride 1 may go through F(4×4, 3×3), which is faster and rounds more coarsely.
    pub winograd: bool,
    /// Whether operands are rounded to bf16 where that is faster; Winograd's algorithm is then not used.
    pub bf16: bool,
}

/// With fewer channels of a group to sum over or to write, tiles of bf16 would be filled with zeros.
const FEW_CHANNELS: usize = 16;

impl Choice {
    /// Until somebody says otherwise.
    pub const STANDARD: Choice = Choice { winograd: true, bf16: false };

    /// The same for a forward pass over at most `records` images that is planned once and whose weights are packed once.
    #[must_use]
    pub fn for_few(self, size: &ConvSize, records: usize) -> Choice {
        Choice { winograd: self.winograd && winograd::pays_for(size, records), ..self }
    }

    /// Whether operands are rounded to bf16.
    fn bf16(self, size: &ConvSize) -> bool {
        self.bf16 && size.group_inputs().min(size.group_outputs()) >= FEW_CHANNELS
    }

    /// Whether F(4×4, 3×3) is allowed, possible and faster.
    fn winograd(self, size: &ConvSize) -> bool {
        self.winograd && winograd::applies(size) && winograd::pays(size)
    }
}

/// How backward-weights is done.
#[derive(Debug)]
enum Summing {
    Direct(Gradient),
    Bf16(GradientOfPairs),
    Winograd(WinogradGradient),
    Depthwise(DepthwiseGradient),
}

/// How forward and backward-data are done.
#[derive(Debug)]
enum Correlating {
    Direct(Correlation),
    Pointwise(Pointwise),
    Winograd(Winograd),
    Depthwise(Depthwise),
}

impl Correlating {
    fn packed(&self) -> usize {
        match self {
            Correlating::Direct(direct) => direct.packed(),
            Correlating::Pointwise(pointwise) => pointwise.packed(),
            Correlating::Winograd(winograd) => winograd.packed(),
            Correlating::Depthwise(depthwise) => depthwise.packed(),
        }
    }

    fn pack(&self, team: &mut Team, isa: Isa, weights: &[f32], packed: &mut [f32]) {
        match self {
            Correlating::Direct(direct) => direct.pack(team, isa, weights, packed),
            Correlating::Pointwise(pointwise) => pointwise.pack(team, weights, packed),
            Correlating::Winograd(winograd) => winograd.pack(team, isa, weights, packed),
            Correlating::Depthwise(depthwise) => depthwise.pack(weights, packed),
        }
    }

    fn scratch(&self, records: usize, threads: usize) -> usize {
        match self {
            Correlating::Direct(direct) => direct.scratch(records, threads),
            Correlating::Pointwise(pointwise) => pointwise.scratch(records, threads),
            Correlating::Winograd(winograd) => winograd.scratch(records, threads),
            Correlating::Depthwise(depthwise) => depthwise.scratch(records, threads),
        }
    }

    fn run(&self, team: &mut Team, isa: Isa, job: &Job<'_>, scratch: &mut [f32]) {
        match self {
            Correlating::Direct(direct) => direct.run(team, isa, job, scratch),
            Correlating::Pointwise(pointwise) => pointwise.run(team, isa, job, scratch),
            Correlating::Winograd(winograd) => winograd.run(team, isa, job, scratch),
            Correlating::Depthwise(depthwise) => depthwise.run(team, isa, job, scratch),
        }
    }
}

impl Forward {
    /// Plans the pass.
    pub fn plan(size: &ConvSize, choice: Choice) -> Forward {
        let how = if choice.bf16(size) {
            Correlating::Direct(Correlation::forward(size, true))
        } else if choice.winograd(size) {
            Correlating::Winograd(Winograd::forward(size))
        } else if size.depthwise() {
            Correlating::Depthwise(Depthwise::forward(size))
        } else if size.pointwise() {
            Correlating::Pointwise(Pointwise::forward(size))
        } else {
            Correlating::Direct(Correlation::forward(size, false))
        };
        Forward { size: *size, how }
    }

    /// Numbers of the packed weights.
    pub fn packed(&self) -> usize {
        self.how.packed()
    }

    /// Packs weights, `[K, C / groups, kh, kw]`.
    pub fn pack(&self, team: &mut Team, isa: Isa, weights: &[f32], packed: &mut [f32]) {
        assert_eq!(weights.len(), self.size.weights_len(), "weights are [K, C / groups, kh, kw]");
        self.how.pack(team, isa, weights, &mut packed[..self.how.packed()]);
    }

    /// Numbers of scratch for at most `records` images on `threads` threads.
    pub fn scratch(&self, records: usize, threads: usize) -> usize {
        let most = |most, records| self.how.scratch(records, threads).max(most);
        (1..=records).fold(0, most)
    }

    /// Computes y.
    ///
    /// # Panics
    /// When a slice has not the size it should have.
    pub fn run(&self, team: &mut Team, isa: Isa, args: ForwardArgs<'_>, scratch: &mut [f32]) {
        let (size, records) = (&self.size, args.records);
        assert_eq!(args.x.len(), records * size.input_len(), "x is [records, H, W, C]");
        assert_eq!(args.y.len(), records * size.output_len(), "y is [records, OH, OW, K]");
        let job = Job {
            records,
            from: args.x,
            weights: &args.weights[..self.how.packed()],
            to: Target::new(args.y),
            prologue: args.prologue,
            begin: args.begin,
            bounds: args.bounds,
        };
        self.how.run(team, isa, &job, scratch);
    }
}

/// Arguments of [`Forward::run_expanded`].
pub struct ExpandedArgs<'a> {
    /// Images.
    pub records: usize,
    /// `[records, H, W, C]`
    pub x: &'a [f32],
    /// Of each convolution, as [`Forward::pack`] wrote them.
    pub weights: [&'a [f32]; 2],
    /// What the outputs of each begin with, a number each.
    pub bias: [&'a [f32]; 2],
    /// What is left of the results of each.
    pub bounds: [Bounds; 2],
    /// `[records, OH, OW, K]`
    pub y: &'a mut [f32],
}

/// A convolution of single pixels, and a depthwise one that reads its results.
impl Forward {
    fn expanded<'a>(&'a self, depthwise: &'a Forward) -> Option<Expanded<'a>> {
        let (Correlating::Pointwise(expand), Correlating::Depthwise(then)) = (&self.how, &depthwise.how)
        else {
            return None;
        };
        let both = Expanded { expand, depthwise: then };
        (self.size.output == depthwise.size.input && both.fits()).then_some(both)
    }

    /// Whether this is a convolution of single pixels, `depthwise` one that can be computed with it, and what lies between
    /// the two large enough for that to be faster.
    pub fn expands(&self, depthwise: &Forward) -> bool {
        self.expanded(depthwise).is_some_and(|both| both.pays())
    }

    /// Numbers of scratch of [`Forward::run_expanded`] for at most `records` images on `threads` threads.
    pub fn scratch_expanded(&self, depthwise: &Forward, records: usize, threads: usize) -> usize {
        let both = self.expanded(depthwise);
        (1..=records).filter_map(|records| Some(both?.scratch(records, threads))).max().unwrap_or(0)
    }

    /// Computes y by this convolution and `depthwise`.
    ///
    /// # Panics
    /// When a slice has not the size it should have, or the two do not go together.
    pub fn run_expanded(
        &self,
        depthwise: &Forward,
        (team, isa): (&mut Team, Isa),
        args: ExpandedArgs<'_>,
        scratch: &mut [f32],
    ) {
        let both = self.expanded(depthwise).expect("a depthwise convolution reads one of single pixels");
        let ([from, to], records) = ([&self.size, &depthwise.size], args.records);
        assert_eq!(args.x.len(), records * from.input_len(), "x is [records, H, W, C]");
        assert_eq!(args.y.len(), records * to.output_len(), "y is [records, OH, OW, K]");
        let ([first, second], [bias, begin]) = (args.weights, args.bias);
        let weights = &first[..self.how.packed()];
        let first = First { x: args.x, weights, bias, bounds: args.bounds[0] };
        let job = Job {
            records,
            from: &[],
            weights: &second[..depthwise.how.packed()],
            to: Target::new(args.y),
            prologue: None,
            begin: Begin::Bias(begin),
            bounds: args.bounds[1],
        };
        both.run(team, isa, first, &job, scratch);
    }
}

impl BackwardData {
    /// Plans the pass.
    pub fn plan(size: &ConvSize, choice: Choice) -> BackwardData {
        let how = if choice.bf16(size) {
            Correlating::Direct(Correlation::backward(size, true))
        } else if choice.winograd(size) {
            Correlating::Winograd(Winograd::backward(size))
        } else if size.depthwise() {
            Correlating::Depthwise(Depthwise::backward(size))
        } else if size.pointwise() && size.stride == [1; 2] {
            Correlating::Pointwise(Pointwise::backward(size))
        } else {
            Correlating::Direct(Correlation::backward(size, false))
        };
        BackwardData { size: *size, how }
    }

    /// Numbers of the packed weights.
    pub fn packed(&self) -> usize {
        self.how.packed()
    }

    /// Packs weights, `[K, C / groups, kh, kw]`.
    pub fn pack(&self, team: &mut Team, isa: Isa, weights: &[f32], packed: &mut [f32]) {
        assert_eq!(weights.len(), self.size.weights_len(), "weights are [K, C / groups, kh, kw]");
        self.how.pack(team, isa, weights, &mut packed[..self.how.packed()]);
    }

    /// Numbers of scratch for at most `records` images on `threads` threads.
    pub fn scratch(&self, records: usize, threads: usize) -> usize {
        let most = |most, records| self.how.scratch(records, threads).max(most);
        (1..=records).fold(0, most)
    }

    /// Computes dx.
    ///
    /// # Panics
    /// When a slice has not the size it should have.
    pub fn run(&self, team: &mut Team, isa: Isa, args: BackwardDataArgs<'_>, scratch: &mut [f32]) {
        let (size, records) = (&self.size, args.records);
        assert_eq!(args.dx.len(), records * size.input_len(), "dx is [records, H, W, C]");
        assert_eq!(args.dy.len(), records * size.output_len(), "dy is [records, OH, OW, K]");
        let job = Job {
            records,
            from: args.dy,
            weights: &args.weights[..self.how.packed()],
            to: Target::new(args.dx),
            prologue: None,
            begin: if args.add { Begin::Present } else { Begin::Zero },
            bounds: Bounds::NONE,
        };
        self.how.run(team, isa, &job, scratch);
    }
}

impl BackwardWeights {
    /// Plans the pass.
    pub fn plan(size: &ConvSize, choice: Choice) -> BackwardWeights {
        let how = if choice.bf16(size) {
            Summing::Bf16(GradientOfPairs::new(size))
        } else if choice.winograd(size) {
            Summing::Winograd(WinogradGradient::new(size))
        } else if size.depthwise() {
            Summing::Depthwise(DepthwiseGradient::new(size))
        } else {
            Summing::Direct(Gradient::new(size))
        };
        BackwardWeights { size: *size, how }
    }

    fn scratch_of(&self, records: usize, threads: usize) -> usize {
        match &self.how {
            Summing::Direct(direct) => direct.scratch(records),
            Summing::Bf16(pairs) => pairs.scratch(records),
            Summing::Winograd(winograd) => winograd.scratch(records),
            Summing::Depthwise(depthwise) => depthwise.scratch(threads),
        }
    }

    /// Numbers of scratch for at most `records` images on `threads` threads.
    pub fn scratch(&self, records: usize, threads: usize) -> usize {
        (1..=records).map(|records| self.scratch_of(records, threads)).max().unwrap_or(0)
    }

    /// Computes the gradients of weights and bias.
    ///
    /// # Panics
    /// When a slice has not the size it should have.
    pub fn run(&self, team: &mut Team, isa: Isa, args: BackwardWeightsArgs<'_>, scratch: &mut [f32]) {
        let (size, records) = (&self.size, args.records);
        assert_eq!(args.x.len(), records * size.input_len(), "x is [records, H, W, C]");
        assert_eq!(args.dy.len(), records * size.output_len(), "dy is [records, OH, OW, K]");
        assert_eq!(args.dweights.len(), size.weights_len(), "the gradient is [K, C / groups, kh, kw]");
        let job = GradientJob {
            records,
            x: args.x,
            dy: args.dy,
            prologue: args.prologue,
            dweights: args.dweights,
            dbias: args.dbias,
            add: args.add,
        };
        match &self.how {
            Summing::Direct(direct) => direct.run(team, isa, job, scratch),
            Summing::Bf16(pairs) => pairs.run(team, isa, job, scratch),
            Summing::Winograd(winograd) => winograd.run(team, isa, job, scratch),
            Summing::Depthwise(depthwise) => depthwise.run(team, isa, job, scratch),
        }
    }
}

/// A borrowed buffer of which tasks write parts at the same time, interleaved: pixels are shared, channels are not.
#[derive(Clone, Copy)]
struct Target<'a> {
    start: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}

// SAFETY: what lies behind is used by unsafe functions only, whose callers promise not to overlap.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    fn new(buffer: &'a mut [f32]) -> Self {
        Target { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    /// Where number `offset` lies.
    fn at(&self, offset: usize) -> *mut f32 {
        assert!(offset <= self.len, "the place lies within the buffer");
        self.start.wrapping_add(offset)
    }

    /// A part that nobody else reads or writes.
    ///
    /// # Safety
    /// Nobody else uses the part while the slice lives.
    unsafe fn write(&self, offset: usize, len: usize) -> &'a mut [f32] {
        assert!(offset <= self.len && len <= self.len - offset, "the part lies within the buffer");
        // SAFETY: within the buffer, which is borrowed for 'a; the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(offset), len) }
    }
}
