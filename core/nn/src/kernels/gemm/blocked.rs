//! `c = a · b` after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (2008).
//!
//! ```text
//! for each DEPTH of the inner dimension, for each COLUMNS of b:   b packed, strips of WIDTH columns   (level 2 cache)
//!   for each ROWS of a:                                           a packed, strips of some rows       (level 2 cache)
//!     for each strip of b:                                                                            (level 1 cache)
//!       for each strip of a:  a tile of c in registers, over the whole depth
//! ```
//! A number of c is the sum, from 0 on, of one depth's products in their order, by fused multiply-adds, plus what
//! the depths before gave: all that decides about its bits is the inner dimension.

use super::super::Kernel;
use super::super::lanes::{LANES, Lanes, vectors};
use super::Matrix;
use super::pack::{Source, Strip, pack};
use std::mem::MaybeUninit;

/// Steps of the inner dimension for which a tile stays in registers.
const DEPTH: usize = 256;
/// Columns of b that are packed at a time: with [`DEPTH`] a quarter of a 1 MiB second-level cache.
const COLUMNS: usize = 256;
/// Rows of a that are packed at a time.
const ROWS: usize = 96;
/// The same for small products, which touch less of the stack.
const FEW_COLUMNS: usize = 64;
const FEW_ROWS: usize = 24;

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
    fn run<V: Lanes>(mut self) {
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
        // SAFETY: `multiply` has checked that all three matrices lie within their slices.
        unsafe {
            if m <= FEW_ROWS && n <= FEW_COLUMNS {
                self.blocked::<V, { FEW_ROWS * DEPTH }, { FEW_COLUMNS * DEPTH }>(FEW_ROWS, FEW_COLUMNS);
            } else {
                self.blocked::<V, { ROWS * DEPTH }, { COLUMNS * DEPTH }>(ROWS, COLUMNS);
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
        let width = widest::<V>();
        for l in (0..k).step_by(DEPTH) {
            let depth = DEPTH.min(k - l);
            let add = self.accumulate || l > 0;
            for j in (0..n).step_by(columns) {
                let columns = columns.min(n - j);
                // SAFETY: rows, columns and depths stay below m, n and k, and within what is packed.
                unsafe {
                    pack::<V>(b.at(j, l), even_strips(columns, width), depth, b_to);
                    for i in (0..m).step_by(rows) {
                        let strips = Strips::of::<V>(rows.min(m - i));
                        pack::<V>(a.at(i, l), strips.each(), depth, a_to);
                        for strip in (0..columns).step_by(width) {
                            let width = width.min(columns - strip);
                            for Strip { first, size: height, .. } in strips.each() {
                                let c = self.c.as_mut_ptr().add((i + first) * self.stride + j + strip);
                                let (a, b) = (a_to.add(first * depth), b_to.add(strip * depth));
                                let tile = Tile { depth, a, b, c, stride: self.stride, columns: width, add };
                                tile.run::<V>(height);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Columns cut into strips of one width, of which the last may have fewer.
fn even_strips(columns: usize, width: usize) -> impl Iterator<Item = Strip> + Clone {
    (0..columns).step_by(width).map(move |first| Strip { first, size: width.min(columns - first), width })
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
    /// `[depth][height]`
    a: *const f32,
    /// `[depth][widest]`
    b: *const f32,
    c: *mut f32,
    stride: usize,
    columns: usize,
    /// Whether to add to what is there.
    add: bool,
}

impl Tile {
    /// # Safety
    /// `a` and `b` are packed, `c` has `height × columns` numbers, rows `stride` apart.
    #[inline(always)]
    unsafe fn run<V: Lanes>(&self, height: usize) {
        // SAFETY: the caller vouches for it; heights are what `Strips` gives, at most `tallest`.
        unsafe {
            match (height, V::WIDE && self.columns > LANES) {
                (1, true) => self.sums::<V, 1, 2>(),
                (2, true) => self.sums::<V, 2, 2>(),
                (3, true) => self.sums::<V, 3, 2>(),
                (4, true) => self.sums::<V, 4, 2>(),
                (5, true) => self.sums::<V, 5, 2>(),
                (6, true) => self.sums::<V, 6, 2>(),
                (7, true) => self.sums::<V, 7, 2>(),
                (8, true) => self.sums::<V, 8, 2>(),
                (9, true) => self.sums::<V, 9, 2>(),
                (10, true) => self.sums::<V, 10, 2>(),
                (11, true) => self.sums::<V, 11, 2>(),
                (12, true) => self.sums::<V, 12, 2>(),
                (1, false) => self.sums::<V, 1, 1>(),
                (2, false) => self.sums::<V, 2, 1>(),
                (3, false) => self.sums::<V, 3, 1>(),
                (4, false) => self.sums::<V, 4, 1>(),
                (5, false) => self.sums::<V, 5, 1>(),
                (6, false) => self.sums::<V, 6, 1>(),
                (7, false) => self.sums::<V, 7, 1>(),
                (8, false) => self.sums::<V, 8, 1>(),
                (9, false) => self.sums::<V, 9, 1>(),
                (10, false) => self.sums::<V, 10, 1>(),
                (11, false) => self.sums::<V, 11, 1>(),
                (12, false) => self.sums::<V, 12, 1>(),
                _ => unreachable!("a strip has 1 to 12 rows"),
            }
        }
    }

    /// `H` rows of `W` vectors.
    ///
    /// # Safety
    /// As [`Tile::run`].
    #[inline(always)]
    unsafe fn sums<V: Lanes, const H: usize, const W: usize>(&self) {
        let mut sums = [[V::splat(0.0); W]; H];
        let (mut a, mut b) = (self.a, self.b);
        // SAFETY: `depth` steps are packed, each `H` numbers of a and a strip of b; the caller vouches for c.
        unsafe {
            for _ in 0..self.depth {
                let row = vectors::<V, W>(b);
                for (i, sums) in sums.iter_mut().enumerate() {
                    let a = V::splat(*a.add(i));
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = a.fma(row[v], *sum);
                    }
                }
                (a, b) = (a.add(H), b.add(widest::<V>()));
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
