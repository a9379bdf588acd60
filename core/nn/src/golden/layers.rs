//! Layers beside PyTorch, outside of a model.

use super::{Case, assert_close, cases, check_differences, noise};
use crate::kernels::Isa;
use crate::layer::{Backward, Context, Forward, Init, Layer, ParameterKind, WeightsShard};
use crate::layers::relayout::{to_channels_last, to_planar};
use crate::random::RandomKey;
use crate::registry::Registry;
use crate::shape::{Layout, Shape};
use crate::team::Team;
use ringspin_job::{Component, Problems};

/// A layer outside of a model.
pub(crate) struct SingleLayer {
    layer: Box<dyn Layer>,
    inputs: Vec<Shape>,
    layouts: [Layout; 2],
    isa: Isa,
    training: bool,
}

/// Results of a backward pass.
pub(crate) struct Gradients {
    pub(crate) dx: Vec<f32>,
    pub(crate) dothers: Vec<Vec<f32>>,
    pub(crate) dparams: Vec<f32>,
}

/// Results of a forward pass, in the layer's own layout.
struct Outputs {
    y: Vec<f32>,
    saved: Vec<f32>,
}

/// Builds a layer that is right.
pub(crate) fn single_layer(component: &Component, input: &Shape) -> SingleLayer {
    with_layout(component, std::slice::from_ref(input), Layout::ChannelsLast, Isa::best())
}

fn with_layout(component: &Component, inputs: &[Shape], given: Layout, isa: Isa) -> SingleLayer {
    let mut problems = Problems::new();
    let built = Registry::standard().build_layer(component, inputs, &mut problems).unwrap();
    assert!(problems.is_empty(), "{problems}");
    let mut layer = built.unwrap_or_else(|misfit| panic!("{}", misfit.0));
    let wanted = layer.wants(given);
    let output = layer.arrange(wanted);
    SingleLayer { layer, inputs: inputs.to_vec(), layouts: [wanted, output], isa, training: true }
}

/// From channels last to `layout`, or back.
fn convert(numbers: &[f32], shape: &Shape, layout: Layout, back: bool) -> Vec<f32> {
    let mut converted = numbers.to_vec();
    if let (Some(image), Layout::Planar) = (shape.as_image(), layout) {
        let convert = if back { to_channels_last } else { to_planar };
        convert(numbers, &mut converted, image.pixels(), image.c);
    }
    converted
}

impl SingleLayer {
    fn context(&self, key: RandomKey, records: usize) -> Context {
        let scale = 1.0 / records as f32;
        Context { isa: self.isa, training: self.training, key, layer: 3, first_record: 0, scale }
    }

    fn packed(&self, params: &[f32]) -> Vec<f32> {
        let mut packed = vec![f32::NAN; self.layer.packed(true)];
        self.layer.pack(self.isa, params, &mut packed);
        packed
    }

    fn parameter_count(&self) -> usize {
        self.layer.parameters().iter().map(|parameter| parameter.elements()).sum()
    }

    fn records(&self, x: &[f32]) -> usize {
        x.len() / self.inputs[0].elements()
    }

    fn scratch(&self, records: usize, threads: usize) -> Vec<f32> {
        let wide = self.layer.wide().map(|wide| wide.scratch(records, threads));
        vec![f32::NAN; wide.unwrap_or_else(|| self.layer.scratch(records))]
    }

    /// The inputs in the layer's own layout.
    fn arranged(&self, xs: &[Vec<f32>]) -> Vec<Vec<f32>> {
        xs.iter().zip(&self.inputs).map(|(x, shape)| convert(x, shape, self.layouts[0], false)).collect()
    }

