//! Depthwise convolution: every channel has a filter of its own, so vectors lie along channels.
//!
//! `y[oh][ow][c] = Σ_{kh, kw} x[oh · stride + kh · dilation - padding][..][c] · w[kh][kw][c]`. Forward and backward-data
//! are one kernel: of dy it reads, for each phase of the stride, the taps that meet it. Taps outside of the image are
//! left out. Backward-weights adds up over the whole batch; a task has some channels and rows of the filter.

use super::correlation::Job;
use super::gather::Prologue;
use super::gradient::GradientJob;
use super::size::ConvSize;
use super::{Begin, Target};
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Bounds, Isa, Kernel};
use crate::team::Team;
use std::ops::Range;

/// Pixels whose sums are in registers at the same time.
const PIXELS: usize = 8;
/// Tasks that are enough for the threads of a worker to share the work evenly.
const ENOUGH_TASKS: usize = 32;
/// Vectors of channels that are enough tasks of backward-weights.
const ENOUGH_BLOCKS: usize = 8;
/// Columns of a filter whose sums are in registers at the same time.
const TAPS: usize = 5;

/// Pixels along an axis that meet the same taps.
#[derive(Debug)]
struct Phase {
    /// The first, and how many.
    first: usize,
    count: usize,
    /// Taps, and the pixel of the input that each reads for the first of the phase.
    taps: Vec<(usize, isize)>,
}

/// A planned forward or backward-data.
#[derive(Debug)]
pub(super) struct Depthwise {
    channels: usize,
    kernel: [usize; 2],
    /// Rows and columns of input and output.
    from: [usize; 2],
    to: [usize; 2],
    phases: [Vec<Phase>; 2],
    /// Pixels of the output between those of a phase, and of the input that these read.
    step: [usize; 2],
    read: [usize; 2],
}

impl Depthwise {
    pub(super) fn forward(size: &ConvSize) -> Depthwise {
        let axis = |axis: usize| {
            let at = |tap: usize| (tap * size.dilation[axis]) as isize - size.padding[axis] as isize;
            let taps = (0..size.kernel[axis]).map(|tap| (tap, at(tap))).collect();
            vec![Phase { first: 0, count: size.output[axis], taps }]
        };
        Depthwise {
            channels: size.input[2],
            kernel: size.kernel,
            from: [size.input[0], size.input[1]],
            to: [size.output[0], size.output[1]],
            phases: [axis(0), axis(1)],
            step: [1; 2],
            read: size.stride,
        }
    }

    pub(super) fn backward(size: &ConvSize) -> Depthwise {
        let axis = |axis: usize| {
            let (all, stride) = (size.input[axis], size.stride[axis]);
            let phase = |first: usize| {
                let place =
                    |tap| (first + size.padding[axis]) as isize - (tap * size.dilation[axis]) as isize;
                let meets = |tap: &usize| place(*tap) % stride as isize == 0;
                let taps = (0..size.kernel[axis]).filter(meets);
                let taps = taps.map(|tap| (tap, place(tap) / stride as isize)).collect();
                Phase { first, count: (all - first).div_ceil(stride), taps }
            };
            (0..stride.min(all)).map(phase).collect()
        };
        Depthwise {
            channels: size.input[2],
            kernel: size.kernel,
            from: [size.output[0], size.output[1]],
            to: [size.input[0], size.input[1]],
            phases: [axis(0), axis(1)],
            step: size.stride,
            read: [1; 2],
        }
    }

    pub(super) fn packed(&self) -> usize {
        self.channels * self.kernel[0] * self.kernel[1]
    }

