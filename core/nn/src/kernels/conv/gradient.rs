//! Direct convolution, backward-weights: sums of outer products over all pixels of the batch.
//!
//! The batch passes in chunks of pixels. For each the team first copies x (with padding, [`Gather`]) and dy (in panels
//! of output channels); then every task adds its part of the gradient up over the chunk: a panel, a block of input
//! channels and a row of the filter, for which it has sums of its own. No sum is divided, whatever the threads.

use super::Target;
use super::gather::{Gather, Prologue};
use super::size::ConvSize;
use super::tile::{OuterBand, PANEL, panel_width};
use super::weights::panels_len;
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Isa, Kernel};
use crate::team::Team;
use std::ops::Range;

/// Numbers of x and dy of a chunk, at most: 1 MiB, so that it stays in the second-level caches of the cores.
const CHUNK: usize = 1 << 18;
/// Pixels over which a task passes at a time: with a block of x, they stay in the first-level cache.
const PASS: usize = 192;
/// Channels of a block where a filter is one pixel.
const WIDE_BLOCK: usize = 64;
/// Tasks that are enough for the threads of a worker to share the work evenly.
const ENOUGH_TASKS: usize = 16;

/// A planned backward-weights.
#[derive(Debug)]
pub(super) struct Gradient {
    size: ConvSize,
    /// As of a `Correlation`: how x is gathered.
    read: [usize; 2],
    sample: [usize; 2],
    reach: [usize; 2],
    /// Channels of a block.
    block: usize,
    /// Columns of a filter whose channels lie side by side: all of them or one.
    joint: usize,
}

impl Gradient {
    pub(super) fn new(size: &ConvSize) -> Gradient {
        let reach = [0, 1].map(|axis| (size.kernel[axis] - 1) * size.dilation[axis] + 1);
        let single = reach.map(|reach| reach == 1);
        let choose = |yes: usize, no: usize, axis: usize| if single[axis] { yes } else { no };
        let inputs = size.group_inputs();
        let panels = size.groups * size.group_outputs().div_ceil(PANEL);
        let mut block = if size.taps() == 1 { WIDE_BLOCK } else { LANES };
        while block > LANES && panels * inputs.div_ceil(block) < ENOUGH_TASKS {
            block /= 2;
        }
        Gradient {
            size: *size,
            read: [0, 1].map(|axis| choose(1, size.stride[axis], axis)),
            sample: [0, 1].map(|axis| choose(size.stride[axis], 1, axis)),
            reach,
            block: block.min(inputs),
            joint: if size.dilation[1] == 1 || size.kernel[1] == 1 { size.kernel[1] } else { 1 },
        }
    }

    fn gathered(&self, axis: usize, outputs: usize) -> usize {
        (outputs - 1) * self.read[axis] + self.reach[axis]
    }

    fn columns(&self) -> usize {
        self.gathered(1, self.size.output[1])
    }

    /// Numbers of a row of gathered x of one group.
    fn row(&self) -> usize {
        self.columns() * self.size.group_inputs()
    }

    /// Numbers of a pixel of all panels of dy of a group.
    fn dy_pixel(&self) -> usize {
        panels_len(self.size.group_outputs(), 1)
    }

    /// Images of a chunk, and rows of y of each.
    fn chunk(&self, records: usize) -> [usize; 2] {
        let [oh, ow, _] = self.size.output;
        let all = |rows: usize| {
            self.size.groups * (self.gathered(0, rows) * self.row() + rows * ow * self.dy_pixel())
        };
        if all(oh) <= CHUNK {
            // Chunks of nearly the same size.
            let most = (CHUNK / all(oh)).clamp(1, records.max(1));
            return [records.max(1).div_ceil(records.max(1).div_ceil(most)), oh];
        }
        let rows = (1..=oh).rev().find(|rows| all(*rows) <= CHUNK).unwrap_or(1);
        [1, oh.div_ceil(oh.div_ceil(rows))]
    }

    /// Numbers of sums of a group.
    fn sums(&self) -> usize {
        panels_len(self.size.group_outputs(), self.size.group_inputs() * self.size.taps())
    }

    /// Numbers of scratch: gathered x, dy in panels, sums, sums of the bias.
    fn areas(&self, records: usize) -> [usize; 4] {
        let [images, rows] = self.chunk(records);
        let groups = self.size.groups;
        let x = groups * images * self.gathered(0, rows) * self.row();
        let dy = groups * images * rows * self.size.output[1] * self.dy_pixel();
        let bias = groups * self.dy_pixel();
        [x, dy, groups * self.sums(), bias].map(|len| len.next_multiple_of(LANES))
    }

