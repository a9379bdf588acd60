//! Images copied to where the inner loops read them: with their padding, sixteen channels side by side, and what
//! stands before the convolution (batch norm, ReLU) applied on the way.

use super::super::lanes::{LANES, Lanes};
use super::super::{Bounds, Isa, Kernel};

/// What happens to x as it is read: `x · scale[c] + shift[c]`, within bounds. Padding stays 0.
#[derive(Clone, Copy, Debug)]
pub struct Prologue<'a> {
    /// A factor for each channel of x.
    pub scale: &'a [f32],
    /// A number for each channel of x, added.
    pub shift: &'a [f32],
    /// What is left of that.
    pub bounds: Bounds,
}

impl<'a> Prologue<'a> {
    /// The part of the channels from `first` on.
    pub(super) fn from(self, first: usize) -> Prologue<'a> {
        Prologue { scale: &self.scale[first..], shift: &self.shift[first..], bounds: self.bounds }
    }
}

/// A rectangle of an image, which may reach over its borders, copied to `[row][block][column][channel of the block]`.
#[derive(Clone, Copy)]
pub(super) struct Gather<'a> {
    /// The image's first number of the channels that are copied, its rows and columns, and all its channels.
    pub(super) from: *const f32,
    pub(super) image: [usize; 2],
    pub(super) pixel: usize,
    /// Where the rectangle begins, what lies between its pixels, and how many it has, rows first.
    pub(super) low: [isize; 2],
    pub(super) sample: [usize; 2],
    pub(super) size: [usize; 2],
    /// Channels, and those of a block: at most [`LANES`], or as many as are copied.
    pub(super) channels: usize,
    pub(super) block: usize,
    pub(super) to: *mut f32,
    pub(super) prologue: Option<Prologue<'a>>,
}

impl Gather<'_> {
    /// # Safety
    /// The image has the channels that are copied; there is room for the rectangle, which nobody else uses.
    pub(super) unsafe fn run(self, isa: Isa) {
        isa.run(self);
    }

    /// # Panics
    /// When a prologue has not a scale and a shift of every channel that is copied.
    pub(super) fn check_prologue(&self) {
        if let Some(prologue) = self.prologue {
            assert!(
                prologue.scale.len() >= self.channels && prologue.shift.len() >= self.channels,
                "a prologue has a scale and a shift of every channel"
            );
        }
    }

    /// Columns of the rectangle that lie on the image, and the image's column of the first.
    pub(super) fn inside(&self) -> (usize, usize, usize) {
        let (low, step) = (self.low[1], self.sample[1]);
        let first = if low < 0 { low.unsigned_abs().div_ceil(step) } else { 0 };
        let start = low + (first * step) as isize;
        let left = self.image[1] as isize - start;
        let count = if left > 0 { (left as usize).div_ceil(step) } else { 0 };
        let first = first.min(self.size[1]);
        (first, first + count.min(self.size[1] - first), start.max(0) as usize)
    }

    /// Zeros for columns `columns` of a row.
    ///
    /// # Safety
    /// As [`Gather::run`].
    #[inline(always)]
    unsafe fn clear<V: Lanes>(&self, to: *mut f32, columns: std::ops::Range<usize>) {
        for first in (0..self.channels).step_by(self.block) {
            let width = self.block.min(self.channels - first);
            let to = to.wrapping_add(first * self.size[1] + columns.start * width);
            let count = columns.len() * width;
            for at in (0..count).step_by(LANES) {
                // SAFETY: these are columns of a block of the row, for which there is room.
                unsafe { V::splat(0.0).store_first(to.add(at), (count - at).min(LANES)) };
            }
        }
    }

    /// One pixel, block by block.
    ///
    /// # Safety
    /// As [`Gather::run`].
    #[inline(always)]
    unsafe fn pixel<V: Lanes>(&self, from: *const f32, to: *mut f32, column: usize) {
        for first in (0..self.channels).step_by(self.block) {
            let width = self.block.min(self.channels - first);
            let to = to.wrapping_add(first * self.size[1] + column * width);
            for at in (0..width).step_by(LANES) {
                let (channel, count) = (first + at, (width - at).min(LANES));
                // SAFETY: `count` channels of the pixel and of the block are left; so are those of the prologue,
                // which has a number for each channel that is copied.
                unsafe {
                    let mut x = V::load_first(from.add(channel), count);
                    if let Some(prologue) = self.prologue {
                        let scale = V::load_first(prologue.scale.as_ptr().add(channel), count);
                        x = x.fma(scale, V::load_first(prologue.shift.as_ptr().add(channel), count));
                        x = prologue.bounds.clip(x);
                    }
                    x.store_first(to.add(at), count);
                }
            }
        }
    }

    /// As many pixels, where blocks are whole vectors: `to` is the first pixel's place in the first block.
    ///
    /// # Safety
    /// As [`Gather::run`].
    #[inline(always)]
    unsafe fn vectors<V: Lanes>(&self, from: *const f32, to: *mut f32, pixels: usize) {
        let (vectors, apart) = (self.channels / LANES, self.size[1] * LANES);
        for pixel in 0..pixels {
            let from = from.wrapping_add(pixel * self.sample[1] * self.pixel);
            let to = to.wrapping_add(pixel * LANES);
            // SAFETY: all vectors of the pixel lie on the image, and there is room for them; a prologue has a number for
            // each channel.
            unsafe {
                if let Some(prologue) = self.prologue {
                    for vector in 0..vectors {
                        let scale = V::load(prologue.scale.as_ptr().add(vector * LANES));
                        let shift = V::load(prologue.shift.as_ptr().add(vector * LANES));
                        let x = V::load(from.add(vector * LANES)).fma(scale, shift);
                        prologue.bounds.clip(x).store(to.add(vector * apart));
                    }
                } else {
                    for vector in 0..vectors {
                        V::load(from.add(vector * LANES)).store(to.add(vector * apart));
                    }
                }
            }
        }
    }
}

impl Kernel for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        self.check_prologue();
        let (first, end, start) = self.inside();
        for row in 0..self.size[0] {
            let to = self.to.wrapping_add(row * self.size[1] * self.channels);
            let h = self.low[0] + (row * self.sample[0]) as isize;
            // SAFETY: rows and columns that are read lie on the image; the caller vouches for the rest.
            unsafe {
                if h < 0 || h >= self.image[0] as isize {
                    self.clear::<V>(to, 0..self.size[1]);
                    continue;
                }
                let from = self.from.wrapping_add((h as usize * self.image[1] + start) * self.pixel);
                self.clear::<V>(to, 0..first);
                self.clear::<V>(to, end..self.size[1]);
                if self.sample[1] == 1
                    && self.channels == self.pixel
                    && self.channels <= self.block
                    && self.prologue.is_none()
                {
                    let (to, count) = (to.wrapping_add(first * self.channels), (end - first) * self.channels);
                    std::ptr::copy_nonoverlapping(from, to, count);
                    continue;
                }
                if self.block == LANES && self.channels.is_multiple_of(LANES) {
                    self.vectors::<V>(from, to.wrapping_add(first * LANES), end - first);
                    continue;
                }
                for column in first..end {
                    let from = from.wrapping_add((column - first) * self.sample[1] * self.pixel);
                    self.pixel::<V>(from, to, column);
                }
            }
        }
    }
}
