//! Tiles of images to transformed tiles and back.

use super::super::gather::Prologue;
use super::super::tile::Start;
use super::transform::{Gradient, Input, Output, SIDE, STEP, both};
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Bounds, Kernel};
use std::ops::Range;

/// An image that is cut into tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    /// Rows and columns of tiles.
    pub(super) tiles: [usize; 2],
    /// Rows, columns and channels of the image.
    pub(super) image: [usize; 3],
    /// Rows and columns of padding before the image.
    pub(super) padding: [usize; 2],
}

impl Grid {
    /// Image, row and column of a tile of the batch.
    fn place(&self, tile: usize) -> [usize; 3] {
        let [rows, columns] = self.tiles;
        [tile / (rows * columns), tile / columns % rows, tile % columns]
    }

    fn len(&self) -> usize {
        self.image.iter().product()
    }
}

/// Transforms tiles of 6 × 6 pixels (x) or 4 × 4 pixels (dy): `to[point][tile][channel]`.
pub(super) struct ToPoints<'a> {
    pub(super) grid: Grid,
    pub(super) from: &'a [f32],
    pub(super) tiles: Range<usize>,
    /// Channels of the image that are transformed, in blocks that lie `block_stride` numbers apart.
    pub(super) channels: Range<usize>,
    pub(super) block: usize,
    pub(super) block_stride: usize,
    /// The place of the first tile; numbers from a point to the next.
    pub(super) to: *mut f32,
    pub(super) point: usize,
    /// Numbers from a tile to the next in a block of some channels: more than these are filled with 0.
    pub(super) width: fn(usize) -> usize,
    pub(super) prologue: Option<Prologue<'a>>,
    /// Whether tiles are of dy.
    pub(super) gradient: bool,
}

impl ToPoints<'_> {
    /// `count` channels, from `first` on, of the pixels of a tile.
    #[inline(always)]
    fn read<V: Lanes, const N: usize>(&self, tile: usize, first: usize, count: usize) -> [[V; N]; N] {
        let ([h, w, c], [record, row, column]) = (self.grid.image, self.grid.place(tile));
        let image = self.from[record * self.grid.len()..][..self.grid.len()].as_ptr();
        let prologue = if let Some(prologue) = self.prologue {
            let (scale, shift) = (&prologue.scale[first..][..count], &prologue.shift[first..][..count]);
            // SAFETY: both slices have `count` numbers.
            let (scale, shift) =
                unsafe { (V::load_first(scale.as_ptr(), count), V::load_first(shift.as_ptr(), count)) };
            Some((scale, shift, prologue.bounds))
        } else {
            None
        };
        let mut square = [[V::splat(0.0); N]; N];
        for (i, line) in square.iter_mut().enumerate() {
            let y = (row * STEP + i).wrapping_sub(self.grid.padding[0]);
            if y >= h {
                continue;
            }
            for (j, pixel) in line.iter_mut().enumerate() {
                let x = (column * STEP + j).wrapping_sub(self.grid.padding[1]);
                if x < w {
                    let from = image.wrapping_add((y * w + x) * c + first);
                    // SAFETY: `count` channels of a pixel of the image.
                    *pixel = unsafe { get(from, count) };
                    if let Some((scale, shift, bounds)) = prologue {
                        *pixel = bounds.clip(pixel.fma(scale, shift));
                    }
                }
            }
        }
        square
    }
}

