//! Convolution of few channels on planar images, by the kernels of `kernels::correlate`.
//!
//! Each input plane is copied once per kernel column, shifted by that column and sampled at the column stride:
//! `shifted[c][j][row][ow] = x[c][row][ow · s + j · d - p]`, rows outside the image being 0. Over such a copy
//! the numbers that all output pixels multiply with one weight form one contiguous run, whatever the stride,
//! dilation and padding: rows are stored by their remainder modulo the row stride, so that a kernel row is an
//! offset. Backward-data runs the same kernel on dy with the weights transposed, then adds the shifted planes
//! up; backward-weights correlates dy with the copies of all records of the call.

use super::conv2d::Conv;
use crate::kernels::Isa;
use crate::kernels::correlate::{Correlate, CorrelateWeights, add_row_sums, correlate, correlate_weights};
use crate::kernels::lanes::LANES;
use crate::layer::{Backward, Forward, Misfit};

/// Sizes and tables of one convolution.
pub(super) struct Planar {
    conv: Conv,
    /// Where each weight of a filter reads in `shifted`, in the weights' order (c, i, j).
    taps: Vec<u32>,
    /// One correlation of backward-data for each remainder of rows modulo the row stride.
    phases: Vec<Phase>,
    /// Rows of one remainder in a shifted plane.
    rows: usize,
    /// Rows of zeros in front of a plane of dy.
    above: usize,
}

/// The rows of dx whose place, counted with padding, has one remainder modulo the row stride.
struct Phase {
    /// Kernel rows that meet these rows.
    kernel_rows: Vec<usize>,
    /// Where each (kernel row, filter) reads in the padded dy.
    taps: Vec<u32>,
    /// Where the phase's weights begin in those of a group.
    weights: usize,
}

impl Planar {
    pub(super) fn new(mut conv: Conv) -> Result<Self, Misfit> {
        for (axis, outputs) in [conv.output.h, conv.output.w].into_iter().enumerate() {
            if outputs == 1 {
                // The distance to a second window that does not exist must not cost memory.
                conv.window.stride[axis] = 1;
            }
        }
        let ([kh, kw], [sh, _], [dh, _]) = (conv.window.kernel, conv.window.stride, conv.window.dilation);
        let ow = conv.output.w;
        let rows = ((conv.output.h - 1) * sh + (kh - 1) * dh + 1).div_ceil(sh);
        let plane = |c: usize, j: usize, phase: usize| ((c * kw + j) * sh + phase) * rows * ow;
        let above = (kh - 1) * dh / sh;
        let mut taps = Vec::new();
        for c in 0..conv.group_inputs() {
            for i in 0..kh {
                for j in 0..kw {
                    taps.push((plane(c, j, i * dh % sh) + i * dh / sh * ow) as u32);
                }
            }
        }
        let (mut phases, mut weights) = (Vec::new(), 0);
        for phase in 0..sh {
            let kernel_rows: Vec<usize> = (0..kh).filter(|i| i * dh % sh == phase).collect();
            let mut taps = Vec::new();
            for i in &kernel_rows {
                for k in 0..conv.group_outputs() {
                    taps.push(((k * (above + rows) + above - i * dh / sh) * ow) as u32);
                }
            }
            let count = taps.len() * conv.group_inputs() * kw;
            phases.push(Phase { kernel_rows, taps, weights });
            weights += count;
        }
        let planar = Planar { conv, taps, phases, rows, above };
        let largest = planar.shifted().max(planar.padded()) + LANES;
        if largest > u32::MAX as usize {
            return Err(Misfit(format!("the convolution would need {largest} numbers of scratch a record")));
        }
        Ok(planar)
    }

    /// Numbers of the shifted planes of one group of one record.
    fn shifted(&self) -> usize {
        let [_, kw] = self.conv.window.kernel;
        self.conv.group_inputs() * kw * self.conv.window.stride[0] * self.rows * self.conv.output.w
    }

    /// Numbers of the padded dy of one group of one record.
    fn padded(&self) -> usize {
        self.conv.group_outputs() * (self.above + self.rows) * self.conv.output.w
    }

