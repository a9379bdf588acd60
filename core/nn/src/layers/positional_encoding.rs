//! Positional encoding: adds to each step of a sequence what tells its place, `y[t] = x[t] + P[t]`; x, y and P (T, F).
//!
//! Sinusoidal (Vaswani et al. 2017): `P[t, 2i] = sin(t / 10000^(2i / F))`, `P[t, 2i + 1]` the cosine of the same.
//! Learned: P is the parameter `weight`, as of an embedding of the numbers 0 to T - 1. `dx = dy`, `dP = Σ dy` over the
//! records.

use crate::kernels::rows::{add_row, sum_rows};
use crate::layer::{Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec};
use crate::layers::dims::sequence;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "adds to each step of a sequence what tells its place";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new(
        "kind",
        "\"sinusoidal\"",
        "\"sinusoidal\": fixed waves; \"learned\": a row of numbers a step",
    ),
    ParamDoc::new("std", "1", "standard deviation of learned numbers at the start"),
];

/// Base of the wave lengths.
const BASE: f64 = 10_000.0;

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let learned = reader.choice("kind", &["sinusoidal", "learned"], Some("sinusoidal")) == "learned";
    let std = reader.number("std", 0.0..=f64::from(f32::MAX), Some(1.0)) as f32;
    let [steps, features] = sequence("positional_encoding", input)?;
    let positions =
        if learned { Positions::Learned { std } } else { Positions::Fixed(waves(steps, features)) };
    Ok(Box::new(PositionalEncoding { positions, shape: input.clone() }))
}

/// Sines and cosines. The functions are libm's, the same on every node of a cluster.
fn waves(steps: usize, features: usize) -> Vec<f32> {
    let wave = |i: usize| {
        let (t, j) = (i / features, i % features);
        let angle = t as f64 / libm::pow(BASE, (j - j % 2) as f64 / features as f64);
        if j % 2 == 0 { libm::sin(angle) as f32 } else { libm::cos(angle) as f32 }
    };
    (0..steps * features).map(wave).collect()
}

enum Positions {
    Fixed(Vec<f32>),
    Learned { std: f32 },
}

struct PositionalEncoding {
    positions: Positions,
    shape: Shape,
}

impl Layer for PositionalEncoding {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        match self.positions {
            Positions::Fixed(_) => Vec::new(),
            Positions::Learned { std } => {
                let (shape, init) = (self.shape.dims().to_vec(), Init::Normal { std });
                vec![ParameterSpec::learned("weight", shape, init)]
            }
        }
    }

    fn flops(&self) -> u64 {
        self.shape.elements() as u64
    }

    fn passes(&self) -> Option<usize> {
        Some(0)
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        pass.y.copy_from_slice(pass.x);
        match &self.positions {
            Positions::Fixed(waves) => add_row(pass.y, waves),
            Positions::Learned { .. } => add_row(pass.y, pass.params),
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.copy_from_slice(pass.dy);
        }
        if let Some(dparams) = pass.dparams.filter(|dparams| !dparams.is_empty()) {
            sum_rows(pass.context.isa, (pass.dy, self.shape.elements()), dparams);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("positional_encoding", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("positional_encoding", 2e-3);
    }
}
