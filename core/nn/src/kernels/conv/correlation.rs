//! Direct convolution, forward and backward-data: one correlation, or one for each phase of a stride.
//!
//! A task takes some rows of an image, or some images, and some panels of output channels. It copies the input it
//! needs with its padding ([`Gather`], a second-level cache's worth), then runs [`RowBand`]s over it: a panel of
//! weights stays in the first-level cache while the rows pass.

use super::bf16::{GatherPairs, PackPairs};
use super::gather::{Gather, Prologue};
use super::geometry::{self, AxisTaps, Geometry};
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

/// How the output pixels of a phase of the geometry are computed.
#[derive(Debug)]
struct Phase {
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
    geometry: Geometry,
    /// Channels of all groups that are read and written, and those of one.
    channels: [usize; 2],
    parts: [usize; 2],
    phases: Vec<Phase>,
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

impl Correlation {
    pub(super) fn forward(size: &ConvSize, bf16: bool) -> Correlation {
        let strides = [size.group_inputs() * size.taps(), size.taps()];
        let channels = [size.input[2], size.output[2]];
        Correlation::plan((size, bf16), Geometry::forward(size), channels, strides)
    }

    pub(super) fn backward(size: &ConvSize, bf16: bool) -> Correlation {
        let strides = [size.taps(), size.group_inputs() * size.taps()];
        let channels = [size.output[2], size.input[2]];
        Correlation::plan((size, bf16), Geometry::backward(size), channels, strides)
    }

    fn plan(
        (size, bf16): (&ConvSize, bool),
        geometry: Geometry,
        channels: [usize; 2],
        strides: [usize; 2],
    ) -> Correlation {
        let parts = channels.map(|channels| channels / size.groups);
        let mut planned = Correlation {
            groups: size.groups,
            geometry,
            channels,
            parts,
            phases: Vec::new(),
            bf16,
            pixel: if bf16 { parts[0].next_multiple_of(STEP) } else { parts[0] },
            block: if bf16 { STEP } else { parts[0].min(LANES) },
            strides,
            weights: size.weights_len() / size.groups,
        };
        let mut weights = 0;
        let phase = |phase: &geometry::Phase| {
            let [rows, columns] = &phase.taps;
            let chunks = planned.chunks(rows, columns);
            let taps: Vec<usize> = rows
                .iter()
                .flat_map(|(i, _)| columns.iter().map(move |(j, _)| i * size.kernel[1] + j))
                .collect();
            let at = weights;
            weights += planned.numbers(panels_len(parts[1], planned.pixel * taps.len()));
            Phase { taps, weights: at, chunks }
        };
        planned.phases = planned.geometry.phases.iter().map(phase).collect();
        planned
    }

    /// Numbers of memory: two of bf16 take one.
    fn numbers(&self, numbers: usize) -> usize {
        if self.bf16 { numbers / 2 } else { numbers }
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
                    segments.push(self.segment(
                        first,
                        width,
                        row - self.geometry.low[0],
                        column - self.geometry.low[1],
                    ));
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
        let columns = self.geometry.columns();
        (row as usize * columns * self.pixel + first * columns + column as usize * width) as u32
    }

