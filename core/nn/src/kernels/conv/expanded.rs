//! A convolution of single pixels and the depthwise one that alone reads it, as MobileNet-v2 begins its blocks: what lies
//! between the two is several times as large as what is read and written, and never leaves the cache.
//!
//! A task takes some rows of an image and a panel of channels: it computes the rows of the first convolution that the
//! second needs, to where [`super::depthwise`] would have copied them, with their padding. Rows that two tasks need are
//! computed twice. Sums are the same chains as by the two passes: so are the bits.

use super::correlation::Job;
use super::depthwise::{Depthwise, Task};
use super::pointwise::{Pointwise, RESIDENT_STEPS};
use super::tile::{PANEL, RowBand, Start, panel_width};
use super::weights::panel_at;
use super::{Bounds, Target};
use crate::kernels::Isa;
use crate::kernels::lanes::LANES;
use crate::team::Team;
use std::ops::Range;

/// Numbers between the two, of an image, from which on they are better not written: 384 KiB, which fill much of a
/// second-level cache.
const LARGE: usize = 96 << 10;
/// Those of a task: 512 KiB, which it holds.
const RESIDENT: usize = 128 << 10;
/// Tasks that are enough for the threads of a worker, and rows of output that are worth computing those beside them twice.
const ENOUGH_TASKS: usize = 8;
const FEW_ROWS: usize = 12;

/// Both convolutions.
#[derive(Clone, Copy)]
pub(super) struct Expanded<'a> {
    pub(super) expand: &'a Pointwise,
    pub(super) depthwise: &'a Depthwise,
}

/// What the first convolution has beside its image: packed weights, a number that each output begins with, and what is left
/// of the results.
#[derive(Clone, Copy)]
pub(super) struct First<'a> {
    pub(super) x: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) bias: &'a [f32],
    pub(super) bounds: Bounds,
}

impl Expanded<'_> {
    /// Whether the two can be computed together.
    pub(super) fn fits(&self) -> bool {
        let plain = self.expand.groups == 1 && self.expand.stride == [1; 2];
        plain && self.expand.inputs <= RESIDENT_STEPS && self.depthwise.geometry.sample == [1; 2]
    }

    /// Whether what lies between the two is large enough for that to be faster.
    pub(super) fn pays(&self) -> bool {
        let [rows, columns] = self.depthwise.geometry.from;
        rows * columns * self.depthwise.channels >= LARGE
    }

    /// Output rows of a task, and tasks below each other in an image.
    fn bands(&self, records: usize) -> [usize; 2] {
        let height = self.depthwise.geometry.largest()[0];
        let panels = self.depthwise.channels.div_ceil(PANEL);
        let fits = |rows: &usize| self.depthwise.gathered(*rows) * PANEL <= RESIDENT;
        let mut rows = (1..=height).rev().find(fits).unwrap_or(1);
        while records * panels * height.div_ceil(rows) < ENOUGH_TASKS && rows >= 2 * FEW_ROWS {
            rows = rows.div_ceil(2);
        }
        let bands = height.div_ceil(rows);
        [height.div_ceil(bands), bands]
    }

    fn thread_scratch(&self, records: usize) -> usize {
        // The last vector is read whole where there are fewer channels.
        self.depthwise.gathered(self.bands(records)[0]) * PANEL + LANES
    }

    pub(super) fn scratch(&self, records: usize, threads: usize) -> usize {
        threads * self.thread_scratch(records)
    }

    /// As [`super::correlation::Correlation::run`]: `job` is that of the depthwise convolution, without an image.
    pub(super) fn run(
        &self,
        team: &mut Team,
        isa: Isa,
        first: First<'_>,
        job: &Job<'_>,
        scratch: &mut [f32],
    ) {
        let [rows, bands] = self.bands(job.records);
        let (channels, height) = (self.depthwise.channels, self.depthwise.geometry.largest()[0]);
        let panels = channels.div_ceil(PANEL);
        let one = self.thread_scratch(job.records);
        let scratch = Target::new(&mut scratch[..one * team.threads()]);
        team.tasks(job.records * bands * panels, &|index, thread| {
            let (panel, rest) = (index % panels, index / panels);
            let (band, record) = (rest % bands, rest / bands);
            let task = Task {
                plan: self.depthwise,
                job,
                record,
                rows: band * rows..((band + 1) * rows).min(height),
                channels: panel * PANEL..((panel + 1) * PANEL).min(channels),
                block: PANEL,
                gathered: scratch.at(thread * one),
            };
            // SAFETY: a thread's scratch holds what the largest task gathers.
            unsafe { self.gather(isa, &first, &task) };
            isa.run(task);
        });
    }

    /// Computes what a task reads: `[row][column][channel]`.
    ///
    /// # Safety
    /// The task has room for it, which nobody else uses.
    unsafe fn gather(&self, isa: Isa, first: &First<'_>, task: &Task<'_>) {
        let geometry = &self.depthwise.geometry;
        let ([h, w], inputs, width) = (geometry.from, self.expand.inputs, task.channels.len());
        let low = geometry.low_at(task.rows.start);
        let size = [geometry.gathered(0, task.rows.len()), geometry.columns()];
        let [rows, columns] = [inside(low[0], size[0], h), inside(low[1], size[1], w)];
        let line = size[1] * width;
        let clear = |row: usize, columns: Range<usize>| {
            let to = task.gathered.wrapping_add(row * line + columns.start * width);
            // SAFETY: columns of a gathered row.
            unsafe { std::slice::from_raw_parts_mut(to, columns.len() * width) }.fill(0.0);
        };
        for row in 0..size[0] {
            if rows.contains(&row) {
                clear(row, 0..columns.start);
                clear(row, columns.end..size[1]);
            } else {
                clear(row, 0..size[1]);
            }
        }
        if rows.is_empty() || columns.is_empty() {
            return;
        }
        let at = |low: isize, gathered: usize| (low + gathered as isize) as usize;
        let pixel = (task.record * h + at(low[0], rows.start)) * w + at(low[1], columns.start);
        let image = &first.x[pixel * inputs..];
        let panel = task.channels.start;
        let band = RowBand {
            lines: rows.len(),
            rows: columns.len(),
            a: image.as_ptr(),
            a_row: inputs,
            a_line: w * inputs,
            segments: &[0],
            length: inputs,
            b: first.weights[panel_at(panel, inputs)..][..panel_width(width) * inputs].as_ptr(),
            columns: width,
            c: task.gathered.wrapping_add(rows.start * line + columns.start * width),
            c_row: width,
            c_line: line,
            start: Start::Bias(first.bias[panel..][..width].as_ptr()),
            bounds: first.bounds,
            distant: false,
        };
        // SAFETY: these rows and columns lie on the image, which has all inputs, and among those that are gathered.
        unsafe { band.run(isa) };
    }
}

/// Those of `count` pixels along an axis, from image pixel `low` on, that lie on an image of `size`.
fn inside(low: isize, count: usize, size: usize) -> Range<usize> {
    let start = (-low).max(0) as usize;
    let end = (size as isize - low).clamp(0, count as isize) as usize;
    start.min(end)..end
}
