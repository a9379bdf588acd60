//! Convolution with filters of one pixel: a product of the pixels of the whole batch with the weights, read where they
//! lie. Only where pixels are left out (a stride) or changed on the way (a [`Prologue`]) they are gathered first.

use super::correlation::Job;
use super::gather::Gather;
use super::size::ConvSize;
use super::tile::{PANEL, RowBand, Start, panel_width};
use super::weights::{PackPanels, panel_at, panels_len};
use super::{Begin, Target};
use crate::kernels::Isa;
use crate::kernels::lanes::LANES;
use crate::team::Team;
use std::ops::Range;

/// Numbers of input of a task at most: 384 KiB, which fits into a second-level cache beside what streams through.
const READ: usize = 96 << 10;
/// Steps of a panel that stay in the first-level cache: 32 KiB of 48, as rows stream through what is left. Common numbers of
/// channels are multiples of it, which saves a second pass over sums.
pub(super) const RESIDENT_STEPS: usize = 256;
/// Packed weights of a group that stay in the second-level cache: 256 KiB. All panels then pass over some pixels at a
/// time, so that the output is written in order.
const FEW_WEIGHTS: usize = 64 << 10;
/// Pixels of a task are a multiple of this many, some rows of the highest tile, and not fewer.
const PIXELS: usize = 56;
/// Tasks of a thread that share the work evenly.
const TASKS_A_THREAD: usize = 4;
/// Tasks that are enough for the threads of a worker to share the work evenly.
const ENOUGH_TASKS: usize = 32;

/// A planned convolution of single pixels.
#[derive(Debug)]
pub(super) struct Pointwise {
    pub(super) groups: usize,
    /// Rows, columns and channels of the input and of the output, and channels of a group.
    from: [usize; 3],
    to: [usize; 3],
    pub(super) inputs: usize,
    outputs: usize,
    pub(super) stride: [usize; 2],
    /// Numbers from an output, and from an input channel, to the next in PyTorch's weights.
    strides: [usize; 2],
}

impl Pointwise {
    pub(super) fn forward(size: &ConvSize) -> Pointwise {
        Pointwise {
            groups: size.groups,
            from: size.input,
            to: size.output,
            inputs: size.group_inputs(),
            outputs: size.group_outputs(),
            stride: size.stride,
            strides: [size.group_inputs(), 1],
        }
    }

    /// For stride 1.
    pub(super) fn backward(size: &ConvSize) -> Pointwise {
        Pointwise {
            groups: size.groups,
            from: size.output,
            to: size.input,
            inputs: size.group_outputs(),
            outputs: size.group_inputs(),
            stride: [1; 2],
            strides: [1, size.group_inputs()],
        }
    }

    pub(super) fn packed(&self) -> usize {
        self.groups * self.group_packed()
    }

    fn group_packed(&self) -> usize {
        panels_len(self.outputs, self.inputs)
    }

    pub(super) fn pack(&self, team: &mut Team, weights: &[f32], packed: &mut [f32]) {
        let size = self.inputs * self.outputs;
        for (weights, packed) in weights.chunks_exact(size).zip(packed.chunks_exact_mut(self.group_packed()))
        {
            let panels = PackPanels {
                outputs: self.outputs,
                inputs: self.inputs,
                block: self.inputs.min(LANES),
                taps: &[0],
                output_stride: self.strides[0],
                input_stride: self.strides[1],
            };
            panels.run(team, weights, packed);
        }
    }

    fn pixels(&self, records: usize) -> usize {
        records * self.to[0] * self.to[1]
    }

    /// Pixels and panels of a task.
    fn partition(&self, records: usize, threads: usize) -> [usize; 2] {
        let pixels = self.pixels(records);
        let round = |pixels: usize| (pixels / PIXELS * PIXELS).max(PIXELS);
        if pixels * self.inputs < self.group_packed() {
            // The weights are what has to come from far: every panel is read once, or as seldom as threads allow.
            let panels = self.groups * self.outputs.div_ceil(PANEL);
            let parts = (TASKS_A_THREAD * threads).div_ceil(panels);
            return [pixels.div_ceil(parts).max(1).next_multiple_of(PIXELS), 1];
        }
        let mut a_task = round(READ / self.inputs.max(self.outputs)).min(pixels.max(1));
        let mut panels = self.outputs.div_ceil(PANEL);
        let all = panels;
        while pixels.div_ceil(a_task) * self.groups * all.div_ceil(panels) < ENOUGH_TASKS {
            if a_task >= 4 * PIXELS {
                a_task = round(a_task / 2);
            } else if panels > 1 {
                panels = panels.div_ceil(2);
            } else if a_task > PIXELS {
                a_task = round(a_task / 2);
            } else {
                break;
            }
        }
        [a_task, panels]
    }

    /// Whether pixels are read where they lie.
    fn in_place(&self, changed: bool) -> bool {
        self.stride == [1; 2] && !changed
    }

    pub(super) fn scratch(&self, records: usize, threads: usize) -> usize {
        threads * self.thread_scratch(records, threads)
    }

    fn thread_scratch(&self, records: usize, threads: usize) -> usize {
        (self.partition(records, threads)[0] * self.inputs).next_multiple_of(LANES)
    }

