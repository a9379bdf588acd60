//! A batch norm, with or without a ReLU, and the convolution that alone reads it. What lies between the two is never
//! written: the convolution norms its input as it reads it, forward and again for the gradient of its weights, so that
//! a sweep over memory and the room for a value are saved.
//!
//! x (H, W, C), y (H', W', K). Parameters: those of the norm, then those of the convolution.

use super::batch_norm::{BatchNorm, Measured};
use super::conv_whole::Whole;
use super::conv2d::Conv2d;
use crate::layer::{Backward, Forward, Layer, Needs, ParameterSpec, Wide};
use crate::shape::Shape;
use crate::team::Team;
use std::any::Any;
use std::sync::Arc;

pub(crate) struct NormedConv {
    norm: BatchNorm,
    /// A [`Conv2d`].
    conv: Arc<dyn Layer>,
}

impl NormedConv {
    /// Whether the two can be one.
    pub(crate) fn fits(norm: &BatchNorm, conv: &Conv2d) -> bool {
        norm.is_alone() && conv.whole_kernel().is_some()
    }

    /// Of two that fit.
    pub(crate) fn new(norm: BatchNorm, conv: Arc<dyn Layer>) -> Self {
        NormedConv { norm, conv }
    }

    /// Parameters of the norm.
    fn norm_params(&self) -> usize {
        self.norm.parameters().iter().map(ParameterSpec::elements).sum()
    }

    fn whole(&self) -> &Whole {
        let conv: &dyn Any = &*self.conv;
        let whole = conv.downcast_ref::<Conv2d>().and_then(Conv2d::whole_kernel);
        whole.expect("only such convolutions fit")
    }
}

impl Layer for NormedConv {
    fn output(&self) -> &Shape {
        self.conv.output()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        let mut parameters = self.norm.parameters();
        parameters.extend(self.conv.parameters());
        parameters
    }

    fn flops(&self) -> u64 {
        self.norm.flops() + self.conv.flops()
    }

    fn needs(&self) -> Needs {
        Needs { input: true, ..self.conv.needs() }
    }

    fn saved(&self, records: usize) -> usize {
        self.norm.saved(records)
    }

    fn forward(&self, _: Forward<'_>) {
        unreachable!("batch norm takes all records at once");
    }

    fn backward(&self, _: Backward<'_>) {
        unreachable!("batch norm takes all records at once");
    }

    fn wide(&self) -> Option<&dyn Wide> {
        Some(self)
    }
}

impl Wide for NormedConv {
    fn scratch(&self, records: usize, threads: usize) -> usize {
        Wide::scratch(&self.norm, records, threads).max(self.whole().scratch(records, threads))
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let (norm, conv) = pass.params.split_at(self.norm_params());
        let input = Measured { params: norm, x: pass.x, context: pass.context };
        self.norm.measure(team, input, pass.saved, pass.scratch);
        let prologue = self.norm.prologue(pass.saved);
        self.whole().forward_from(team, Forward { params: conv, saved: &mut [], ..pass }, Some(prologue));
    }

    fn backward(&self, team: &mut Team, pass: Backward<'_>) {
        let (norm, conv) = pass.params.split_at(self.norm_params());
        let (dnorm, dconv) = pass.dparams.unwrap_or_default().split_at_mut(norm.len());
        let dx = pass.dx.expect("what a batch norm reads learns");
        let prologue = self.norm.prologue(pass.saved);
        let behind = Backward {
            params: conv,
            dparams: Some(dconv),
            dx: Some(&mut *dx),
            dothers: &mut [],
            scratch: &mut *pass.scratch,
            ..pass
        };
        self.whole().backward_from(team, behind, Some(prologue));
        let before = Backward {
            records: pass.records,
            params: norm,
            packed: &[],
            x: pass.x,
            others: &[],
            y: &[],
            saved: pass.saved,
            dy: dx,
            dx: None,
            add: false,
            dothers: &mut [],
            dparams: Some(dnorm),
            accumulate: pass.accumulate,
            scratch: pass.scratch,
            context: pass.context,
        };
        self.norm.backward_in_place(team, before);
    }
}