    pub(super) fn scratch(&self, records: usize) -> usize {
        self.areas(records).iter().sum()
    }

    /// Writes, or adds, the gradients of weights and bias.
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: GradientJob<'_>, scratch: &mut [f32]) {
        let [oh, ..] = self.size.output;
        let [x_len, dy_len, sums_len, bias_len] = self.areas(job.records);
        let (x, rest) = scratch.split_at_mut(x_len);
        let (dy, rest) = rest.split_at_mut(dy_len);
        let (sums, rest) = rest.split_at_mut(sums_len);
        let areas = Areas {
            x: Target::new(x),
            dy: Target::new(dy),
            sums: Target::new(sums),
            bias: Target::new(&mut rest[..bias_len]),
        };
        let [images, rows] = self.chunk(job.records);
        for image in (0..job.records).step_by(images) {
            for row in (0..oh).step_by(rows) {
                let chunk = Chunk {
                    images: image..(image + images).min(job.records),
                    rows: row..(row + rows).min(oh),
                    first: image == 0 && row == 0,
                    height: self.gathered(0, rows),
                };
                self.copy(team, isa, &job, &chunk, areas);
                self.multiply(team, isa, &chunk, areas, job.dbias.is_some());
            }
        }
        self.unpack(team, areas, job);
    }

    /// Copies the x and the dy of a chunk.
    fn copy(&self, team: &mut Team, isa: Isa, job: &GradientJob<'_>, chunk: &Chunk, areas: Areas<'_>) {
        let size = &self.size;
        let ([_, ow, k], [h, w, c]) = (size.output, size.input);
        let bands = ENOUGH_TASKS.div_ceil(chunk.images.len()).min(chunk.rows.len());
        let (x_rows, y_rows) = (self.gathered(0, chunk.rows.len()), chunk.rows.len());
        team.tasks(chunk.images.len() * size.groups * bands, &|index, _| {
            let (band, rest) = (index % bands, index / bands);
            let (group, at) = (rest % size.groups, rest / size.groups);
            let record = chunk.images.start + at;
            let part = |rows: usize| band * rows / bands..(band + 1) * rows / bands;
            let rows = part(x_rows);
            let place = (group * chunk.images.len() + at) * chunk.height + rows.start;
            let channel = group * size.group_inputs();
            let first = chunk.rows.start * self.read[0] + rows.start;
            let gather = Gather {
                from: job.x[record * h * w * c..][..h * w * c].as_ptr().wrapping_add(channel),
                image: [h, w],
                pixel: c,
                low: [
                    (first * self.sample[0]) as isize - size.padding[0] as isize,
                    -(size.padding[1] as isize),
                ],
                sample: self.sample,
                size: [rows.len(), self.columns()],
                channels: size.group_inputs(),
                block: self.block,
                to: areas.x.at(place * self.row()),
                prologue: job.prologue.map(|prologue| prologue.from(channel)),
            };
            // SAFETY: the slice holds an image; bands of a chunk's images do not overlap.
            unsafe { gather.run(isa) };
            let rows = part(y_rows);
            let pixel = at * y_rows * ow + rows.start * ow;
            let from = (record * size.output[0] + chunk.rows.start + rows.start) * ow * k;
            let panels = Panels {
                from: &job.dy[from..][..rows.len() * ow * k],
                channels: k,
                part: group * size.group_outputs()..(group + 1) * size.group_outputs(),
                to: areas.dy.at(group * chunk.images.len() * y_rows * ow * self.dy_pixel()),
                first: pixel,
                pixels: chunk.images.len() * y_rows * ow,
            };
            // SAFETY: the area holds all pixels of a chunk in panels; bands do not overlap.
            unsafe { panels.run_on(isa) };
        });
    }

    /// Adds a chunk up.
    fn multiply(&self, team: &mut Team, isa: Isa, chunk: &Chunk, areas: Areas<'_>, bias: bool) {
        let size = &self.size;
        let panels = size.group_outputs().div_ceil(PANEL);
        let blocks = size.group_inputs().div_ceil(self.block);
        let kh = size.kernel[0];
        team.tasks(size.groups * panels * blocks * kh, &|index, _| {
            let (tap_row, rest) = (index % kh, index / kh);
            let (block, rest) = (rest % blocks, rest / blocks);
            let part = Part { group: rest / panels, panel: rest % panels * PANEL, block, tap_row };
            // SAFETY: the chunk is copied, and every part of the sums has one task.
            unsafe { self.part(isa, chunk, &part, areas) };
            if bias && block == 0 && tap_row == 0 {
                // SAFETY: as above; the panel's first task has its bias.
                unsafe { self.bias(isa, chunk, &part, areas) };
            }
        });
    }

    /// # Safety
    /// The chunk is copied and nobody else uses the part's sums.
    unsafe fn part(&self, isa: Isa, chunk: &Chunk, part: &Part, areas: Areas<'_>) {
        let (size, ow) = (&self.size, self.size.output[1]);
        let ([kh, kw], inputs) = (size.kernel, size.group_inputs());
        let width = panel_width((size.group_outputs() - part.panel).min(PANEL));
        let first = part.block * self.block;
        let channels = self.block.min(inputs - first);
        let pixels = chunk.images.len() * chunk.rows.len() * ow;
        let sums = areas.sums.at(part.group * self.sums()
            + part.panel * inputs * size.taps()
            + (first * kh + part.tap_row * channels) * kw * width);
        if chunk.first {
            // SAFETY: these are the part's sums.
            unsafe { sums.write_bytes(0, channels * kw * width) };
        }
        let image = chunk.height * self.row();
        let x = areas.x.at(part.group * chunk.images.len() * image
            + part.tap_row * size.dilation[0] * self.row()
            + first * self.columns());
        let dy = areas.dy.at(part.group * pixels * self.dy_pixel() + part.panel * pixels);
        let (images, rows) = ((PASS / (chunk.rows.len() * ow)).max(1), (PASS / ow).max(1));
        for at in (0..chunk.images.len()).step_by(images) {
            for row in (0..chunk.rows.len()).step_by(rows) {
                let from = x.wrapping_add(at * image + row * self.read[0] * self.row());
                let b = dy.wrapping_add((at * chunk.rows.len() + row) * ow * width);
                for tap in (0..kw).step_by(self.joint) {
                    let band = OuterBand {
                        images: images.min(chunk.images.len() - at),
                        runs: rows.min(chunk.rows.len() - row),
                        pixels: ow,
                        rows: channels * self.joint,
                        a: from.wrapping_add(tap * size.dilation[1] * channels),
                        a_pixel: self.read[1] * channels,
                        a_run: self.read[0] * self.row(),
                        a_image: image,
                        b,
                        b_pixel: width,
                        b_run: ow * width,
                        b_image: chunk.rows.len() * ow * width,
                        vectors: width / LANES,
                        c: sums.wrapping_add(tap * channels * width),
                    };
                    // SAFETY: gathered x has the filter's row for every row of y, dy all pixels; the caller vouches
                    // for the sums.
                    unsafe { band.run(isa) };
                }
            }
        }
    }

    /// # Safety
    /// As [`Gradient::part`], for the sums of the bias.
    unsafe fn bias(&self, isa: Isa, chunk: &Chunk, part: &Part, areas: Areas<'_>) {
        let width = panel_width((self.size.group_outputs() - part.panel).min(PANEL));
        let pixels = chunk.images.len() * chunk.rows.len() * self.size.output[1];
        let from = areas.dy.at(part.group * pixels * self.dy_pixel() + part.panel * pixels);
        let to = areas.bias.at(part.group * self.dy_pixel() + part.panel);
        isa.run(ColumnSums { from: from.cast_const(), pixels, width, to, add: !chunk.first });
    }

    /// Writes the sums in PyTorch's order.
    fn unpack(&self, team: &mut Team, areas: Areas<'_>, job: GradientJob<'_>) {
        let size = &self.size;
        let (outputs, inputs, taps) = (size.group_outputs(), size.group_inputs(), size.taps());
        let filter = inputs * taps;
        let panels = outputs.div_ceil(PANEL);
        let dweights = Target::new(&mut job.dweights[..size.output[2] * filter]);
        team.tasks(size.groups * panels, &|index, _| {
            let (group, first) = (index / panels, index % panels * PANEL);
            let columns = (outputs - first).min(PANEL);
            // SAFETY: filters of different panels do not overlap; nobody writes the sums any more.
            let (dweights, sums) = unsafe {
                (
                    dweights.write((group * outputs + first) * filter, columns * filter),
                    areas.sums.write(group * self.sums() + first * filter, panel_width(columns) * filter),
                )
            };
            for (column, dweights) in dweights.chunks_exact_mut(filter).enumerate() {
                self.unpack_filter(&sums[column..], panel_width(columns), dweights, job.add);
            }
        });
        if let Some(dbias) = job.dbias {
            // SAFETY: the tasks are done.
            let sums = unsafe { areas.bias.write(0, size.groups * self.dy_pixel()) };
            for (group, dbias) in dbias.chunks_exact_mut(outputs).enumerate() {
                for (dbias, sum) in dbias.iter_mut().zip(&sums[group * self.dy_pixel()..]) {
                    *dbias = if job.add { *dbias + sum } else { *sum };
                }
            }
        }
    }

    /// `dweights[c][kh][kw]` of one filter from `sums[block][kh][kw][channel]`, numbers `width` apart.
    fn unpack_filter(&self, sums: &[f32], width: usize, dweights: &mut [f32], add: bool) {
        let (taps, inputs) = (self.size.taps(), self.size.group_inputs());
        for first in (0..inputs).step_by(self.block) {
            let channels = self.block.min(inputs - first);
            let block = &sums[first * taps * width..];
            for tap in 0..taps {
                let from = block[tap * channels * width..].iter().step_by(width);
                let to = dweights[first * taps + tap..].iter_mut().step_by(taps);
                for (to, from) in to.zip(from).take(channels) {
                    *to = if add { *to + from } else { *from };
                }
            }
        }
    }
}