    fn outputs(&self, params: &[f32], xs: &[Vec<f32>], key: RandomKey, threads: usize) -> Outputs {
        let (records, mut team) = (self.records(&xs[0]), Team::new(threads).unwrap());
        let xs = self.arranged(xs);
        let others: Vec<&[f32]> = xs[1..].iter().map(Vec::as_slice).collect();
        let mut y = vec![f32::NAN; records * self.layer.output().elements()];
        let mut saved = vec![f32::NAN; self.layer.saved(records)];
        let pass = Forward {
            records,
            params,
            packed: &self.packed(params),
            x: &xs[0],
            others: &others,
            y: &mut y,
            saved: &mut saved,
            scratch: &mut self.scratch(records, threads),
            context: self.context(key, records),
        };
        match self.layer.wide() {
            Some(wide) => wide.forward(&mut team, pass),
            None => self.layer.forward(pass),
        }
        Outputs { y, saved }
    }

    /// Outputs, channels last.
    fn forward_joined(&self, params: &[f32], xs: &[Vec<f32>], key: RandomKey) -> Vec<f32> {
        convert(&self.outputs(params, xs, key, 2).y, self.layer.output(), self.layouts[1], true)
    }

    /// Outputs of a layer of one input, channels last.
    pub(crate) fn forward_training(&self, params: &[f32], x: &[f32], key: RandomKey) -> Vec<f32> {
        self.forward_joined(params, &[x.to_vec()], key)
    }

    /// Gradients of a layer of one input, channels last.
    pub(crate) fn backward_training(
        &self,
        params: &[f32],
        x: &[f32],
        dy: &[f32],
        key: RandomKey,
    ) -> Gradients {
        self.backward_joined(params, &[x.to_vec()], dy, key)
    }

