//! Batch norm: every channel is moved to mean 0 and variance 1 over all records and pixels of the micro-batch, then
//! to a learned mean and deviation: `y = (x - μ) / √(σ² + eps) · weight + bias`.
//!
//! x and y (…, C); μ and σ² over everything but C. In evaluation μ and σ² are the running ones:
//! `running = (1 - momentum) · running + momentum · batch`, where a step's batch statistics are the mean of those
//! of its micro-batches in all its batches, weighted by their records, whoever computed them.
//! With n rows and x̂ the normed input: `db = Σ dy`, `dweight = Σ dy x̂`,
//! `dx = weight / √(σ² + eps) · (dy - db / n - x̂ · dweight / n)`.
//!
//! Ioffe and Szegedy 2015. As PyTorch's `BatchNorm1d` and `BatchNorm2d`, whose running variance is the unbiased
//! one; a micro-batch of one row, which PyTorch refuses, has variance 0. A ReLU behind it, and a sum between the
//! two, are computed in the same sweeps.

use super::activation::Activation;
use crate::arena::Shared;
use crate::kernels::batch_norm::{
    Affine, Line, Normed, Passes, apply, backward_apply, backward_apply_in_place, backward_sums, moments,
};
use crate::kernels::conv::Prologue;
use crate::kernels::{Bounds, Isa};
use crate::layer::{Backward, Context, Forward, Init, Layer, Misfit, Needs, ParameterSpec, Wide};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use crate::team::Team;
use ringspin_job::ParamReader;
use std::ops::Range;

/// One line for the documentation.
pub(crate) const DOC: &str = "norms each channel over the micro-batch (PyTorch BatchNorm1d, BatchNorm2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("eps", "1e-5", "added to the variance, so that nothing is divided by 0"),
    ParamDoc::new("momentum", "0.1", "share of a step's statistics in the running ones"),
    ParamDoc::new("affine", "true", "whether each channel has a learned factor and offset"),
    ParamDoc::new("track_running_stats", "true", "whether evaluation uses running statistics"),
    ParamDoc::new("num_features", "from the input", "channels, checked when given"),
];

/// Numbers that a task sweeps over at a time: a quarter of a 1 MiB second-level cache.
const CHUNK: usize = 64 * 1024;

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let eps = reader.number("eps", 0.0..=f64::MAX, Some(1e-5));
    let momentum = reader.number("momentum", 0.0..=1.0, Some(0.1));
    let affine = reader.flag("affine", true);
    let tracks = reader.flag("track_running_stats", true);
    let expected = reader.has("num_features").then(|| reader.count("num_features", 1, None));
    let channels = *input.dims().last().expect("a shape has dimensions");
    if let Some(expected) = expected.filter(|expected| *expected != channels) {
        return Err(Misfit(format!("num_features = {expected}, but the layer before gives {input}")));
    }
    Ok(Box::new(BatchNorm {
        shape: input.clone(),
        channels,
        eps,
        momentum,
        affine,
        tracks,
        bounds: Bounds::NONE,
        joins: false,
    }))
}

#[derive(Clone)]
pub(crate) struct BatchNorm {
    shape: Shape,
    channels: usize,
    eps: f64,
    momentum: f64,
    affine: bool,
    tracks: bool,
    /// What the ReLU or ReLU6 that follows leaves.
    bounds: Bounds,
    /// Whether a second input is added, before the bounds.
    joins: bool,
}

impl BatchNorm {
    /// Takes in what follows it; `false` when it can not.
    pub(crate) fn absorb(&mut self, activation: &Activation) -> bool {
        let bounds = activation.function.bounds().filter(|_| !self.bounds.any());
        self.bounds = bounds.unwrap_or(self.bounds);
        bounds.is_some()
    }

    /// Takes in a sum of its output and another value, its second input; `false` when it can not.
    pub(crate) fn absorb_sum(&mut self) -> bool {
        let fits = !self.joins && !self.bounds.any();
        self.joins |= fits;
        fits
    }

    /// Whether evaluation uses running statistics, so that it is a factor and an offset for each channel.
    pub(crate) fn tracks(&self) -> bool {
        self.tracks
    }

    /// Those of the activation that it has taken in.
    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Whether it has taken in a sum.
    pub(super) fn joins(&self) -> bool {
        self.joins
    }

    /// Factor and offset of a channel in evaluation.
    pub(super) fn fixed(&self, params: &[f32], channel: usize) -> (f32, f32) {
        self.affine_of(params, channel, self.running(params, channel))
    }

    fn rows(&self, records: usize) -> usize {
        records * self.shape.elements() / self.channels
    }

