//! The inner loops of convolutions and of their relatives: tiles of sums that stay in registers.
//!
//! [`RowBand`] multiplies rows of numbers that lie where they lie (pixels of an image) with a packed panel of
//! weights; [`OuterBand`] adds up outer products over pixels. Both broadcast a number of one side and multiply it
//! with one or two vectors of the other: 14 × 2 sums where the register file has room (fourteen pixels × 32 output
//! channels), 6 × 1 where it has not.
//!
//! **A sum is one chain of fused multiply-adds in the order of the inner dimension**, from what it starts with
//! (zero, a bias, or what is in memory) on. To stop, store it and go on later changes nothing, and neither does
//! the height of a tile: how the work is cut never shows in the bits.

use super::super::lanes::{LANES, Lanes, vectors};
use super::super::prefetch::{prefetch, prefetch_second};
use super::super::{Bounds, Isa, Kernel};

/// Output channels of a panel of weights.
pub(in crate::kernels) const PANEL: usize = 2 * LANES;
/// Rows of the highest tile.
const TALLEST: usize = 14;

/// Rows of the highest tile of these instructions.
const fn tallest<V: Lanes>() -> usize {
    if V::WIDE { TALLEST } else { 6 }
}

/// Columns of a tile of these instructions.
const fn widest<V: Lanes>() -> usize {
    if V::WIDE { PANEL } else { LANES }
}

/// Numbers from one step of the inner dimension to the next in a panel of `columns` (at most [`PANEL`]).
pub(in crate::kernels) const fn panel_width(columns: usize) -> usize {
    if columns > LANES { PANEL } else { LANES }
}

/// `count` rows or columns cut into parts of nearly the same size, none above `most`: first and size of each.
pub(in crate::kernels) fn even_parts(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(most);
    let begin = move |part: usize| part * count / parts.max(1);
    (0..parts).map(move |part| (begin(part), begin(part + 1) - begin(part)))
}

/// Rows of results that are sent for every [`LANES`] steps; where there are few steps, not all of them.
const RESULTS: usize = 2;

/// What a sum begins with.
#[derive(Clone, Copy)]
pub(in crate::kernels) enum Start {
    /// Nothing.
    Zero,
    /// What is in memory: the sum goes on, or is added to it.
    Memory,
    /// A number of each column.
    Bias(*const f32),
}

/// Lines of rows × columns of sums over some segments of the inner dimension:
/// `c[line][row][j] = start + Σ_segment Σ_l a[line][row][segment + l] · b[segment][l][j]`.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct RowBand<'a> {
    pub(in crate::kernels) lines: usize,
    /// Rows of a line.
    pub(in crate::kernels) rows: usize,
    /// The first row of the first line; how many numbers further the next row and the next line lie.
    pub(in crate::kernels) a: *const f32,
    pub(in crate::kernels) a_row: usize,
    pub(in crate::kernels) a_line: usize,
    /// Where the segments of a row begin, counted from the row.
    pub(in crate::kernels) segments: &'a [u32],
    /// Steps of every segment.
    pub(in crate::kernels) length: usize,
    /// The panel: `panel_width(columns)` numbers a step, segment after segment.
    pub(in crate::kernels) b: *const f32,
    /// At most [`PANEL`].
    pub(in crate::kernels) columns: usize,
    /// Where the sums go, as `a`.
    pub(in crate::kernels) c: *mut f32,
    pub(in crate::kernels) c_row: usize,
    pub(in crate::kernels) c_line: usize,
    pub(in crate::kernels) start: Start,
    /// What is left of the results.
    pub(in crate::kernels) bounds: Bounds,
    /// Whether the rows have to come from memory: those of the next tile are then sent for while one is computed.
    pub(in crate::kernels) distant: bool,
}

impl RowBand<'_> {
    /// # Safety
    /// Every row has `length` numbers at every segment, the panel has all its steps, a bias has `columns` numbers, and
    /// there is room for `columns` sums of every row that nobody else uses.
    pub(in crate::kernels) unsafe fn run(self, isa: Isa) {
        isa.run(self);
    }
}

