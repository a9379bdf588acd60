//! Convolution, backward-weights, of bf16: for each tap the product of x, as it lies under the tap, with dy, over all
//! pixels of the batch.
//!
//! The batch passes in chunks of pixels. For each the team first copies x, channel by channel, and dy, in panels of
//! output channels. Both are laid out over the same *places*: rows of y as wide as y and the reach of the filter
//! together, one after the other, so that a tap is a distance: x under a tap lies so many places further. Where a place
//! is no pixel of y, dy is 0. With a stride there is such a plane of x for each remainder of rows and columns that taps
//! meet. Then every task adds its part of the gradient up, for which it has sums of its own.

use super::Target;
use super::gradient::GradientJob;
use super::size::ConvSize;
use super::tile::{PANEL, Start, panel_width};
use super::weights::panels_len;
use crate::kernels::gemm::bf16::{Band, Engine, STEP, exchanged, panel_len};
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::rows::sum_rows;
use crate::kernels::{Bounds, Isa, Kernel};
use crate::team::Team;
use std::ops::Range;

/// Numbers (pairs) of x and dy of a chunk, at most: 4 MiB, so that it stays in the caches of the cores.
const CHUNK: usize = 1 << 20;
/// Steps over which a task passes at a time: with a block of x, they stay in the second-level cache.
const PASS: usize = 16;
/// Channels of x of a task.
const BLOCK: usize = 64;
/// Tasks that are enough for the threads of a worker to share the work evenly.
const ENOUGH_TASKS: usize = 16;

/// One axis of a filter.
#[derive(Debug)]
struct Axis {
    /// Remainders of places by the stride that taps meet.
    phases: Vec<usize>,
    /// For each tap: which of them, and how many places further.
    taps: Vec<(usize, usize)>,
    /// The furthest.
    reach: usize,
}

impl Axis {
    fn new(size: &ConvSize, axis: usize) -> Axis {
        let (stride, place) = (size.stride[axis], |tap: usize| tap * size.dilation[axis]);
        let mut phases: Vec<usize> = (0..size.kernel[axis]).map(|tap| place(tap) % stride).collect();
        phases.sort_unstable();
        phases.dedup();
        let which = |phase: usize| phases.iter().position(|p| *p == phase).unwrap_or_default();
        let taps: Vec<(usize, usize)> =
            (0..size.kernel[axis]).map(|tap| (which(place(tap) % stride), place(tap) / stride)).collect();
        let reach = taps.iter().map(|tap| tap.1).max().unwrap_or(0);
        Axis { phases, taps, reach }
    }
}

/// A planned backward-weights.
#[derive(Debug)]
pub(super) struct GradientOfPairs {
    size: ConvSize,
    axes: [Axis; 2],
}

/// Parts of the scratch.
#[derive(Clone, Copy)]
struct Areas<'a> {
    x: Target<'a>,
    dy: Target<'a>,
    sums: Target<'a>,
}

/// Some images, or some rows of y of one.
struct Chunk {
    images: Range<usize>,
    rows: Range<usize>,
    first: bool,
}

impl GradientOfPairs {
    pub(super) fn new(size: &ConvSize) -> GradientOfPairs {
        GradientOfPairs { size: *size, axes: [0, 1].map(|axis| Axis::new(size, axis)) }
    }

    /// Places of a row.
    fn width(&self) -> usize {
        self.size.output[1] + self.axes[1].reach
    }

    /// Places of some rows of y of an image, whole steps.
    fn run_len(&self, rows: usize) -> usize {
        (rows * self.width()).next_multiple_of(STEP)
    }

    /// Places of a plane of x for some rows of y: those of the rows under the furthest tap.
    fn plane(&self, rows: usize) -> usize {
        (self.axes[0].reach * self.width() + self.axes[1].reach + self.run_len(rows)).next_multiple_of(STEP)
    }

    fn planes(&self) -> usize {
        self.axes[0].phases.len() * self.axes[1].phases.len()
    }