    /// `packed[tap][channel]`
    pub(super) fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let taps = self.kernel[0] * self.kernel[1];
        for (tap, packed) in packed.chunks_exact_mut(self.channels).enumerate() {
            packed.iter_mut().zip(weights[tap..].iter().step_by(taps)).for_each(|(to, from)| *to = *from);
        }
    }

    /// Rows of the output of a task.
    fn rows(&self, records: usize) -> usize {
        let bands = ENOUGH_TASKS.div_ceil(records.max(1)).min(self.to[0]);
        self.to[0].div_ceil(bands)
    }

    /// As [`super::correlation::Correlation::run`].
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: &Job<'_>) {
        let rows = self.rows(job.records);
        let bands = self.to[0].div_ceil(rows);
        let ([h, w], c) = (self.to, self.channels);
        team.tasks(job.records * bands, &|index, _| {
            let (record, band) = (index / bands, index % bands);
            let rows = band * rows..((band + 1) * rows).min(h);
            let to = job.to.at(record * h * w * c);
            let len = self.from[0] * self.from[1] * c;
            let band = Band {
                plan: self,
                from: &job.from[record * len..][..len],
                weights: job.weights,
                to,
                rows: rows.clone(),
                begin: job.begin,
                bounds: job.bounds,
                prologue: job.prologue,
            };
            isa.run(band);
        });
    }
}

/// Some rows of the output of an image.
struct Band<'a> {
    plan: &'a Depthwise,
    from: &'a [f32],
    weights: &'a [f32],
    /// The image's first number; nobody else uses the rows.
    to: *mut f32,
    rows: Range<usize>,
    begin: Begin<'a>,
    bounds: Bounds,
    prologue: Option<Prologue<'a>>,
}

/// What stays the same along a row: the taps that lie on the image, and the channels.
struct Line<'a, V> {
    rows: &'a [(usize, isize)],
    /// Row of the input that a tap at 0 reads.
    base: isize,
    first: usize,
    count: usize,
    bias: V,
    prologue: Option<(V, V, Bounds)>,
}

impl Kernel for Band<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (plan, c) = (self.plan, self.plan.channels);
        for row in self.rows.clone() {
            let rows = &plan.phases[0][row % plan.step[0]];
            for first in (0..c).step_by(LANES) {
                let count = (c - first).min(LANES);
                let bias = match self.begin {
                    Begin::Bias(bias) => {
                        let bias = &bias[first..][..count];
                        // SAFETY: `count` numbers.
                        unsafe { V::load_first(bias.as_ptr(), count) }
                    }
                    _ => V::splat(0.0),
                };
                let prologue = vectors::<V>(self.prologue, first, count);
                let base = (row / plan.step[0] * plan.read[0]) as isize;
                let line = Line { rows: &rows.taps, base, first, count, bias, prologue };
                for columns in &plan.phases[1] {
                    // SAFETY: whoever makes one vouches for the rows of the output.
                    unsafe { self.line::<V>(&line, row, columns) };
                }
            }
        }
    }
}

/// Scale, shift and bounds of some channels.
#[inline(always)]
fn vectors<V: Lanes>(prologue: Option<Prologue<'_>>, first: usize, count: usize) -> Option<(V, V, Bounds)> {
    if let Some(prologue) = prologue {
        let (scale, shift) = (&prologue.scale[first..][..count], &prologue.shift[first..][..count]);
        // SAFETY: both slices have `count` numbers.
        unsafe {
            Some((
                V::load_first(scale.as_ptr(), count),
                V::load_first(shift.as_ptr(), count),
                prologue.bounds,
            ))
        }
    } else {
        None
    }
}

/// Reads `count` channels of x as the convolution sees them.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn read<V: Lanes>(from: *const f32, count: usize, prologue: &Option<(V, V, Bounds)>) -> V {
    // SAFETY: the caller vouches for it.
    let x = unsafe { if count == LANES { V::load(from) } else { V::load_first(from, count) } };
    if let Some((scale, shift, bounds)) = prologue { bounds.clip(x.fma(*scale, *shift)) } else { x }
}