impl Kernel for RowBand<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        // Behind the panel lie the weights that are needed next (but for convolutions of several images a task: they ask for
        // some twice). Where rows are few, they are no sooner there than they are done with; so every tile sends for its
        // share of them.
        let panel = self.segments.len() * self.length * panel_width(self.columns);
        let tiles = self.lines * self.rows.div_ceil(tallest::<V>());
        let chunks = self.segments.len() * self.length.div_ceil(LANES);
        let share = panel.div_ceil((tiles * chunks).max(1)).next_multiple_of(LANES);
        for column in (0..self.columns).step_by(widest::<V>()) {
            let mut sent = if column == 0 { 0 } else { panel };
            for line in 0..self.lines {
                for (row, height) in even_parts(self.rows, tallest::<V>()) {
                    let tile = RowTile {
                        a: self.a.wrapping_add(line * self.a_line + row * self.a_row),
                        a_stride: self.a_row,
                        segments: self.segments,
                        length: self.length,
                        b: self.b.wrapping_add(column),
                        b_stride: panel_width(self.columns),
                        c: self.c.wrapping_add(line * self.c_line + row * self.c_row + column),
                        c_stride: self.c_row,
                        columns: (self.columns - column).min(widest::<V>()),
                        start: match self.start {
                            Start::Bias(bias) => Start::Bias(bias.wrapping_add(column)),
                            start => start,
                        },
                        bounds: self.bounds,
                        distant: self.distant && column == 0,
                        next: (self.b.wrapping_add(panel + sent), if sent < panel { share } else { 0 }),
                    };
                    sent += share * chunks;
                    // SAFETY: `RowBand::run`'s caller vouches for every row and column; the height is at most `tallest`.
                    unsafe { compute::<V>(&tile, height) }
                }
            }
        }
    }
}

/// Sums that stay in registers: some rows of one or two vectors.
trait Tile {
    /// Whether there is more than one vector.
    fn two_vectors(&self) -> bool;

    /// Computes the sums.
    ///
    /// # Safety
    /// There are `H` rows of at most `W` vectors.
    unsafe fn sums<V: Lanes, const H: usize, const W: usize>(&self);
}

/// Computes a tile of `height` rows, from 1 to [`tallest`].
///
/// # Safety
/// The tile has so many rows.
#[inline(always)]
unsafe fn compute<V: Lanes>(tile: &impl Tile, height: usize) {
    // SAFETY: the caller vouches for it.
    unsafe {
        match (height, V::WIDE && tile.two_vectors()) {
            (1, true) => tile.sums::<V, 1, 2>(),
            (2, true) => tile.sums::<V, 2, 2>(),
            (3, true) => tile.sums::<V, 3, 2>(),
            (4, true) => tile.sums::<V, 4, 2>(),
            (5, true) => tile.sums::<V, 5, 2>(),
            (6, true) => tile.sums::<V, 6, 2>(),
            (7, true) => tile.sums::<V, 7, 2>(),
            (8, true) => tile.sums::<V, 8, 2>(),
            (9, true) => tile.sums::<V, 9, 2>(),
            (10, true) => tile.sums::<V, 10, 2>(),
            (11, true) => tile.sums::<V, 11, 2>(),
            (12, true) => tile.sums::<V, 12, 2>(),
            (13, true) => tile.sums::<V, 13, 2>(),
            (14, true) => tile.sums::<V, 14, 2>(),
            (1, false) => tile.sums::<V, 1, 1>(),
            (2, false) => tile.sums::<V, 2, 1>(),
            (3, false) => tile.sums::<V, 3, 1>(),
            (4, false) => tile.sums::<V, 4, 1>(),
            (5, false) => tile.sums::<V, 5, 1>(),
            (6, false) => tile.sums::<V, 6, 1>(),
            (7, false) if V::WIDE => tile.sums::<V, 7, 1>(),
            (8, false) if V::WIDE => tile.sums::<V, 8, 1>(),
            (9, false) if V::WIDE => tile.sums::<V, 9, 1>(),
            (10, false) if V::WIDE => tile.sums::<V, 10, 1>(),
            (11, false) if V::WIDE => tile.sums::<V, 11, 1>(),
            (12, false) if V::WIDE => tile.sums::<V, 12, 1>(),
            (13, false) if V::WIDE => tile.sums::<V, 13, 1>(),
            (14, false) if V::WIDE => tile.sums::<V, 14, 1>(),
            _ => unreachable!("a tile has at most {} rows", tallest::<V>()),
        }
    }
}