    /// Numbers (pairs) of x, and of dy, of a chunk.
    fn chunk_len(&self, images: usize, rows: usize) -> [usize; 2] {
        let size = &self.size;
        let x = size.input[2] * self.planes() * images * self.plane(rows) / 2;
        [x, size.groups * panel_len(size.group_outputs(), images * self.run_len(rows))]
    }

    /// Images of a chunk, and rows of y of each.
    fn chunk(&self, records: usize) -> [usize; 2] {
        let (records, oh) = (records.max(1), self.size.output[0]);
        let fits = |images: usize, rows: usize| self.chunk_len(images, rows).iter().sum::<usize>() <= CHUNK;
        if fits(1, oh) {
            let most = (1..=records).rev().find(|images| fits(*images, oh)).unwrap_or(1);
            return [records.div_ceil(records.div_ceil(most)), oh];
        }
        let rows = (1..=oh).rev().find(|rows| fits(1, *rows)).unwrap_or(1);
        [1, oh.div_ceil(oh.div_ceil(rows))]
    }

    /// Numbers of sums of a group.
    fn sums(&self) -> usize {
        panels_len(self.size.group_outputs(), self.size.group_inputs() * self.size.taps())
    }

    /// Numbers of scratch: x, dy, sums, sums of the bias of each image.
    fn areas(&self, records: usize) -> [usize; 4] {
        let [images, rows] = self.chunk(records);
        let [x, dy] = self.chunk_len(images, rows);
        let bias = (records * self.size.output[2]).next_multiple_of(LANES);
        [x, dy, self.size.groups * self.sums(), bias]
    }

    pub(super) fn scratch(&self, records: usize) -> usize {
        self.areas(records).iter().sum()
    }

    /// Writes, or adds, the gradients of weights and bias.
    pub(super) fn run(&self, team: &mut Team, isa: Isa, mut job: GradientJob<'_>, scratch: &mut [f32]) {
        let oh = self.size.output[0];
        let [x_len, dy_len, sums_len, bias_len] = self.areas(job.records);
        let (x, rest) = scratch.split_at_mut(x_len);
        let (dy, rest) = rest.split_at_mut(dy_len);
        let (sums, rest) = rest.split_at_mut(sums_len);
        let areas = Areas { x: Target::new(x), dy: Target::new(dy), sums: Target::new(sums) };
        let [images, rows] = self.chunk(job.records);
        for image in (0..job.records).step_by(images) {
            for row in (0..oh).step_by(rows) {
                let chunk = Chunk {
                    images: image..(image + images).min(job.records),
                    rows: row..(row + rows).min(oh),
                    first: image == 0 && row == 0,
                };
                self.copy(team, isa, &job, &chunk, areas);
                self.multiply(team, isa, &chunk, areas);
            }
        }
        self.bias(team, isa, &mut job, &mut rest[..bias_len]);
        self.unpack(team, areas, job);
    }