    /// Copies the planes `x` of a group, shifted by each kernel column.
    fn shift(&self, x: &[f32], shifted: &mut [f32]) {
        let (conv, window) = (&self.conv, &self.conv.window);
        let ([_, kw], [sh, sw]) = (window.kernel, window.stride);
        let (image, ow) = (conv.input, conv.output.w);
        let mut to = shifted.chunks_exact_mut(ow);
        for plane in x.chunks_exact(image.pixels()) {
            for j in 0..kw {
                let (columns, first) = window.columns(j, image.w, ow);
                for phase in 0..sh {
                    for row in 0..self.rows {
                        let to = to.next().expect("the copy has room for every row");
                        let from = (row * sh + phase).checked_sub(window.padding[0]).filter(|h| *h < image.h);
                        match from {
                            Some(h) if !columns.is_empty() => {
                                to[..columns.start].fill(0.0);
                                to[columns.end..].fill(0.0);
                                let to = &mut to[columns.clone()];
                                copy_strided(&plane[h * image.w + first..], sw, to);
                            }
                            _ => to.fill(0.0),
                        }
                    }
                }
            }
        }
    }

    /// Adds the shifted planes `dshifted` of a group up to the planes `dx`.
    fn fold(&self, dshifted: &[f32], dx: &mut [f32]) {
        let (conv, window) = (&self.conv, &self.conv.window);
        let ([_, kw], [sh, sw]) = (window.kernel, window.stride);
        let (image, ow) = (conv.input, conv.output.w);
        dx.fill(0.0);
        let mut from = dshifted.chunks_exact(ow);
        for plane in dx.chunks_exact_mut(image.pixels()) {
            for j in 0..kw {
                let (columns, first) = window.columns(j, image.w, ow);
                for phase in 0..sh {
                    for row in 0..self.rows {
                        let from = &from.next().expect("every row was computed")[columns.clone()];
                        let to = (row * sh + phase).checked_sub(window.padding[0]).filter(|h| *h < image.h);
                        if let (Some(h), false) = (to, columns.is_empty()) {
                            add_strided(from, sw, &mut plane[h * image.w + first..]);
                        }
                    }
                }
            }
        }
    }

    /// Writes the planes of `dy` of a group with zeros above and below.
    fn pad(&self, dy: &[f32], padded: &mut [f32]) {
        let (ow, pixels) = (self.conv.output.w, self.conv.output.pixels());
        for (from, to) in dy.chunks_exact(pixels).zip(padded.chunks_exact_mut((self.above + self.rows) * ow))
        {
            to[..self.above * ow].fill(0.0);
            to[self.above * ow..][..pixels].copy_from_slice(from);
            to[self.above * ow + pixels..].fill(0.0);
        }
    }

    fn forward_group(&self, isa: Isa, group: usize, pass: &mut Forward<'_>) {
        let (conv, shifted) = (&self.conv, self.shifted());
        let (inputs, outputs) = (conv.group_inputs(), conv.group_outputs());
        let (weights, bias) = pass.params.split_at(conv.weights());
        let weights = &weights[group * outputs * conv.filter()..][..outputs * conv.filter()];
        let (x_plane, y_plane) = (conv.input.pixels(), conv.output.pixels());
        for record in 0..pass.records {
            let x = &pass.x[(record * conv.input.c + group * inputs) * x_plane..][..inputs * x_plane];
            let y = &mut pass.y[(record * conv.output.c + group * outputs) * y_plane..][..outputs * y_plane];
            self.shift(x, &mut pass.scratch[..shifted]);
            correlate(
                isa,
                Correlate {
                    weights,
                    taps: &self.taps,
                    source: &pass.scratch[..shifted + LANES],
                    start: conv.bias.then(|| &bias[group * outputs..][..outputs]),
                    out: y,
                    out_stride: y_plane,
                    pixels: y_plane,
                },
            );
        }
    }

    fn data_group(&self, isa: Isa, group: usize, pass: &mut Backward<'_>) {
        let Some(dx) = pass.dx.as_deref_mut() else { return };
        let (conv, [_, kw]) = (&self.conv, self.conv.window.kernel);
        let (inputs, outputs, sh) = (conv.group_inputs(), conv.group_outputs(), conv.window.stride[0]);
        let (x_plane, y_plane) = (conv.input.pixels(), conv.output.pixels());
        let packed = &pass.packed[group * outputs * conv.filter()..];
        let (padded, rest) = pass.scratch.split_at_mut(self.padded() + LANES);
        let pixels = self.rows * conv.output.w;
        for record in 0..pass.records {
            let dy = &pass.dy[(record * conv.output.c + group * outputs) * y_plane..][..outputs * y_plane];
            let dx = &mut dx[(record * conv.input.c + group * inputs) * x_plane..][..inputs * x_plane];
            self.pad(dy, &mut padded[..self.padded()]);
            let dshifted = &mut rest[..self.shifted()];
            for (i, phase) in self.phases.iter().enumerate() {
                correlate(
                    isa,
                    Correlate {
                        weights: &packed[phase.weights..][..phase.taps.len() * inputs * kw],
                        taps: &phase.taps,
                        source: padded,
                        start: None,
                        out: &mut dshifted[i * pixels..],
                        out_stride: sh * pixels,
                        pixels,
                    },
                );
            }
            self.fold(dshifted, dx);
        }
    }

