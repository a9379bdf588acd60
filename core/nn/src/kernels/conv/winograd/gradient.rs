//! Backward-weights by F(4×4, 3×3): for each of the 36 points, outer products of transformed tiles of x and of dy, added
//! up over all tiles; then one transform back.
//!
//! The tiles pass in chunks: the team transforms those of a chunk, then every task adds its part (a point, a panel of
//! output channels, a block of input channels) up over the chunk.

use super::super::Target;
use super::super::gradient::{ColumnSums, GradientJob};
use super::super::size::ConvSize;
use super::super::tile::{OuterBand, PANEL, panel_width};
use super::super::weights::panels_len;
use super::tiles::{Grid, ToPoints};
use super::tiles_of;
use super::transform::{POINTS, SIDE, WeightsGradient, both};
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Isa, Kernel};
use crate::team::Team;
use std::ops::Range;

/// Numbers of both sides of a chunk for which it still fits into the caches of the cores.
const CHUNK: usize = 1 << 20;
/// Tiles of a chunk: fewer would only move sums, more would leave the caches.
const TILES: Range<usize> = 128..512;
/// Channels of x of a block.
const BLOCK: usize = 64;
/// Tiles that a task transforms.
const TASK_TILES: usize = 8;

/// The point at which a transformed tile of dy is the sum of its pixels: 1, 1.
const SUMS: usize = SIDE + 1;

/// A planned backward-weights.
#[derive(Debug)]
pub(in super::super) struct WinogradGradient {
    x: Grid,
    dy: Grid,
}

impl WinogradGradient {
    pub(in super::super) fn new(size: &ConvSize) -> WinogradGradient {
        let tiles = tiles_of(size.output);
        WinogradGradient {
            x: Grid { tiles, image: size.input, padding: size.padding },
            dy: Grid { tiles, image: size.output, padding: [0; 2] },
        }
    }

    fn inputs(&self) -> usize {
        self.x.image[2]
    }

    fn outputs(&self) -> usize {
        self.dy.image[2]
    }

    /// All channels of y in panels.
    fn panels_width(&self) -> usize {
        panels_len(self.outputs(), 1)
    }

    fn all_tiles(&self, records: usize) -> usize {
        records * self.x.tiles[0] * self.x.tiles[1]
    }

    /// Tiles of a chunk.
    fn chunk(&self, records: usize) -> usize {
        let tiles = self.all_tiles(records).max(1);
        let most = (CHUNK / (POINTS * (self.inputs() + self.panels_width()))).clamp(TILES.start, TILES.end);
        tiles.div_ceil(tiles.div_ceil(most))
    }

    /// Numbers from a point to the next of transformed x, of transformed dy, and of the sums.
    fn points(&self, tiles: usize) -> [usize; 3] {
        let apart = |len: usize| len.next_multiple_of(LANES) + LANES;
        [
            apart(tiles * self.inputs()),
            apart(tiles * self.panels_width()),
            apart(self.inputs() * self.panels_width()),
        ]
    }

    pub(in super::super) fn scratch(&self, records: usize) -> usize {
        let sides: usize = self.points(self.chunk(records)).iter().map(|point| POINTS * point).sum();
        sides + self.panels_width()
    }

    /// Writes, or adds, the gradients of weights and bias.
    pub(in super::super) fn run(
        &self,
        team: &mut Team,
        isa: Isa,
        mut job: GradientJob<'_>,
        scratch: &mut [f32],
    ) {
        let most = self.chunk(job.records);
        let points = self.points(most);
        let (x, rest) = scratch.split_at_mut(POINTS * points[0]);
        let (dy, rest) = rest.split_at_mut(POINTS * points[1]);
        let (sums, rest) = rest.split_at_mut(POINTS * points[2]);
        let rest = &mut rest[..self.panels_width()];
        let areas = Areas {
            x: Target::new(x),
            dy: Target::new(dy),
            sums: Target::new(sums),
            bias: Target::new(&mut *rest),
            points,
        };
        let tiles = self.all_tiles(job.records);
        for first in (0..tiles).step_by(most) {
            let chunk = first..(first + most).min(tiles);
            self.transform(team, isa, &job, chunk.clone(), areas);
            self.multiply(team, isa, chunk, areas);
        }
        self.back(team, isa, &mut job, areas);
        if let Some(dbias) = job.dbias {
            for (dbias, sum) in dbias.iter_mut().zip(&*rest) {
                *dbias = if job.add { *dbias + *sum } else { *sum };
            }
        }
    }

