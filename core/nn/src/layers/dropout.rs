//! Dropout: in training each number is 0 with probability p, and the others grow by 1 / (1 - p).
//!
//! x and y of any shape. `dx = dy · mask / (1 - p)`. In evaluation `y = x`. The mask is a function of (seed,
//! step, lane, layer, record, element) alone and is computed again in backward instead of being kept.

use crate::kernels::Isa;
use crate::kernels::drop::{Share, drop, drop_in_place};
use crate::layer::{Backward, Context, Forward, Layer, Misfit, Needs};
use crate::random::RecordRandom;
use crate::registry::ParamDoc;
use crate::shape::{Layout, Shape};
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "drops numbers at random in training (PyTorch Dropout)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("p", "0.5", "probability that a number is dropped")];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let p = reader.number("p", 0.0..=1.0, Some(0.5));
    Ok(Box::new(Dropout { mask: Mask::new(p), shape: input.clone() }))
}

/// Which numbers are dropped, and what becomes of the others.
#[derive(Clone, Copy)]
pub(super) struct Mask(Share);

impl Mask {
    /// Drops with probability `p`.
    pub(super) fn new(p: f64) -> Mask {
        let factor = if p < 1.0 { (1.0 / (1.0 - p)) as f32 } else { 0.0 };
        Mask(Share { threshold: (p * 2f64.powi(32)) as u32, factor })
    }

    /// What a number with this random word becomes: 0, even where it is not a number, when it is dropped.
    pub(super) fn apply_one(self, word: u32, number: f32) -> f32 {
        let Share { threshold, factor } = self.0;
        if word < threshold || factor == 0.0 { 0.0 } else { number * factor }
    }

    /// Applies it to numbers of a record whose random words begin with the quad `first`.
    pub(super) fn apply(self, isa: Isa, random: &RecordRandom, first: usize, numbers: &mut [f32]) {
        drop_in_place(isa, (random, first), self.0, numbers);
    }

    /// `to` gets what it would make of `from`; it is applied to `also` too.
    pub(super) fn copy(
        self,
        isa: Isa,
        words: (&RecordRandom, usize),
        from_to: (&[f32], &mut [f32]),
        also: Option<&mut [f32]>,
    ) {
        drop(isa, words, self.0, from_to, also);
    }
}

struct Dropout {
    mask: Mask,
    shape: Shape,
}

impl Dropout {
    /// `to = from · mask / (1 - p)`, record by record.
    fn drop(&self, context: Context, from: &[f32], to: &mut [f32]) {
        let len = self.shape.elements();
        for (i, (from, to)) in from.chunks_exact(len).zip(to.chunks_exact_mut(len)).enumerate() {
            let random = context.key.record(context.layer, context.first_record + i);
            self.mask.copy(context.isa, (&random, 0), (from, to), None);
        }
    }
}

impl Layer for Dropout {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn wants(&self, given: Layout) -> Layout {
        given
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

    fn dropped(p: f64, key: RandomKey, records: usize) -> (Vec<f32>, Vec<f32>) {
        let component = Component::new("x", "dropout").with("p", Value::Float(p));
        let layer = single_layer(&component, &Shape::image(10, 10, 10).unwrap());
        let x = vec![2.0; 1000 * records];
        let y = layer.forward_training(&[], &x, key);
        let dx = layer.backward_training(&[], &x, &x, key).dx;
        (y, dx)
    }

    #[test]
    fn drops_the_share_that_was_asked_for_and_scales_the_rest() {
        let key = RandomKey { seed: 7, step: 3, lane: 1 };
        let (y, dx) = dropped(0.25, key, 20);
        let zeros = y.iter().filter(|y| **y == 0.0).count();
        assert!((4700..5300).contains(&zeros), "{zeros} of 20000");
        assert!(y.iter().all(|y| *y == 0.0 || (*y - 2.0 / 0.75).abs() < 1e-6));
        assert_eq!(y, dx, "backward uses the mask of forward");
        assert!(dropped(1.0, key, 1).0.iter().all(|y| *y == 0.0));
        assert!(dropped(0.0, key, 1).0.iter().all(|y| *y == 2.0));
    }

    #[test]
    fn masks_differ_between_steps_lanes_and_records() {
        let key = RandomKey { seed: 7, step: 3, lane: 1 };
        let (y, _) = dropped(0.5, key, 2);
        assert_ne!(y[..1000], y[1000..]);
        assert_ne!(dropped(0.5, RandomKey { step: 4, ..key }, 2).0, y);
        assert_ne!(dropped(0.5, RandomKey { lane: 0, ..key }, 2).0, y);
        assert_eq!(dropped(0.5, key, 2).0, y);
    }
}
