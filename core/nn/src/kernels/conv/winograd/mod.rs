//! 3 × 3 convolution with stride 1 by F(4×4, 3×3): a quarter of the multiplications (Lavin and Gray, 2015).
//!
//! Tiles of 6 × 6 pixels of x, four pixels apart, are transformed to 36 points; for each point the tiles are
//! multiplied with the transformed weights (36 matrix products, [`RowBand`]); the 36 results are transformed back to
//! 4 × 4 pixels of y. A task does all of it for some tiles, which stay in its second-level cache, and some panels of
//! output channels. Backward-data is the same with dy and flipped weights. Rounding errors are some five times those of
//! the direct kernels.

mod gradient;
mod tiles;
mod transform;

use super::correlation::Job;
use super::size::ConvSize;
use super::tile::{PANEL, RowBand, Start, panel_width};
use super::weights::{panel_at, panels_len};
use super::{Begin, Target};
use crate::arena::Shared;
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Bounds, Isa, Kernel};
use crate::team::Team;
pub(super) use gradient::WinogradGradient;
use std::ops::Range;
use tiles::{FromPoints, Grid, ToPoints};
use transform::{POINTS, SIDE, STEP, Weights, both};

/// Numbers of transformed x of a task, at most.
const TRANSFORMED: usize = 512 << 10;
/// Tiles of a task: at most, and no fewer for the sake of more tasks.
const MOST_TILES: usize = 56;
const FEW_TILES: usize = 28;
/// Panels that are multiplied before they are transformed back.
const PANELS: usize = 2;
/// Steps of a panel that stay in the first-level cache.
const RESIDENT_STEPS: usize = 192;
/// Tasks that are enough for the threads of a worker to share the work evenly.
const ENOUGH_TASKS: usize = 16;

/// A planned forward or backward-data.
#[derive(Debug)]
pub(super) struct Winograd {
    from: Grid,
    to: Grid,
    /// Numbers from an output, and from an input channel, to the next in PyTorch's weights.
    strides: [usize; 2],
    /// Whether filters are turned by half a circle.
    flipped: bool,
}

/// Whether F(4×4, 3×3) can do the convolution.
pub(super) fn applies(size: &ConvSize) -> bool {
    size.kernel == [3; 2]
        && size.stride == [1; 2]
        && size.dilation == [1; 2]
        && size.groups == 1
        && size.padding.iter().all(|padding| *padding <= 2)
}

/// Whether it is faster than the direct kernels: measured, all three passes gain from sixteen channels on each side on
/// (1.4 times there, 2 to 3 times with 32 and more) and on images of 7 × 7, whose tiles are filled by three quarters;
/// with 8 channels none does.
pub(super) fn pays(size: &ConvSize) -> bool {
    let [rows, columns] = tiles_of(size.output);
    let filled = 2 * size.output[0] * size.output[1] >= rows * columns * STEP * STEP;
    filled && size.input[2] >= LANES && size.output[2] >= LANES
}

/// Fewest tiles of a batch for which weights are worth being read: they are four times as many as those of the filters.
/// Of one image, 512 channels at 7 × 7 (four tiles) are faster direct, 128 at 28 × 28 (49 tiles) by far slower; 256 at
/// 14 × 14 (sixteen) take as long either way between other layers, where weights come from memory and not from a cache.
const LEAST_TILES: usize = 20;

/// Whether there are tiles enough in `records` images.
pub(super) fn pays_for(size: &ConvSize, records: usize) -> bool {
    let [rows, columns] = tiles_of(size.output);
    records * rows * columns >= LEAST_TILES
}

/// Rows and columns of tiles that cover an image.
fn tiles_of(image: [usize; 3]) -> [usize; 2] {
    [image[0].div_ceil(STEP), image[1].div_ceil(STEP)]
}

impl Winograd {
    pub(super) fn forward(size: &ConvSize) -> Winograd {
        let tiles = tiles_of(size.output);
        Winograd {
            from: Grid { tiles, image: size.input, padding: size.padding },
            to: Grid { tiles, image: size.output, padding: [0; 2] },
            strides: [size.input[2] * size.taps(), size.taps()],
            flipped: false,
        }
    }

    pub(super) fn backward(size: &ConvSize) -> Winograd {
        let tiles = tiles_of(size.input);
        Winograd {
            from: Grid { tiles, image: size.output, padding: size.padding.map(|padding| 2 - padding) },
            to: Grid { tiles, image: size.input, padding: [0; 2] },
            strides: [size.taps(), size.input[2] * size.taps()],
            flipped: true,
        }
    }

    fn inputs(&self) -> usize {
        self.from.image[2]
    }

