//! What convolutions of bf16 read: gathered pixels and weights, rounded and in pairs.

use super::gather::Gather;
use super::tile::{PANEL, RowBand};
use crate::arena::Shared;
use crate::kernels::gemm::bf16::{Band, PackPanel, STEP, Source, panel_len};
use crate::kernels::lanes::{LANES, Lanes};
use crate::kernels::{Isa, Kernel};
use crate::team::Team;

/// As [`Gather`], rounded to bf16: `[row][block][column][STEP channels]`, the last block filled up with zeros.
pub(super) struct GatherPairs<'a>(pub(super) Gather<'a>);

impl GatherPairs<'_> {
    /// # Safety
    /// As [`Gather::run`].
    pub(super) unsafe fn run_on(self, isa: Isa) {
        isa.run(self);
    }

    /// Sixteen channels of a pixel from `first` on; 0 where there are none.
    ///
    /// # Safety
    /// The pixel has the channels that are copied, and so has the prologue.
    #[inline(always)]
    unsafe fn channels<V: Lanes>(&self, pixel: *const f32, first: usize) -> V {
        let count = self.0.channels.saturating_sub(first).min(LANES);
        if count == 0 {
            return V::splat(0.0);
        }
        // SAFETY: `count` channels are left.
        unsafe {
            let from = pixel.add(first);
            let mut x: V = if count == LANES { V::load(from) } else { V::load_first(from, count) };
            if let Some(prologue) = self.0.prologue {
                let scale = V::load_first(prologue.scale.as_ptr().add(first), count);
                x = x.fma(scale, V::load_first(prologue.shift.as_ptr().add(first), count));
                x = prologue.bounds.clip(x);
            }
            x
        }
    }
}

impl Kernel for GatherPairs<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Lanes>(self) {
        let gather = &self.0;
        gather.check_prologue();
        let (first, end, start) = gather.inside();
        let blocks = gather.channels.div_ceil(STEP);
        for row in 0..gather.size[0] {
            let h = gather.low[0] + (row * gather.sample[0]) as isize;
            let outside = h < 0 || h >= gather.image[0] as isize;
            let (first, end) = if outside { (0, 0) } else { (first, end) };
            let from = gather
                .from
                .wrapping_offset((h * gather.image[1] as isize + start as isize) * gather.pixel as isize);
            for block in 0..blocks {
                let to = gather.to.wrapping_add((row * blocks + block) * gather.size[1] * LANES);
                for column in 0..gather.size[1] {
                    let mut pairs = V::splat(0.0);
                    // SAFETY: rows and columns that are read lie on the image; the caller vouches for the rest.
                    unsafe {
                        if (first..end).contains(&column) {
                            let pixel = from.add((column - first) * gather.sample[1] * gather.pixel);
                            let low = self.channels::<V>(pixel, block * STEP);
                            let (even, odd) =
                                low.deinterleave(self.channels::<V>(pixel, block * STEP + LANES));
                            pairs = even.bf16_pairs(odd);
                        }
                        pairs.store(to.add(column * LANES));
                    }
                }
            }
        }
    }
}

/// Weights rounded to bf16: `packed[panel][block of STEP inputs][tap]`, each as [`Band::b`].
pub(super) struct PackPairs<'a> {
    /// Columns and rows of the matrix that each tap is.
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    /// Where each tap lies among the weights of an (output, input), in the order of the steps.
    pub(super) taps: &'a [usize],
    /// Numbers from an output, and from an input, to the next in the weights.
    pub(super) output_stride: usize,
    pub(super) input_stride: usize,
}

impl PackPairs<'_> {
    pub(super) fn run(&self, team: &mut Team, isa: Isa, weights: &[f32], packed: &mut [f32]) {
        let length = self.inputs.next_multiple_of(STEP) * self.taps.len();
        let packed = Shared::new(&mut packed[..panel_len(self.outputs, length)]);
        team.tasks(self.outputs.div_ceil(PANEL), &|panel, _| {
            let first = panel * PANEL;
            let columns = (self.outputs - first).min(PANEL);
            let place = panel_len(first, length);
            // SAFETY: panels do not overlap, and every one has one task.
            let panel = unsafe { packed.write(place..place + panel_len(columns, length)) };
            let mut steps = panel.chunks_exact_mut(panel_len(columns, STEP));
            for input in (0..self.inputs).step_by(STEP) {
                for (tap, step) in self.taps.iter().zip(&mut steps) {
                    let from = &weights[first * self.output_stride + input * self.input_stride + tap..];
                    isa.run(PackPanel {
                        from: Source {
                            start: from.as_ptr(),
                            across: self.output_stride,
                            along: self.input_stride,
                        },
                        columns,
                        length: STEP.min(self.inputs - input),
                        to: step.as_mut_ptr(),
                    });
                }
            }
        });
    }
}

impl<'a> RowBand<'a> {
    /// The band over rows and a panel that hold bf16, with segments of [`STEP`].
    pub(super) fn of_pairs(self) -> Band<'a> {
        Band {
            lines: self.lines,
            rows: self.rows,
            a: self.a.cast(),
            a_row: self.a_row,
            a_line: self.a_line,
            segments: self.segments,
            b: self.b,
            columns: self.columns,
            c: self.c,
            c_row: self.c_row,
            c_line: self.c_line,
            start: self.start,
            bounds: self.bounds,
        }
    }
}