    /// Rows of each task, whose number depends on the number of rows alone.
    fn chunks(&self, records: usize) -> Chunks {
        let rows = (CHUNK / self.channels).max(16);
        Chunks { rows: self.rows(records), each: rows, channels: self.channels }
    }
}

/// Rows cut into tasks.
#[derive(Clone, Copy)]
struct Chunks {
    rows: usize,
    each: usize,
    channels: usize,
}

impl Chunks {
    fn count(self) -> usize {
        self.rows.div_ceil(self.each)
    }

    /// Rows of a task.
    fn rows(self, task: usize) -> Range<usize> {
        task * self.each..((task + 1) * self.each).min(self.rows)
    }

    /// Numbers of a task.
    fn numbers(self, task: usize) -> Range<usize> {
        let rows = self.rows(task);
        rows.start * self.channels..rows.end * self.channels
    }

    /// What a task leaves in the scratch: two numbers a channel.
    fn partial(self, task: usize) -> Range<usize> {
        2 * task * self.channels..2 * (task + 1) * self.channels
    }
}

/// Statistics of a channel.
#[derive(Clone, Copy)]
struct Moments {
    mean: f64,
    variance: f64,
}

impl BatchNorm {
    /// Mean and variance of every channel over the rows of x: chunks by tasks, then added in their order (Chan,
    /// Golub and LeVeque 1983). `with` is told each channel's.
    fn statistics(
        &self,
        team: &mut Team,
        isa: Isa,
        (x, scratch): (&[f32], &mut [f32]),
        mut with: impl FnMut(usize, Moments),
    ) {
        let (c, chunks) = (self.channels, self.chunks(x.len() / self.shape.elements()));
        let partials = Shared::new(scratch);
        team.tasks(chunks.count(), &|task, _| {
            // SAFETY: every task has its own part.
            let (sums, squares) = unsafe { partials.write(chunks.partial(task)) }.split_at_mut(c);
            moments(isa, &x[chunks.numbers(task)], sums, squares);
        });
        for channel in 0..c {
            let (mut mean, mut squares, mut rows) = (0.0f64, 0.0f64, 0.0f64);
            for task in 0..chunks.count() {
                let own = chunks.rows(task).len() as f64;
                let start = chunks.partial(task).start + channel;
                let (sum, square) = (f64::from(scratch[start]), f64::from(scratch[start + c]));
                let own_mean = f64::from(x[chunks.numbers(task).start + channel]) + sum / own;
                let difference = own_mean - mean;
                squares += square - sum * sum / own + difference * difference * rows * own / (rows + own);
                rows += own;
                mean += difference * own / rows;
            }
            with(channel, Moments { mean, variance: squares.max(0.0) / rows });
        }
    }

    /// Factor and offset of every channel, from its statistics.
    fn affine_of(&self, params: &[f32], channel: usize, moments: Moments) -> (f32, f32) {
        let (weight, bias) = if self.affine {
            (f64::from(params[channel]), f64::from(params[self.channels + channel]))
        } else {
            (1.0, 0.0)
        };
        let factor = weight / (moments.variance + self.eps).sqrt();
        (factor as f32, (bias - moments.mean * factor) as f32)
    }

    /// Where running statistics begin among the parameters.
    fn statistics_start(&self) -> usize {
        if self.affine { 2 * self.channels } else { 0 }
    }

    fn running(&self, params: &[f32], channel: usize) -> Moments {
        let start = self.statistics_start() + channel;
        Moments { mean: f64::from(params[start]), variance: f64::from(params[start + self.channels]) }
    }
}

impl Layer for BatchNorm {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let shape = || vec![self.channels];
        let mut specs = Vec::new();
        if self.affine {
            specs.push(ParameterSpec::learned("weight", shape(), Init::Constant(1.0)));
            specs.push(ParameterSpec::learned("bias", shape(), Init::Constant(0.0)));
        }
        if self.tracks {
            specs.push(ParameterSpec::statistic("running_mean", shape(), 0.0));
            specs.push(ParameterSpec::statistic("running_var", shape(), 1.0));
        }
        specs
    }

    fn flops(&self) -> u64 {
        4 * self.shape.elements() as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: self.bounds.any() && self.joins }
    }

    fn reads_others(&self) -> bool {
        false
    }

    /// With a sum, dy as it passed the bounds is the gradient of the second input.
    fn passes(&self) -> Option<usize> {
        self.joins.then_some(1)
    }

    fn adds(&self) -> bool {
        true
    }

    /// Mean, 1 / deviation, variance, factor and offset of every channel.
    fn saved(&self, _: usize) -> usize {
        5 * self.channels
    }

    fn forward(&self, _: Forward<'_>) {
        unreachable!("batch norm takes all records at once");
    }

    fn backward(&self, _: Backward<'_>) {
        unreachable!("batch norm takes all records at once");
    }

    fn wide(&self) -> Option<&dyn Wide> {
        Some(self)
    }
}