impl Band<'_> {
    /// The pixels of a phase of a row.
    ///
    /// # Safety
    /// As of the whole band.
    #[inline(always)]
    unsafe fn line<V: Lanes>(&self, line: &Line<'_, V>, row: usize, columns: &Phase) {
        let (width, read) = (self.plan.from[1] as isize, self.plan.read[1] as isize);
        let (mut low, mut high) = (0, 0);
        for (_, at) in &columns.taps {
            (low, high) = (low.min(*at), high.max(*at));
        }
        // Pixels all of whose taps lie on the image.
        let start = ((-low + read - 1) / read).min(columns.count as isize) as usize;
        let end = if width > high { ((width - 1 - high) / read + 1) as usize } else { 0 };
        let end = end.clamp(start, columns.count);
        // SAFETY: the caller vouches for the output; taps inside of the image are tested or known to be.
        unsafe {
            for pixel in 0..start {
                self.pixels::<V, 1>(line, row, columns, pixel);
            }
            let mut pixel = start;
            while pixel + PIXELS <= end {
                self.pixels::<V, PIXELS>(line, row, columns, pixel);
                pixel += PIXELS;
            }
            for pixel in pixel..columns.count {
                self.pixels::<V, 1>(line, row, columns, pixel);
            }
        }
    }

    /// `P` pixels of a phase of a row; a single one may lie at a border.
    ///
    /// # Safety
    /// As of the whole band.
    #[inline(always)]
    unsafe fn pixels<V: Lanes, const P: usize>(
        &self,
        line: &Line<'_, V>,
        row: usize,
        columns: &Phase,
        pixel: usize,
    ) {
        let (plan, c) = (self.plan, self.plan.channels);
        let column = columns.first + pixel * plan.step[1];
        let to = self.to.wrapping_add((row * plan.to[1] + column) * c + line.first);
        let mut sums = [line.bias; P];
        // SAFETY: rows and columns that are read lie on the image, `count` channels are left.
        unsafe {
            if let Begin::Present = self.begin {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = V::load_first(to.wrapping_add(p * plan.step[1] * c), line.count);
                }
            }
            for (i, at) in line.rows {
                let y = line.base + at;
                if y < 0 || y >= plan.from[0] as isize {
                    continue;
                }
                for (j, at) in &columns.taps {
                    let x = (pixel * plan.read[1]) as isize + at;
                    if P == 1 && (x < 0 || x >= plan.from[1] as isize) {
                        continue;
                    }
                    let tap = (i * plan.kernel[1] + j) * c + line.first;
                    let weight = V::load_first(self.weights.as_ptr().add(tap), line.count);
                    let from =
                        self.from.as_ptr().add((y as usize * plan.from[1] + x as usize) * c + line.first);
                    for (p, sum) in sums.iter_mut().enumerate() {
                        let x: V = read(from.add(p * plan.read[1] * c), line.count, &line.prologue);
                        *sum = x.fma(weight, *sum);
                    }
                }
            }
            for (p, sum) in sums.iter().enumerate() {
                self.bounds.clip(*sum).store_first(to.wrapping_add(p * plan.step[1] * c), line.count);
            }
        }
    }
}

/// A planned backward-weights.
#[derive(Debug)]
pub(super) struct DepthwiseGradient {
    size: ConvSize,
}

impl DepthwiseGradient {
    pub(super) fn new(size: &ConvSize) -> DepthwiseGradient {
        DepthwiseGradient { size: *size }
    }

    /// Sums of weights and bias.
    pub(super) fn scratch(&self) -> usize {
        (self.size.taps() + 1) * self.size.input[2]
    }

    /// Writes, or adds, the gradients of weights and bias.
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: GradientJob<'_>, scratch: &mut [f32]) {
        let (size, c) = (&self.size, self.size.input[2]);
        let (blocks, kh) = (c.div_ceil(LANES), size.kernel[0]);
        let sums = Target::new(&mut scratch[..self.scratch()]);
        // All rows of a filter read the same pixels: they are together where there are enough channels for the threads.
        let rows = if blocks >= ENOUGH_BLOCKS { kh } else { 1 };
        let bands = kh.div_ceil(rows);
        team.tasks(blocks * bands, &|index, _| {
            let (first, band) = (index / bands * LANES, index % bands);
            let part = Part {
                size,
                x: job.x,
                dy: job.dy,
                records: job.records,
                prologue: job.prologue,
                rows: band * rows..((band + 1) * rows).min(kh),
                bias: job.dbias.is_some() && band == 0,
                first,
                sums: sums.at(first),
            };
            isa.run(part);
        });
        // SAFETY: the tasks are done.
        let sums = unsafe { sums.write(0, self.scratch()) };
        let put = |to: &mut f32, sum: f32| *to = if job.add { *to + sum } else { sum };
        for (channel, dweights) in job.dweights.chunks_exact_mut(size.taps()).enumerate() {
            dweights.iter_mut().zip(sums[channel..].iter().step_by(c)).for_each(|(to, sum)| put(to, *sum));
        }
        if let Some(dbias) = job.dbias {
            dbias.iter_mut().zip(&sums[size.taps() * c..]).for_each(|(to, sum)| put(to, *sum));
        }
    }
}