    fn transform(
        &self,
        team: &mut Team,
        isa: Isa,
        job: &GradientJob<'_>,
        chunk: Range<usize>,
        areas: Areas<'_>,
    ) {
        let count = chunk.len();
        let tasks = count.div_ceil(TASK_TILES);
        team.tasks(2 * tasks, &|index, _| {
            let (gradient, at) = (index % 2 == 1, index / 2 * TASK_TILES);
            let tiles = chunk.start + at..(chunk.start + at + TASK_TILES).min(chunk.end);
            // A place in a block is counted in the block's width; only the last block may be narrower.
            let blocks = |channels: usize, block: usize, width: fn(usize) -> usize| {
                let whole = channels / block * block;
                [(0..whole, block), (whole..channels, channels - whole)].map(|(part, own)| (part, width(own)))
            };
            let (grid, from, to, channels, block, width): (_, _, _, _, _, fn(usize) -> usize) = if gradient {
                (self.dy, job.dy, areas.dy, self.outputs(), PANEL, panel_width)
            } else {
                (self.x, job.x, areas.x, self.inputs(), BLOCK, |channels| channels)
            };
            for (part, wide) in blocks(channels, block, width) {
                if part.is_empty() {
                    continue;
                }
                isa.run(ToPoints {
                    grid,
                    from,
                    tiles: tiles.clone(),
                    channels: part.clone(),
                    block,
                    block_stride: block * count,
                    to: to.at(part.start * count + at * wide),
                    point: areas.points[usize::from(gradient)],
                    width,
                    prologue: if gradient { None } else { job.prologue },
                    gradient,
                });
            }
        });
    }

    fn multiply(&self, team: &mut Team, isa: Isa, chunk: Range<usize>, areas: Areas<'_>) {
        let (panels, blocks) = (self.outputs().div_ceil(PANEL), self.inputs().div_ceil(BLOCK));
        let count = chunk.len();
        team.tasks(POINTS * panels * blocks, &|index, _| {
            let (block, rest) = (index % blocks * BLOCK, index / blocks);
            let (panel, point) = (rest % panels * PANEL, rest / panels);
            let width = panel_width((self.outputs() - panel).min(PANEL));
            let inputs = BLOCK.min(self.inputs() - block);
            let sums = areas.sums.at(point * areas.points[2] + panel * self.inputs() + block * width);
            if chunk.start == 0 {
                // SAFETY: every part of the sums has one task.
                unsafe { sums.write_bytes(0, inputs * width) };
            }
            let band = OuterBand {
                images: 1,
                runs: 1,
                pixels: count,
                rows: inputs,
                a: areas.x.at(point * areas.points[0] + block * count),
                a_pixel: inputs,
                a_run: 0,
                a_image: 0,
                b: areas.dy.at(point * areas.points[1] + panel * count),
                b_pixel: width,
                b_run: 0,
                b_image: 0,
                vectors: width / LANES,
                c: sums,
            };
            // SAFETY: both sides of the chunk are transformed; every part of the sums has one task.
            unsafe { band.run(isa) };
            if point == SUMS && block == 0 {
                let to = areas.bias.at(panel);
                isa.run(ColumnSums { from: band.b, pixels: count, width, to, add: chunk.start > 0 });
            }
        });
    }

    fn back(&self, team: &mut Team, isa: Isa, job: &mut GradientJob<'_>, areas: Areas<'_>) {
        let filter = 9 * self.inputs();
        let dweights = Target::new(&mut job.dweights[..self.outputs() * filter]);
        let (add, blocks) = (job.add, self.inputs().div_ceil(LANES));
        team.tasks(self.outputs().div_ceil(PANEL) * blocks, &|index, _| {
            let (block, panel) = (index % blocks * LANES, index / blocks * PANEL);
            let columns = (self.outputs() - panel).min(PANEL);
            isa.run(Back {
                sums: areas.sums.at(panel * self.inputs()),
                point: areas.points[2],
                columns,
                inputs: block..(block + LANES).min(self.inputs()),
                to: dweights.at(panel * filter),
                filter,
                add,
            });
        });
    }
}

/// Parts of the scratch, and how far apart the points of each are.
#[derive(Clone, Copy)]
struct Areas<'a> {
    x: Target<'a>,
    dy: Target<'a>,
    sums: Target<'a>,
    /// Sums of dy, panel by panel.
    bias: Target<'a>,
    points: [usize; 3],
}

/// Transforms the sums of a panel and some inputs back, to PyTorch's order.
struct Back {
    sums: *const f32,
    point: usize,
    columns: usize,
    inputs: Range<usize>,
    /// The filter of the panel's first output, and numbers of a filter.
    to: *mut f32,
    filter: usize,
    add: bool,
}

impl Kernel for Back {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = panel_width(self.columns);
        for input in self.inputs.clone() {
            for first in (0..self.columns).step_by(LANES) {
                let from = self.sums.wrapping_add(input * width + first);
                let mut points = [[V::splat(0.0); SIDE]; SIDE];
                for (at, point) in points.iter_mut().flatten().enumerate() {
                    // SAFETY: whoever makes one vouches for the sums of every point, whole vectors.
                    *point = unsafe { V::load(from.wrapping_add(at * self.point)) };
                }
                let mut taps = [[0.0f32; LANES]; 9];
                let square = both::<V, WeightsGradient, SIDE, 3>(&points);
                for (lanes, tap) in taps.iter_mut().zip(square.into_iter().flatten()) {
                    // SAFETY: an array of sixteen numbers.
                    unsafe { tap.store(lanes.as_mut_ptr()) };
                }
                for lane in 0..(self.columns - first).min(LANES) {
                    let to = self.to.wrapping_add((first + lane) * self.filter + input * 9);
                    for (tap, lanes) in taps.iter().enumerate() {
                        // SAFETY: the filter is this task's alone.
                        unsafe {
                            let to = to.add(tap);
                            *to = if self.add { *to + lanes[lane] } else { lanes[lane] };
                        }
                    }
                }
            }
        }
    }
}
