//! Direct convolution, forward and backward-data: one correlation, or one for each phase of a stride.
//!
//! A task takes some rows of an image, or some images, and some panels of output channels. It copies the input it
//! needs with its padding ([`Gather`], a second-level cache's worth), then runs [`RowBand`]s over it: a panel of
//! weights stays in the first-level cache while the rows pass.
//!
//! Backward-data is the same with dy as the input. A pixel of dx whose place, counted with padding, is `r` modulo the
//! stride meets only the taps with `tap · dilation ≡ r`; each such phase is a correlation of its own with stride 1 that
//! writes every stride-th pixel.

use super::bf16::{GatherPairs, PackPairs};
use super::gather::{Gather, Prologue};
use super::size::ConvSize;
use super::tile::{PANEL, RowBand, Start};
use super::weights::{PackPanels, panel_at, panels_len};
use super::{Begin, Target};
use crate::kernels::gemm::bf16::{Engine, STEP};
use crate::kernels::lanes::LANES;
use crate::kernels::{Bounds, Isa};
use crate::team::Team;

/// Numbers of input that a task gathers at most: 384 KiB, which fits into a second-level cache of 1 MiB beside what
/// streams through.
const GATHERED: usize = 96 << 10;
/// Numbers of a panel that stay in the first-level cache.
const RESIDENT: usize = 6 << 10;
/// Tasks that are enough for the threads of a worker to share the work evenly.
const ENOUGH_TASKS: usize = 32;
/// Pixels of a task below which its rows are not divided for the sake of more tasks.
const FEW_PIXELS: usize = 112;

/// An image that is read or written.
#[derive(Clone, Copy, Debug)]
struct Plane {
    size: [usize; 2],
    /// All channels, and those of a group.
    channels: usize,
    part: usize,
}

/// Output pixels that meet the same taps.
#[derive(Debug)]
struct Phase {
    /// Its first pixel in the output, and its rows and columns.
    first: [usize; 2],
    size: [usize; 2],
    /// Which taps, by their place among a filter's.
    taps: Vec<usize>,
    /// Where its packed weights begin among those of a group.
    weights: usize,
    /// Parts of the inner dimension, in order.
    chunks: Vec<Chunk>,
}

/// Some blocks of channels.
#[derive(Debug)]
struct Chunk {
    /// Where segments begin in the gathered input.
    segments: Vec<u32>,
    /// Channels of its blocks, and steps of a segment.
    width: usize,
    length: usize,
    /// Steps before this chunk.
    before: usize,
}

/// What a phase without taps runs over: its output is what it starts with.
const NO_TAPS: [Chunk; 1] = [Chunk { segments: Vec::new(), width: 0, length: 0, before: 0 }];

/// A planned direct convolution.
#[derive(Debug)]
pub(super) struct Correlation {
    groups: usize,
    from: Plane,
    to: Plane,
    phases: Vec<Phase>,
    /// Pixels of the output from one of a phase to the next.
    step: [usize; 2],
    /// Gathered pixels from one output pixel to the next, and the pixels of the input between two gathered ones.
    read: [usize; 2],
    sample: [usize; 2],
    /// Where gathering begins for the first output pixel, and what it needs for one: rows and columns.
    low: [isize; 2],
    reach: [usize; 2],
    /// Whether operands are rounded to bf16; pixels are then gathered, and weights packed, as pairs.
    bf16: bool,
    /// Channels of a gathered pixel: those of a group, with bf16 filled up to whole blocks.
    pixel: usize,
    /// Channels of a block.
    block: usize,
    /// Numbers from an output, and from an input channel, to the next in PyTorch's weights, and of those of a group.
    strides: [usize; 2],
    weights: usize,
}

/// The taps of one axis that a phase meets: their numbers and how many input pixels off they read, ascending.
type AxisTaps = Vec<(usize, isize)>;

impl Correlation {
    pub(super) fn forward(size: &ConvSize, bf16: bool) -> Correlation {
        let axis = |axis: usize| -> AxisTaps {
            let at = |tap| (tap * size.dilation[axis]) as isize - size.padding[axis] as isize;
            (0..size.kernel[axis]).map(|tap| (tap, at(tap))).collect()
        };
        let plane = |[h, w, channels]: [usize; 3], part| Plane { size: [h, w], channels, part };
        let from = plane(size.input, size.group_inputs());
        let to = plane(size.output, size.group_outputs());
        let phases = vec![([0; 2], to.size, [axis(0), axis(1)])];
        let strides = [size.group_inputs() * size.taps(), size.taps()];
        Correlation::plan((size, bf16), [from, to], size.stride, [1; 2], phases, strides)
    }

