//! Group norm: the channels of each group are moved to mean 0 and variance 1 over the group and all positions of the
//! record, then to a learned mean and deviation: `y = (x - μ) / √(σ² + eps) · weight + bias` (Wu and He 2018).
//!
//! x and y (…, C), weight and bias [C]. With n numbers in a group and x̂ the normed input, `dweight = Σ dy x̂`,
//! `db = Σ dy`, `dx = (dy weight - mean(dy weight) - x̂ mean(dy weight x̂)) / √(σ² + eps)`, means over the group.
//!
//! As many groups as channels is PyTorch's InstanceNorm with `affine`, one group its LayerNorm over the whole record
//! with a weight a channel.

use crate::kernels::Bounds;
use crate::kernels::batch_norm::{
    Affine, Line, Normed, Passes, apply, backward_apply, backward_sums, moments,
};
use crate::layer::{Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec};
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;
use std::ops::Range;

/// One line for the documentation.
pub(crate) const DOC: &str = "norms groups of channels within each record (PyTorch GroupNorm)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("num_groups", "required", "groups that channels are divided into"),
    ParamDoc::new("num_channels", "from the input", "channels, checked when given"),
    ParamDoc::new("eps", "1e-5", "added to the variance, so that nothing is divided by 0"),
    ParamDoc::new("affine", "true", "whether each channel has a learned factor and offset"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let groups = reader.count("num_groups", 1, None);
    let expected = reader.has("num_channels").then(|| reader.count("num_channels", 1, None));
    let eps = reader.number("eps", 0.0..=f64::MAX, Some(1e-5));
    let affine = reader.flag("affine", true);
    let channels = *input.dims().last().expect("a shape has dimensions");
    if let Some(expected) = expected.filter(|expected| *expected != channels) {
        return Err(Misfit(format!("num_channels = {expected}, but the layer before gives {input}")));
    }
    if !channels.is_multiple_of(groups) {
        return Err(Misfit(format!(
            "num_groups = {groups} does not divide the channels of {input}, which the layer before gives"
        )));
    }
    Ok(Box::new(GroupNorm { shape: input.clone(), channels, groups, eps, affine }))
}

struct GroupNorm {
    shape: Shape,
    channels: usize,
    groups: usize,
    eps: f64,
    affine: bool,
}

impl GroupNorm {
    fn rows(&self) -> usize {
        self.shape.elements() / self.channels
    }

    /// Channels of each group.
    fn members(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let each = self.channels / self.groups;
        (0..self.groups).map(move |group| group * each..(group + 1) * each)
    }

    fn weight(&self, params: &[f32], channel: usize) -> f64 {
        if self.affine { f64::from(params[channel]) } else { 1.0 }
    }

    fn bias(&self, params: &[f32], channel: usize) -> f64 {
        if self.affine { f64::from(params[self.channels + channel]) } else { 0.0 }
    }

    /// Mean and variance of a group of a record, from each channel's sum and squares around its first number
    /// (Chan, Golub and LeVeque 1983).
    fn moments(&self, group: Range<usize>, x: &[f32], sums: &[f32], squares: &[f32]) -> (f64, f64) {
        let rows = self.rows() as f64;
        let (mut mean, mut spread, mut count) = (0.0f64, 0.0f64, 0.0f64);
        for channel in group {
            let (sum, square) = (f64::from(sums[channel]), f64::from(squares[channel]));
            let own = f64::from(x[channel]) + sum / rows;
            let difference = own - mean;
            spread += square - sum * sum / rows + difference * difference * count * rows / (count + rows);
            count += rows;
            mean += difference * rows / count;
        }
        (mean, spread.max(0.0) / count)
    }
}

impl Layer for GroupNorm {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        if !self.affine {
            return Vec::new();
        }
        let of = |name, start| ParameterSpec::learned(name, vec![self.channels], Init::Constant(start));
        vec![of("weight", 1.0), of("bias", 0.0)]
    }

    fn flops(&self) -> u64 {
        8 * self.shape.elements() as u64
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    /// Mean and 1 / deviation of each channel.
    fn saved(&self, records: usize) -> usize {
        2 * records * self.channels
    }

    fn scratch(&self, _: usize) -> usize {
        5 * self.channels
    }

    fn forward(&self, pass: Forward<'_>) {
        let (isa, c, record) = (pass.context.isa, self.channels, self.shape.elements());
        let (sums, squares) = pass.scratch[..2 * c].split_at_mut(c);
        let records = pass.x.chunks_exact(record).zip(pass.y.chunks_exact_mut(record));
        for ((x, y), saved) in records.zip(pass.saved.chunks_exact_mut(2 * c)) {
            let (means, inverses) = saved.split_at_mut(c);
            moments(isa, x, sums, squares);
            for group in self.members() {
                let (mean, variance) = self.moments(group.clone(), x, sums, squares);
                let inverse = 1.0 / (variance + self.eps).sqrt();
                for channel in group {
                    means[channel] = mean as f32;
                    inverses[channel] = inverse as f32;
                    // From here on the sums hold factors and the squares offsets.
                    let factor = self.weight(pass.params, channel) * inverse;
                    sums[channel] = factor as f32;
                    squares[channel] = (self.bias(pass.params, channel) - mean * factor) as f32;
                }
            }
            apply(isa, Affine { factor: sums, offset: squares, other: None, bounds: Bounds::NONE }, x, y);
        }
    }

    fn backward(&self, mut pass: Backward<'_>) {
        let (isa, c, record) = (pass.context.isa, self.channels, self.shape.elements());
        let [sums, products, factor, slope, offset] = pass
            .scratch
            .get_disjoint_mut([0..c, c..2 * c, 2 * c..3 * c, 3 * c..4 * c, 4 * c..5 * c])
            .expect("five parts");
        let count = (self.rows() * (c / self.groups)) as f64;
        for i in 0..pass.records {
            let own = i * record..(i + 1) * record;
            let (mean, inverse) = pass.saved[2 * i * c..2 * (i + 1) * c].split_at(c);
            let (x, dy) = (&pass.x[own.clone()], &mut pass.dy[own.clone()]);
            let normed = Normed { x, mean, inverse, passes: Passes::All };
            backward_sums(isa, normed, dy, false, (sums, products));
            if let Some(dparams) = pass.dparams.as_deref_mut().filter(|_| self.affine) {
                let (dweight, dbias) = dparams.split_at_mut(c);
                dweight.iter_mut().zip(&*products).for_each(|(to, from)| *to += from);
                dbias.iter_mut().zip(&*sums).for_each(|(to, from)| *to += from);
            }
            let Some(dx) = pass.dx.as_deref_mut() else { continue };
            for group in self.members() {
                let mean_of = |of: &[f32]| -> f64 {
                    let weighed = |channel: usize| self.weight(pass.params, channel) * f64::from(of[channel]);
                    group.clone().map(weighed).sum::<f64>() / count
                };
                let (shift, tilt) = (mean_of(sums), mean_of(products));
                for channel in group.clone() {
                    let inverse = f64::from(inverse[channel]);
                    factor[channel] = (self.weight(pass.params, channel) * inverse) as f32;
                    slope[channel] = (-inverse * inverse * tilt) as f32;
                    offset[channel] = (-inverse * shift) as f32;
                }
            }
            let line = Line { factor, slope, offset };
            backward_apply(isa, normed, line, dy, &mut dx[own], pass.add);
        }
    }

    fn adds(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("group_norm", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("group_norm", 4e-3);
    }
}
