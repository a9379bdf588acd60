//! Depthwise convolution, backward-weights: `dw[kh][kw][c] = Σ x[oh · stride + kh · dilation - padding][..][c] ·
//! dy[oh][ow][c]` over all pixels of the batch, vectors along channels.
//!
//! A task has some vectors of channels, with few of them also one row of the filter, and passes over the whole batch:
//! it copies some rows of x with their padding ([`Gather`]), then adds their products up in registers, in the order of
//! the pixels. No sum is divided.

use super::Target;
use super::gather::Gather;
use super::gradient::GradientJob;
use super::size::ConvSize;
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Isa, Kernel};
use crate::team::Team;
use std::ops::Range;

/// Numbers of x that a task gathers at most, unless one row of y needs more: 384 KiB.
const GATHERED: usize = 96 << 10;
/// Vectors of channels of a task at most: enough for whole lines of memory.
const MOST_VECTORS: usize = 4;
/// Columns of a filter whose sums are in registers at the same time.
const TAPS: usize = 5;

/// A planned backward-weights.
#[derive(Debug)]
pub(super) struct DepthwiseGradient {
    size: ConvSize,
}

/// How the channels are cut.
struct Partition {
    /// Vectors of a task, and rows of the filter.
    vectors: usize,
    rows: usize,
}

impl DepthwiseGradient {
    pub(super) fn new(size: &ConvSize) -> DepthwiseGradient {
        DepthwiseGradient { size: *size }
    }

    /// For so many threads: which sums a task has does not show in the bits.
    fn partition(&self, threads: usize) -> Partition {
        let vectors = self.size.input[2].div_ceil(LANES);
        let together = (vectors / threads).clamp(1, MOST_VECTORS);
        let rows = if vectors >= threads { self.size.kernel[0] } else { 1 };
        Partition { vectors: together, rows }
    }

    fn columns(&self) -> usize {
        let size = &self.size;
        (size.output[1] - 1) * size.stride[1] + (size.kernel[1] - 1) * size.dilation[1] + 1
    }

    /// Rows of x that some rows of y and `taps` rows of the filter meet.
    fn x_rows(&self, rows: usize, taps: usize) -> usize {
        (rows - 1) * self.size.stride[0] + (taps - 1) * self.size.dilation[0] + 1
    }

    /// Rows of y that pass at a time.
    fn y_rows(&self, cut: &Partition) -> usize {
        let row = self.columns() * cut.vectors * LANES;
        let all = self.size.output[0];
        (1..=all).rev().find(|rows| self.x_rows(*rows, cut.rows) * row <= GATHERED).unwrap_or(1)
    }

    /// Sums of weights and bias, `[vector][tap, bias last][channel]`.
    fn sums(&self) -> usize {
        (self.size.taps() + 1) * self.size.input[2].next_multiple_of(LANES)
    }

    /// Gathered x of a thread; the last vector is read whole where there are fewer channels.
    fn thread_scratch(&self, threads: usize) -> usize {
        let cut = self.partition(threads);
        self.x_rows(self.y_rows(&cut), cut.rows) * self.columns() * cut.vectors * LANES + LANES
    }

    pub(super) fn scratch(&self, threads: usize) -> usize {
        self.sums() + threads * self.thread_scratch(threads)
    }

    /// Writes, or adds, the gradients of weights and bias.
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: GradientJob<'_>, scratch: &mut [f32]) {
        let (size, c, threads) = (&self.size, self.size.input[2], team.threads());
        let (cut, one) = (self.partition(threads), self.thread_scratch(threads));
        let (sums, gathered) = scratch.split_at_mut(self.sums());
        let (sums, gathered) = (Target::new(sums), Target::new(&mut gathered[..threads * one]));
        let bands = size.kernel[0].div_ceil(cut.rows);
        team.tasks(c.div_ceil(cut.vectors * LANES) * bands, &|index, thread| {
            let (first, band) = (index / bands * cut.vectors * LANES, index % bands);
            let part = Part {
                plan: self,
                isa,
                job: &job,
                channels: first..(first + cut.vectors * LANES).min(c),
                rows: band * cut.rows..((band + 1) * cut.rows).min(size.kernel[0]),
                y_rows: self.y_rows(&cut),
                bias: job.dbias.is_some() && band == 0,
                sums: sums.at(first * (size.taps() + 1)),
                gathered: gathered.at(thread * one),
            };
            part.run();
        });
        // SAFETY: the tasks are done.
        let sums = unsafe { sums.write(0, self.sums()) };
        let add = |to: &mut f32, sum: f32| *to = if job.add { *to + sum } else { sum };
        let of = |channel: usize, tap: usize| {
            sums[(channel / LANES * (size.taps() + 1) + tap) * LANES + channel % LANES]
        };
        for (channel, dweights) in job.dweights.chunks_exact_mut(size.taps()).enumerate() {
            dweights.iter_mut().enumerate().for_each(|(tap, to)| add(to, of(channel, tap)));
        }
        if let Some(dbias) = job.dbias {
            dbias.iter_mut().enumerate().for_each(|(channel, to)| add(to, of(channel, size.taps())));
        }
    }
}

/// The sums of some channels and rows of the filter.
struct Part<'a> {
    plan: &'a DepthwiseGradient,
    isa: Isa,
    job: &'a GradientJob<'a>,
    channels: Range<usize>,
    /// Rows of the filter.
    rows: Range<usize>,
    /// Rows of y that pass at a time.
    y_rows: usize,
    bias: bool,
    /// Those of the first vector; nobody else uses the part's.
    sums: *mut f32,
    /// Room for x, which nobody else uses.
    gathered: *mut f32,
}