    pub(super) fn backward(size: &ConvSize, bf16: bool) -> Correlation {
        let plane = |[h, w, channels]: [usize; 3], part| Plane { size: [h, w], channels, part };
        let from = plane(size.output, size.group_outputs());
        let to = plane(size.input, size.group_inputs());
        let axis = |axis: usize, first: usize| -> AxisTaps {
            let stride = size.stride[axis] as isize;
            let place = |tap| (first + size.padding[axis]) as isize - (tap * size.dilation[axis]) as isize;
            let taps = (0..size.kernel[axis]).rev().filter(|tap| place(*tap) % stride == 0);
            taps.map(|tap| (tap, place(tap) / stride)).collect()
        };
        let mut phases = Vec::new();
        for row in 0..size.stride[0].min(to.size[0]) {
            for column in 0..size.stride[1].min(to.size[1]) {
                let count = |axis: usize, first: usize| (to.size[axis] - first).div_ceil(size.stride[axis]);
                let pixels = [count(0, row), count(1, column)];
                phases.push(([row, column], pixels, [axis(0, row), axis(1, column)]));
            }
        }
        let strides = [size.taps(), size.group_inputs() * size.taps()];
        Correlation::plan((size, bf16), [from, to], [1; 2], size.stride, phases, strides)
    }

    fn plan(
        (size, bf16): (&ConvSize, bool),
        [from, to]: [Plane; 2],
        stride: [usize; 2],
        step: [usize; 2],
        phases: Vec<([usize; 2], [usize; 2], [AxisTaps; 2])>,
        strides: [usize; 2],
    ) -> Correlation {
        let offsets =
            |axis: usize| phases.iter().flat_map(move |phase| phase.2[axis].iter().map(|tap| tap.1));
        let low = [0, 1].map(|axis| offsets(axis).min().unwrap_or(0));
        let mut reach = [0, 1].map(|axis| (offsets(axis).max().unwrap_or(0) - low[axis]) as usize + 1);
        let (mut read, mut sample) = (stride, [1; 2]);
        for axis in 0..2 {
            if reach[axis] == 1 {
                // Pixels between those that are needed are not gathered.
                (read[axis], sample[axis]) = (1, stride[axis]);
            }
            reach[axis] = reach[axis].max(1);
        }
        let block = if bf16 { STEP } else { from.part.min(LANES) };
        let mut planned = Correlation {
            groups: size.groups,
            from,
            to,
            phases: Vec::new(),
            step,
            read,
            sample,
            low,
            reach,
            bf16,
            pixel: if bf16 { from.part.next_multiple_of(STEP) } else { from.part },
            block,
            strides,
            weights: size.weights_len() / size.groups,
        };
        let mut weights = 0;
        for (first, pixels, [rows, columns]) in phases {
            let chunks = planned.chunks(&rows, &columns);
            let taps: Vec<usize> = rows
                .iter()
                .flat_map(|(i, _)| columns.iter().map(move |(j, _)| i * size.kernel[1] + j))
                .collect();
            let packed = planned.numbers(panels_len(to.part, planned.pixel * taps.len()));
            planned.phases.push(Phase { first, size: pixels, taps, weights, chunks });
            weights += packed;
        }
        planned
    }

    /// Numbers of memory: two of bf16 take one.
    fn numbers(&self, numbers: usize) -> usize {
        if self.bf16 { numbers / 2 } else { numbers }
    }

    /// Columns that are gathered.
    fn columns(&self) -> usize {
        self.gathered(1, self.to.size[1].div_ceil(self.step[1]))
    }

    /// Gathered pixels along an axis for some output pixels.
    fn gathered(&self, axis: usize, outputs: usize) -> usize {
        (outputs - 1) * self.read[axis] + self.reach[axis]
    }

    fn chunks(&self, rows: &AxisTaps, columns: &AxisTaps) -> Vec<Chunk> {
        let taps = rows.len() * columns.len();
        if taps == 0 {
            return Vec::new();
        }
        // Columns side by side make one segment.
        let joined = !self.bf16 && columns.windows(2).all(|two| two[1].1 == two[0].1 + 1);
        let (starts, joint) = if joined { (&columns[..1], columns.len()) } else { (&columns[..], 1) };
        let mut chunks: Vec<Chunk> = Vec::new();
        for first in (0..self.pixel).step_by(self.block) {
            let width = self.block.min(self.pixel - first);
            let mut segments = Vec::new();
            for (_, row) in rows {
                for (_, column) in starts {
                    segments.push(self.segment(first, width, row - self.low[0], column - self.low[1]));
                }
            }
            let length = width * joint;
            match chunks.last_mut() {
                Some(last)
                    if last.length == length
                        && (self.bf16
                            || (last.segments.len() + segments.len()) * length * PANEL <= RESIDENT) =>
                {
                    last.segments.extend(segments);
                }
                _ => chunks.push(Chunk { segments, width, length, before: first * taps }),
            }
        }
        chunks
    }