    /// How the work of `records` images is cut.
    fn partition(&self, records: usize) -> Partition {
        let [height, width] = self.geometry.largest();
        let row = self.numbers(self.geometry.columns() * self.pixel);
        let fits =
            (GATHERED / row.max(1)).saturating_sub(self.geometry.gathered(0, 1)) / self.geometry.read[0] + 1;
        let mut rows = height.div_ceil(height.div_ceil(fits.clamp(1, height)));
        let panels = self.parts[1].div_ceil(PANEL);
        let mut panels_a_task = panels;
        let mut images = 1;
        if rows == height {
            let most = (GATHERED / (self.geometry.gathered(0, rows) * row).max(1)).max(1);
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
        let len = |phase: &Phase| self.numbers(panels_len(self.parts[1], self.pixel * phase.taps.len()));
        self.phases.iter().map(len).sum()
    }

    pub(super) fn pack(&self, team: &mut Team, isa: Isa, weights: &[f32], packed: &mut [f32]) {
        let (from, to) = (self.weights, self.group_packed());
        for (weights, packed) in weights.chunks_exact(from).zip(packed.chunks_exact_mut(to.max(1))) {
            for phase in self.phases.iter().filter(|phase| !phase.taps.is_empty()) {
                if self.bf16 {
                    let pairs = PackPairs {
                        outputs: self.parts[1],
                        inputs: self.parts[0],
                        taps: &phase.taps,
                        output_stride: self.strides[0],
                        input_stride: self.strides[1],
                    };
                    pairs.run(team, isa, weights, &mut packed[phase.weights..]);
                    continue;
                }
                let panels = PackPanels {
                    outputs: self.parts[1],
                    inputs: self.parts[0],
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
        self.numbers(self.geometry.gathered(0, rows) * self.geometry.columns() * self.pixel)
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
        let panel_tasks = self.parts[1].div_ceil(PANEL).div_ceil(cut.panels);
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
                panels: panels * cut.panels * PANEL..((panels + 1) * cut.panels * PANEL).min(self.parts[1]),
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
        let image = self.geometry.from[0] * self.geometry.from[1] * self.channels[0];
        let rows = task.rows.end.min(self.geometry.largest()[0]) - task.rows.start;
        for (i, record) in task.images.clone().enumerate() {
            let channel = task.group * self.parts[0];
            let gather = Gather {
                from: job.from[record * image..][..image].as_ptr().wrapping_add(channel),
                image: self.geometry.from,
                pixel: self.channels[0],
                low: self.geometry.low_at(task.rows.start),
                sample: self.geometry.sample,
                size: [self.geometry.gathered(0, rows), self.geometry.columns()],
                channels: self.parts[0],
                block: self.block,
                to: task.gathered.wrapping_add(i * task.image_scratch),
                prologue: job.prologue.map(|prologue| prologue.from(channel)),
            };
            // SAFETY: the slice holds an image; a thread's scratch holds as many gathered images as a task has.
            unsafe { if self.bf16 { GatherPairs(gather).run_on(task.isa) } else { gather.run(task.isa) } };
        }
        let mut engine = self.bf16.then(|| Engine::new(task.isa));
        for panel in task.panels.clone().step_by(PANEL) {
            for phase in 0..self.phases.len() {
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
        (phase, panel): (usize, usize),
        mut engine: Option<&mut Engine>,
    ) {
        let (pixels, phase) = (&self.geometry.phases[phase], &self.phases[phase]);
        let rows = task.rows.start..task.rows.end.min(pixels.size[0]);
        if rows.is_empty() {
            return;
        }
        let columns = (self.parts[1] - panel).min(PANEL);
        let steps = self.numbers(self.pixel * phase.taps.len());
        let channel = task.group * self.parts[1] + panel;
        let weights =
            &job.weights[task.group * self.group_packed() + phase.weights + panel_at(panel, steps)..];
        let start = match job.begin {
            Begin::Zero => Start::Zero,
            Begin::Bias(bias) => Start::Bias(bias[channel..][..columns].as_ptr()),
            Begin::Present => Start::Memory,
        };
        let chunks = if phase.chunks.is_empty() { &NO_TAPS[..] } else { &phase.chunks[..] };
        let line = self.geometry.to[1] * self.channels[1];
        let image = self.geometry.to[0] * line;
        let place = |record: usize| {
            let row = pixels.first[0] + rows.start * self.geometry.step[0];
            job.to.at(record * image + row * line + pixels.first[1] * self.channels[1] + channel)
        };
        let width = super::tile::panel_width(columns);
        for (i, chunk) in chunks.iter().enumerate() {
            for (at, record) in task.images.clone().enumerate() {
                let band = RowBand {
                    lines: rows.len(),
                    rows: pixels.size[1],
                    a: task.gathered.wrapping_add(at * task.image_scratch),
                    a_row: self.geometry.read[1] * chunk.width,
                    a_line: self.geometry.read[0] * self.geometry.columns() * self.pixel,
                    segments: &chunk.segments,
                    length: chunk.length,
                    b: weights[chunk.before * width..].as_ptr(),
                    columns,
                    c: place(record),
                    c_row: self.geometry.step[1] * self.channels[1],
                    c_line: self.geometry.step[0] * line,
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
