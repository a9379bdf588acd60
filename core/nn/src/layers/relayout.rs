//! From channels last to planar and back. Not a layer that users ask for: `Model::build` puts it where a
//! kernel wants the other order.

use crate::layer::{Backward, Forward, Layer, Needs};
use crate::shape::{Image, Layout, Shape};

/// Rewrites an image in the other layout.
pub(crate) struct Relayout {
    shape: Shape,
    image: Image,
    from: Layout,
}

impl Relayout {
    /// From `from` to the other layout.
    pub(crate) fn new(image: Image, shape: Shape, from: Layout) -> Self {
        Relayout { shape, image, from }
    }
}

/// `[pixel][channel]` becomes `[channel][pixel]`, record by record.
pub(crate) fn to_planar(from: &[f32], to: &mut [f32], pixels: usize, channels: usize) {
    let record = pixels * channels;
    for (from, to) in from.chunks_exact(record).zip(to.chunks_exact_mut(record)) {
        for (c, plane) in to.chunks_exact_mut(pixels).enumerate() {
            let channel = from[c..].iter().step_by(channels);
            plane.iter_mut().zip(channel).for_each(|(to, from)| *to = *from);
        }
    }
}

/// `[channel][pixel]` becomes `[pixel][channel]`, record by record.
pub(crate) fn to_channels_last(from: &[f32], to: &mut [f32], pixels: usize, channels: usize) {
    let record = pixels * channels;
    for (from, to) in from.chunks_exact(record).zip(to.chunks_exact_mut(record)) {
        for (c, plane) in from.chunks_exact(pixels).enumerate() {
            let channel = to[c..].iter_mut().step_by(channels);
            channel.zip(plane).for_each(|(to, from)| *to = *from);
        }
    }
}

impl Layer for Relayout {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn wants(&self, _: Layout) -> Layout {
        self.from
    }

    fn arrange(&mut self, input: Layout) -> Layout {
        match input {
            Layout::ChannelsLast => Layout::Planar,
            Layout::Planar => Layout::ChannelsLast,
        }
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        match self.from {
            Layout::ChannelsLast => to_planar(pass.x, pass.y, self.image.pixels(), self.image.c),
            Layout::Planar => to_channels_last(pass.x, pass.y, self.image.pixels(), self.image.c),
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        match self.from {
            Layout::ChannelsLast => to_channels_last(pass.dy, dx, self.image.pixels(), self.image.c),
            Layout::Planar => to_planar(pass.dy, dx, self.image.pixels(), self.image.c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_is_nothing() {
        let x: Vec<f32> = (0..2 * 3 * 4).map(|i| i as f32).collect();
        let (mut planar, mut back) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        to_planar(&x, &mut planar, 3, 4);
        assert_eq!(planar[..6], [0.0, 4.0, 8.0, 1.0, 5.0, 9.0]);
        to_channels_last(&planar, &mut back, 3, 4);
        assert_eq!(back, x);
    }
}
