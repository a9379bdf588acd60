//! Convolution of a model that does not learn any more: its weights are packed once, and the batch norm behind it is
//! in them: `y = conv(x, W · f) + b · f + o`, with the norm's factor f and offset o of each filter, then the sum and the
//! activation that the norm or the convolution had taken in.
//!
//! x (H, W, C), y (H', W', K); parameters are the convolution's, then the norm's. A depthwise convolution may have taken in
//! the one of single pixels before it, whose parameters come first. No backward.

use super::batch_norm::BatchNorm;
use super::conv2d::Conv;
use crate::arena::{ALIGN, Shared};
use crate::kernels::batch_norm::{Affine, apply};
use crate::kernels::conv::{self, Begin, Choice, ExpandedArgs, ForwardArgs};
use crate::kernels::{Bounds, Isa};
use crate::layer::{Backward, Forward, Layer, Needs, Wide};
use crate::shape::Shape;
use crate::team::Team;
use std::sync::Arc;

/// Numbers of the other value that a task copies.
const COPIED: usize = 64 * 1024;

#[derive(Clone)]
pub(crate) struct Prepared {
    conv: Conv,
    shape: Shape,
    forward: Arc<conv::Forward>,
    norm: Option<BatchNorm>,
    /// What is left of the results.
    bounds: Bounds,
    /// The convolution before it, and how many parameters that has.
    expansion: Option<(Arc<Prepared>, usize)>,
}

impl Prepared {
    pub(super) fn new(conv: Conv, shape: Shape, choice: Choice, bounds: Bounds) -> Self {
        Prepared {
            conv,
            shape,
            forward: Arc::new(conv::Forward::plan(&conv.size(), choice)),
            norm: None,
            bounds,
            expansion: None,
        }
    }

    /// Takes in the batch norm behind it, which works with running statistics.
    pub(crate) fn with_norm(self, norm: &BatchNorm) -> Self {
        Prepared { bounds: norm.bounds(), norm: Some(norm.clone()), ..self }
    }

    /// Takes in the convolution before it, which has so many parameters; `None` where the two are as fast by themselves.
    pub(crate) fn with_expansion(&self, expand: &Prepared, params: usize) -> Option<Self> {
        let plain = !expand.joins() && !self.joins() && expand.expansion.is_none();
        let pays = plain && expand.forward.expands(&self.forward);
        pays.then(|| Prepared { expansion: Some((Arc::new(expand.clone()), params)), ..self.clone() })
    }

    fn filters(&self) -> usize {
        self.conv.output.c
    }

    fn joins(&self) -> bool {
        self.norm.as_ref().is_some_and(BatchNorm::joins)
    }

    /// What the convolution before it has packed, packed weights, then an offset and a 1 for each filter: where the latter
    /// three begin.
    fn lines(&self) -> [usize; 3] {
        let before = self.expansion.as_ref().map_or(0, |(expand, _)| Layer::packed(&**expand, false));
        let weights = before.next_multiple_of(ALIGN);
        let offsets = weights + self.forward.packed().next_multiple_of(ALIGN);
        [weights, offsets, offsets + self.filters().next_multiple_of(ALIGN)]
    }

    /// Of what is packed: weights and offsets.
    fn kept<'a>(&self, packed: &'a [f32]) -> [&'a [f32]; 2] {
        let [weights, offsets, _] = self.lines();
        [&packed[weights..offsets], &packed[offsets..][..self.filters()]]
    }

    /// Begins y with the other value and the offsets.
    fn begin_with(&self, team: &mut Team, other: &[f32], (ones, offsets): (&[f32], &[f32]), y: &mut [f32]) {
        let (isa, y, chunk) = (team.isa(), Shared::new(y), (COPIED / self.filters()).max(1) * self.filters());
        team.tasks(other.len().div_ceil(chunk), &|task, _| {
            let range = task * chunk..((task + 1) * chunk).min(other.len());
            let affine = Affine { factor: ones, offset: offsets, other: None, bounds: Bounds::NONE };
            // SAFETY: every task has its own part.
            apply(isa, affine, &other[range.clone()], unsafe { y.write(range) });
        });
    }
}

impl Layer for Prepared {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn packed(&self, _: bool) -> usize {
        self.lines()[2] + self.filters()
    }