    fn outputs(&self) -> usize {
        self.to.image[2]
    }

    /// Numbers of a point's packed weights.
    fn point_packed(&self) -> usize {
        panels_len(self.outputs(), self.inputs())
    }

    pub(super) fn packed(&self) -> usize {
        POINTS * self.point_packed()
    }

    /// Transforms weights: `packed[point][panel][input][output of the panel]`.
    pub(super) fn pack(&self, team: &mut Team, isa: Isa, weights: &[f32], packed: &mut [f32]) {
        let blocks = self.inputs().div_ceil(LANES);
        let packed = Shared::new(&mut packed[..self.packed()]);
        team.tasks(self.outputs().div_ceil(PANEL) * blocks, &|index, _| {
            let (block, first) = (index % blocks * LANES, index / blocks * PANEL);
            let columns = (self.outputs() - first).min(PANEL);
            let inputs = block..(block + LANES).min(self.inputs());
            let width = panel_width(columns);
            for point in 0..POINTS {
                let at = point * self.point_packed() + panel_at(first, self.inputs()) + block * width;
                // SAFETY: blocks of inputs of the panels do not overlap; this makes sure that they are in the buffer.
                unsafe { packed.write(at..at + inputs.len() * width) };
            }
            let at = panel_at(first, self.inputs()) + block * width;
            // SAFETY: as above; the pointer is used for these blocks only.
            let to = unsafe { packed.write(at..at + inputs.len() * width) }.as_mut_ptr();
            let job = PackPoints {
                weights: &weights[first * self.strides[0]..],
                strides: self.strides,
                flipped: self.flipped,
                columns,
                inputs,
                to,
                point: self.point_packed(),
            };
            isa.run(job);
        });
    }

    fn tiles(&self, records: usize) -> usize {
        records * self.from.tiles[0] * self.from.tiles[1]
    }

    /// Tiles and panels of a task.
    fn partition(&self, records: usize) -> [usize; 2] {
        let tiles = self.tiles(records);
        let most = (TRANSFORMED / (POINTS * self.inputs())).clamp(FEW_TILES, MOST_TILES);
        let even = |most: usize| tiles.max(1).div_ceil(tiles.max(1).div_ceil(most));
        let all = self.outputs().div_ceil(PANEL);
        let (mut a_task, mut panels) = (even(most), all);
        while tiles.div_ceil(a_task) * all.div_ceil(panels) < ENOUGH_TASKS {
            if panels > 2 * PANELS {
                panels = panels.div_ceil(2);
            } else if a_task >= 2 * FEW_TILES {
                a_task = even(a_task / 2);
            } else if panels > 1 {
                panels = panels.div_ceil(2);
            } else {
                break;
            }
        }
        [a_task, panels]
    }

    pub(super) fn scratch(&self, records: usize, threads: usize) -> usize {
        threads * self.thread_scratch(records)
    }

    /// Numbers from a point to the next for some tiles of some channels. A line more than needed, so that the points
    /// of a tile do not all fall on the same places of a cache.
    fn point(&self, tiles: usize, channels: usize) -> usize {
        (tiles * channels).next_multiple_of(LANES) + LANES
    }

    fn thread_scratch(&self, records: usize) -> usize {
        let [tiles, _] = self.partition(records);
        POINTS * (self.point(tiles, self.inputs()) + self.point(tiles, PANELS * PANEL))
    }

    /// Parts of the tiles.
    fn parts(&self, records: usize) -> usize {
        self.tiles(records).div_ceil(self.partition(records)[0])
    }

