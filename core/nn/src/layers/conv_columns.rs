//! Convolution of many channels, channels last, as matrix products over columns (im2col).
//!
//! The numbers that one output pixel sees are gathered into a row of (kh · kw · C) numbers, some rows at a time
//! so that they stay in the cache; `y = columns · weights`, `dW = columnsᵀ · dy`, and `dx` is what
//! `dy · weightsᵀ` adds up to where the columns came from. Weights are rearranged once a pass to [kh, kw, C, K].

use super::conv2d::{Conv, ConvKernel};
use crate::kernels::elementwise::{add_row, sum_rows};
use crate::kernels::gemm::{Matrix, multiply};
use crate::layer::{Backward, Forward};
use std::ops::Range;

/// Numbers of columns worked on at a time: a quarter of a small second-level cache.
const TILE: usize = 64 * 1024;

/// Sizes of one convolution.
pub(super) struct Columns {
    conv: Conv,
}

impl Columns {
    pub(super) fn new(conv: Conv) -> Self {
        Columns { conv }
    }

    /// Output pixels of a tile.
    fn rows(&self) -> usize {
        (TILE / self.conv.filter()).clamp(1, self.conv.output.pixels())
    }

    fn tiles(&self) -> impl Iterator<Item = Range<usize>> {
        let (rows, pixels) = (self.rows(), self.conv.output.pixels());
        (0..pixels.div_ceil(rows)).map(move |tile| tile * rows..((tile + 1) * rows).min(pixels))
    }

    /// Calls `with(pixel of the image or None, run)` for every run of channels that the columns of `pixels` hold.
    fn runs(&self, pixels: Range<usize>, mut with: impl FnMut(Option<usize>, Range<usize>)) {
        let (conv, window) = (&self.conv, &self.conv.window);
        let (image, channels) = (conv.input, conv.group_inputs());
        let mut at = 0;
        for pixel in pixels {
            let start = [pixel / conv.output.w * window.stride[0], pixel % conv.output.w * window.stride[1]];
            for i in 0..window.kernel[0] {
                let h = (start[0] + i * window.dilation[0])
                    .checked_sub(window.padding[0])
                    .filter(|h| *h < image.h);
                for j in 0..window.kernel[1] {
                    let w = (start[1] + j * window.dilation[1]).checked_sub(window.padding[1]);
                    let w = w.filter(|w| *w < image.w);
                    with(h.zip(w).map(|(h, w)| h * image.w + w), at..at + channels);
                    at += channels;
                }
            }
        }
    }

    /// Gathers the columns of `pixels` for `group` of one record.
    fn gather(&self, x: &[f32], group: usize, pixels: Range<usize>, columns: &mut [f32]) {
        let (channels, first) = (self.conv.group_inputs(), group * self.conv.group_inputs());
        self.runs(pixels, |pixel, run| match pixel {
            Some(pixel) => columns[run].copy_from_slice(&x[pixel * self.conv.input.c + first..][..channels]),
            None => columns[run].fill(0.0),
        });
    }

    /// Adds columns to where they came from.
    fn scatter(&self, columns: &[f32], group: usize, pixels: Range<usize>, dx: &mut [f32]) {
        let (channels, first) = (self.conv.group_inputs(), group * self.conv.group_inputs());
        self.runs(pixels, |pixel, run| {
            if let Some(pixel) = pixel {
                let dx = &mut dx[pixel * self.conv.input.c + first..][..channels];
                dx.iter_mut().zip(&columns[run]).for_each(|(dx, column)| *dx += column);
            }
        });
    }

    /// Adds `dw` ([kh, kw, C, K] of a group) to PyTorch's order ([K, C, kh, kw]).
    fn unpack_gradient(&self, dw: &[f32], dweights: &mut [f32]) {
        let (conv, [kh, kw]) = (&self.conv, self.conv.window.kernel);
        let (channels, filters) = (conv.group_inputs(), conv.group_outputs());
        for (tap, dw) in dw.chunks_exact(channels * filters).enumerate() {
            for (c, dw) in dw.chunks_exact(filters).enumerate() {
                let to = dweights[c * kh * kw + tap..].iter_mut().step_by(conv.filter());
                to.zip(dw).for_each(|(to, from)| *to += from);
            }
        }
    }
}