impl Part<'_> {
    fn run(&self) {
        let (size, [h, w, c], [oh, ow, _]) = (&self.plan.size, self.plan.size.input, self.plan.size.output);
        for record in 0..self.job.records {
            for row in (0..oh).step_by(self.y_rows) {
                let rows = row..(row + self.y_rows).min(oh);
                let down = row * size.stride[0] + self.rows.start * size.dilation[0];
                let gather = Gather {
                    from: self.job.x[record * h * w * c..][..h * w * c]
                        .as_ptr()
                        .wrapping_add(self.channels.start),
                    image: [h, w],
                    pixel: c,
                    low: [down as isize - size.padding[0] as isize, -(size.padding[1] as isize)],
                    sample: [1; 2],
                    size: [self.plan.x_rows(rows.len(), self.rows.len()), self.plan.columns()],
                    channels: self.channels.len(),
                    block: LANES.min(self.channels.len()),
                    to: self.gathered,
                    prologue: self.job.prologue.map(|prologue| prologue.from(self.channels.start)),
                };
                // SAFETY: the slice holds the image; the thread's scratch is as large as the largest gathering.
                unsafe { gather.run(self.isa) };
                let dy = &self.job.dy[(record * oh + rows.start) * ow * c..][..rows.len() * ow * c];
                self.isa.run(Products { part: self, dy, begin: record == 0 && row == 0 });
            }
        }
    }
}

/// The products of some rows of y, whose x is gathered.
struct Products<'a> {
    part: &'a Part<'a>,
    dy: &'a [f32],
    /// Whether the sums begin here.
    begin: bool,
}

impl Kernel for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let (size, rows) = (&self.part.plan.size, &self.part.rows);
        for first in self.part.channels.clone().step_by(LANES) {
            // SAFETY: the taps are those of the filter.
            unsafe {
                if V::WIDE && rows.len() == 3 && size.kernel[1] == 3 {
                    self.taps::<V, 3, 3>(first, 0, 0);
                } else {
                    for row in 0..rows.len() {
                        for column in (0..size.kernel[1]).step_by(TAPS) {
                            match size.kernel[1] - column {
                                1 => self.taps::<V, 1, 1>(first, row, column),
                                2 => self.taps::<V, 1, 2>(first, row, column),
                                3 => self.taps::<V, 1, 3>(first, row, column),
                                4 => self.taps::<V, 1, 4>(first, row, column),
                                _ => self.taps::<V, 1, TAPS>(first, row, column),
                            }
                        }
                    }
                }
                if self.part.bias {
                    self.bias::<V>(first);
                }
            }
        }
    }
}

impl Products<'_> {
    /// Where the sums of a tap of a vector of channels lie.
    fn sum(&self, first: usize, tap: usize) -> *mut f32 {
        let vector = (first - self.part.channels.start) / LANES;
        self.part.sums.wrapping_add((vector * (self.part.plan.size.taps() + 1) + tap) * LANES)
    }

    /// Adds up for `R` rows and `T` columns of the filter, from row `row` of the part's and column `column` on.
    ///
    /// # Safety
    /// The part has these rows, and the filter these columns.
    #[inline(always)]
    unsafe fn taps<V: Lanes, const R: usize, const T: usize>(&self, first: usize, row: usize, column: usize) {
        let (part, size) = (self.part, &self.part.plan.size);
        let ([_, ow, c], columns) = (size.output, part.plan.columns());
        let count = (part.channels.end - first).min(LANES);
        let row_len = columns * part.channels.len();
        let tap = |r: usize, t: usize| (part.rows.start + row + r) * size.kernel[1] + column + t;
        // Numbers from one tap's x to the next's.
        let (down, right) = (size.dilation[0] * row_len, size.dilation[1] * count);
        let x =
            part.gathered.wrapping_add((first - part.channels.start) * columns + row * down + column * right);
        let mut sums = [[V::splat(0.0); T]; R];
        // SAFETY: x is gathered for all pixels of dy and taps, with a vector behind it; every tap has its sums.
        unsafe {
            if !self.begin {
                for (r, sums) in sums.iter_mut().enumerate() {
                    for (t, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(self.sum(first, tap(r, t)));
                    }
                }
            }
            for (line, dy) in self.dy.chunks_exact(ow * c).enumerate() {
                let (x, dy) =
                    (x.wrapping_add(line * size.stride[0] * row_len), dy.as_ptr().wrapping_add(first));
                for pixel in 0..ow {
                    let dy = V::load_first(dy.add(pixel * c), count);
                    let x = x.add(pixel * size.stride[1] * count);
                    for (r, sums) in sums.iter_mut().enumerate() {
                        for (t, sum) in sums.iter_mut().enumerate() {
                            *sum = V::load(x.add(r * down + t * right)).fma(dy, *sum);
                        }
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate() {
                for (t, sum) in sums.iter().enumerate() {
                    sum.store(self.sum(first, tap(r, t)));
                }
            }
        }
    }

    /// Adds dy up.
    ///
    /// # Safety
    /// The part has the bias.
    #[inline(always)]
    unsafe fn bias<V: Lanes>(&self, first: usize) {
        let c = self.part.plan.size.input[2];
        let count = (self.part.channels.end - first).min(LANES);
        let to = self.sum(first, self.part.plan.size.taps());
        // SAFETY: `count` channels are left in every pixel; the bias has its sums.
        unsafe {
            let mut sum = if self.begin { V::splat(0.0) } else { V::load(to) };
            for pixel in self.dy.chunks_exact(c) {
                sum = sum.add(V::load_first(pixel[first..][..count].as_ptr(), count));
            }
            sum.store(to);
        }
    }
}