    /// Copies the x and the dy of a chunk.
    fn copy(&self, team: &mut Team, isa: Isa, job: &GradientJob<'_>, chunk: &Chunk, areas: Areas<'_>) {
        let (size, images, rows) = (&self.size, chunk.images.len(), chunk.rows.len());
        let (planes, columns) = (self.planes(), self.axes[1].phases.len());
        let bands = ENOUGH_TASKS.div_ceil(images);
        let band = |band: usize, places: usize| {
            let steps = places / STEP;
            (band * steps / bands * STEP)..((band + 1) * steps / bands * STEP)
        };
        let (inputs, outputs) = (size.group_inputs(), size.group_outputs());
        team.tasks(images * size.groups * bands * (planes + 1), &|index, _| {
            let (plane, rest) = (index % (planes + 1), index / (planes + 1));
            let (part, rest) = (rest % bands, rest / bands);
            let (group, at) = (rest % size.groups, rest / size.groups);
            let record = chunk.images.start + at;
            if plane == planes {
                let [h, w, channels] = size.output;
                let run = self.run_len(rows);
                isa.run(CopyPlaces {
                    image: &job.dy[record * h * w * channels..][..h * w * channels],
                    size: size.output,
                    channels: group * outputs..(group + 1) * outputs,
                    low: [chunk.rows.start as isize, 0],
                    sample: [1; 2],
                    // Places beyond the row are no pixels of y.
                    pixels: [rows, w],
                    width: self.width(),
                    places: band(part, run),
                    prologue: None,
                    to: areas.dy.at(group * panel_len(outputs, images * run)),
                    layout: Layout::Panels { before: at * run, all: images * run },
                });
                return;
            }
            let [h, w, channels] = size.input;
            let phase = [self.axes[0].phases[plane / columns], self.axes[1].phases[plane % columns]];
            let low = |axis: usize, first: usize| {
                (first * size.stride[axis] + phase[axis]) as isize - size.padding[axis] as isize
            };
            let stride = images * self.plane(rows) / 2;
            isa.run(CopyPlaces {
                image: &job.x[record * h * w * channels..][..h * w * channels],
                size: size.input,
                channels: group * inputs..(group + 1) * inputs,
                low: [low(0, chunk.rows.start), low(1, 0)],
                sample: size.stride,
                pixels: [rows + self.axes[0].reach, self.width()],
                width: self.width(),
                places: band(part, self.plane(rows)),
                prologue: job.prologue.map(|prologue| prologue.from(group * inputs)),
                to: areas.x.at((group * planes + plane) * inputs * stride + at * self.plane(rows) / 2),
                layout: Layout::Lines { stride },
            });
        });
    }

    /// Adds a chunk up.
    fn multiply(&self, team: &mut Team, isa: Isa, chunk: &Chunk, areas: Areas<'_>) {
        let size = &self.size;
        let panels = size.group_outputs().div_ceil(PANEL);
        let blocks = size.group_inputs().div_ceil(BLOCK);
        let kh = size.kernel[0];
        team.tasks(size.groups * panels * blocks * kh, &|index, _| {
            let (tap_row, rest) = (index % kh, index / kh);
            let (block, rest) = (rest % blocks, rest / blocks);
            let part =
                Part { group: rest / panels, panel: rest % panels * PANEL, first: block * BLOCK, tap_row };
            // SAFETY: the chunk is copied, and every part of the sums has one task.
            unsafe { self.part(&mut Engine::new(isa), chunk, &part, areas) };
        });
    }

    /// # Safety
    /// The chunk is copied and nobody else uses the part's sums.
    unsafe fn part(&self, engine: &mut Engine, chunk: &Chunk, part: &Part, areas: Areas<'_>) {
        let (size, images, rows) = (&self.size, chunk.images.len(), chunk.rows.len());
        let (inputs, outputs) = (size.group_inputs(), size.group_outputs());
        let (run, plane, columns) = (self.run_len(rows), self.plane(rows), (outputs - part.panel).min(PANEL));
        let (width, all) = (panel_width(columns), images * run);
        let stride = images * plane;
        let b = areas.dy.at(part.group * panel_len(outputs, all) + panel_len(part.panel, all));
        let c = areas.sums.at(part.group * self.sums() + part.panel * inputs * size.taps());
        let (row_phase, down) = self.axes[0].taps[part.tap_row];
        for pass in (0..all / STEP).step_by(PASS) {
            // Where each step lies among a channel's places.
            let segments: [u32; PASS] = std::array::from_fn(|i| {
                let place = (pass + i) * STEP;
                (place / run * plane + place % run) as u32
            });
            for (tap, (column_phase, right)) in self.axes[1].taps.iter().enumerate() {
                let plane = part.group * self.planes() + row_phase * self.axes[1].phases.len() + column_phase;
                let x = areas.x.at((plane * inputs + part.first) * stride / 2).cast_const().cast::<u16>();
                let tap = part.tap_row * size.kernel[1] + tap;
                let band = Band {
                    lines: 1,
                    rows: BLOCK.min(inputs - part.first),
                    a: x.wrapping_add(down * self.width() + right),
                    a_row: stride,
                    a_line: 0,
                    segments: &segments[..PASS.min(all / STEP - pass)],
                    b: b.cast_const().wrapping_add(panel_len(columns, pass * STEP)),
                    columns,
                    c: c.wrapping_add((tap * inputs + part.first) * width),
                    c_row: width,
                    c_line: 0,
                    start: if chunk.first && pass == 0 { Start::Zero } else { Start::Memory },
                    bounds: Bounds::NONE,
                };
                // SAFETY: a plane has the places of all rows under the furthest tap, dy those of all rows; the caller
                // vouches for the sums.
                unsafe { engine.run(band) };
            }
        }
    }