/// Arguments of backward-weights.
pub(super) struct GradientJob<'a> {
    pub(super) records: usize,
    pub(super) x: &'a [f32],
    pub(super) dy: &'a [f32],
    pub(super) prologue: Option<Prologue<'a>>,
    pub(super) dweights: &'a mut [f32],
    pub(super) dbias: Option<&'a mut [f32]>,
    /// Whether to add to what is there.
    pub(super) add: bool,
}

/// Parts of the scratch.
#[derive(Clone, Copy)]
struct Areas<'a> {
    x: Target<'a>,
    dy: Target<'a>,
    sums: Target<'a>,
    bias: Target<'a>,
}

/// Some images, or some rows of one.
struct Chunk {
    images: Range<usize>,
    rows: Range<usize>,
    first: bool,
    /// Gathered rows of an image in the area.
    height: usize,
}

/// A part of the sums.
struct Part {
    group: usize,
    /// Its first output channel.
    panel: usize,
    block: usize,
    tap_row: usize,
}

/// Pixels of some channels copied to panels: `to[panel][pixel][channel]`, 0 where the panel is wider than its channels.
struct Panels<'a> {
    from: &'a [f32],
    /// All channels of a pixel, and which are copied.
    channels: usize,
    part: Range<usize>,
    to: *mut f32,
    /// Place of the first pixel, and pixels of a panel.
    first: usize,
    pixels: usize,
}