    fn segment(&self, first: usize, width: usize, row: isize, column: isize) -> u32 {
        let columns = self.columns();
        (row as usize * columns * self.pixel + first * columns + column as usize * width) as u32
    }

    /// How the work of `records` images is cut.
    fn partition(&self, records: usize) -> Partition {
        let (height, width) =
            (self.to.size[0].div_ceil(self.step[0]), self.to.size[1].div_ceil(self.step[1]));
        let row = self.numbers(self.columns() * self.pixel);
        let fits = (GATHERED / row.max(1)).saturating_sub(self.reach[0]) / self.read[0] + 1;
        let mut rows = height.div_ceil(height.div_ceil(fits.clamp(1, height)));
        let panels = self.to.part.div_ceil(PANEL);
        let mut panels_a_task = panels;
        let mut images = 1;
        if rows == height {
            let most = (GATHERED / (self.gathered(0, rows) * row).max(1)).max(1);
            images = most.min((records * self.groups / ENOUGH_TASKS).max(1)).min(records.max(1));
        }
        let tasks = |rows: usize, panels_a_task: usize| {
            records.div_ceil(images) * self.groups * height.div_ceil(rows) * panels.div_ceil(panels_a_task)
        };
        while tasks(rows, panels_a_task) < ENOUGH_TASKS {
            if rows * width >= 2 * FEW_PIXELS && rows > 1 {
                rows = rows.div_ceil(2);
            } else if panels_a_task > 1 {
                panels_a_task = panels_a_task.div_ceil(2);
            } else {
                break;
            }
        }
        Partition { images, rows, panels: panels_a_task, bands: height.div_ceil(rows) }
    }

    pub(super) fn packed(&self) -> usize {
        self.groups * self.group_packed()
    }

    fn group_packed(&self) -> usize {
        let len = |phase: &Phase| self.numbers(panels_len(self.to.part, self.pixel * phase.taps.len()));
        self.phases.iter().map(len).sum()
    }

    pub(super) fn pack(&self, team: &mut Team, isa: Isa, weights: &[f32], packed: &mut [f32]) {
        let (from, to) = (self.weights, self.group_packed());
        for (weights, packed) in weights.chunks_exact(from).zip(packed.chunks_exact_mut(to.max(1))) {
            for phase in self.phases.iter().filter(|phase| !phase.taps.is_empty()) {
                if self.bf16 {
                    let pairs = PackPairs {
                        outputs: self.to.part,
                        inputs: self.from.part,
                        taps: &phase.taps,
                        output_stride: self.strides[0],
                        input_stride: self.strides[1],
                    };
                    pairs.run(team, isa, weights, &mut packed[phase.weights..]);
                    continue;
                }
                let panels = PackPanels {
                    outputs: self.to.part,
                    inputs: self.from.part,
                    block: self.block,
                    taps: &phase.taps,
                    output_stride: self.strides[0],
                    input_stride: self.strides[1],
                };
                panels.run(team, weights, &mut packed[phase.weights..]);
            }
        }
    }

    pub(super) fn scratch(&self, records: usize, threads: usize) -> usize {
        threads * self.thread_scratch(records)
    }

    fn thread_scratch(&self, records: usize) -> usize {
        let cut = self.partition(records);
        (cut.images * self.image_scratch(cut.rows)).next_multiple_of(LANES)
    }

    fn image_scratch(&self, rows: usize) -> usize {
        self.numbers(self.gathered(0, rows) * self.columns() * self.pixel)
    }

    /// Parts of the images.
    fn parts(&self, records: usize) -> usize {
        let cut = self.partition(records);
        records.div_ceil(cut.images) * cut.bands
    }

    /// Runs over `records` images.
    pub(super) fn run(&self, team: &mut Team, isa: Isa, job: &Job<'_>, scratch: &mut [f32]) {
        let cut = self.partition(job.records);
        let one = self.thread_scratch(job.records);
        let scratch = Target::new(&mut scratch[..one * team.threads()]);
        let panel_tasks = self.to.part.div_ceil(PANEL).div_ceil(cut.panels);
        let parts = self.parts(job.records);
        team.tasks(parts * self.groups * panel_tasks, &|index, thread| {
            let (panels, rest) = (index % panel_tasks, index / panel_tasks);
            let (group, part) = (rest % self.groups, rest / self.groups);
            let (band, images) = (part % cut.bands, part / cut.bands * cut.images);
            let task = Task {
                isa,
                group,
                images: images..(images + cut.images).min(job.records),
                rows: band * cut.rows..(band + 1) * cut.rows,
                panels: panels * cut.panels * PANEL..((panels + 1) * cut.panels * PANEL).min(self.to.part),
                gathered: scratch.at(thread * one),
                image_scratch: self.image_scratch(cut.rows),
            };
            // SAFETY: rows, images and panels of different tasks do not overlap; neither does the scratch of threads.
            unsafe { self.task(job, &task) };
        });
    }

