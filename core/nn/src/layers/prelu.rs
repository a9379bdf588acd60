//! Rectifier that leaks by a learned slope: `y = x` above 0, `weight · x` below (He et al. 2015).
//!
//! x and y (…, C), weight [1] or [C]. `dx = dy` above 0, `weight · dy` below; `dweight = Σ dy x` over the numbers
//! that are not above 0.

use crate::kernels::lanes::LANES;
use crate::layer::{Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "x above 0, a learned multiple of it below (PyTorch PReLU)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("num_parameters", "1", "learned slopes: one, or one a channel"),
    ParamDoc::new("init", "0.25", "what they start with"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let slopes = reader.count("num_parameters", 1, Some(1));
    let init = reader.number("init", f64::from(f32::MIN)..=f64::from(f32::MAX), Some(0.25)) as f32;
    let channels = *input.dims().last().expect("a shape has dimensions");
    if slopes != 1 && slopes != channels {
        return Err(Misfit(format!(
            "num_parameters = {slopes}, but the layer before gives {input}: it can be 1 or {channels}"
        )));
    }
    Ok(Box::new(PRelu { slopes, init, shape: input.clone() }))
}

struct PRelu {
    slopes: usize,
    init: f32,
    shape: Shape,
}

/// The part of a number that is not above 0, for which the slope counts.
fn negative(x: f32) -> f32 {
    if x > 0.0 { 0.0 } else { x }
}

impl PRelu {
    /// `dweight` of a single slope: sixteen sums side by side.
    fn single(x: &[f32], dy: &[f32]) -> f32 {
        let mut sums = [0.0f32; LANES];
        for (x, dy) in x.chunks(LANES).zip(dy.chunks(LANES)) {
            for ((sum, x), dy) in sums.iter_mut().zip(x).zip(dy) {
                *sum += negative(*x) * dy;
            }
        }
        sums.iter().sum()
    }
}

impl Layer for PRelu {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        vec![ParameterSpec::learned("weight", vec![self.slopes], Init::Constant(self.init))]
    }

    fn flops(&self) -> u64 {
        self.shape.elements() as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn forward(&self, pass: Forward<'_>) {
        // A row has as many numbers as there are slopes; a single one is repeated.
        let row = if self.slopes == 1 { pass.x.len() } else { self.slopes };
        for (x, y) in pass.x.chunks_exact(row).zip(pass.y.chunks_exact_mut(row)) {
            for ((x, y), slope) in x.iter().zip(y).zip(pass.params.iter().cycle()) {
                *y = if *x > 0.0 { *x } else { slope * x };
            }
        }
    }

    fn backward(&self, pass: Backward<'_>) {
        let row = if self.slopes == 1 { pass.x.len() } else { self.slopes };
        if let Some(dx) = pass.dx {
            let rows = pass.x.chunks_exact(row).zip(pass.dy.chunks_exact(row));
            for ((x, dy), dx) in rows.zip(dx.chunks_exact_mut(row)) {
                for (((x, dy), dx), slope) in x.iter().zip(dy).zip(dx).zip(pass.params.iter().cycle()) {
                    *dx = if *x > 0.0 { *dy } else { slope * dy };
                }
            }
        }
        match pass.dparams {
            Some([dweight]) => *dweight += PRelu::single(pass.x, pass.dy),
            Some(dweights) => {
                for (x, dy) in pass.x.chunks_exact(row).zip(pass.dy.chunks_exact(row)) {
                    for ((dweight, x), dy) in dweights.iter_mut().zip(x).zip(dy) {
                        *dweight += negative(*x) * dy;
                    }
                }
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("prelu", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("prelu", 2e-3);
    }
}