/// A part of a [`RowBand`] that fits into registers.
#[derive(Clone, Copy)]
struct RowTile<'a> {
    a: *const f32,
    a_stride: usize,
    segments: &'a [u32],
    length: usize,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    columns: usize,
    start: Start,
    bounds: Bounds,
    distant: bool,
    /// What is sent for meanwhile of the numbers behind the panel, and how many every [`LANES`] steps.
    next: (*const f32, usize),
}

impl RowTile<'_> {
    /// # Safety
    /// As [`RowTile::run`], for `H` rows of `W` vectors.
    #[inline(always)]
    unsafe fn begin<V: Lanes, const H: usize, const W: usize>(&self) -> [[V; W]; H] {
        let mut sums = [[V::splat(0.0); W]; H];
        // SAFETY: the caller vouches for the sums and for a bias of every column.
        unsafe {
            match self.start {
                Start::Zero => {}
                Start::Bias(bias) => {
                    for v in 0..W {
                        let bias = V::load_first(bias.add(v * LANES), self.columns - v * LANES);
                        for sums in &mut sums {
                            sums[v] = bias;
                        }
                    }
                }
                Start::Memory if self.columns >= W * LANES => {
                    for (i, sums) in sums.iter_mut().enumerate() {
                        *sums = vectors::<V, W>(self.c.add(i * self.c_stride));
                    }
                }
                Start::Memory => {
                    for (i, sums) in sums.iter_mut().enumerate() {
                        for (v, sum) in sums.iter_mut().enumerate() {
                            let from = self.c.add(i * self.c_stride + v * LANES);
                            *sum = V::load_first(from, self.columns - v * LANES);
                        }
                    }
                }
            }
        }
        sums
    }
}

/// Sums of outer products: `c[i][j] += Σ a[image][run][pixel][i] · b[image][run][pixel][j]` over
/// images, runs and pixels in this order.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct OuterBand {
    /// Images, runs of each, and pixels of each run.
    pub(in crate::kernels) images: usize,
    pub(in crate::kernels) runs: usize,
    pub(in crate::kernels) pixels: usize,
    /// Rows of sums.
    pub(in crate::kernels) rows: usize,
    /// The numbers that are broadcast: those of the rows lie next to each other, pixels, runs and images so far
    /// apart.
    pub(in crate::kernels) a: *const f32,
    pub(in crate::kernels) a_pixel: usize,
    pub(in crate::kernels) a_run: usize,
    pub(in crate::kernels) a_image: usize,
    /// The vectors, one or two a pixel.
    pub(in crate::kernels) b: *const f32,
    pub(in crate::kernels) b_pixel: usize,
    pub(in crate::kernels) b_run: usize,
    pub(in crate::kernels) b_image: usize,
    pub(in crate::kernels) vectors: usize,
    /// The sums, rows `vectors · LANES` numbers apart.
    pub(in crate::kernels) c: *mut f32,
}

impl OuterBand {
    /// # Safety
    /// Every pixel has `rows` numbers of a and `vectors` vectors of b; the sums are nobody else's.
    pub(in crate::kernels) unsafe fn run(self, isa: Isa) {
        isa.run(self);
    }
}

impl Kernel for OuterBand {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let width = self.vectors * LANES;
        for column in (0..width).step_by(widest::<V>()) {
            for (row, height) in even_parts(self.rows, tallest::<V>()) {
                let tile = OuterTile {
                    band: &self,
                    row,
                    column,
                    vectors: ((width - column) / LANES).min(widest::<V>() / LANES),
                };
                // SAFETY: `OuterBand::run`'s caller vouches for every row and vector; the height is at most `tallest`.
                unsafe { compute::<V>(&tile, height) }
            }
        }
    }
}

/// A part of an [`OuterBand`] that fits into registers.
struct OuterTile<'a> {
    band: &'a OuterBand,
    row: usize,
    column: usize,
    vectors: usize,
}

/// The same number, of which the compiler no longer knows where it comes from: it would otherwise give every row of a
/// tile a pointer of its own, more than there are registers.
#[inline(always)]
fn hidden(number: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let mut number = number;
        // SAFETY: no instruction at all; the number stays what it is.
        unsafe {
            std::arch::asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags))
        };
        number
    }
    #[cfg(not(target_arch = "x86_64"))]
    number
}

