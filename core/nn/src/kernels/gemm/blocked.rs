//! `c = a · b` after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
//!
//! ```text
//! for each DEPTH of the inner dimension, for each COLUMNS of b:   b in strips of some columns         (level 2 cache)
//!   for each ROWS of a:                                           a in strips of some rows            (level 2 cache)
//!     for each strip of b:                                                                            (level 1 cache)
//!       for each strip of a:  a tile of c in registers, over the whole depth
//! ```
//!
//! Strips are packed, so that what a step needs lies together. That alone would take a tenth of the time, most of it waiting
//! for memory. So an a of which the numbers of a step lie side by side anyhow (a transposed one, as of gradients of weights)
//! is read where it is, unless every step is on a page of its own; and such a b is packed by the tiles that need it first,
//! behind their arithmetic.
//!
//! A number of c is the sum, from 0 on, of one depth's products in their order, by fused multiply-adds, plus what
//! the depths before gave: all that decides about its bits is the inner dimension.

use super::super::Kernel;
use super::super::lanes::{LANES, Lanes, vectors};
use super::super::prefetch::prefetch;
use super::Matrix;
use super::pack::{Source, Strip, pack};
use std::mem::MaybeUninit;

/// Steps of the inner dimension for which a tile stays in registers.
const DEPTH: usize = 256;
/// Columns of b that are packed at a time: with [`DEPTH`] a quarter of a 1 MiB second-level cache.
const COLUMNS: usize = 256;
/// Rows of a that are read, or packed, at a time.
const ROWS: usize = 96;
/// The same for small products, which touch less of the stack.
const FEW_COLUMNS: usize = 64;
const FEW_ROWS: usize = 24;
/// Steps of a product that takes longer to write than to compute.
const FEW_STEPS: usize = 64;

/// Numbers of a page of memory.
const PAGE: usize = 1024;
/// Steps of a that are fetched ahead from the second-level cache.
const NEAR: usize = 8;
/// Steps of b that are fetched ahead from memory, on whatever page: b is read so only once.
const FAR: usize = 32;

/// Arguments of [`super::multiply`], checked.
pub(super) struct Product<'a> {
    pub(super) a: Matrix<'a>,
    pub(super) b: Matrix<'a>,
    pub(super) c: &'a mut [f32],
    pub(super) stride: usize,
    pub(super) accumulate: bool,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let ([m, k], n) = (self.a.size, self.b.size[1]);
        if m == 0 || n == 0 {
            return;
        }
        if k == 0 {
            if !self.accumulate {
                self.c.chunks_mut(self.stride).take(m).for_each(|row| row[..n].fill(0.0));
            }
            return;
        }
        // Of few steps the writing of c takes the time: tiles of the same rows then come one after the other, so that it is
        // written in order. Not where b would have to be packed again for each.
        let in_order = k <= FEW_STEPS && n > COLUMNS && self.b.stride[1] == 1;
        let together = if in_order { tallest::<V>() } else { m };
        let Matrix { data, stride: [down, right], .. } = self.a;
        for first in (0..m).step_by(together) {
            let rows = together.min(m - first);
            let a = Matrix { data: &data[first * down..], size: [rows, k], stride: [down, right] };
            let c = &mut self.c[first * self.stride..];
            let mut part = Product { a, b: self.b, c, stride: self.stride, accumulate: self.accumulate };
            // SAFETY: `multiply` has checked that all three matrices lie within their slices.
            unsafe {
                if m <= FEW_ROWS && n <= FEW_COLUMNS {
                    part.blocked::<V, { FEW_ROWS * DEPTH }, { FEW_COLUMNS * DEPTH }>(FEW_ROWS, FEW_COLUMNS);
                } else {
                    part.blocked::<V, { ROWS * DEPTH }, { COLUMNS * DEPTH }>(ROWS, COLUMNS);
                }
            }
        }
    }
}

/// Room for packed numbers, on the stack: products are computed on many threads and may not allocate.
#[repr(C, align(64))]
struct Packed<const N: usize> {
    numbers: [MaybeUninit<f32>; N],
}

impl<const N: usize> Packed<N> {
    #[inline(always)]
    fn new() -> Self {
        Packed { numbers: [MaybeUninit::uninit(); N] }
    }

    fn start(&mut self) -> *mut f32 {
        std::ptr::from_mut(self).cast()
    }
}

