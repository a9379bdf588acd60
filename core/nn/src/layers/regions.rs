//! The windows of adaptive pools: every output sees its share of the image, as PyTorch divides it.

use super::dims::sequence;
use super::max_pool2d::as_planes;
use crate::layer::Misfit;
use crate::shape::{Image, Layout, Shape};
use std::ops::Range;

/// How an image is divided into `output.h × output.w` regions: that at i along a side of n, of m outputs, is
/// `⌊i n / m⌋ .. ⌈(i + 1) n / m⌉`. Neighbours may overlap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Regions {
    pub(super) input: Image,
    pub(super) output: Image,
    /// Whether the record is a sequence, as an image of one row.
    sequence: bool,
    /// Of input and output.
    pub(super) layout: Layout,
}

impl Regions {
    /// Divides an image of `shape` into rows and columns.
    pub(super) fn new(layer: &str, shape: &Shape, [h, w]: [usize; 2]) -> Result<Self, Misfit> {
        let Some(input) = shape.as_image() else {
            return Err(Misfit(format!("{layer} needs images (H × W × C), the layer before gives {shape}")));
        };
        let output = Image { h, w, c: input.c };
        Ok(Regions { input, output, sequence: false, layout: Layout::ChannelsLast })
    }

    /// All of the time of a sequence of `shape` as one region.
    pub(super) fn of_time(layer: &str, shape: &Shape) -> Result<Self, Misfit> {
        let [time, features] = sequence(layer, shape)?;
        let input = Image { h: 1, w: time, c: features };
        let output = Image { w: 1, ..input };
        Ok(Regions { input, output, sequence: true, layout: Layout::ChannelsLast })
    }

    /// As [`crate::Layer::wants`]: images in any layout, sequences have only one.
    pub(super) fn wants(&self, given: Layout) -> Layout {
        if self.sequence { Layout::ChannelsLast } else { given }
    }

    /// Numbers that are read, over all outputs of a record.
    pub(super) fn reads(&self) -> u64 {
        let side = |n: usize, m: usize| (0..m).map(|i| range(i, n, m).len()).sum::<usize>();
        (side(self.input.h, self.output.h) * side(self.input.w, self.output.w) * self.input.c) as u64
    }

    /// Images that are pooled: records, or planes of one channel.
    pub(super) fn images(&self) -> (Image, Image) {
        (as_planes(self.layout, 1, self.input).1, as_planes(self.layout, 1, self.output).1)
    }

    /// Calls `with(first numbers of the pixels, first number of the output)` for every output of an image of
    /// [`Regions::images`], in reading order.
    pub(super) fn each(&self, mut with: impl FnMut(Pixels, usize)) {
        let (input, output) = self.images();
        for i in 0..output.pixels() {
            let rows = range(i / output.w, input.h, output.h);
            let columns = range(i % output.w, input.w, output.w);
            with(Pixels { rows, columns, input }, i * output.c);
        }
    }
}

fn range(i: usize, n: usize, m: usize) -> Range<usize> {
    i * n / m..((i + 1) * n).div_ceil(m)
}

/// The pixels of a region.
pub(super) struct Pixels {
    rows: Range<usize>,
    columns: Range<usize>,
    input: Image,
}

impl Pixels {
    /// How many.
    pub(super) fn count(&self) -> usize {
        self.rows.len() * self.columns.len()
    }

    /// Where the channels of each lie, in reading order.
    pub(super) fn channels(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (columns, Image { w, c, .. }) = (self.columns.clone(), self.input);
        self.rows.clone().flat_map(move |row| {
            columns.clone().map(move |column| (row * w + column) * c..(row * w + column + 1) * c)
        })
    }
}
