//! Convolution of many filters over all images of a micro-batch at once, channels last, by `kernels::conv`.
//!
//! Weights are packed anew in every pass, into scratch: they are few beside the images, and nothing has to be kept.

use super::conv2d::Conv;
use crate::arena::{ALIGN, Shared};
use crate::kernels::Bounds;
use crate::kernels::conv::{
    BackwardData, BackwardDataArgs, BackwardWeights, BackwardWeightsArgs, Begin, Choice, Forward,
    ForwardArgs, Prologue,
};
use crate::kernels::elementwise::{Function, derive_in_place};
use crate::layer;
use crate::team::Team;

/// Gradients that one task masks.
const MASK_NUMBERS: usize = 16 * 1024;

/// The planned passes of one convolution.
pub(super) struct Whole {
    weights: usize,
    bias: bool,
    /// What the ReLU or ReLU6 that follows leaves.
    pub(super) bounds: Bounds,
    pub(super) choice: Choice,
    forward: Forward,
    data: BackwardData,
    gradient: BackwardWeights,
}

impl Whole {
    pub(super) fn new(conv: &Conv, choice: Choice) -> Self {
        let size = conv.size();
        Whole {
            weights: conv.weights(),
            bias: conv.bias,
            bounds: Bounds::NONE,
            choice,
            forward: Forward::plan(&size, choice),
            data: BackwardData::plan(&size, choice),
            gradient: BackwardWeights::plan(&size, choice),
        }
    }
}

impl layer::Wide for Whole {
    fn scratch(&self, records: usize, threads: usize) -> usize {
        let packed = |packed: usize, scratch: usize| packed.next_multiple_of(ALIGN) + scratch;
        let forward = packed(self.forward.packed(), self.forward.scratch(records, threads));
        let data = packed(self.data.packed(), self.data.scratch(records, threads));
        forward.max(data).max(self.gradient.scratch(records, threads))
    }

    fn forward(&self, team: &mut Team, pass: layer::Forward<'_>) {
        self.forward_from(team, pass, None);
    }

    fn backward(&self, team: &mut Team, pass: layer::Backward<'_>) {
        self.backward_from(team, pass, None);
    }
}

impl Whole {
    /// The forward pass, with what is to happen to x as it is read.
    pub(super) fn forward_from(
        &self,
        team: &mut Team,
        pass: layer::Forward<'_>,
        prologue: Option<Prologue<'_>>,
    ) {
        let (weights, bias) = pass.params.split_at(self.weights);
        let (packed, scratch) = pass.scratch.split_at_mut(self.forward.packed().next_multiple_of(ALIGN));
        self.forward.pack(team, pass.context.isa, weights, packed);
        let args = ForwardArgs {
            records: pass.records,
            x: pass.x,
            weights: packed,
            y: pass.y,
            begin: if self.bias { Begin::Bias(bias) } else { Begin::Zero },
            bounds: self.bounds,
            prologue,
        };
        self.forward.run(team, pass.context.isa, args, scratch);
    }

    /// The backward pass, with what happened to x as it was read; dx is the gradient behind that.
    pub(super) fn backward_from(
        &self,
        team: &mut Team,
        pass: layer::Backward<'_>,
        prologue: Option<Prologue<'_>>,
    ) {
        let (isa, records) = (pass.context.isa, pass.records);
        if self.bounds.any() {
            let (dy, y) = (Shared::new(&mut *pass.dy), pass.y);
            team.tasks(y.len().div_ceil(MASK_NUMBERS), &|task, _| {
                let range = task * MASK_NUMBERS..((task + 1) * MASK_NUMBERS).min(y.len());
                // SAFETY: every task has its own part.
                derive_in_place(isa, Function::Clip(self.bounds), &y[range.clone()], unsafe {
                    dy.write(range)
                });
            });
        }
        let dy = &*pass.dy;
        let (dweights, dbias) = pass.dparams.unwrap_or_default().split_at_mut(self.weights);
        let dbias = self.bias.then_some(dbias);
        let args =
            BackwardWeightsArgs { records, x: pass.x, dy, prologue, dweights, dbias, add: pass.accumulate };
        self.gradient.run(team, isa, args, pass.scratch);
        if let Some(dx) = pass.dx {
            let (packed, scratch) = pass.scratch.split_at_mut(self.data.packed().next_multiple_of(ALIGN));
            self.data.pack(team, isa, &pass.params[..self.weights], packed);
            self.data.run(
                team,
                isa,
                BackwardDataArgs { records, dy, weights: packed, dx, add: pass.add },
                scratch,
            );
        }
    }
}
