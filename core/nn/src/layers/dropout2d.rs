//! Dropout of whole channels: in training each channel of a record is 0 with probability p, and the others grow by
//! 1 / (1 - p) (Tompson et al. 2015).
//!
//! x and y (…, C). `dx = dy · mask / (1 - p)`. In evaluation `y = x`. The mask is a function of (seed, step, lane,
//! layer, record, channel) alone. On sequences (T, F) it is PyTorch's `Dropout1d` and Keras' SpatialDropout1D.

use super::dropout::Mask;
use crate::layer::{Backward, Context, Forward, Layer, Misfit, Needs};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "drops whole channels at random in training (PyTorch Dropout2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("p", "0.5", "probability that a channel is dropped")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let mask = Mask::new(reader.number("p", 0.0..=1.0, Some(0.5)));
    Ok(Box::new(Dropout2d { mask, shape: input.clone() }))
}

struct Dropout2d {
    mask: Mask,
    shape: Shape,
}

impl Dropout2d {
    /// `to = from · mask / (1 - p)`, record by record.
    fn drop(&self, context: Context, from: &[f32], to: &mut [f32]) {
        let elements = self.shape.elements();
        let channels = *self.shape.dims().last().expect("a shape has dimensions");
        let records = from.chunks_exact(elements).zip(to.chunks_exact_mut(elements));
        for (i, (from, to)) in records.enumerate() {
            let random = context.key.record(context.layer, context.first_record + i);
            for first in (0..channels).step_by(4) {
                let words = random.quad(first / 4);
                let own = first..channels.min(first + words.len());
                for (from, to) in from.chunks_exact(channels).zip(to.chunks_exact_mut(channels)) {
                    for ((from, to), word) in from[own.clone()].iter().zip(&mut to[own.clone()]).zip(words) {
                        *to = self.mask.apply_one(word, *from);
                    }
                }
            }
        }
    }
}

impl Layer for Dropout2d {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        if pass.context.training {
            self.drop(pass.context, pass.x, pass.y);
        } else {
            pass.y.copy_from_slice(pass.x);
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            self.drop(pass.context, pass.dy, dx);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden::single_layer;
    use crate::random::RandomKey;
    use crate::shape::Shape;
    use ringspin_job::{Component, Value};

    #[test]
    fn drops_whole_channels_and_scales_the_rest() {
        let component = Component::new("x", "dropout2d").with("p", Value::Float(0.25));
        let layer = single_layer(&component, &Shape::image(3, 5, 101).unwrap());
        let (key, x) = (RandomKey { seed: 7, step: 3, lane: 1 }, vec![2.0; 40 * 1515]);
        let y = layer.forward_training(&[], &x, key);
        let mut dropped = 0;
        for record in y.chunks_exact(1515) {
            for c in 0..101 {
                let channel: Vec<f32> = record[c..].iter().step_by(101).copied().collect();
                assert!(channel.iter().all(|y| *y == channel[0]), "a channel is dropped as a whole");
                assert!(channel[0] == 0.0 || (channel[0] - 2.0 / 0.75).abs() < 1e-6);
                dropped += usize::from(channel[0] == 0.0);
            }
        }
        assert!((900..1120).contains(&dropped), "{dropped} of 4040");
        assert_eq!(layer.backward_training(&[], &x, &x, key).dx, y, "backward uses the mask of forward");
        assert_ne!(y[..1515], y[1515..3030], "records have masks of their own");
    }
}