impl ConvKernel for Columns {
    fn scratch(&self, _: usize) -> usize {
        self.rows() * self.conv.filter() + self.conv.filter() * self.conv.group_outputs()
    }

    fn packed(&self) -> usize {
        self.conv.weights()
    }

    /// `packed[group][i][j][c][k] = weights[group, k][c][i][j]`
    fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let (conv, [kh, kw]) = (&self.conv, self.conv.window.kernel);
        let size = conv.group_outputs() * conv.filter();
        for (weights, packed) in weights.chunks_exact(size).zip(packed.chunks_exact_mut(size)) {
            let mut rows = packed.chunks_exact_mut(conv.group_outputs());
            for tap in 0..kh * kw {
                for c in 0..conv.group_inputs() {
                    let row = rows.next().expect("a row for every weight of a filter");
                    let column = weights[c * kh * kw + tap..].iter().step_by(conv.filter());
                    row.iter_mut().zip(column).for_each(|(to, from)| *to = *from);
                }
            }
        }
    }

    fn forward(&self, pass: Forward<'_>) {
        let (conv, filter) = (&self.conv, self.conv.filter());
        let (filters, all) = (conv.group_outputs(), conv.output.c);
        let (x_len, y_len) = (conv.input.pixels() * conv.input.c, conv.output.pixels() * all);
        for (x, y) in pass.x.chunks_exact(x_len).zip(pass.y.chunks_exact_mut(y_len)) {
            for group in 0..conv.groups {
                let weights = Matrix::new(&pass.packed[group * filter * filters..], filter, filters);
                for pixels in self.tiles() {
                    let columns = &mut pass.scratch[..pixels.len() * filter];
                    self.gather(x, group, pixels.clone(), columns);
                    let columns = Matrix::new(columns, pixels.len(), filter);
                    let y = &mut y[pixels.start * all + group * filters..];
                    multiply(pass.context.isa, columns, weights, y, all, false);
                }
            }
            if conv.bias {
                add_row(y, &pass.params[conv.weights()..]);
            }
        }
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let (conv, filter, isa) = (&self.conv, self.conv.filter(), pass.context.isa);
        let (filters, all) = (conv.group_outputs(), conv.output.c);
        let (x_len, y_len) = (conv.input.pixels() * conv.input.c, conv.output.pixels() * all);
        let (columns, dw) = pass.scratch.split_at_mut(self.rows() * filter);
        if let Some(dx) = pass.dx.as_deref_mut() {
            dx.fill(0.0);
        }
        for group in 0..conv.groups {
            let weights = Matrix::new(&pass.packed[group * filter * filters..], filter, filters).transposed();
            let dw = &mut dw[..filter * filters];
            dw.fill(0.0);
            for (record, dy) in pass.dy.chunks_exact(y_len).enumerate() {
                for pixels in self.tiles() {
                    let columns = &mut columns[..pixels.len() * filter];
                    let dy = &dy[pixels.start * all + group * filters..];
                    let dy = Matrix::strided(dy, pixels.len(), filters, all);
                    if pass.dparams.is_some() {
                        self.gather(&pass.x[record * x_len..][..x_len], group, pixels.clone(), columns);
                        let columns = Matrix::new(columns, pixels.len(), filter).transposed();
                        multiply(isa, columns, dy, dw, filters, true);
                    }
                    if let Some(dx) = pass.dx.as_deref_mut() {
                        multiply(isa, dy, weights, columns, filter, false);
                        self.scatter(columns, group, pixels.clone(), &mut dx[record * x_len..][..x_len]);
                    }
                }
            }
            if let Some(dparams) = pass.dparams.as_deref_mut() {
                let size = filters * filter;
                self.unpack_gradient(dw, &mut dparams[group * size..][..size]);
            }
        }
        if let (Some(dparams), true) = (pass.dparams, conv.bias) {
            sum_rows(pass.dy, all, &mut dparams[conv.weights()..]);
        }
    }
}