    fn forward(&self, _: Forward<'_>) {
        unreachable!("the kernel takes all records at once");
    }

    fn backward(&self, _: Backward<'_>) {
        unreachable!("prepared for prediction alone");
    }

    fn wide(&self) -> Option<&dyn Wide> {
        Some(self)
    }
}

impl Wide for Prepared {
    fn scratch(&self, records: usize, threads: usize) -> usize {
        match &self.expansion {
            Some((expand, _)) => expand.forward.scratch_expanded(&self.forward, records, threads),
            None => self.forward.scratch(records, threads),
        }
    }

    fn prepare(&self, (team, isa): (&mut Team, Isa), params: &[f32], packed: &mut [f32]) {
        let ([start, offsets, ones], filters) = (self.lines(), self.filters());
        let (before, params) = params.split_at(self.expansion.as_ref().map_or(0, |(_, count)| *count));
        if let Some((expand, _)) = &self.expansion {
            expand.prepare((&mut *team, isa), before, packed);
        }
        let (weights, rest) = params.split_at(self.conv.weights());
        let (bias, rest) = rest.split_at(if self.conv.bias { filters } else { 0 });
        packed[ones..][..filters].fill(1.0);
        let mut scaled = weights.to_vec();
        for (filter, numbers) in scaled.chunks_exact_mut(self.conv.filter()).enumerate() {
            let (factor, offset) = self.norm.as_ref().map_or((1.0, 0.0), |norm| norm.fixed(rest, filter));
            numbers.iter_mut().for_each(|number| *number *= factor);
            packed[offsets + filter] = bias.get(filter).map_or(offset, |bias| bias.mul_add(factor, offset));
        }
        self.forward.pack(team, isa, &scaled, &mut packed[start..offsets]);
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let [weights, offsets] = self.kept(pass.packed);
        if let Some((expand, _)) = &self.expansion {
            let [first, bias] = expand.kept(pass.packed);
            let args = ExpandedArgs {
                records: pass.records,
                x: pass.x,
                weights: [first, weights],
                bias: [bias, offsets],
                bounds: [expand.bounds, self.bounds],
                y: pass.y,
            };
            return expand.forward.run_expanded(&self.forward, (team, pass.context.isa), args, pass.scratch);
        }
        let mut begin = Begin::Bias(offsets);
        if self.joins() {
            let ones = &pass.packed[self.lines()[2]..];
            self.begin_with(team, pass.others[0], (&ones[..self.filters()], offsets), pass.y);
            begin = Begin::Present;
        }
        let args = ForwardArgs {
            records: pass.records,
            x: pass.x,
            weights,
            y: pass.y,
            begin,
            bounds: self.bounds,
            prologue: None,
        };
        self.forward.run(team, pass.context.isa, args, pass.scratch);
    }

    fn backward(&self, _: &mut Team, _: Backward<'_>) {
        unreachable!("prepared for prediction alone");
    }
}

#[cfg(test)]
mod tests {
    use crate::golden::noise;
    use crate::{BatchView, Model, Registry, Shape, Targets, Team, Workspace};
    use ringspin_job::{Component, ModelSpec, Value};
    use std::sync::Arc;

    /// What the model answers, by its layers as they are trained, and as they are prepared.
    fn answers(layers: Vec<Component>, records: usize) -> [Vec<f32>; 2] {
        answers_to(layers, Shape::image(9, 7, 5).unwrap(), records)
    }

    fn answers_to(layers: Vec<Component>, shape: Shape, records: usize) -> [Vec<f32>; 2] {
        let spec = ModelSpec { model: Component::new("model", "custom"), layers };
        let loss = Component::new("loss", "mse");
        let model = Arc::new(Model::build(&Registry::standard(), &spec, &shape, &loss).unwrap());
        let mut params = model.initialize(1);
        for parameter in model.parameters().iter().filter(|parameter| parameter.shape.len() == 1) {
            // Statistics, factors and offsets that change something.
            let numbers = noise(7, parameter.range.len()).into_iter().map(|number| 1.5 + number);
            params[parameter.range.clone()].iter_mut().zip(numbers).for_each(|(to, number)| *to = number);
        }
        let params: Arc<[f32]> = params.into();
        let inputs = noise(3, records * shape.elements());
        let batch = BatchView { inputs: &inputs, targets: Targets::None, count: records };
        let team = || Team::new(2).unwrap();
        let trained = Workspace::new(Arc::clone(&model), team(), records);
        let prepared = Workspace::for_inference(Arc::clone(&model), team(), records, &params);
        [trained, prepared].map(|mut workspace| {
            let mut outputs = vec![f32::NAN; records * model.output().elements()];
            workspace.forward(&batch, &params, Some(&mut outputs));
            outputs
        })
    }

