//! Depthwise convolution, forward and backward-data: every channel has a filter of its own, so vectors lie along
//! channels.
//!
//! `y[oh][ow][c] = Σ_{kh, kw} x[oh · stride + kh · dilation - padding][..][c] · w[kh][kw][c]`. A task takes some rows
//! of an image and some vectors of channels: it copies the input it needs with its padding ([`Gather`]), vector by
//! vector, then computes rows of pixels whose sums stay in registers.

use super::correlation::Job;
use super::gather::Gather;
use super::geometry::{Geometry, Phase};
use super::size::ConvSize;
use super::tile::even_parts;
use super::{Begin, Target};
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Bounds, Isa, Kernel};
use crate::team::Team;
use std::ops::Range;

/// Numbers of input and output of a task, unless one row of output has more: 512 KiB, which stay in the second-level
/// cache.
const RESIDENT: usize = 128 << 10;
/// Rows of input that are worth the rows above and below them.
const FEW_ROWS: usize = 4;
/// Vectors of channels below which a task's are not divided: memory is read, and written, in longer pieces.
const FEW_VECTORS: usize = 4;
/// Tasks that are enough for the threads of a worker to share the work evenly.
const ENOUGH_TASKS: usize = 16;

/// A planned forward or backward-data.
#[derive(Debug)]
pub(super) struct Depthwise {
    pub(super) geometry: Geometry,
    pub(super) channels: usize,
    kernel: [usize; 2],
}

/// How the work of some images is cut.
struct Partition {
    /// Rows of a phase, and channels, of a task.
    rows: usize,
    channels: usize,
    /// Tasks side by side in an image, and in its rows.
    bands: usize,
    parts: usize,
}

impl Depthwise {
    pub(super) fn forward(size: &ConvSize) -> Depthwise {
        Depthwise { geometry: Geometry::forward(size), channels: size.input[2], kernel: size.kernel }
    }

    pub(super) fn backward(size: &ConvSize) -> Depthwise {
        Depthwise { geometry: Geometry::backward(size), channels: size.input[2], kernel: size.kernel }
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn packed(&self) -> usize {
        self.channels.next_multiple_of(LANES) * self.taps()
    }

    /// `packed[vector of channels][tap][channel]`
    pub(super) fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let taps = self.taps();
        packed.fill(0.0);
        for (channel, weights) in weights.chunks_exact(taps).enumerate() {
            let packed = &mut packed[channel / LANES * taps * LANES + channel % LANES..];
            packed.iter_mut().step_by(LANES).zip(weights).for_each(|(to, from)| *to = *from);
        }
    }

    fn partition(&self, records: usize) -> Partition {
        let height = self.geometry.largest()[0];
        let vectors = self.channels.div_ceil(LANES);
        let written = self.geometry.step[0] * self.geometry.to[1];
        let fits = |vectors: usize, rows: usize| {
            (self.gathered(rows) + rows * written) * vectors * LANES <= RESIDENT
        };
        let few = FEW_ROWS.div_ceil(self.geometry.read[0]).min(height);
        let mut together = vectors;
        while together > 1 && !fits(together, few) {
            together = together.div_ceil(2);
        }
        let mut rows = (1..=height).rev().find(|rows| fits(together, *rows)).unwrap_or(1);
        let tasks =
            |together: usize, rows: usize| records * vectors.div_ceil(together) * height.div_ceil(rows);
        while tasks(together, rows) < ENOUGH_TASKS {
            if rows >= 2 * few {
                rows = rows.div_ceil(2);
            } else if together > FEW_VECTORS {
                together = together.div_ceil(2);
            } else {
                break;
            }
        }
        // Bands of nearly the same height.
        let bands = height.div_ceil(rows);
        Partition {
            rows: height.div_ceil(bands),
            channels: together * LANES,
            bands,
            parts: vectors.div_ceil(together),
        }
    }

    /// Gathered pixels for some rows of a phase.
    pub(super) fn gathered(&self, rows: usize) -> usize {
        self.geometry.gathered(0, rows) * self.geometry.columns()
    }

    /// The last vector is read whole where there are fewer channels.
    fn thread_scratch(&self, records: usize) -> usize {
        let cut = self.partition(records);
        self.gathered(cut.rows) * cut.channels + LANES
    }

    pub(super) fn scratch(&self, records: usize, threads: usize) -> usize {
        threads * self.thread_scratch(records)
    }

    /// As [`super::correlation::Correlation::run`].
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: &Job<'_>, scratch: &mut [f32]) {
        let cut = self.partition(job.records);
        let one = self.thread_scratch(job.records);
        let scratch = Target::new(&mut scratch[..one * team.threads()]);
        let height = self.geometry.largest()[0];
        team.tasks(job.records * cut.bands * cut.parts, &|index, thread| {
            let (part, rest) = (index % cut.parts, index / cut.parts);
            let (band, record) = (rest % cut.bands, rest / cut.bands);
            let task = Task {
                plan: self,
                job,
                record,
                rows: band * cut.rows..((band + 1) * cut.rows).min(height),
                channels: part * cut.channels..((part + 1) * cut.channels).min(self.channels),
                block: LANES,
                gathered: scratch.at(thread * one),
            };
            task.gather(isa);
            isa.run(task);
        });
    }
}

/// Some rows of an image, and some channels.
pub(super) struct Task<'a> {
    pub(super) plan: &'a Depthwise,
    pub(super) job: &'a Job<'a>,
    pub(super) record: usize,
    /// Rows of every phase.
    pub(super) rows: Range<usize>,
    pub(super) channels: Range<usize>,
    /// Channels that lie together in what is gathered: `[row][block][column][channel]`.
    pub(super) block: usize,
    /// Room for the input of the task, which nobody else uses.
    pub(super) gathered: *mut f32,
}