#[cfg(test)]
mod tests {
    use crate::fuse::norms_in_convolutions;
    use crate::golden::noise;
    use crate::{
        BatchView, Gradients, Model, RandomKey, Registry, Shape, Targets, Team, TrainingPass, Workspace,
    };
    use ringspin_job::{Component, ModelSpec, Value};
    use std::sync::Arc;

    fn layer(name: &str) -> Component {
        Component::new("", name)
    }

    fn named(component: Component, name: &str) -> Component {
        component.with("name", Value::Text(name.into()))
    }

    fn conv(channels: i64, size: i64, stride: i64) -> Component {
        let params =
            [("out_channels", channels), ("kernel_size", size), ("padding", size / 2), ("stride", stride)];
        params.into_iter().fold(layer("conv2d"), |conv, (key, value)| conv.with(key, Value::Int(value)))
    }

    fn model(mut layers: Vec<Component>) -> Arc<Model> {
        layers.extend([layer("flatten"), layer("linear").with("out_features", Value::Int(10))]);
        let spec = ModelSpec { model: Component::new("model", "custom"), layers };
        let (shape, loss) = (Shape::image(9, 7, 5).unwrap(), Component::new("loss", "cross_entropy"));
        Arc::new(Model::build(&Registry::standard(), &spec, &shape, &loss).unwrap())
    }

    /// Gradients of two micro-batches, the second added to the first.
    fn gradients(mut workspace: Workspace) -> Vec<f32> {
        const RECORDS: usize = 3;
        let model = Arc::clone(workspace.model());
        let inputs = noise(1, RECORDS * model.input().elements());
        let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&[1, 9, 4]), count: RECORDS };
        let params = model.initialize(2);
        let mut grads = Gradients::new(&model, RECORDS);
        for accumulate in [false, true] {
            let key = RandomKey::default();
            let pass = TrainingPass { params: &params, scale: 0.5, key, accumulate };
            workspace.forward_backward(&batch, &pass, &mut grads, &mut |_, _| ());
        }
        grads.dense
    }

    #[test]
    fn gradients_are_those_of_the_two_by_themselves() {
        for (size, stride) in [(1, 1), (1, 2), (3, 1), (3, 2), (5, 1)] {
            for activation in [None, Some("relu"), Some("relu6")] {
                let mut layers = vec![conv(20, 3, 1), layer("batch_norm2d")];
                layers.extend(activation.map(layer));
                layers.push(conv(24, size, stride));
                let model = model(layers);
                let fused = norms_in_convolutions(model.graph()).nodes.len();
                assert_eq!(fused + 1, model.graph().nodes.len(), "{activation:?}");
                let team = || Team::new(2).unwrap();
                let got = gradients(Workspace::new(Arc::clone(&model), team(), 3));
                let expected = gradients(Workspace::unfused(Arc::clone(&model), team(), 3));
                for parameter in model.parameters() {
                    let (got, expected) = (&got[parameter.range.clone()], &expected[parameter.range.clone()]);
                    let scale = expected.iter().fold(1e-3f32, |scale, value| scale.max(value.abs()));
                    for (got, expected) in got.iter().zip(expected) {
                        assert!(
                            (got - expected).abs() <= 1e-5 * scale,
                            "{size}, {stride}, {activation:?}, {}: {got}, not {expected}",
                            parameter.name
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn norms_stay_by_themselves_where_others_need_them() {
        let norm = || layer("batch_norm2d");
        let inputs = |component: Component, names: &[&str]| {
            let names = names.iter().map(|name| Value::Text((*name).into())).collect();
            component.with("inputs", Value::List(names))
        };
        let apart = [
            // The data has no gradient to compute in.
            vec![norm(), conv(20, 3, 1)],
            // Another layer reads the norm.
            vec![
                conv(20, 3, 1),
                named(norm(), "norm"),
                named(conv(20, 3, 1), "conv"),
                inputs(layer("add"), &["norm", "conv"]),
            ],
            // Planar kernels take few filters.
            vec![conv(20, 3, 1), norm(), conv(2, 3, 1)],
            vec![conv(20, 3, 1), norm(), layer("tanh"), conv(20, 3, 1)],
        ];
        for (number, layers) in apart.into_iter().enumerate() {
            let model = model(layers);
            let nodes = norms_in_convolutions(model.graph()).nodes.len();
            assert_eq!(nodes, model.graph().nodes.len(), "model {number}");
        }
    }
}