impl Tile for RowTile<'_> {
    #[inline(always)]
    fn two_vectors(&self) -> bool {
        self.columns > LANES
    }

    #[inline(always)]
    unsafe fn sums<V: Lanes, const H: usize, const W: usize>(&self) {
        // SAFETY: the caller vouches for rows, panel and sums.
        unsafe {
            let mut sums = self.begin::<V, H, W>();
            let mut b = self.b;
            // Rows of results that are sent for, a few at a time: these, or, where these were just read, the next.
            let ahead = if matches!(self.start, Start::Memory) { H } else { 0 };
            let mut coming = ahead..ahead + H;
            let (mut next, share) = self.next;
            for segment in self.segments {
                let first = self.a.add(*segment as usize);
                // Three rows share a pointer, so that all rows can be addressed without running out of registers.
                let mut rows = [first; 5];
                for (i, row) in rows.iter_mut().enumerate() {
                    *row = first.wrapping_add(hidden(3 * i * self.a_stride));
                }
                let mut left = self.length;
                while left > 0 {
                    let steps = left.min(LANES);
                    left -= steps;
                    if self.distant {
                        for i in 0..H {
                            prefetch(rows[i / 3].wrapping_add((H + i % 3) * self.a_stride), 1);
                        }
                    }
                    for row in coming.by_ref().take(RESULTS) {
                        prefetch(self.c.wrapping_add(row * self.c_stride), W * LANES);
                    }
                    prefetch_second(next, share);
                    next = next.wrapping_add(share);
                    for _ in 0..steps {
                        let panel = vectors::<V, W>(b);
                        for (three, row) in sums.chunks_mut(3).zip(rows) {
                            for (i, sums) in three.iter_mut().enumerate() {
                                let x = V::splat(*row.add(i * self.a_stride));
                                for (sum, weights) in sums.iter_mut().zip(panel) {
                                    *sum = x.fma(weights, *sum);
                                }
                            }
                        }
                        b = b.add(self.b_stride);
                        for row in &mut rows {
                            *row = row.wrapping_add(1);
                        }
                    }
                }
            }
            if self.bounds.any() {
                // No closures: what is not inlined is not compiled for the instructions of the caller.
                for row in sums.iter_mut() {
                    for sum in row.iter_mut() {
                        *sum = self.bounds.clip(*sum);
                    }
                }
            }
            if self.columns >= W * LANES {
                for (i, row) in sums.iter().enumerate() {
                    for (v, sum) in row.iter().enumerate() {
                        sum.store(self.c.add(i * self.c_stride + v * LANES));
                    }
                }
            } else {
                for (i, row) in sums.iter().enumerate() {
                    for (v, sum) in row.iter().enumerate() {
                        sum.store_first(self.c.add(i * self.c_stride + v * LANES), self.columns - v * LANES);
                    }
                }
            }
        }
    }
}

impl Tile for OuterTile<'_> {
    #[inline(always)]
    fn two_vectors(&self) -> bool {
        self.vectors > 1
    }

    #[inline(always)]
    unsafe fn sums<V: Lanes, const H: usize, const W: usize>(&self) {
        let band = self.band;
        let stride = band.vectors * LANES;
        // SAFETY: the caller vouches for pixels and sums.
        unsafe {
            let to = band.c.add(self.row * stride + self.column);
            let mut sums = [[V::splat(0.0); W]; H];
            for (i, row) in sums.iter_mut().enumerate() {
                let to = to.add(i * stride);
                for (v, sum) in row.iter_mut().enumerate() {
                    *sum = V::load(to.add(v * LANES));
                }
            }
            for image in 0..band.images {
                for run in 0..band.runs {
                    let mut a = band.a.wrapping_add(self.row + image * band.a_image + run * band.a_run);
                    let mut b = band.b.wrapping_add(self.column + image * band.b_image + run * band.b_run);
                    for _ in 0..band.pixels {
                        let row = vectors::<V, W>(b);
                        for (i, sums) in sums.iter_mut().enumerate() {
                            let x = V::splat(*a.add(i));
                            for (v, sum) in sums.iter_mut().enumerate() {
                                *sum = x.fma(row[v], *sum);
                            }
                        }
                        (a, b) = (a.wrapping_add(band.a_pixel), b.wrapping_add(band.b_pixel));
                    }
                }
            }
            for (i, row) in sums.iter().enumerate() {
                let to = to.add(i * stride);
                for (v, sum) in row.iter().enumerate() {
                    sum.store(to.add(v * LANES));
                }
            }
        }
    }
}
