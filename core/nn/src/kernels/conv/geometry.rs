//! Which pixels the sums of a forward or backward-data pass read, for the kernels that copy a rectangle of the input
//! with its padding first.
//!
//! Backward-data is a correlation like forward, with dy as the input. A pixel of dx whose place, counted with padding,
//! is `r` modulo the stride meets only the taps with `tap · dilation ≡ r`; each such phase is a correlation of its own
//! with stride 1 that writes every stride-th pixel.

use super::size::ConvSize;

/// The taps of one axis that a phase meets: their numbers and how many input pixels off they read, ascending.
pub(super) type AxisTaps = Vec<(usize, isize)>;

/// Output pixels that meet the same taps.
#[derive(Debug)]
pub(super) struct Phase {
    /// Its first pixel in the output, and its rows and columns.
    pub(super) first: [usize; 2],
    pub(super) size: [usize; 2],
    /// Those of rows and of columns.
    pub(super) taps: [AxisTaps; 2],
}

/// Pixels of one pass; rows first everywhere.
#[derive(Debug)]
pub(super) struct Geometry {
    /// Sizes of the image that is read, and of the one that is written.
    pub(super) from: [usize; 2],
    pub(super) to: [usize; 2],
    pub(super) phases: Vec<Phase>,
    /// Pixels of the output from one of a phase to the next.
    pub(super) step: [usize; 2],
    /// Gathered pixels from one output pixel of a phase to the next, and the pixels of the input between two gathered
    /// ones.
    pub(super) read: [usize; 2],
    pub(super) sample: [usize; 2],
    /// Where gathering begins for the first output pixel, and what it needs for one.
    pub(super) low: [isize; 2],
    reach: [usize; 2],
}

impl Geometry {
    pub(super) fn forward(size: &ConvSize) -> Geometry {
        let axis = |axis: usize| -> AxisTaps {
            let at = |tap| (tap * size.dilation[axis]) as isize - size.padding[axis] as isize;
            (0..size.kernel[axis]).map(|tap| (tap, at(tap))).collect()
        };
        let [from, to] = [size.input, size.output].map(|[h, w, _]| [h, w]);
        let phases = vec![Phase { first: [0; 2], size: to, taps: [axis(0), axis(1)] }];
        Geometry::new([from, to], size.stride, [1; 2], phases)
    }

    pub(super) fn backward(size: &ConvSize) -> Geometry {
        let [from, to] = [size.output, size.input].map(|[h, w, _]| [h, w]);
        let axis = |axis: usize, first: usize| -> AxisTaps {
            let stride = size.stride[axis] as isize;
            let place = |tap| (first + size.padding[axis]) as isize - (tap * size.dilation[axis]) as isize;
            let taps = (0..size.kernel[axis]).rev().filter(|tap| place(*tap) % stride == 0);
            taps.map(|tap| (tap, place(tap) / stride)).collect()
        };
        let mut phases = Vec::new();
        for row in 0..size.stride[0].min(to[0]) {
            for column in 0..size.stride[1].min(to[1]) {
                let count = |axis: usize, first: usize| (to[axis] - first).div_ceil(size.stride[axis]);
                phases.push(Phase {
                    first: [row, column],
                    size: [count(0, row), count(1, column)],
                    taps: [axis(0, row), axis(1, column)],
                });
            }
        }
        Geometry::new([from, to], [1; 2], size.stride, phases)
    }

    fn new(
        [from, to]: [[usize; 2]; 2],
        stride: [usize; 2],
        step: [usize; 2],
        phases: Vec<Phase>,
    ) -> Geometry {
        let offsets =
            |axis: usize| phases.iter().flat_map(move |phase| phase.taps[axis].iter().map(|tap| tap.1));
        let low = [0, 1].map(|axis| offsets(axis).min().unwrap_or(0));
        let reach = [0, 1].map(|axis| (offsets(axis).max().unwrap_or(0) - low[axis]) as usize + 1);
        let (mut read, mut sample) = (stride, [1; 2]);
        for axis in 0..2 {
            if reach[axis] == 1 {
                // Pixels between those that are needed are not gathered.
                (read[axis], sample[axis]) = (1, stride[axis]);
            }
        }
        Geometry { from, to, phases, step, read, sample, low, reach }
    }

    /// Rows and columns of the largest phase.
    pub(super) fn largest(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.to[axis].div_ceil(self.step[axis]))
    }

    /// Gathered pixels along an axis for some output pixels of a phase.
    pub(super) fn gathered(&self, axis: usize, outputs: usize) -> usize {
        (outputs - 1) * self.read[axis] + self.reach[axis]
    }

    /// Columns that are gathered.
    pub(super) fn columns(&self) -> usize {
        self.gathered(1, self.largest()[1])
    }

    /// Where gathering begins for output rows of a phase from `row` on.
    pub(super) fn low_at(&self, row: usize) -> [isize; 2] {
        [self.low[0] + (row * self.read[0] * self.sample[0]) as isize, self.low[1]]
    }
}