/// Rows of the highest tile: as many as registers take sums.
const fn tallest<V: Lanes>() -> usize {
    if V::WIDE { 12 } else { 6 }
}

/// Columns of a strip of b.
const fn widest<V: Lanes>() -> usize {
    if V::WIDE { 2 * LANES } else { LANES }
}

impl Product<'_> {
    /// # Safety
    /// All three matrices lie within their slices; `A` and `B` are `rows` and `columns` times [`DEPTH`].
    #[inline(always)]
    unsafe fn blocked<V: Lanes, const A: usize, const B: usize>(&mut self, rows: usize, columns: usize) {
        let ([m, k], n) = (self.a.size, self.b.size[1]);
        let (mut a_packed, mut b_packed) = (Packed::<A>::new(), Packed::<B>::new());
        let (a_to, b_to) = (a_packed.start(), b_packed.start());
        let [down, right] = self.a.stride;
        let a = Source { start: self.a.data.as_ptr(), across: down, along: right };
        let [down, right] = self.b.stride;
        let b = Source { start: self.b.data.as_ptr(), across: right, along: down };
        for l in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - l);
            for j in (0..n).step_by(columns) {
                for i in (0..m).step_by(rows) {
                    let block = Block {
                        a: a.at(i, l),
                        a_packed: a_to,
                        b: b.at(j, l),
                        b_packed: b_to,
                        c: self.c[i * self.stride + j..].as_mut_ptr(),
                        stride: self.stride,
                        rows: rows.min(m - i),
                        columns: columns.min(n - j),
                        depth,
                        first: i == 0,
                        all: m,
                        add: self.accumulate || l > 0,
                    };
                    // SAFETY: rows, columns and steps stay below m, n and k, and within what is packed; b is packed by the
                    // first block of rows.
                    unsafe { block.run::<V>() };
                }
            }
        }
    }
}

/// Some rows, columns and steps of a product.
struct Block {
    a: Source,
    a_packed: *mut f32,
    b: Source,
    b_packed: *mut f32,
    c: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
    depth: usize,
    /// Whether these are the first rows of the product, which find b not packed yet, and how many rows it has.
    first: bool,
    all: usize,
    /// Whether to add to what is there.
    add: bool,
}

impl Block {
    /// # Safety
    /// There are so many rows, columns and steps, and room for them packed; b is packed unless this is the first.
    #[inline(always)]
    unsafe fn run<V: Lanes>(self) {
        let Block { depth, stride, add, .. } = self;
        let strips = Strips::of::<V>(self.rows);
        // What lies side by side for a step needs no packing, unless every step is on another page.
        let a_lies = self.a.across == 1 && self.a.along < PAGE;
        if !a_lies {
            // SAFETY: the caller vouches for it.
            unsafe { pack::<V>(self.a, strips.each(), depth, self.a_packed) };
        }
        for column in (0..self.columns).step_by(widest::<V>()) {
            let columns = widest::<V>().min(self.columns - column);
            let (b, b_packed) = (self.b.at(column, 0), self.b_packed.wrapping_add(column * depth));
            let b_lies = b.across == 1 && columns == widest::<V>();
            if self.first && !b_lies {
                let strip = Strip { first: 0, size: columns, width: widest::<V>() };
                // SAFETY: the caller vouches for it.
                unsafe { pack::<V>(b, std::iter::once(strip), depth, b_packed) };
            }
            for Strip { first: row, size: height, .. } in strips.each() {
                let (a, a_step) = if a_lies {
                    (self.a.at(row, 0).start, self.a.along)
                } else {
                    (self.a_packed.wrapping_add(row * depth).cast_const(), height)
                };
                let (b, b_step, copy) = if self.first && b_lies && row == 0 {
                    (b.start, b.along, (height < self.all).then_some(b_packed))
                } else {
                    (b_packed.cast_const(), widest::<V>(), None)
                };
                let c = self.c.wrapping_add(row * stride + column);
                let tile = Tile { depth, a, a_step, b, b_step, copy, c, stride, columns, add };
                // SAFETY: the caller vouches for it; what is read where it lies are whole vectors.
                unsafe { tile.run::<V>(height) };
            }
        }
    }
}

/// Rows cut into strips of nearly the same height.
#[derive(Clone, Copy)]
struct Strips {
    rows: usize,
    count: usize,
}

impl Strips {
    fn of<V: Lanes>(rows: usize) -> Strips {
        Strips { rows, count: rows.div_ceil(tallest::<V>()) }
    }