    /// As [`super::correlation::Correlation::run`].
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: &Job<'_>, scratch: &mut [f32]) {
        let (pixels, [a_task, panels]) =
            (self.pixels(job.records), self.partition(job.records, team.threads()));
        let one = self.thread_scratch(job.records, team.threads());
        let scratch = Target::new(&mut scratch[..one * team.threads()]);
        let panel_tasks = self.outputs.div_ceil(PANEL).div_ceil(panels);
        team.tasks(pixels.div_ceil(a_task) * self.groups * panel_tasks, &|index, thread| {
            let (panel, rest) = (index % panel_tasks, index / panel_tasks);
            let (group, part) = (rest % self.groups, rest / self.groups);
            let task = Task {
                isa,
                group,
                pixels: part * a_task..((part + 1) * a_task).min(pixels),
                panels: panel * panels * PANEL..((panel + 1) * panels * PANEL).min(self.outputs),
            };
            // SAFETY: pixels and panels of different tasks do not overlap; neither does the scratch of threads.
            unsafe { self.task(job, &task, scratch.at(thread * one)) };
        });
    }

    /// # Safety
    /// Nobody else writes the task's part of the output, or its scratch.
    unsafe fn task(&self, job: &Job<'_>, task: &Task, gathered: *mut f32) {
        let channel = task.group * self.inputs;
        let in_place = self.in_place(job.prologue.is_some());
        let (a, a_row) = if in_place {
            let all = self.from[2];
            let pixels = &job.from[task.pixels.start * all..task.pixels.end * all];
            (pixels.as_ptr().wrapping_add(channel), all)
        } else {
            // SAFETY: a thread's scratch holds the pixels of a task.
            unsafe { self.gather(job, task, gathered) };
            (gathered.cast_const(), self.inputs)
        };
        let block = if self.group_packed() <= FEW_WEIGHTS { PIXELS } else { task.pixels.len() };
        for first in task.pixels.clone().step_by(block) {
            let pixels = first..(first + block).min(task.pixels.end);
            let a = a.wrapping_add((first - task.pixels.start) * a_row);
            for panel in task.panels.clone().step_by(PANEL) {
                // SAFETY: the caller vouches for the output, of which these are a part.
                unsafe { self.panel(job, task, pixels.clone(), (a, a_row), panel) };
            }
        }
    }

    /// A panel of the output of some pixels of a task, which lie `a_row` numbers apart from `a` on.
    ///
    /// # Safety
    /// Nobody else writes it.
    unsafe fn panel(
        &self,
        job: &Job<'_>,
        task: &Task,
        pixels: Range<usize>,
        (a, a_row): (*const f32, usize),
        panel: usize,
    ) {
        let columns = (self.outputs - panel).min(PANEL);
        let channel = task.group * self.outputs + panel;
        let weights = &job.weights[task.group * self.group_packed() + panel_at(panel, self.inputs)..];
        let start = match job.begin {
            Begin::Zero => Start::Zero,
            Begin::Bias(bias) => Start::Bias(bias[channel..][..columns].as_ptr()),
            Begin::Present => Start::Memory,
        };
        for first in (0..self.inputs).step_by(RESIDENT_STEPS) {
            let band = RowBand {
                lines: 1,
                rows: pixels.len(),
                a,
                a_row,
                a_line: 0,
                segments: &[first as u32],
                length: RESIDENT_STEPS.min(self.inputs - first),
                b: weights[first * panel_width(columns)..].as_ptr(),
                columns,
                c: job.to.at(pixels.start * self.to[2] + channel),
                c_row: self.to[2],
                c_line: 0,
                start: if first == 0 { start } else { Start::Memory },
                bounds: job.bounds.when(first + RESIDENT_STEPS >= self.inputs),
                distant: self.in_place(job.prologue.is_some()) && panel == task.panels.start,
            };
            // SAFETY: every pixel has all inputs and the panel all steps; the caller vouches for the output.
            unsafe { band.run(task.isa) };
        }
    }

    /// Copies the pixels of a task, one after the other.
    ///
    /// # Safety
    /// `to` has room for them.
    unsafe fn gather(&self, job: &Job<'_>, task: &Task, mut to: *mut f32) {
        let ([h, w, all], channel) = (self.from, task.group * self.inputs);
        let mut pixel = task.pixels.start;
        while pixel < task.pixels.end {
            let (row, column) = (pixel / self.to[1], pixel % self.to[1]);
            let (record, row) = (row / self.to[0], row % self.to[0]);
            // Whole rows of an image at once where the task has them.
            let (rows, columns) = if column == 0 && task.pixels.end - pixel >= self.to[1] {
                (((task.pixels.end - pixel) / self.to[1]).min(self.to[0] - row), self.to[1])
            } else {
                (1, (self.to[1] - column).min(task.pixels.end - pixel))
            };
            let gather = Gather {
                from: job.from[record * h * w * all..][..h * w * all].as_ptr().wrapping_add(channel),
                image: [h, w],
                pixel: all,
                low: [(row * self.stride[0]) as isize, (column * self.stride[1]) as isize],
                sample: self.stride,
                size: [rows, columns],
                channels: self.inputs,
                block: self.inputs,
                to,
                prologue: job.prologue.map(|prologue| prologue.from(channel)),
            };
            // SAFETY: the slice holds an image; the caller vouches for the room.
            unsafe { gather.run(task.isa) };
            to = to.wrapping_add(rows * columns * self.inputs);
            pixel += rows * columns;
        }
    }
}

struct Task {
    isa: Isa,
    group: usize,
    /// Pixels of all images, one after the other.
    pixels: Range<usize>,
    /// Output channels of the group.
    panels: Range<usize>,
}