impl Wide for BatchNorm {
    fn scratch(&self, records: usize, _: usize) -> usize {
        self.chunks(records).partial(self.chunks(records).count()).start + 3 * self.channels
    }

    fn mixes_records(&self) -> bool {
        !self.tracks
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let isa = pass.context.isa;
        let input = Measured { params: pass.params, x: pass.x, context: pass.context };
        self.measure(team, input, pass.saved, pass.scratch);
        let (chunks, y) = (self.chunks(pass.records), Shared::new(pass.y));
        let Prologue { scale: factor, shift: offset, .. } = self.prologue(pass.saved);
        team.tasks(chunks.count(), &|task, _| {
            let numbers = chunks.numbers(task);
            let other = self.joins.then(|| &pass.others[0][numbers.clone()]);
            // SAFETY: every task has its own rows.
            let y = unsafe { y.write(numbers.clone()) };
            apply(isa, Affine { factor, offset, other, bounds: self.bounds }, &pass.x[numbers], y);
        });
    }

    fn backward(&self, team: &mut Team, mut pass: Backward<'_>) {
        let (isa, chunks) = (pass.context.isa, self.chunks(pass.records));
        let scratch = std::mem::take(&mut pass.scratch);
        let line = self.line(team, &mut pass, scratch);
        let (kept, dy) = (self.kept(&pass), Shared::new(pass.dy));
        let Some(dx) = pass.dx.map(Shared::new) else { return };
        team.tasks(chunks.count(), &|task, _| {
            let numbers = chunks.numbers(task);
            // SAFETY: every task has its own rows, and nobody writes dy now.
            let (dy, dx) = unsafe { (dy.read(numbers.clone()), dx.write(numbers.clone())) };
            // What did not pass is already left out of dy where it was kept.
            let normed = kept.normed(numbers);
            let normed = if self.joins { Normed { passes: Passes::All, ..normed } } else { normed };
            backward_apply(isa, normed, line, dy, dx, pass.add);
        });
        if let Some(Some(other)) = pass.dothers.first_mut() {
            let other = Shared::new(other);
            team.tasks(chunks.count(), &|task, _| {
                let numbers = chunks.numbers(task);
                // SAFETY: every task has its own rows, and nobody writes dy now.
                unsafe { other.write(numbers.clone()).copy_from_slice(dy.read(numbers)) };
            });
        }
    }
}

/// What a forward pass measures.
pub(super) struct Measured<'a> {
    pub(super) params: &'a [f32],
    pub(super) x: &'a [f32],
    pub(super) context: Context,
}

/// What backward reads again.
#[derive(Clone, Copy)]
struct Kept<'a> {
    x: &'a [f32],
    y: &'a [f32],
    mean: &'a [f32],
    inverse: &'a [f32],
    variance: &'a [f32],
    factor: &'a [f32],
    offset: &'a [f32],
    bounds: Bounds,
    joins: bool,
}

impl<'a> Kept<'a> {
    fn normed(self, numbers: Range<usize>) -> Normed<'a> {
        let passes = match (self.bounds.any(), self.joins) {
            (false, _) => Passes::All,
            (true, true) => Passes::Output(&self.y[numbers.clone()], self.bounds),
            (true, false) => Passes::Affine(self.factor, self.offset, self.bounds),
        };
        Normed { x: &self.x[numbers], mean: self.mean, inverse: self.inverse, passes }
    }
}

