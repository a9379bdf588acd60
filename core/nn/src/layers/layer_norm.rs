//! Layer normalization (Ba, Kiros and Hinton 2016): `y = (x - mean) / √(variance + eps) · weight + bias`, mean and
//! (biased) variance over the last dimensions of a record.
//!
//! x and y of any shape; weight and bias of the shape of the dimensions that are normalized. With n the normalized x
//! and g = dy · weight: `dx = (g - mean g - n · mean(g n)) / √(variance + eps)`, `dweight = Σ dy n`, `dbias = Σ dy`.
//! Dimensions are those of records here, channels last: over the channels of an image it is PyTorch's `LayerNorm(C)`
//! on a tensor (N, H, W, C).

use crate::kernels::layer_norm::{Affine, normalize, normalize_gradient};
use crate::layer::{Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean 0 and variance 1 for each record or time step (PyTorch LayerNorm)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new(
        "normalized_shape",
        "the last dimension",
        "the last dimensions of the input, over which the mean is taken: a number or a list",
    ),
    ParamDoc::new("eps", "1e-5", "added to the variance, so that nothing is divided by 0"),
    ParamDoc::new(
        "elementwise_affine",
        "true",
        "whether the result is scaled and shifted by learned numbers",
    ),
    ParamDoc::new("bias", "true", "whether it is shifted too"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let dims = input.dims();
    let normalized = reader.counts("normalized_shape", 1, Some(dims[dims.len() - 1..].to_vec()));
    let eps = reader.number("eps", 0.0..=f64::MAX, Some(1e-5)) as f32;
    let weight = reader.flag("elementwise_affine", true);
    let bias = reader.flag("bias", true) && weight;
    if normalized.is_empty() || !dims.ends_with(&normalized) {
        return Err(Misfit(format!(
            "normalized_shape = {normalized:?} is not how the shape of the layer before, {input}, ends"
        )));
    }
    let columns = normalized.iter().product();
    Ok(Box::new(LayerNorm { normalized, columns, eps, weight, bias, shape: input.clone() }))
}

struct LayerNorm {
    normalized: Vec<usize>,
    /// Numbers that are normalized together.
    columns: usize,
    eps: f32,
    weight: bool,
    bias: bool,
    shape: Shape,
}

impl LayerNorm {
    /// What lies in the layer's parameters.
    fn split<'a>(&self, params: &'a [f32]) -> Affine<'a> {
        let (weight, bias) = params.split_at(if self.weight { self.columns } else { 0 });
        Affine { weight, bias }
    }
}

impl Layer for LayerNorm {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let array =
            |name, start| ParameterSpec::learned(name, self.normalized.clone(), Init::Constant(start));
        let weight = self.weight.then(|| array("weight", 1.0));
        weight.into_iter().chain(self.bias.then(|| array("bias", 0.0))).collect()
    }

    fn flops(&self) -> u64 {
        8 * self.shape.elements() as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn saved(&self, records: usize) -> usize {
        records * self.shape.elements() / self.columns * 2
    }

    fn forward(&self, pass: Forward<'_>) {
        let affine = self.split(pass.params);
        normalize(pass.context.isa, (pass.x, self.columns, self.eps), affine, pass.y, pass.saved);
    }

    fn backward(&self, pass: Backward<'_>) {
        let weight = self.split(pass.params).weight;
        let (dweight, dbias) = pass.dparams.unwrap_or_default().split_at_mut(weight.len());
        let x = (pass.x, self.columns, pass.saved);
        normalize_gradient(pass.context.isa, x, weight, (pass.dy, pass.dx), [dweight, dbias]);
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("layer_norm", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("layer_norm", 4e-3);
    }
}