    fn backward_joined(&self, params: &[f32], xs: &[Vec<f32>], dy: &[f32], key: RandomKey) -> Gradients {
        let gradients = self.backward_threads(params, xs, dy, key, 2);
        if self.layer.wide().is_some() {
            // Neither the outputs nor the gradients depend on the threads.
            let other = self.backward_threads(params, xs, dy, key, 3);
            let bits = |numbers: &[f32]| numbers.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&other.dx), bits(&gradients.dx), "dx on other threads");
            assert_eq!(bits(&other.dparams), bits(&gradients.dparams), "dparams on other threads");
        }
        gradients
    }

    fn backward_threads(
        &self,
        params: &[f32],
        xs: &[Vec<f32>],
        dy: &[f32],
        key: RandomKey,
        threads: usize,
    ) -> Gradients {
        let (records, mut team) = (self.records(&xs[0]), Team::new(threads).unwrap());
        let Outputs { y, saved } = self.outputs(params, xs, key, threads);
        let dy = convert(dy, self.layer.output(), self.layouts[1], false);
        let xs = self.arranged(xs);
        let needs = self.layer.needs();
        let nan = |x: &Vec<f32>| vec![f32::NAN; x.len()];
        let (mut dx, mut dothers) = (nan(&xs[0]), xs[1..].iter().map(nan).collect::<Vec<_>>());
        // Gradients of parameters are added to what is there.
        let mut dparams = vec![1.0; self.parameter_count()];
        let mut run = |dy: &mut [f32],
                       dx: &mut [f32],
                       dothers: &mut [Vec<f32>],
                       add: bool,
                       (dparams, accumulate): (&mut [f32], bool)| {
            let others: Vec<&[f32]> = xs[1..].iter().map(Vec::as_slice).collect();
            let pass = Backward {
                records,
                params,
                packed: &self.packed(params),
                x: if needs.input { &xs[0] } else { &[] },
                others: if self.layer.reads_others() { &others } else { &[] },
                y: if needs.output { &y } else { &[] },
                saved: &saved,
                dy,
                dx: Some(dx),
                add,
                dothers: &mut dothers.iter_mut().map(|d| Some(&mut d[..])).collect::<Vec<_>>(),
                dparams: Some(dparams),
                accumulate,
                scratch: &mut self.scratch(records, threads),
                context: self.context(key, records),
            };
            match self.layer.wide() {
                Some(wide) => wide.backward(&mut team, pass),
                None => self.layer.backward(pass),
            }
        };
        let mut left = dy.clone();
        run(&mut left, &mut dx, &mut dothers, false, (&mut dparams, true));
        if self.layer.adds() {
            let mut added = vec![1.0; dx.len()];
            run(
                &mut dy.clone(),
                &mut added,
                &mut dothers.clone(),
                true,
                (&mut vec![0.0; dparams.len()], true),
            );
            let whole: Vec<f64> = dx.iter().map(|v| f64::from(*v) + 1.0).collect();
            assert_close(&added, &whole, 1e-6, "dx added to what is there");
        }
        if let Some(passes) = self.layer.passes() {
            // What the layer leaves in dy is the gradient of that input.
            let mut passed = dy.clone();
            let written = if passes == 0 { dx.clone() } else { dothers[passes - 1].clone() };
            run(
                &mut passed,
                &mut dx.clone(),
                &mut dothers.clone(),
                false,
                (&mut vec![0.0; dparams.len()], true),
            );
            assert_eq!(passed, written, "dy is passed on");
        }
        dparams.iter_mut().for_each(|v| *v -= 1.0);
        if self.layer.wide().is_some() {
            let mut over = vec![f32::NAN; dparams.len()];
            run(&mut dy.clone(), &mut dx.clone(), &mut dothers.clone(), false, (&mut over, false));
            let whole: Vec<f64> = dparams.iter().map(|v| f64::from(*v)).collect();
            assert_close(&over, &whole, 1e-6, "gradients written over what is there");
        }
        self.check_shards(&xs[0], &left, &dparams);
        Gradients {
            dx: convert(&dx, &self.inputs[0], self.layouts[0], true),
            dothers: dothers
                .iter()
                .zip(&self.inputs[1..])
                .map(|(d, shape)| convert(d, shape, self.layouts[0], true))
                .collect(),
            dparams,
        }
    }

    /// Parameter gradients that are cut by parameters are those of the whole.
    fn check_shards(&self, x: &[f32], dy: &[f32], dparams: &[f32]) {
        let Some(sharded) = self.layer.sharded() else { return };
        let records = self.records(x);
        let mut pieces = vec![f32::NAN; dparams.len()];
        let shards = sharded.shards(records, 3);
        for shard in 0..shards {
            let [first, second] = sharded.shard_ranges(shard, shards);
            let (mut a, mut b) = (vec![f32::NAN; first.len()], vec![f32::NAN; second.len()]);
            let dparams = [&mut a[..], &mut b[..]];
            let pass =
                WeightsShard { shard, shards, records, x, dy, dparams, accumulate: false, isa: self.isa };
            sharded.weights_shard(pass);
            pieces[first].copy_from_slice(&a);
            pieces[second].copy_from_slice(&b);
        }
        let whole: Vec<f64> = dparams.iter().map(|v| f64::from(*v)).collect();
        assert_close(&pieces, &whole, 1e-6, "gradients by shards");
    }

    /// The parameters that make_golden.py gives the layer: noise, and statistics as they start.
    fn golden_params(&self) -> Vec<f32> {
        let parameters = self.layer.parameters();
        let numbers = parameters.iter().enumerate().flat_map(|(i, p)| match (p.kind, p.init) {
            (ParameterKind::Statistic, Init::Constant(start)) => vec![start; p.elements()],
            _ => noise(10 + i as u64, p.elements()),
        });
        numbers.collect()
    }
}

/// Compares a layer with PyTorch: outputs and all gradients, in both layouts and with all instructions.
pub(crate) fn check_layer(name: &str, tolerance: f64) {
    check_layer_with(name, tolerance, &Isa::available());
}

/// As [`check_layer`], with operands of products rounded to bf16, against PyTorch's f32: a product of two numbers is off
/// by 2⁻⁸ of it at most.
pub(crate) fn check_layer_bf16(name: &str, tolerance: f64) {
    check_layer_with(name, tolerance, &[Isa::best().with_bf16(true)]);
}

