//! Matrix products: parts of both matrices are rounded and packed on the stack, as in [`super::super::blocked`].

use super::super::super::lanes::LANES;
use super::super::super::{Bounds, Isa};
use super::super::Matrix;
use super::{Band, Engine, PackLines, PackPanel, STEP, Source, Start, panel_len};
use crate::kernels::conv::tile::PANEL;
use std::mem::MaybeUninit;

/// Numbers of the inner dimension that are packed at a time.
const DEPTH: usize = 512;
/// Rows of a and columns of b that are packed at a time: with [`DEPTH`] some 640 KiB, a third of the second-level cache of
/// CPUs that have tiles.
const ROWS: usize = 128;
const COLUMNS: usize = 512;
/// Numbers of packed a and of packed b below which a product touches less of the stack.
const FEW: usize = 16 * 1024;

/// Pairs on the stack: products are computed on many threads and may not allocate.
#[repr(C, align(64))]
struct Packed<const N: usize>([MaybeUninit<f32>; N]);

impl<const N: usize> Packed<N> {
    fn new() -> Self {
        Packed([MaybeUninit::uninit(); N])
    }

    fn start(&mut self) -> *mut f32 {
        self.0.as_mut_ptr().cast()
    }
}

/// `c = a · b` or `c += a · b` as [`super::super::multiply`], which has checked the sizes; none of them is 0.
pub(in super::super) fn multiply(
    isa: Isa,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    stride: usize,
    accumulate: bool,
) {
    let ([m, k], n) = (a.size, b.size[1]);
    let depth = k.next_multiple_of(STEP);
    let product = Product {
        a: Source { start: a.data.as_ptr(), across: a.stride[0], along: a.stride[1] },
        b: Source { start: b.data.as_ptr(), across: b.stride[1], along: b.stride[0] },
        c: c.as_mut_ptr(),
        size: [m, n, k],
        stride,
        accumulate,
    };
    // SAFETY: all three matrices lie within their slices; what is packed at a time has room.
    unsafe {
        if m <= ROWS && k <= DEPTH && m * depth <= FEW && n.next_multiple_of(LANES) * depth <= FEW {
            product.run::<{ FEW / 2 }, { FEW / 2 }>(isa);
        } else {
            product.run::<{ ROWS * DEPTH / 2 }, { COLUMNS * DEPTH / 2 }>(isa);
        }
    }
}

struct Product {
    a: Source,
    b: Source,
    c: *mut f32,
    /// Rows and columns of c, and the inner dimension.
    size: [usize; 3],
    stride: usize,
    accumulate: bool,
}

impl Product {
    /// # Safety
    /// The matrices are there. `A` and `B` pairs are enough for [`ROWS`] and [`COLUMNS`] of [`DEPTH`] numbers, or for the
    /// whole of both matrices.
    #[inline(never)]
    unsafe fn run<const A: usize, const B: usize>(&self, isa: Isa) {
        let [m, n, k] = self.size;
        let (mut a_packed, mut b_packed) = (Packed::<A>::new(), Packed::<B>::new());
        let (a, b) = (a_packed.start(), b_packed.start());
        let mut engine = Engine::new(isa);
        for l in (0..k).step_by(DEPTH) {
            let length = DEPTH.min(k - l);
            for j in (0..n).step_by(COLUMNS) {
                let columns = COLUMNS.min(n - j);
                for first in (0..columns).step_by(PANEL) {
                    let (from, columns) = (self.b.at(j + first, l), PANEL.min(columns - first));
                    let to = b.wrapping_add(panel_len(first, length));
                    isa.run(PackPanel { from, columns, length, to });
                }
                for i in (0..m).step_by(ROWS) {
                    let rows = ROWS.min(m - i);
                    isa.run(PackLines { from: self.a.at(i, l), lines: rows, length, to: a });
                    let segments: [u32; DEPTH / STEP] =
                        std::array::from_fn(|step| (step * rows * STEP) as u32);
                    for first in (0..columns).step_by(PANEL) {
                        let band = Band {
                            lines: 1,
                            rows,
                            a: a.cast_const().cast(),
                            a_row: STEP,
                            a_line: 0,
                            segments: &segments[..length.div_ceil(STEP)],
                            b: b.wrapping_add(panel_len(first, length)),
                            columns: PANEL.min(columns - first),
                            c: self.c.wrapping_add(i * self.stride + j + first),
                            c_row: self.stride,
                            c_line: 0,
                            start: if self.accumulate || l > 0 { Start::Memory } else { Start::Zero },
                            bounds: Bounds::NONE,
                        };
                        // SAFETY: rows, columns and steps are packed; the caller vouches for c.
                        unsafe { engine.run(band) };
                    }
                }
            }
        }
    }
}

/// Packed once, multiplied often: [`super::super::Prepacked`] of bf16.
pub(in super::super) struct Prepacking {
    pub(in super::super) inner: usize,
    pub(in super::super) columns: usize,
}

impl Prepacking {
    /// Pairs of the packed matrix.
    pub(in super::super) fn packed(&self) -> usize {
        panel_len(self.columns, self.inner)
    }

    /// Packs b.
    pub(in super::super) fn pack(&self, isa: Isa, b: Matrix<'_>, packed: &mut [f32]) {
        let source = Source { start: b.data.as_ptr(), across: b.stride[1], along: b.stride[0] };
        let packed = &mut packed[..self.packed()];
        for first in (0..self.columns).step_by(PANEL) {
            let columns = PANEL.min(self.columns - first);
            let to = packed[panel_len(first, self.inner)..].as_mut_ptr();
            isa.run(PackPanel { from: source.at(first, 0), columns, length: self.inner, to });
        }
    }

    /// Computes c, of `rows` rows, as [`super::super::Prepacked::multiply`], which has checked the slices.
    pub(in super::super) fn multiply(
        &self,
        isa: Isa,
        (a, a_stride): (&[f32], usize),
        packed: &[f32],
        (c, c_stride): (&mut [f32], usize),
        (rows, accumulate): (usize, bool),
    ) {
        let mut room = Packed::<{ ROWS * DEPTH / 2 }>::new();
        let to = room.start();
        let source = Source { start: a.as_ptr(), across: a_stride, along: 1 };
        let mut engine = Engine::new(isa);
        for l in (0..self.inner).step_by(DEPTH) {
            let length = DEPTH.min(self.inner - l);
            for i in (0..rows).step_by(ROWS) {
                let rows = ROWS.min(rows - i);
                isa.run(PackLines { from: source.at(i, l), lines: rows, length, to });
                let segments: [u32; DEPTH / STEP] = std::array::from_fn(|step| (step * rows * STEP) as u32);
                for first in (0..self.columns).step_by(PANEL) {
                    let columns = PANEL.min(self.columns - first);
                    let band = Band {
                        lines: 1,
                        rows,
                        a: to.cast_const().cast(),
                        a_row: STEP,
                        a_line: 0,
                        segments: &segments[..length.div_ceil(STEP)],
                        b: packed[panel_len(first, self.inner) + panel_len(columns, l)..].as_ptr(),
                        columns,
                        c: c[i * c_stride + first..].as_mut_ptr(),
                        c_row: c_stride,
                        c_line: 0,
                        start: if accumulate || l > 0 { Start::Memory } else { Start::Zero },
                        bounds: Bounds::NONE,
                    };
                    // SAFETY: the slices hold all rows and the packed panel all steps.
                    unsafe { engine.run(band) };
                }
            }
        }
    }
}
