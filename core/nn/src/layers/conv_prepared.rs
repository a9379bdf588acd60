//! Convolution of a model that does not learn any more: its weights are packed once, and the batch norm behind it is
//! in them: `y = conv(x, W · f) + b · f + o`, with the norm's factor f and offset o of each filter, then the sum and the
//! activation that the norm or the convolution had taken in.
//!
//! x (H, W, C), y (H', W', K); parameters are the convolution's, then the norm's. No backward.

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

/// Two convolutions of which the second, depthwise, is all that reads the first, of single pixels.
pub(crate) struct Expanded {
    expand: Prepared,
    depthwise: Prepared,
    /// Parameters of the first.
    first: usize,
}

impl Expanded {
    /// `None` where the two are as fast by themselves; `first` says how many parameters `expand` has.
    pub(crate) fn new(expand: Prepared, depthwise: Prepared, first: usize) -> Option<Expanded> {
        let fits = !expand.joins() && !depthwise.joins() && expand.forward.expands(&depthwise.forward);
        fits.then_some(Expanded { expand, depthwise, first })
    }

    /// Where what belongs to the second begins.
    fn second(&self) -> usize {
        self.expand.packed(false).next_multiple_of(ALIGN)
    }
}

impl Layer for Expanded {
    fn output(&self) -> &Shape {
        &self.depthwise.shape
    }

    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }

    fn packed(&self, learns: bool) -> usize {
        self.second() + self.depthwise.packed(learns)
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

impl Wide for Expanded {
    fn scratch(&self, records: usize, threads: usize) -> usize {
        self.expand.forward.scratch_expanded(&self.depthwise.forward, records, threads)
    }

    fn prepare(&self, (team, isa): (&mut Team, Isa), params: &[f32], packed: &mut [f32]) {
        let (first, second) = packed.split_at_mut(self.second());
        self.expand.prepare((&mut *team, isa), &params[..self.first], first);
        self.depthwise.prepare((team, isa), &params[self.first..], second);
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let (first, second) = pass.packed.split_at(self.second());
        let bias = |layer: &Prepared, at: usize| &pass.packed[at + layer.lines()[0]..][..layer.filters()];
        let args = ExpandedArgs {
            records: pass.records,
            x: pass.x,
            weights: [first, second],
            bias: [bias(&self.expand, 0), bias(&self.depthwise, self.second())],
            bounds: [self.expand.bounds, self.depthwise.bounds],
            y: pass.y,
        };
        let isa = pass.context.isa;
        self.expand.forward.run_expanded(&self.depthwise.forward, (team, isa), args, pass.scratch);
    }

    fn backward(&self, _: &mut Team, _: Backward<'_>) {
        unreachable!("prepared for prediction alone");
    }
}

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
}

impl Prepared {
    pub(super) fn new(conv: Conv, shape: Shape, choice: Choice, bounds: Bounds) -> Self {
        Prepared {
            conv,
            shape,
            forward: Arc::new(conv::Forward::plan(&conv.size(), choice)),
            norm: None,
            bounds,
        }
    }

    /// Takes in the batch norm behind it, which works with running statistics.
    pub(crate) fn with_norm(self, norm: &BatchNorm) -> Self {
        Prepared { bounds: norm.bounds(), norm: Some(norm.clone()), ..self }
    }

    fn filters(&self) -> usize {
        self.conv.output.c
    }

    fn joins(&self) -> bool {
        self.norm.as_ref().is_some_and(BatchNorm::joins)
    }

    /// Packed weights, then an offset and a 1 for each filter: where the latter two begin.
    fn lines(&self) -> [usize; 2] {
        let offsets = self.forward.packed().next_multiple_of(ALIGN);
        [offsets, offsets + self.filters().next_multiple_of(ALIGN)]
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
        self.lines()[1] + self.filters()
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
        self.forward.scratch(records, threads)
    }

    fn prepare(&self, (team, isa): (&mut Team, Isa), params: &[f32], packed: &mut [f32]) {
        let ([offsets, ones], filters) = (self.lines(), self.filters());
        let (weights, rest) = params.split_at(self.conv.weights());
        let (bias, rest) = rest.split_at(if self.conv.bias { filters } else { 0 });
        packed[ones..][..filters].fill(1.0);
        let mut scaled = weights.to_vec();
        for (filter, numbers) in scaled.chunks_exact_mut(self.conv.filter()).enumerate() {
            let (factor, offset) = self.norm.as_ref().map_or((1.0, 0.0), |norm| norm.fixed(rest, filter));
            numbers.iter_mut().for_each(|number| *number *= factor);
            packed[offsets + filter] = bias.get(filter).map_or(offset, |bias| bias.mul_add(factor, offset));
        }
        self.forward.pack(team, isa, &scaled, &mut packed[..offsets]);
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let [offsets, ones] = self.lines().map(|start| &pass.packed[start..][..self.filters()]);
        let mut begin = Begin::Bias(offsets);
        if self.joins() {
            self.begin_with(team, pass.others[0], (ones, offsets), pass.y);
            begin = Begin::Present;
        }
        let args = ForwardArgs {
            records: pass.records,
            x: pass.x,
            weights: pass.packed,
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