fn check_layer_with(name: &str, tolerance: f64, isas: &[Isa]) {
    for case in cases(name) {
        for (layout, isa) in [Layout::ChannelsLast, Layout::Planar]
            .into_iter()
            .flat_map(|layout| isas.iter().map(move |isa| (layout, *isa)))
        {
            let mut layer = with_layout(&case.component, &case.shapes, layout, isa);
            let params = layer.golden_params();
            let what = format!("{:?} {} {layout:?} {isa} ", case.component.params.0.keys(), case.shape);
            let key = RandomKey::default();
            let y = layer.forward_joined(&params, &case.xs(), key);
            assert_close(&y, case.array("y"), tolerance, &(what.clone() + "y"));
            check_gradients(&case, &layer, &params, tolerance, &what);
            if case.has("evaluated") {
                layer.training = false;
                let y = layer.forward_joined(&params, &case.xs(), key);
                assert_close(&y, case.array("evaluated"), tolerance, &(what + "y in evaluation"));
            }
        }
    }
}

fn check_gradients(case: &Case, layer: &SingleLayer, params: &[f32], tolerance: f64, what: &str) {
    let dy = noise(2, case.array("y").len());
    let gradients = layer.backward_joined(params, &case.xs(), &dy, RandomKey::default());
    if case.has("dx") {
        assert_close(&gradients.dx, case.array("dx"), tolerance, &format!("{what}dx"));
    }
    for (k, dother) in (1..).zip(&gradients.dothers) {
        if case.has(&format!("dx{k}")) {
            assert_close(dother, case.array(&format!("dx{k}")), tolerance, &format!("{what}dx{k}"));
        }
    }
    let mut start = 0;
    for parameter in layer.layer.parameters() {
        let range = start..start + parameter.elements();
        start = range.end;
        // The gradients were added to 1, which costs some of their digits.
        let tolerance = tolerance.max(1e-6) * 2.0;
        let name = parameter.name;
        match parameter.kind {
            ParameterKind::Learned | ParameterKind::Rows { .. } => {
                let expected = case.array(&format!("d{name}"));
                assert_close(&gradients.dparams[range], expected, tolerance, &format!("{what}{name}"));
            }
            ParameterKind::Statistic => {
                let updated: Vec<f32> = range.map(|i| params[i] - gradients.dparams[i]).collect();
                assert_close(&updated, case.array(&name), tolerance, &format!("{what}{name}"));
            }
        }
    }
}

/// Compares a layer's gradients with central differences of `Σ y · dy`; errors relative to the largest
/// gradient (at least 1).
pub(crate) fn check_layer_gradient(name: &str, tolerance: f64) {
    for case in cases(name) {
        let layer = with_layout(&case.component, &case.shapes, Layout::ChannelsLast, Isa::best());
        let (params, xs, key) = (layer.golden_params(), case.xs(), RandomKey::default());
        let dy = noise(2, case.array("y").len());
        let value = |params: &[f32], xs: &[Vec<f32>]| -> f64 {
            let y = layer.forward_joined(params, xs, key);
            y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
        };
        let gradients = layer.backward_joined(&params, &xs, &dy, key);
        for (k, gradient) in std::iter::once(&gradients.dx).chain(&gradients.dothers).enumerate() {
            if !case.has(&if k == 0 { "dx".into() } else { format!("dx{k}") }) {
                continue;
            }
            check_differences(&xs[k], gradient, tolerance, |x| {
                let mut xs = xs.clone();
                xs[k] = x.to_vec();
                value(&params, &xs)
            });
        }
        let statistics = layer.layer.parameters().iter().any(|p| p.kind == ParameterKind::Statistic);
        if !statistics {
            check_differences(&params, &gradients.dparams, tolerance, |params| value(params, &xs));
        }
    }
}