/// The sums of some rows of the filter, and of the bias, for a vector of channels.
struct Part<'a> {
    size: &'a ConvSize,
    x: &'a [f32],
    dy: &'a [f32],
    records: usize,
    prologue: Option<Prologue<'a>>,
    rows: Range<usize>,
    bias: bool,
    first: usize,
    /// `[tap, bias last][channel]`: the first channel's.
    sums: *mut f32,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (size, [oh, ..], [.., c]) = (self.size, self.size.output, self.size.input);
        let count = (c - self.first).min(LANES);
        let [kh, kw] = size.kernel;
        // SAFETY: whoever makes one vouches for the sums; lines are those of dy.
        unsafe {
            for tap in self.rows.start * kw..self.rows.end * kw {
                V::splat(0.0).store_first(self.sums.wrapping_add(tap * c), count);
            }
            for line in 0..self.records * oh {
                for row in self.rows.clone() {
                    for first in (0..kw).step_by(TAPS) {
                        match kw - first {
                            1 => self.taps::<V, 1>(line, row, first),
                            2 => self.taps::<V, 2>(line, row, first),
                            3 => self.taps::<V, 3>(line, row, first),
                            4 => self.taps::<V, 4>(line, row, first),
                            _ => self.taps::<V, TAPS>(line, row, first),
                        }
                    }
                }
            }
            if self.bias {
                let mut sum = V::splat(0.0);
                for pixel in self.dy.chunks_exact(c) {
                    sum = sum.add(V::load_first(pixel[self.first..][..count].as_ptr(), count));
                }
                sum.store_first(self.sums.wrapping_add(kh * kw * c), count);
            }
        }
    }
}

impl Part<'_> {
    /// Adds a line of y up for `T` columns of a row of the filter.
    ///
    /// # Safety
    /// Nobody else uses the sums; dy has the line.
    #[inline(always)]
    unsafe fn taps<V: Lanes, const T: usize>(&self, line: usize, row: usize, tap: usize) {
        let (size, [oh, ow, c], [h, w, _]) = (self.size, self.size.output, self.size.input);
        let count = (c - self.first).min(LANES);
        let y = (line % oh * size.stride[0] + row * size.dilation[0]).wrapping_sub(size.padding[0]);
        if y >= h {
            return;
        }
        let prologue = vectors::<V>(self.prologue, self.first, count);
        let dy = self.dy[line * ow * c..][..ow * c].as_ptr().wrapping_add(self.first);
        let x = self.x[(line / oh * h + y) * w * c..][..w * c].as_ptr().wrapping_add(self.first);
        let to = self.sums.wrapping_add((row * size.kernel[1] + tap) * c);
        let mut sums = [V::splat(0.0); T];
        // SAFETY: pixels of y and columns of x that lie on the image; `count` channels are left; the caller vouches for
        // the sums.
        unsafe {
            for (t, sum) in sums.iter_mut().enumerate() {
                *sum = V::load_first(to.wrapping_add(t * c), count);
            }
            for pixel in 0..ow {
                let dy = read::<V>(dy.wrapping_add(pixel * c), count, &None);
                let column = (pixel * size.stride[1] + tap * size.dilation[1]).wrapping_sub(size.padding[1]);
                for (t, sum) in sums.iter_mut().enumerate() {
                    let column = column.wrapping_add(t * size.dilation[1]);
                    if column < w {
                        *sum = read::<V>(x.wrapping_add(column * c), count, &prologue).fma(dy, *sum);
                    }
                }
            }
            for (t, sum) in sums.iter().enumerate() {
                sum.store_first(to.wrapping_add(t * c), count);
            }
        }
    }
}