impl Kernel for ToPoints<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let all = self.channels.len();
        for (at, tile) in self.tiles.clone().enumerate() {
            for block in (0..all).step_by(self.block) {
                let channels = self.block.min(all - block);
                let width = (self.width)(channels);
                for first in (0..width).step_by(LANES) {
                    let count = channels.saturating_sub(first).min(LANES);
                    let channel = self.channels.start + block + first;
                    let to =
                        self.to.wrapping_add(block / self.block * self.block_stride + at * width + first);
                    // SAFETY: whoever makes one vouches for the room; `count` channels are left.
                    unsafe {
                        let points = if self.gradient {
                            both::<V, Gradient, STEP, SIDE>(&self.read(tile, channel, count))
                        } else {
                            both::<V, Input, SIDE, SIDE>(&self.read(tile, channel, count))
                        };
                        for (i, line) in points.iter().enumerate() {
                            for (j, value) in line.iter().enumerate() {
                                put(*value, to.add((i * SIDE + j) * self.point), (width - first).min(LANES));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums of products back to tiles of 4 × 4 pixels, what lies outside of the image left out.
pub(super) struct FromPoints {
    pub(super) grid: Grid,
    /// `[point][tile][channel]`: points and tiles so many numbers apart.
    pub(super) from: *const f32,
    pub(super) point: usize,
    pub(super) tile: usize,
    pub(super) tiles: Range<usize>,
    /// Channels that are written: the first of the image, and how many.
    pub(super) channels: Range<usize>,
    /// The image of the batch's first tile.
    pub(super) to: *mut f32,
    pub(super) start: Start,
    pub(super) bounds: Bounds,
}

impl Kernel for FromPoints {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let [h, w, c] = self.grid.image;
        for first in (0..self.channels.len()).step_by(LANES) {
            let count = (self.channels.len() - first).min(LANES);
            let channel = self.channels.start + first;
            let bias = match self.start {
                // SAFETY: a bias has a number of every channel that is written.
                Start::Bias(bias) => unsafe { V::load_first(bias.add(first), count) },
                _ => V::splat(0.0),
            };
            for (at, tile) in self.tiles.clone().enumerate() {
                let [record, row, column] = self.grid.place(tile);
                let from = self.from.wrapping_add(at * self.tile + first);
                // SAFETY: whoever makes one vouches for the points; pixels that are written lie on the image.
                unsafe {
                    let y = back::<V>(from, self.point, count);
                    for (i, line) in y.iter().enumerate() {
                        let line_at = (record * h + row * STEP + i) * w + column * STEP;
                        for (j, y) in line.iter().enumerate() {
                            if row * STEP + i >= h || column * STEP + j >= w {
                                continue;
                            }
                            let to = self.to.wrapping_add((line_at + j) * c + channel);
                            let mut y = y.add(bias);
                            if let Start::Memory = self.start {
                                y = y.add(V::load_first(to, count));
                            }
                            put(self.bounds.clip(y), to, count);
                        }
                    }
                }
            }
        }
    }
}

/// The pixels of one tile.
///
/// # Safety
/// `count` numbers of every point are readable.
#[inline(always)]
unsafe fn back<V: Lanes>(from: *const f32, stride: usize, count: usize) -> [[V; STEP]; STEP] {
    let mut points = [[V::splat(0.0); SIDE]; SIDE];
    for (i, line) in points.iter_mut().enumerate() {
        for (j, point) in line.iter_mut().enumerate() {
            // SAFETY: the caller vouches for it.
            *point = unsafe { get(from.add((i * SIDE + j) * stride), count) };
        }
    }
    both::<V, Output, SIDE, STEP>(&points)
}

/// Reads the first `count` numbers, most often all.
///
/// # Safety
/// `count`, at most [`LANES`], numbers are readable.
#[inline(always)]
unsafe fn get<V: Lanes>(from: *const f32, count: usize) -> V {
    // SAFETY: the caller vouches for it.
    unsafe { if count == LANES { V::load(from) } else { V::load_first(from, count) } }
}

/// Writes the first `count` numbers, most often all.
///
/// # Safety
/// There is room for `count`, at most [`LANES`], numbers.
#[inline(always)]
unsafe fn put<V: Lanes>(vector: V, to: *mut f32, count: usize) {
    // SAFETY: the caller vouches for it.
    unsafe { if count == LANES { vector.store(to) } else { vector.store_first(to, count) } }
}