impl BatchNorm {
    fn kept<'a>(&self, pass: &Backward<'a>) -> Kept<'a> {
        let c = self.channels;
        let [mean, inverse, variance, factor, offset] =
            std::array::from_fn(|i| &pass.saved[i * c..(i + 1) * c]);
        let (bounds, joins) = (self.bounds, self.joins);
        Kept { x: pass.x, y: pass.y, mean, inverse, variance, factor, offset, bounds, joins }
    }

    /// Whether it is a function of its only input.
    pub(super) fn is_alone(&self) -> bool {
        !self.joins
    }

    /// What the layer does to each channel, once that is measured.
    pub(super) fn prologue<'a>(&self, saved: &'a [f32]) -> Prologue<'a> {
        let c = self.channels;
        Prologue { scale: &saved[3 * c..4 * c], shift: &saved[4 * c..5 * c], bounds: self.bounds }
    }

    /// Finds the factor and the offset of every channel, and all else that is kept.
    pub(super) fn measure(
        &self,
        team: &mut Team,
        input: Measured<'_>,
        saved: &mut [f32],
        scratch: &mut [f32],
    ) {
        let c = self.channels;
        let (means, rest) = saved.split_at_mut(c);
        let (inverses, rest) = rest.split_at_mut(c);
        let (variances, rest) = rest.split_at_mut(c);
        let (factors, offsets) = rest.split_at_mut(c);
        let mut keep = |channel: usize, moments: Moments| {
            means[channel] = moments.mean as f32;
            inverses[channel] = (1.0 / (moments.variance + self.eps).sqrt()) as f32;
            variances[channel] = moments.variance as f32;
            (factors[channel], offsets[channel]) = self.affine_of(input.params, channel, moments);
        };
        if input.context.training || !self.tracks {
            self.statistics(team, input.context.isa, (input.x, scratch), keep);
        } else {
            (0..c).for_each(|channel| keep(channel, self.running(input.params, channel)));
        }
    }

    /// Sums up over all rows, which gives the gradients of the parameters; returns what dx is of dy.
    fn line<'s>(&self, team: &mut Team, pass: &mut Backward<'_>, scratch: &'s mut [f32]) -> Line<'s> {
        let (isa, c, chunks) = (pass.context.isa, self.channels, self.chunks(pass.records));
        let kept = self.kept(pass);
        let (scratch, lines) = scratch.split_at_mut(chunks.partial(chunks.count()).start);
        let (partials, dy) = (Shared::new(scratch), Shared::new(&mut *pass.dy));
        team.tasks(chunks.count(), &|task, _| {
            let numbers = chunks.numbers(task);
            // SAFETY: every task has its own rows and its own part of the sums.
            let (dy, sums) = unsafe { (dy.write(numbers.clone()), partials.write(chunks.partial(task))) };
            // What passed the bounds is the gradient of the second input.
            backward_sums(isa, kept.normed(numbers), dy, self.joins, sums.split_at_mut(c));
        });
        let rows = chunks.rows as f64;
        let dparams = pass.dparams.as_deref_mut().unwrap_or_default();
        if !pass.accumulate {
            dparams.fill(0.0);
        }
        let share = f64::from(pass.context.scale) * pass.records as f64 * self.momentum;
        let [factors, slopes, offsets] =
            lines.get_disjoint_mut([0..c, c..2 * c, 2 * c..3 * c]).expect("three parts");
        for channel in 0..c {
            let sum = |start: usize| -> f64 {
                (0..chunks.count()).map(|task| f64::from(scratch[chunks.partial(task).start + start])).sum()
            };
            let (dbias, dweight) = (sum(channel), sum(c + channel));
            if self.affine {
                dparams[channel] += dweight as f32;
                dparams[c + channel] += dbias as f32;
            }
            if self.tracks {
                let (start, running) =
                    (self.statistics_start() + channel, self.running(pass.params, channel));
                let unbiased = f64::from(kept.variance[channel]) * rows / (rows - 1.0).max(1.0);
                dparams[start] += (share * (running.mean - f64::from(kept.mean[channel]))) as f32;
                dparams[start + c] += (share * (running.variance - unbiased)) as f32;
            }
            let factor = f64::from(kept.factor[channel]);
            factors[channel] = factor as f32;
            slopes[channel] = (-factor * dweight / rows * f64::from(kept.inverse[channel])) as f32;
            offsets[channel] = (-factor * dbias / rows) as f32;
        }
        Line { factor: factors, slope: slopes, offset: offsets }
    }

    /// As [`Wide::backward`], with dx written where dy lies; without a second input.
    pub(super) fn backward_in_place(&self, team: &mut Team, mut pass: Backward<'_>) {
        let (isa, chunks) = (pass.context.isa, self.chunks(pass.records));
        let scratch = std::mem::take(&mut pass.scratch);
        let line = self.line(team, &mut pass, scratch);
        let (kept, dx) = (self.kept(&pass), Shared::new(pass.dy));
        team.tasks(chunks.count(), &|task, _| {
            let numbers = chunks.numbers(task);
            // SAFETY: every task has its own rows.
            let dx = unsafe { dx.write(numbers.clone()) };
            backward_apply_in_place(isa, kept.normed(numbers), line, dx);
        });
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("batch_norm2d", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("batch_norm2d", 4e-3);
    }
}