impl Task<'_> {
    /// Copies the input.
    fn gather(&self, isa: Isa) {
        let (plan, [h, w]) = (self.plan, self.plan.geometry.from);
        let image = h * w * plan.channels;
        let image = &self.job.from[self.record * image..][..image];
        let gather = Gather {
            from: image.as_ptr().wrapping_add(self.channels.start),
            image: [h, w],
            pixel: plan.channels,
            low: plan.geometry.low_at(self.rows.start),
            sample: plan.geometry.sample,
            size: [plan.geometry.gathered(0, self.rows.len()), plan.geometry.columns()],
            channels: self.channels.len(),
            block: self.block.min(self.channels.len()),
            to: self.gathered,
            prologue: self.job.prologue.map(|prologue| prologue.from(self.channels.start)),
        };
        // SAFETY: the slice holds the image; the thread's scratch is as large as its largest task.
        unsafe { gather.run(isa) };
    }
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for first in self.channels.clone().step_by(LANES) {
            for phase in &self.plan.geometry.phases {
                self.phase::<V>(phase, first);
            }
        }
    }
}

impl Task<'_> {
    /// The rows of a phase, for a vector of channels.
    #[inline(always)]
    fn phase<V: Lanes>(&self, phase: &Phase, first: usize) {
        let (plan, geometry) = (self.plan, &self.plan.geometry);
        let count = (self.channels.end - first).min(LANES);
        let (at, block) = (first - self.channels.start, self.block);
        let (start, width) = (at / block * block, block.min(self.channels.len() - at / block * block));
        let columns = geometry.columns();
        // Numbers of a gathered row, and of a written one.
        let (row_len, line) = (columns * self.channels.len(), geometry.to[1] * plan.channels);
        let image = self.job.to.at(self.record * geometry.to[0] * line + first);
        let bias = match self.job.begin {
            // SAFETY: the slice has `count` numbers.
            Begin::Bias(bias) => unsafe { V::load_first(bias[first..][..count].as_ptr(), count) },
            _ => V::splat(0.0),
        };
        let weights = &self.job.weights[first * plan.taps()..][..LANES * plan.taps()];
        for row in self.rows.start..self.rows.end.min(phase.size[0]) {
            let gathered =
                (row - self.rows.start) * geometry.read[0] * row_len + start * columns + at - start;
            let to = (phase.first[0] + row * geometry.step[0]) * line;
            for (column, pixels) in even_parts(phase.size[1], most_pixels::<V>()) {
                let tile = Tile {
                    phase,
                    low: geometry.low,
                    from: self.gathered.wrapping_add(gathered + column * geometry.read[1] * width),
                    row: row_len,
                    pixel: width,
                    stride: geometry.read[1] * width,
                    weights,
                    kernel_columns: plan.kernel[1],
                    begin: matches!(self.job.begin, Begin::Present),
                    bias,
                    bounds: self.job.bounds,
                    to: image.wrapping_add(to + (phase.first[1] + column * geometry.step[1]) * plan.channels),
                    to_stride: geometry.step[1] * plan.channels,
                };
                // SAFETY: the input of all pixels is gathered, and a vector behind it can be read; tasks write different
                // pixels and channels.
                unsafe {
                    match pixels {
                        1 => tile.run::<1>(count),
                        2 => tile.run::<2>(count),
                        3 => tile.run::<3>(count),
                        4 => tile.run::<4>(count),
                        5 => tile.run::<5>(count),
                        6 => tile.run::<6>(count),
                        7 => tile.run::<7>(count),
                        _ => tile.run::<8>(count),
                    }
                }
            }
        }
    }
}

/// Pixels whose sums are in registers at the same time.
const fn most_pixels<V: Lanes>() -> usize {
    if V::WIDE { 8 } else { 4 }
}

/// Pixels side by side.
struct Tile<'a, V> {
    phase: &'a Phase,
    low: [isize; 2],
    /// Where the first pixel's taps would begin; numbers from a gathered row, and from a gathered pixel, to the next.
    from: *const f32,
    row: usize,
    pixel: usize,
    /// Numbers from what an output pixel reads to what the next does.
    stride: usize,
    /// `[tap][channel]`
    weights: &'a [f32],
    kernel_columns: usize,
    /// Whether sums begin with what is there.
    begin: bool,
    bias: V,
    bounds: Bounds,
    to: *mut f32,
    to_stride: usize,
}

impl<V: Lanes> Tile<'_, V> {
    /// # Safety
    /// Sixteen numbers can be read wherever a tap of the `P` pixels begins; `count` may be written where they lie.
    #[inline(always)]
    unsafe fn run<const P: usize>(&self, count: usize) {
        let mut sums = [self.bias; P];
        // SAFETY: the caller vouches for it; every tap has its sixteen weights.
        unsafe {
            if self.begin {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = V::load_first(self.to.add(p * self.to_stride), count);
                }
            }
            for (i, down) in &self.phase.taps[0] {
                let row = self.from.add((down - self.low[0]) as usize * self.row);
                for (j, right) in &self.phase.taps[1] {
                    let x = row.add((right - self.low[1]) as usize * self.pixel);
                    let tap = i * self.kernel_columns + j;
                    let weight = V::load(self.weights[tap * LANES..][..LANES].as_ptr());
                    for (p, sum) in sums.iter_mut().enumerate() {
                        *sum = V::load(x.add(p * self.stride)).fma(weight, *sum);
                    }
                }
            }
            for (p, sum) in sums.iter().enumerate() {
                self.bounds.clip(*sum).store_first(self.to.add(p * self.to_stride), count);
            }
        }
    }
}
