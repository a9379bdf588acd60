//! Products whose operands are rounded to bf16 and whose sums are f32.
//!
//! [`Band`] is the inner loop of them all: of [`multiply`], of packed weights, and of convolutions, which make the same
//! tiles of gathered pixels. Two CPU-specific halves compute it: [`amx`] by tiles, and [`lanes`] by vectors of f32.
//!
//! What is summed is what `TDPBF16PS` of Intel's AMX sums (Intel 64 Architectures Software Developer's Manual, volume
//! 2), so that **the bits are the same on every CPU**: of every [`STEP`] of the inner dimension the products with even
//! and with odd places are two chains of fused multiply-adds from 0 on; the chains are added to each other, then to the
//! sum so far. Numbers below 2⁻¹²⁶ count as 0 wherever they appear. `VDPBF16PS` of AVX-512 is not used: it sums in
//! another order, and Xeons that have it give it half the rate of an f32 multiply-add.
//!
//! Refuses to: touch what lies between products. Weights, gradients and whatever layers hand on stay f32.

#[cfg(target_arch = "x86_64")]
mod amx;
mod lanes;
mod pack;
mod product;
#[cfg(test)]
mod tests;

use super::super::isa::Bf16;
use super::super::lanes::{LANES, Lanes};
use super::super::{Bounds, Isa};
pub(in crate::kernels) use super::pack::exchanged;
use crate::kernels::conv::tile::Start;
#[cfg(target_arch = "x86_64")]
pub(in crate::kernels) use amx::has_tiles;
use pack::PackLines;
pub(in crate::kernels) use pack::{PackPanel, Source};
pub(super) use product::{Prepacking, multiply};

/// Numbers of the inner dimension that one instruction takes: pieces of it are padded to whole steps with zeros.
pub(in crate::kernels) const STEP: usize = 2 * LANES;
/// Rows of a tile.
const TALLEST: usize = 16;

/// Lines of rows × columns of sums over some steps of the inner dimension:
/// `c[line][row][j] = start + Σ_step Σ_l a[line][row][segment(step) + l] · b[step][l][j]`.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Band<'a> {
    pub(in crate::kernels) lines: usize,
    /// Rows of a line.
    pub(in crate::kernels) rows: usize,
    /// bf16: the first row of the first line; how many numbers further the next row and the next line lie.
    pub(in crate::kernels) a: *const u16,
    pub(in crate::kernels) a_row: usize,
    pub(in crate::kernels) a_line: usize,
    /// Where the [`STEP`] numbers of each step begin, counted from the row.
    pub(in crate::kernels) segments: &'a [u32],
    /// Pairs of bf16, `[step][columns / 16][16 pairs][16 columns]`, as [`PackPanel`] writes them.
    pub(in crate::kernels) b: *const f32,
    /// At most 32.
    pub(in crate::kernels) columns: usize,
    /// Where the sums go, as `a`.
    pub(in crate::kernels) c: *mut f32,
    pub(in crate::kernels) c_row: usize,
    pub(in crate::kernels) c_line: usize,
    pub(in crate::kernels) start: Start,
    /// What is left of the results.
    pub(in crate::kernels) bounds: Bounds,
}

/// What computes bands on one thread; it holds the CPU's tiles, where there are some, until it is dropped.
pub(in crate::kernels) struct Engine {
    isa: Isa,
    #[cfg(target_arch = "x86_64")]
    tiles: Option<amx::Tiles>,
}

impl Engine {
    /// An engine of these instructions.
    pub(in crate::kernels) fn new(isa: Isa) -> Engine {
        Engine {
            isa,
            #[cfg(target_arch = "x86_64")]
            tiles: (isa.bf16() == Some(Bf16::Tiles)).then(amx::Tiles::new),
        }
    }

    /// Computes the sums.
    ///
    /// # Safety
    /// Every row has [`STEP`] numbers at every segment, b has all its steps, a bias has `columns` numbers, and there is
    /// room for `columns` sums of every row that nobody else uses.
    pub(in crate::kernels) unsafe fn run(&mut self, band: Band<'_>) {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = &mut self.tiles {
            // SAFETY: the caller vouches for it.
            unsafe { tiles.run(&band) };
            if band.bounds.any() {
                self.isa.run(lanes::Clip(band));
            }
            return;
        }
        self.isa.run(lanes::Sums(band));
    }
}

/// Numbers (pairs of bf16) of a packed panel of `columns` over `length` of the inner dimension.
pub(in crate::kernels) fn panel_len(columns: usize, length: usize) -> usize {
    columns.next_multiple_of(LANES) * length.next_multiple_of(STEP) / 2
}

/// Where a vector of 0 begins, or of the same numbers, what is below the smallest normal number being 0.
#[inline(always)]
fn flushed<V: Lanes>(x: V) -> V {
    const LARGEST_SUBNORMAL: f32 = f32::from_bits(0x007f_ffff);
    // A number that is none passes through the product.
    x.abs().if_greater(V::splat(LARGEST_SUBNORMAL), x, x.mul(V::splat(0.0)))
}