impl Panels<'_> {
    /// # Safety
    /// There is room for `pixels` pixels in panels; nobody else uses those that are written.
    unsafe fn run_on(self, isa: Isa) {
        isa.run(self);
    }
}

impl Kernel for Panels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for (at, pixel) in self.from.chunks_exact(self.channels).enumerate() {
            let pixel = &pixel[self.part.clone()];
            for (panel, part) in pixel.chunks(PANEL).enumerate() {
                let width = panel_width(part.len());
                let to = self.to.wrapping_add(panel * PANEL * self.pixels + (self.first + at) * width);
                for first in (0..width).step_by(LANES) {
                    let left = part.len() - first;
                    // SAFETY: `left` channels of the pixel are left; the caller vouches for the panel.
                    unsafe {
                        let from = part.as_ptr().add(first);
                        let y: V = if left >= LANES { V::load(from) } else { V::load_first(from, left) };
                        y.store(to.add(first));
                    }
                }
            }
        }
    }
}

/// Sums of the columns of a panel, pixel by pixel.
pub(super) struct ColumnSums {
    pub(super) from: *const f32,
    pub(super) pixels: usize,
    pub(super) width: usize,
    pub(super) to: *mut f32,
    pub(super) add: bool,
}

impl Kernel for ColumnSums {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        for first in (0..self.width).step_by(LANES) {
            // SAFETY: whoever makes one vouches for pixels and sums of whole vectors.
            unsafe {
                let to = self.to.add(first);
                let mut sum = if self.add { V::load(to) } else { V::splat(0.0) };
                for pixel in 0..self.pixels {
                    sum = sum.add(V::load(self.from.add(pixel * self.width + first)));
                }
                sum.store(to);
            }
        }
    }
}