    #[test]
    fn a_convolution_with_its_norm_answers_as_both_do() {
        let layer = |name: &str| Component::new("", name);
        let conv = |size: i64, bias: bool| {
            let conv =
                layer("conv2d").with("out_channels", Value::Int(20)).with("kernel_size", Value::Int(size));
            conv.with("padding", Value::Int(size / 2)).with("bias", Value::Bool(bias))
        };
        let norm = || layer("batch_norm2d");
        let named = |component: Component, name: &str| component.with("name", Value::Text(name.into()));
        let joined = |first: &str, second: &str| {
            let inputs = [first, second].map(|name| Value::Text(name.into()));
            layer("add").with("inputs", Value::List(inputs.to_vec()))
        };
        for size in [1, 3, 5] {
            let models = [
                vec![conv(size, true)],
                vec![conv(size, true), layer("relu")],
                vec![conv(size, true), norm()],
                vec![conv(size, false), norm(), layer("relu"), conv(3, true), norm(), layer("relu6")],
                vec![
                    named(conv(3, false), "shortcut"),
                    conv(size, false),
                    named(norm(), "branch"),
                    joined("branch", "shortcut"),
                    layer("relu"),
                ],
                // Something else reads the convolution too: it stays by itself.
                vec![named(conv(size, true), "conv"), named(norm(), "norm"), joined("conv", "norm")],
                // The convolution's own ReLU stands between the two.
                vec![conv(size, true), layer("relu"), norm()],
            ];
            // Three records have too few tiles for Winograd's algorithm, four have enough.
            let cases = models
                .into_iter()
                .enumerate()
                .flat_map(|(number, layers)| [3, 4].map(|records| (number, layers.clone(), records)));
            for (number, layers, records) in cases {
                let [expected, got] = answers(layers, records);
                let scale = expected.iter().fold(0.0f32, |scale, y| scale.max(y.abs()));
                for (got, expected) in got.iter().zip(&expected) {
                    assert!(
                        (got - expected).abs() <= 1e-5 * scale,
                        "{size}, model {number}, {records} records: {got}, not {expected}"
                    );
                }
            }
        }
    }
    /// As blocks of MobileNet-v2 begin; 70 x 66 x 60 numbers between the two are enough to compute them together.
    #[test]
    fn an_expansion_and_its_depthwise_convolution_answer_as_both_do() {
        let conv = |channels: i64, size: i64, groups: i64| {
            let conv = Component::new("", "conv2d").with("out_channels", Value::Int(channels));
            let conv = conv.with("kernel_size", Value::Int(size)).with("padding", Value::Int(size / 2));
            conv.with("groups", Value::Int(groups)).with("bias", Value::Bool(false))
        };
        let layer = |name: &str| Component::new("", name);
        let shape = Shape::image(70, 66, 16).unwrap();
        for (stride, records) in [(1, 1), (2, 3)] {
            let spread = conv(60, 3, 60).with("stride", Value::Int(stride));
            let block = [conv(60, 1, 1), layer("batch_norm2d"), layer("relu6"), spread];
            let layers = [&block[..], &[layer("batch_norm2d"), layer("relu6"), conv(20, 1, 1)]].concat();
            let spec = ModelSpec { model: Component::new("model", "custom"), layers: layers.clone() };
            let loss = Component::new("loss", "mse");
            let model = Model::build(&Registry::standard(), &spec, &shape, &loss).unwrap();
            assert_eq!(
                crate::fuse::prepare(model.graph(), records).nodes.len(),
                2,
                "the block's, and the last"
            );
            let [expected, got] = answers_to(layers, shape.clone(), records);
            let scale = expected.iter().fold(0.0f32, |scale, y| scale.max(y.abs()));
            for (got, expected) in got.iter().zip(&expected) {
                assert!((got - expected).abs() <= 1e-5 * scale, "stride {stride}: {got}, not {expected}");
            }
        }
    }
}