    /// As [`super::correlation::Correlation::run`].
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: &Job<'_>, scratch: &mut [f32]) {
        let (tiles, [a_task, panels]) = (self.tiles(job.records), self.partition(job.records));
        let one = self.thread_scratch(job.records);
        let scratch = Target::new(&mut scratch[..one * team.threads()]);
        let panel_tasks = self.outputs().div_ceil(PANEL).div_ceil(panels);
        team.tasks(self.parts(job.records) * panel_tasks, &|index, thread| {
            let (panel, part) = (index % panel_tasks, index / panel_tasks);
            let task = Task {
                isa,
                tiles: part * a_task..((part + 1) * a_task).min(tiles),
                channels: panel * panels * PANEL..((panel + 1) * panels * PANEL).min(self.outputs()),
                x: scratch.at(thread * one),
                y: scratch.at(thread * one + POINTS * self.point(a_task, self.inputs())),
            };
            // SAFETY: tiles and channels of different tasks do not overlap; neither does the scratch of threads.
            unsafe { self.task(job, &task) };
        });
    }

    /// # Safety
    /// Nobody else writes the task's part of the output, or its scratch.
    unsafe fn task(&self, job: &Job<'_>, task: &Task) {
        let x_point = self.point(task.tiles.len(), self.inputs());
        task.isa.run(ToPoints {
            grid: self.from,
            from: job.from,
            tiles: task.tiles.clone(),
            channels: 0..self.inputs(),
            block: self.inputs(),
            block_stride: 0,
            to: task.x,
            point: x_point,
            width: |channels| channels,
            prologue: job.prologue,
            gradient: false,
        });
        for first in task.channels.clone().step_by(PANELS * PANEL) {
            let channels = first..(first + PANELS * PANEL).min(task.channels.end);
            let y_point = self.point(task.tiles.len(), channels.len());
            // SAFETY: x is transformed; the caller vouches for the scratch.
            unsafe { self.multiply(job, task, channels.clone(), [x_point, y_point]) };
            task.isa.run(FromPoints {
                grid: self.to,
                from: task.y,
                point: y_point,
                tile: channels.len(),
                tiles: task.tiles.clone(),
                channels: channels.clone(),
                to: job.to.at(0),
                start: match job.begin {
                    Begin::Zero => Start::Zero,
                    Begin::Bias(bias) => Start::Bias(bias[channels.clone()].as_ptr()),
                    Begin::Present => Start::Memory,
                },
                bounds: job.bounds,
            });
        }
    }

    /// The products of all points for some output channels.
    ///
    /// # Safety
    /// The scratch has room for both sides.
    unsafe fn multiply(&self, job: &Job<'_>, task: &Task, channels: Range<usize>, points: [usize; 2]) {
        for point in 0..POINTS {
            for panel in channels.clone().step_by(PANEL) {
                let columns = (channels.end - panel).min(PANEL);
                let weights = &job.weights[point * self.point_packed() + panel_at(panel, self.inputs())..];
                for first in (0..self.inputs()).step_by(RESIDENT_STEPS) {
                    let band = RowBand {
                        lines: 1,
                        rows: task.tiles.len(),
                        a: task.x.wrapping_add(point * points[0]),
                        a_row: self.inputs(),
                        a_line: 0,
                        segments: &[first as u32],
                        length: RESIDENT_STEPS.min(self.inputs() - first),
                        b: weights[first * panel_width(columns)..].as_ptr(),
                        columns,
                        c: task.y.wrapping_add(point * points[1] + panel - channels.start),
                        c_row: channels.len(),
                        c_line: 0,
                        start: if first == 0 { Start::Zero } else { Start::Memory },
                        bounds: Bounds::NONE,
                        distant: false,
                    };
                    // SAFETY: every tile has all inputs and the panel all steps; the caller vouches for the rest.
                    unsafe { band.run(task.isa) };
                }
            }
        }
    }
}

struct Task {
    isa: Isa,
    /// Tiles of all images, one after the other.
    tiles: Range<usize>,
    channels: Range<usize>,
    /// Transformed x, and products.
    x: *mut f32,
    y: *mut f32,
}

/// Transforms the filters of some inputs and a panel of outputs.
struct PackPoints<'a> {
    /// Those of the panel's first output.
    weights: &'a [f32],
    strides: [usize; 2],
    flipped: bool,
    columns: usize,
    inputs: Range<usize>,
    to: *mut f32,
    point: usize,
}

impl Kernel for PackPoints<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = panel_width(self.columns);
        for (at, input) in self.inputs.clone().enumerate() {
            for first in (0..width).step_by(LANES) {
                let mut taps = [[0.0f32; LANES]; 9];
                let lanes = self.columns.saturating_sub(first).min(LANES);
                for (tap, to) in taps.iter_mut().enumerate() {
                    let tap = if self.flipped { 8 - tap } else { tap };
                    let from = first * self.strides[0] + input * self.strides[1] + tap;
                    for (lane, to) in to.iter_mut().enumerate().take(lanes) {
                        *to = self.weights[from + lane * self.strides[0]];
                    }
                }
                let mut square = [[V::splat(0.0); 3]; 3];
                for (vector, lanes) in square.iter_mut().flatten().zip(&taps) {
                    // SAFETY: an array of sixteen numbers.
                    *vector = unsafe { V::load(lanes.as_ptr()) };
                }
                let points = both::<V, Weights, 3, SIDE>(&square);
                for (i, line) in points.iter().enumerate() {
                    for (j, value) in line.iter().enumerate() {
                        let to = self.to.wrapping_add((i * SIDE + j) * self.point + at * width + first);
                        // SAFETY: whoever makes one vouches for the panel at every point.
                        unsafe { value.store(to) };
                    }
                }
            }
        }
    }
}