    /// # Safety
    /// Nobody else writes the task's part of the output, or its scratch.
    unsafe fn task(&self, job: &Job<'_>, task: &Task) {
        let image = self.from.size[0] * self.from.size[1] * self.from.channels;
        let largest = self.to.size[0].div_ceil(self.step[0]);
        let rows = task.rows.end.min(largest) - task.rows.start;
        for (i, record) in task.images.clone().enumerate() {
            let channel = task.group * self.from.part;
            let gather = Gather {
                from: job.from[record * image..][..image].as_ptr().wrapping_add(channel),
                image: self.from.size,
                pixel: self.from.channels,
                low: [self.low[0] + (task.rows.start * self.read[0] * self.sample[0]) as isize, self.low[1]],
                sample: self.sample,
                size: [self.gathered(0, rows), self.columns()],
                channels: self.from.part,
                block: self.block,
                to: task.gathered.wrapping_add(i * task.image_scratch),
                prologue: job.prologue.map(|prologue| prologue.from(channel)),
            };
            // SAFETY: the slice holds an image; a thread's scratch holds as many gathered images as a task has.
            unsafe { if self.bf16 { GatherPairs(gather).run_on(task.isa) } else { gather.run(task.isa) } };
        }
        let mut engine = self.bf16.then(|| Engine::new(task.isa));
        for panel in task.panels.clone().step_by(PANEL) {
            for phase in &self.phases {
                // SAFETY: as above.
                unsafe { self.panel(job, task, (phase, panel), engine.as_mut()) };
            }
        }
    }

    /// # Safety
    /// As [`Correlation::task`]; the input is gathered.
    unsafe fn panel(
        &self,
        job: &Job<'_>,
        task: &Task,
        (phase, panel): (&Phase, usize),
        mut engine: Option<&mut Engine>,
    ) {
        let rows = task.rows.start..task.rows.end.min(phase.size[0]);
        if rows.is_empty() {
            return;
        }
        let columns = (self.to.part - panel).min(PANEL);
        let steps = self.numbers(self.pixel * phase.taps.len());
        let channel = task.group * self.to.part + panel;
        let weights =
            &job.weights[task.group * self.group_packed() + phase.weights + panel_at(panel, steps)..];
        let start = match job.begin {
            Begin::Zero => Start::Zero,
            Begin::Bias(bias) => Start::Bias(bias[channel..][..columns].as_ptr()),
            Begin::Present => Start::Memory,
        };
        let chunks = if phase.chunks.is_empty() { &NO_TAPS[..] } else { &phase.chunks[..] };
        let line = self.to.size[1] * self.to.channels;
        let image = self.to.size[0] * line;
        let place = |record: usize| {
            let row = phase.first[0] + rows.start * self.step[0];
            job.to.at(record * image + row * line + phase.first[1] * self.to.channels + channel)
        };
        let width = super::tile::panel_width(columns);
        for (i, chunk) in chunks.iter().enumerate() {
            for (at, record) in task.images.clone().enumerate() {
                let band = RowBand {
                    lines: rows.len(),
                    rows: phase.size[1],
                    a: task.gathered.wrapping_add(at * task.image_scratch),
                    a_row: self.read[1] * chunk.width,
                    a_line: self.read[0] * self.columns() * self.pixel,
                    segments: &chunk.segments,
                    length: chunk.length,
                    b: weights[chunk.before * width..].as_ptr(),
                    columns,
                    c: place(record),
                    c_row: self.step[1] * self.to.channels,
                    c_line: self.step[0] * line,
                    start: if i == 0 { start } else { Start::Memory },
                    bounds: job.bounds.when(i + 1 == chunks.len()),
                    distant: false,
                };
                // SAFETY: the gathered rectangle holds what the rows read at every segment, the panel its steps; the
                // caller vouches for the output.
                unsafe {
                    match &mut engine {
                        Some(engine) => engine.run(band.of_pairs()),
                        None => band.run(task.isa),
                    }
                };
            }
        }
    }
}

/// Arguments of a pass.
pub(super) struct Job<'a> {
    pub(super) records: usize,
    pub(super) from: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) to: Target<'a>,
    pub(super) prologue: Option<Prologue<'a>>,
    pub(super) begin: Begin<'a>,
    pub(super) bounds: Bounds,
}

struct Partition {
    /// Images, rows of a phase, and panels of a task.
    images: usize,
    rows: usize,
    panels: usize,
    /// Tasks that share an image's rows.
    bands: usize,
}

struct Task {
    isa: Isa,
    group: usize,
    images: std::ops::Range<usize>,
    rows: std::ops::Range<usize>,
    /// Output channels of the group.
    panels: std::ops::Range<usize>,
    gathered: *mut f32,
    image_scratch: usize,
}