    /// Sums of dy, image by image, then of the images.
    fn bias(&self, team: &mut Team, isa: Isa, job: &mut GradientJob<'_>, scratch: &mut [f32]) {
        let Some(dbias) = &mut job.dbias else { return };
        let (dy, [h, w, outputs]) = (job.dy, self.size.output);
        let target = Target::new(scratch);
        team.tasks(job.records, &|record, _| {
            // SAFETY: every image has its own sums.
            let sums = unsafe { target.write(record * outputs, outputs) };
            sums.fill(0.0);
            sum_rows(isa, (&dy[record * h * w * outputs..][..h * w * outputs], outputs), sums);
        });
        if !job.add {
            dbias.fill(0.0);
        }
        sum_rows(isa, (&scratch[..job.records * outputs], outputs), dbias);
    }

    /// Writes the sums, `[panel][tap][input][output of the panel]`, in PyTorch's order.
    fn unpack(&self, team: &mut Team, areas: Areas<'_>, job: GradientJob<'_>) {
        let size = &self.size;
        let (outputs, inputs, taps) = (size.group_outputs(), size.group_inputs(), size.taps());
        let (filter, panels) = (inputs * taps, outputs.div_ceil(PANEL));
        let dweights = Target::new(&mut job.dweights[..size.output[2] * filter]);
        team.tasks(size.groups * panels, &|index, _| {
            let (group, first) = (index / panels, index % panels * PANEL);
            let columns = (outputs - first).min(PANEL);
            let width = panel_width(columns);
            // SAFETY: filters of different panels do not overlap; nobody writes the sums any more.
            let (dweights, sums) = unsafe {
                (
                    dweights.write((group * outputs + first) * filter, columns * filter),
                    areas.sums.write(group * self.sums() + first * filter, width * filter),
                )
            };
            for (column, dweights) in dweights.chunks_exact_mut(filter).enumerate() {
                for (tap, sums) in sums.chunks_exact(inputs * width).enumerate() {
                    let to = dweights[tap..].iter_mut().step_by(taps);
                    for (to, sum) in to.zip(sums[column..].iter().step_by(width)) {
                        *to = if job.add { *to + sum } else { *sum };
                    }
                }
            }
        });
    }
}

/// A part of the sums.
struct Part {
    group: usize,
    /// Its first output and input channel.
    panel: usize,
    first: usize,
    tap_row: usize,
}

/// How places are laid out.
#[derive(Clone, Copy)]
enum Layout {
    /// Channel by channel, so many pairs from one to the next.
    Lines { stride: usize },
    /// As [`Band::b`]: where the image's places begin, and how many a panel has.
    Panels { before: usize, all: usize },
}

/// Some channels of an image copied to places, rounded to bf16: the place (row, column) is the pixel at `low + (row,
/// column) · sample` where that lies on the image and (row, column) within `pixels`, otherwise 0.
struct CopyPlaces<'a> {
    /// `[h, w, channels]`
    image: &'a [f32],
    size: [usize; 3],
    channels: Range<usize>,
    low: [isize; 2],
    sample: [usize; 2],
    pixels: [usize; 2],
    /// Places of a row.
    width: usize,
    /// Which are copied: whole steps.
    places: Range<usize>,
    prologue: Option<super::Prologue<'a>>,
    /// Room for the image's channels, or panels, of this layout, of which others write other places.
    to: *mut f32,
    layout: Layout,
}

