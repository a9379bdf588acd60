//! Local response norm within a channel: `y[h, w, c] = x[h, w, c] / b^beta`, `b = 1 + alpha / size² · Σ x[·, ·, c]²` over
//! the `size × size` pixels around (h, w); pixels outside of the image are 0.
//!
//! x and y (H, W, C). `dx = dy b^-beta - 2 beta alpha / size² · x Σ dy x b^-(beta + 1)` over the same pixels.
//!
//! Caffe's LRN with WITHIN_CHANNEL and BigDL's SpatialWithinChannelLRN; PyTorch has none. Sums of windows are sums
//! over columns of sums over rows.

use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::{Image, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "divides by the strength of the pixels around (Caffe LRN, WITHIN_CHANNEL)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("size", "5", "rows and columns of a window: an odd number"),
    ParamDoc::new("alpha", "1", "what the mean of squares is multiplied by, at least 0"),
    ParamDoc::new("beta", "0.75", "the power, at least 0"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let size = reader.count("size", 1, Some(5));
    let alpha = reader.number("alpha", 0.0..=f64::from(f32::MAX), Some(1.0));
    let beta = reader.number("beta", 0.0..=f64::from(f32::MAX), Some(0.75)) as f32;
    if size.is_multiple_of(2) {
        reader.problem("size", format!("has to be odd, so that a window has a middle, found {size}"));
    }
    let Some(image) = input.as_image() else {
        return Err(Misfit(format!(
            "within_channel_lrn needs images (H × W × C), the layer before gives {input}"
        )));
    };
    let scale = (alpha / (size as f64 * size as f64)) as f32;
    Ok(Box::new(WithinChannelLrn { image, reach: size / 2, scale, beta, shape: input.clone() }))
}

struct WithinChannelLrn {
    image: Image,
    /// Pixels from the middle of a window to its end.
    reach: usize,
    scale: f32,
    beta: f32,
    shape: Shape,
}

/// `sums[i] = Σ from[j]` over |i - j| ≤ `reach`, of `rows` of `len` numbers.
fn window_sums(from: &[f32], rows: usize, len: usize, reach: usize, sums: &mut [f32]) {
    for (i, sums) in sums.chunks_exact_mut(len).enumerate().take(rows) {
        sums.fill(0.0);
        let window = i.saturating_sub(reach)..i.saturating_add(reach).saturating_add(1).min(rows);
        for from in from[window.start * len..window.end * len].chunks_exact(len) {
            sums.iter_mut().zip(from).for_each(|(sum, from)| *sum += from);
        }
    }
}

impl WithinChannelLrn {
    /// Sums of the windows of an image, where the numbers lie; `between` is as large.
    fn sums(&self, numbers: &mut [f32], between: &mut [f32]) {
        let Image { h, w, c } = self.image;
        window_sums(numbers, h, w * c, self.reach, between);
        for (from, to) in between.chunks_exact(w * c).zip(numbers.chunks_exact_mut(w * c)) {
            window_sums(from, w, c, self.reach, to);
        }
    }

    /// The bases of an image.
    fn bases(&self, x: &[f32], bases: &mut [f32], between: &mut [f32]) {
        bases.iter_mut().zip(x).for_each(|(square, x)| *square = x * x);
        self.sums(bases, between);
        bases.iter_mut().for_each(|base| *base = 1.0 + self.scale * *base);
    }
}

impl Layer for WithinChannelLrn {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn flops(&self) -> u64 {
        let window = self.reach.min(self.image.h) + self.reach.min(self.image.w);
        (self.shape.elements() * (2 * window + 4)) as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn scratch(&self, _: usize) -> usize {
        3 * self.shape.elements()
    }

    fn forward(&self, pass: Forward<'_>) {
        let record = self.shape.elements();
        let (bases, between) = pass.scratch.split_at_mut(record);
        for (x, y) in pass.x.chunks_exact(record).zip(pass.y.chunks_exact_mut(record)) {
            self.bases(x, bases, &mut between[..record]);
            for ((x, y), base) in x.iter().zip(y).zip(&*bases) {
                *y = x * libm::powf(*base, -self.beta);
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let Some(dx) = pass.dx else { return };
        let record = self.shape.elements();
        let (bases, rest) = pass.scratch.split_at_mut(record);
        let (products, between) = rest.split_at_mut(record);
        let factor = 2.0 * self.beta * self.scale;
        let records = pass.x.chunks_exact(record).zip(pass.dy.chunks_exact(record));
        for ((x, dy), dx) in records.zip(dx.chunks_exact_mut(record)) {
            self.bases(x, bases, &mut between[..record]);
            for (i, base) in bases.iter().enumerate() {
                dx[i] = dy[i] * libm::powf(*base, -self.beta);
                products[i] = dx[i] * x[i] / base;
            }
            self.sums(products, &mut between[..record]);
            for ((dx, x), product) in dx.iter_mut().zip(x).zip(&*products) {
                *dx -= factor * x * product;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("within_channel_lrn", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("within_channel_lrn", 2e-3);
    }
}