    fn weights_group(&self, isa: Isa, group: usize, pass: &mut Backward<'_>) {
        let Some(dparams) = pass.dparams.as_deref_mut() else { return };
        let (conv, shifted) = (&self.conv, self.shifted());
        let (inputs, outputs) = (conv.group_inputs(), conv.group_outputs());
        let (x_plane, y_plane) = (conv.input.pixels(), conv.output.pixels());
        let (dweights, dbias) = dparams.split_at_mut(conv.weights());
        for record in 0..pass.records {
            let x = &pass.x[(record * conv.input.c + group * inputs) * x_plane..][..inputs * x_plane];
            self.shift(x, &mut pass.scratch[record * shifted..][..shifted]);
            if conv.bias {
                let dy =
                    &pass.dy[(record * conv.output.c + group * outputs) * y_plane..][..outputs * y_plane];
                add_row_sums(isa, dy, y_plane, &mut dbias[group * outputs..][..outputs]);
            }
        }
        // Vectors read up to here: what they read must be a number, though it is multiplied by 0.
        pass.scratch[pass.records * shifted..][..LANES].fill(0.0);
        correlate_weights(
            isa,
            CorrelateWeights {
                dy: &pass.dy[group * outputs * y_plane..],
                dy_stride: conv.output.c * y_plane,
                source: pass.scratch,
                source_stride: shifted,
                taps: &self.taps,
                dweights: &mut dweights[group * outputs * conv.filter()..][..outputs * conv.filter()],
                pixels: y_plane,
                records: pass.records,
            },
        );
    }
}

/// `to[i] = from[i · stride]`
fn copy_strided(from: &[f32], stride: usize, to: &mut [f32]) {
    if stride == 1 {
        to.copy_from_slice(&from[..to.len()]);
    } else {
        to.iter_mut().zip(from.iter().step_by(stride)).for_each(|(to, from)| *to = *from);
    }
}

/// `to[i · stride] += from[i]`
fn add_strided(from: &[f32], stride: usize, to: &mut [f32]) {
    if stride == 1 {
        to.iter_mut().zip(from).for_each(|(to, from)| *to += from);
    } else {
        to.iter_mut().step_by(stride).zip(from).for_each(|(to, from)| *to += from);
    }
}

impl Planar {
    pub(super) fn scratch(&self, records: usize) -> usize {
        (self.padded() + self.shifted()).max(records * self.shifted()) + 2 * LANES
    }

    pub(super) fn packed(&self) -> usize {
        self.conv.weights()
    }

    /// `packed[group][phase][c, j][i, k] = weights[group, k][c][i][j]`, i over the kernel rows of the phase.
    pub(super) fn pack(&self, weights: &[f32], packed: &mut [f32]) {
        let (conv, [kh, kw]) = (&self.conv, self.conv.window.kernel);
        let size = conv.group_outputs() * conv.filter();
        for (weights, packed) in weights.chunks_exact(size).zip(packed.chunks_exact_mut(size)) {
            for phase in &self.phases {
                let mut to = packed[phase.weights..].iter_mut();
                for (c, j) in (0..conv.group_inputs()).flat_map(|c| (0..kw).map(move |j| (c, j))) {
                    for i in &phase.kernel_rows {
                        let column = weights[(c * kh + i) * kw + j..].iter().step_by(conv.filter());
                        column.zip(&mut to).for_each(|(from, to)| *to = *from);
                    }
                }
            }
        }
    }

    pub(super) fn forward(&self, mut pass: Forward<'_>) {
        for group in 0..self.conv.groups {
            self.forward_group(pass.context.isa, group, &mut pass);
        }
    }

    pub(super) fn backward(&self, mut pass: Backward<'_>) {
        for group in 0..self.conv.groups {
            self.data_group(pass.context.isa, group, &mut pass);
            self.weights_group(pass.context.isa, group, &mut pass);
        }
    }
}