impl CopyPlaces<'_> {
    /// The pixels of a step of places; `at`, the row and column of the first, moves on. Divisions would take longer than
    /// the copies of a few channels.
    #[inline(always)]
    fn pixels(&self, at: &mut [usize; 2]) -> [Option<*const f32>; STEP] {
        let on = |axis: usize, at: usize| {
            let pixel = self.low[axis] + (at * self.sample[axis]) as isize;
            (at < self.pixels[axis] && pixel >= 0 && pixel < self.size[axis] as isize)
                .then_some(pixel as usize)
        };
        let mut row = on(0, at[0]);
        std::array::from_fn(|_| {
            let pixel = row.zip(on(1, at[1])).map(|(row, column)| {
                self.image[(row * self.size[1] + column) * self.size[2]..][..self.size[2]].as_ptr()
            });
            at[1] += 1;
            if at[1] == self.width {
                *at = [at[0] + 1, 0];
                row = on(0, at[0]);
            }
            pixel
        })
    }

    /// Sixteen pairs of places, for sixteen channels from `first` of those that are copied on.
    #[inline(always)]
    fn square<V: Lanes>(&self, pixels: &[Option<*const f32>; STEP], first: usize) -> [V; LANES] {
        // No closures: they are not compiled for the instructions of the caller unless they happen to be inlined.
        let mut square = [V::splat(0.0); LANES];
        for (pair, pairs) in square.iter_mut().enumerate() {
            let even = self.numbers::<V>(pixels[2 * pair], first);
            *pairs = even.bf16_pairs(self.numbers::<V>(pixels[2 * pair + 1], first));
        }
        square
    }

    /// Sixteen channels of a pixel that [`CopyPlaces::pixels`] found; 0 where there is none.
    #[inline(always)]
    fn numbers<V: Lanes>(&self, pixel: Option<*const f32>, first: usize) -> V {
        let Some(pixel) = pixel else { return V::splat(0.0) };
        let count = (self.channels.len() - first).min(LANES);
        // SAFETY: it is a whole pixel, and `count` of its channels are left; a prologue has a number for each of them.
        unsafe {
            let mut x: V = V::load_first(pixel.add(self.channels.start + first), count);
            if let Some(prologue) = self.prologue {
                let scale = V::load_first(prologue.scale[first..].as_ptr(), count);
                x = x.fma(scale, V::load_first(prologue.shift[first..].as_ptr(), count));
                x = prologue.bounds.clip(x);
            }
            x
        }
    }
}

impl Kernel for CopyPlaces<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let count = self.channels.len();
        if let Some(prologue) = self.prologue {
            assert!(
                prologue.scale.len() >= count && prologue.shift.len() >= count,
                "a prologue has a scale and a shift of every channel"
            );
        }
        let mut at = [self.places.start / self.width, self.places.start % self.width];
        for step in self.places.clone().step_by(STEP) {
            let pixels = self.pixels(&mut at);
            for first in (0..count).step_by(LANES) {
                let square = self.square::<V>(&pixels, first);
                let (vectors, to, stride) = match self.layout {
                    Layout::Lines { stride } => {
                        (exchanged(square), self.to.wrapping_add(first * stride + step / 2), stride)
                    }
                    Layout::Panels { before, all } => {
                        let panel = first / PANEL * PANEL;
                        let columns = (count - panel).min(PANEL);
                        let place = panel_len(panel, all) + panel_len(columns, before + step);
                        (square, self.to.wrapping_add(place + panel_len(first - panel, STEP)), LANES)
                    }
                };
                let lines = if matches!(self.layout, Layout::Lines { .. }) {
                    (count - first).min(LANES)
                } else {
                    LANES
                };
                for (line, pairs) in vectors.into_iter().enumerate().take(lines) {
                    // SAFETY: the task that makes one has room for the places of every channel.
                    unsafe { pairs.store(to.wrapping_add(line * stride)) };
                }
            }
        }
    }
}