    fn each(self) -> impl Iterator<Item = Strip> + Clone {
        let begin = move |strip: usize| strip * self.rows / self.count;
        (0..self.count).map(move |strip| {
            let (first, size) = (begin(strip), begin(strip + 1) - begin(strip));
            Strip { first, size, width: size }
        })
    }
}

/// A tile of c.
struct Tile {
    depth: usize,
    /// The first step's numbers of a, one for each row.
    a: *const f32,
    /// From a step of a to the next.
    a_step: usize,
    /// The first step's numbers of b, whole vectors.
    b: *const f32,
    /// From a step of b to the next.
    b_step: usize,
    /// Where b is packed on the way.
    copy: Option<*mut f32>,
    c: *mut f32,
    stride: usize,
    columns: usize,
    /// Whether to add to what is there.
    add: bool,
}

impl Tile {
    /// # Safety
    /// `a` and `b` have `depth` steps of `height` numbers and of [`widest`], and `copy` has room for those of b;
    /// `c` has `height × columns` numbers, rows `stride` apart.
    #[inline(always)]
    unsafe fn run<V: Lanes>(&self, height: usize) {
        // SAFETY: the caller vouches for it.
        unsafe {
            match (V::WIDE && self.columns > LANES, self.copy) {
                (true, None) => self.of_width::<V, 2, false>(height),
                (true, Some(_)) => self.of_width::<V, 2, true>(height),
                (false, None) => self.of_width::<V, 1, false>(height),
                (false, Some(_)) => self.of_width::<V, 1, true>(height),
            }
        }
    }

    /// # Safety
    /// As [`Tile::run`], for `W` vectors of columns; `COPY` says whether b is packed on the way.
    #[inline(always)]
    unsafe fn of_width<V: Lanes, const W: usize, const COPY: bool>(&self, height: usize) {
        // SAFETY: the caller vouches for it; heights are what `Strips` gives, at most `tallest`.
        unsafe {
            match height {
                1 => self.sums::<V, 1, W, COPY>(),
                2 => self.sums::<V, 2, W, COPY>(),
                3 => self.sums::<V, 3, W, COPY>(),
                4 => self.sums::<V, 4, W, COPY>(),
                5 => self.sums::<V, 5, W, COPY>(),
                6 => self.sums::<V, 6, W, COPY>(),
                7 if V::WIDE => self.sums::<V, 7, W, COPY>(),
                8 if V::WIDE => self.sums::<V, 8, W, COPY>(),
                9 if V::WIDE => self.sums::<V, 9, W, COPY>(),
                10 if V::WIDE => self.sums::<V, 10, W, COPY>(),
                11 if V::WIDE => self.sums::<V, 11, W, COPY>(),
                12 if V::WIDE => self.sums::<V, 12, W, COPY>(),
                _ => unreachable!("a strip has at most {} rows", tallest::<V>()),
            }
        }
    }

    /// `H` rows of `W` vectors.
    ///
    /// # Safety
    /// As [`Tile::of_width`].
    #[inline(always)]
    unsafe fn sums<V: Lanes, const H: usize, const W: usize, const COPY: bool>(&self) {
        let mut sums = [[V::splat(0.0); W]; H];
        let (mut a, mut b) = (self.a, self.b);
        let mut copy = self.copy.unwrap_or(std::ptr::null_mut());
        // SAFETY: the caller vouches for all steps and for c; what is prefetched need not exist.
        unsafe {
            for _ in 0..self.depth {
                prefetch(a.wrapping_add(NEAR * self.a_step + H - 1), 1);
                let row = vectors::<V, W>(b);
                if COPY {
                    prefetch(b.wrapping_add(FAR * self.b_step), W * LANES);
                    for (v, row) in row.iter().enumerate() {
                        row.store(copy.add(v * LANES));
                    }
                    copy = copy.wrapping_add(W * LANES);
                }
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = V::splat(*a.add(i));
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = a.fma(row[v], *sum);
                    }
                }
                (a, b) = (a.wrapping_add(self.a_step), b.wrapping_add(self.b_step));
            }
            for (i, sums) in sums.iter().enumerate() {
                for (v, sum) in sums.iter().enumerate() {
                    let (c, count) = (self.c.add(i * self.stride + v * LANES), self.columns - v * LANES);
                    let sum = if self.add { V::load_first(c, count).add(*sum) } else { *sum };
                    sum.store_first(c, count);
                }
            }
        }
    }
}
