//! For the tests: what PyTorch computed (`tests/golden/`), and differences as a second oracle.

use crate::batch::{BatchMetrics, TargetKind, Targets, ignored_class};
use crate::kernels::Isa;
use crate::layer::{Backward, Context, Forward, Layer, WeightsShard};
use crate::layers::relayout::{to_channels_last, to_planar};
use crate::losses::{Loss, Measure};
use crate::optimizers::{Moment, OptimizerState};
use crate::random::RandomKey;
use crate::registry::Registry;
use crate::schedules::Progress;
use crate::shape::{Layout, Shape};
use ringspin_job::{Component, Problems, Value};
use safetensors::SafeTensors;
use serde_json::Value as Json;
use std::ops::Range;

/// Numbers in [-1, 1) from a hash of (seed, index), the same as `noise` in make_golden.py.
pub(crate) fn noise(seed: u64, count: usize) -> Vec<f32> {
    let number = |i: u64| {
        let mut h = (i * 2_654_435_761 + (seed + 1) * 40_503) % (1 << 32);
        h ^= h >> 15;
        h = h * 2_246_822_519 % (1 << 32);
        h ^= h >> 13;
        h = h * 3_266_489_917 % (1 << 32);
        h ^= h >> 16;
        (h as f64 / 2f64.powi(31) - 1.0) as f32
    };
    (0..count as u64).map(number).collect()
}

/// Numbers in random order, 0.05 apart and none near 0.
fn spaced(seed: u64, count: usize) -> Vec<f32> {
    let noise = noise(seed, count);
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_by(|a, b| noise[*a].total_cmp(&noise[*b]));
    let mut numbers = vec![0.0; count];
    for (rank, i) in order.into_iter().enumerate() {
        numbers[i] = ((rank as f64 - (count / 2) as f64) * 0.05 + 0.025) as f32;
    }
    numbers
}

/// A file of tests/golden.
fn file(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A JSON file of tests/golden.
pub(crate) fn json(name: &str) -> Json {
    serde_json::from_slice(&file(name)).unwrap()
}

struct Case {
    component: Component,
    records: usize,
    shape: Shape,
    inputs: fn(u64, usize) -> Vec<f32>,
    arrays: Vec<(String, Vec<f64>)>,
}

impl Case {
    fn array(&self, name: &str) -> &[f64] {
        let found = self.arrays.iter().find(|(own, _)| own == name);
        &found.unwrap_or_else(|| panic!("{:?} has no {name}", self.component)).1
    }

    fn x(&self) -> Vec<f32> {
        (self.inputs)(1, self.records * self.shape.elements())
    }
}

pub(crate) fn component(name: &str, params: &Json) -> Component {
    fn value(json: &Json) -> Value {
        match json {
            Json::Bool(v) => Value::Bool(*v),
            Json::Number(v) => v.as_i64().map_or_else(|| Value::Float(v.as_f64().unwrap()), Value::Int),
            Json::String(v) => Value::Text(v.clone()),
            Json::Array(items) => Value::List(items.iter().map(value).collect()),
            other => panic!("no parameter is {other}"),
        }
    }
    let params = params.as_object().unwrap();
    params.iter().fold(Component::new("x", name), |component, (key, json)| component.with(key, value(json)))
}

fn cases(name: &str) -> Vec<Case> {
    let bytes = file(&format!("{name}.safetensors"));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let meta = header.metadata().clone().unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let described: Json = serde_json::from_str(&meta["cases"]).unwrap();
    let cases = described.as_array().unwrap().iter().enumerate().map(|(i, case)| {
        let kind = meta.get("inputs").map(String::as_str).or(case["inputs"].as_str());
        let inputs: fn(u64, usize) -> Vec<f32> = match kind {
            Some("spaced") => spaced,
            Some("narrower") => |seed, count| spaced(seed, count).into_iter().map(|v| 0.93 * v).collect(),
            Some("wide") => |seed, count| noise(seed, count).into_iter().map(|v| 4.0 * v).collect(),
            Some("unit") => |seed, count| noise(seed, count).into_iter().map(|v| 0.5 + 0.3 * v).collect(),
            _ => noise,
        };
        let prefix = format!("{i}.");
        let own =
            tensors.iter().filter_map(|(name, view)| Some((name.strip_prefix(&prefix)?.to_string(), view)));
        let arrays = own.map(|(name, view)| {
            let numbers = match view.dtype() {
                safetensors::Dtype::F64 => {
                    view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
                }
                _ => view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
                    .collect(),
            };
            (name, numbers)
        });
        let dims: Vec<usize> = serde_json::from_value(case["shape"].clone()).unwrap();
        Case {
            component: component(name, &case["params"]),
            records: case["records"].as_u64().unwrap() as usize,
            shape: Shape::new(&dims).unwrap(),
            inputs,
            arrays: arrays.collect(),
        }
    });
    cases.collect()
}

/// Differences of at most `tolerance` of the largest expected number (at least 1).
fn assert_close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0f64, |scale, v| scale.max(v.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= tolerance * scale, "{what}[{i}]: {got} instead of {expected}");
    }
}

/// A layer outside of a model.
pub(crate) struct SingleLayer {
    layer: Box<dyn Layer>,
    input: Shape,
    layouts: [Layout; 2],
    isa: Isa,
}

/// Results of a backward pass.
pub(crate) struct Gradients {
    pub(crate) dx: Vec<f32>,
    pub(crate) dparams: Vec<f32>,
}

/// Builds a layer that is right.
pub(crate) fn single_layer(component: &Component, input: &Shape) -> SingleLayer {
    with_layout(component, input, Layout::ChannelsLast, Isa::best())
}

fn with_layout(component: &Component, input: &Shape, given: Layout, isa: Isa) -> SingleLayer {
    let mut problems = Problems::new();
    let built = Registry::standard().build_layer(component, input, &mut problems).unwrap();
    assert!(problems.is_empty(), "{problems}");
    let mut layer = built.unwrap_or_else(|misfit| panic!("{}", misfit.0));
    let wanted = layer.wants(given);
    let output = layer.arrange(wanted);
    SingleLayer { layer, input: input.clone(), layouts: [wanted, output], isa }
}

impl SingleLayer {
    /// From channels last to the layout the layer has, or back.
    fn convert(numbers: &[f32], shape: &Shape, layout: Layout, back: bool) -> Vec<f32> {
        let mut converted = numbers.to_vec();
        if let (Some(image), Layout::Planar) = (shape.as_image(), layout) {
            let convert = if back { to_channels_last } else { to_planar };
            convert(numbers, &mut converted, image.pixels(), image.c);
        }
        converted
    }

    fn context(&self, key: RandomKey) -> Context {
        Context { isa: self.isa, training: true, key, layer: 3, first_record: 0 }
    }

    fn packed(&self, params: &[f32]) -> Vec<f32> {
        let mut packed = vec![f32::NAN; self.layer.packed()];
        self.layer.pack(params, &mut packed);
        packed
    }

    fn parameter_count(&self) -> usize {
        self.layer.parameters().iter().map(|parameter| parameter.elements()).sum()
    }

    /// Outputs in the layer's own layout.
    fn outputs(&self, params: &[f32], x: &[f32], key: RandomKey) -> Vec<f32> {
        let records = x.len() / self.input.elements();
        let x = Self::convert(x, &self.input, self.layouts[0], false);
        let mut y = vec![f32::NAN; records * self.layer.output().elements()];
        let mut scratch = vec![f32::NAN; self.layer.scratch(records)];
        self.layer.forward(Forward {
            records,
            params,
            packed: &self.packed(params),
            x: &x,
            y: &mut y,
            scratch: &mut scratch,
            context: self.context(key),
        });
        y
    }

    /// Outputs, channels last.
    pub(crate) fn forward_training(&self, params: &[f32], x: &[f32], key: RandomKey) -> Vec<f32> {
        Self::convert(&self.outputs(params, x, key), self.layer.output(), self.layouts[1], true)
    }

    /// Gradients, channels last.
    pub(crate) fn backward_training(
        &self,
        params: &[f32],
        x: &[f32],
        dy: &[f32],
        key: RandomKey,
    ) -> Gradients {
        let records = x.len() / self.input.elements();
        let y = self.outputs(params, x, key);
        let mut dy = Self::convert(dy, self.layer.output(), self.layouts[1], false);
        let x = Self::convert(x, &self.input, self.layouts[0], false);
        let needs = self.layer.needs();
        let mut dx = vec![f32::NAN; x.len()];
        // Gradients are added to what is there.
        let mut dparams = vec![1.0; self.parameter_count()];
        let mut scratch = vec![f32::NAN; self.layer.scratch(records)];
        self.layer.backward(Backward {
            records,
            params,
            packed: &self.packed(params),
            x: if needs.input { &x } else { &[] },
            y: if needs.output { &y } else { &[] },
            dy: &mut dy,
            dx: Some(&mut dx),
            dparams: Some(&mut dparams),
            scratch: &mut scratch,
            context: self.context(key),
        });
        dparams.iter_mut().for_each(|v| *v -= 1.0);
        if let Some(sharded) = self.layer.sharded() {
            let mut pieces = vec![f32::NAN; dparams.len()];
            for shard in 0..sharded.shards() {
                let [first, second] = sharded.shard_ranges(shard);
                let (mut a, mut b) = (vec![f32::NAN; first.len()], vec![f32::NAN; second.len()]);
                let dparams = [&mut a[..], &mut b[..]];
                let isa = self.isa;
                let pass = WeightsShard { records, x: &x, dy: &dy, dparams, accumulate: false, isa };
                sharded.weights_shard(shard, pass);
                pieces[first].copy_from_slice(&a);
                pieces[second].copy_from_slice(&b);
            }
            let whole: Vec<f64> = dparams.iter().map(|v| f64::from(*v)).collect();
            assert_close(&pieces, &whole, 1e-6, "gradients by shards");
        }
        Gradients { dx: Self::convert(&dx, &self.input, self.layouts[0], true), dparams }
    }

    /// The parameters that make_golden.py gives the layer.
    fn golden_params(&self) -> Vec<f32> {
        let parameters = self.layer.parameters();
        parameters.iter().enumerate().flat_map(|(i, p)| noise(10 + i as u64, p.elements())).collect()
    }
}

/// Compares a layer with PyTorch: outputs and all gradients, in both layouts and with all instructions.
pub(crate) fn check_layer(name: &str, tolerance: f64) {
    for case in cases(name) {
        for (layout, isa) in [Layout::ChannelsLast, Layout::Planar]
            .into_iter()
            .flat_map(|layout| Isa::available().into_iter().map(move |isa| (layout, isa)))
        {
            let layer = with_layout(&case.component, &case.shape, layout, isa);
            let (params, x, key) = (layer.golden_params(), case.x(), RandomKey::default());
            let what = format!("{:?} {} {layout:?} {isa} ", case.component.params.0.keys(), case.shape);
            assert_close(
                &layer.forward_training(&params, &x, key),
                case.array("y"),
                tolerance,
                &(what.clone() + "y"),
            );
            let dy = noise(2, case.array("y").len());
            let gradients = layer.backward_training(&params, &x, &dy, key);
            assert_close(&gradients.dx, case.array("dx"), tolerance, &(what.clone() + "dx"));
            let mut start = 0;
            for parameter in layer.layer.parameters() {
                let own = &gradients.dparams[start..start + parameter.elements()];
                start += parameter.elements();
                // The gradients were added to 1, which costs some of their digits.
                let tolerance = tolerance.max(1e-6) * 2.0;
                assert_close(
                    own,
                    case.array(&format!("d{}", parameter.name)),
                    tolerance,
                    &(what.clone() + parameter.name),
                );
            }
        }
    }
}

/// Step of the differences, and how many numbers of each array are tried.
const STEP: f32 = 1e-2;
const TRIED: usize = 40;

/// Compares a layer's gradients with central differences of `Σ y · dy`; errors relative to the largest
/// gradient (at least 1).
pub(crate) fn check_layer_gradient(name: &str, tolerance: f64) {
    for case in cases(name) {
        let layer = single_layer(&case.component, &case.shape);
        let (params, x, key) = (layer.golden_params(), case.x(), RandomKey::default());
        let dy = noise(2, case.array("y").len());
        let value = |params: &[f32], x: &[f32]| -> f64 {
            let y = layer.forward_training(params, x, key);
            y.iter().zip(&dy).map(|(y, dy)| f64::from(*y) * f64::from(*dy)).sum()
        };
        let gradients = layer.backward_training(&params, &x, &dy, key);
        check_differences(&x, &gradients.dx, tolerance, |x| value(&params, x));
        check_differences(&params, &gradients.dparams, tolerance, |params| value(params, &x));
    }
}

fn check_differences(at: &[f32], gradient: &[f32], tolerance: f64, value: impl Fn(&[f32]) -> f64) {
    let scale = gradient.iter().fold(1.0f64, |scale, v| scale.max(f64::from(v.abs())));
    for i in (0..at.len()).step_by(at.len() / TRIED + 1) {
        let moved = |by: f32| {
            let mut moved = at.to_vec();
            moved[i] += by;
            (f64::from(moved[i]), value(&moved))
        };
        let ((low, below), (high, above)) = (moved(-STEP), moved(STEP));
        let (difference, got) = ((above - below) / (high - low), f64::from(gradient[i]));
        assert!(
            (difference - got).abs() <= tolerance * scale,
            "[{i}]: {got}, but differences say {difference}"
        );
    }
}

/// Targets of a case as the loss takes them.
struct CaseTargets {
    classes: Vec<u32>,
    values: Vec<f32>,
}

impl CaseTargets {
    fn of(case: &Case) -> CaseTargets {
        let targets = case.array("t");
        CaseTargets {
            classes: targets.iter().map(|t| ignored_class(*t as i64)).collect(),
            values: targets.iter().map(|t| *t as f32).collect(),
        }
    }

    fn view(&self, loss: &dyn Loss, records: Range<usize>) -> Targets<'_> {
        let per_record = loss.targets().per_record();
        let range = records.start * per_record..records.end * per_record;
        match loss.targets() {
            TargetKind::Classes { .. } => Targets::Classes(&self.classes[range]),
            _ => Targets::Values(&self.values[range]),
        }
    }
}

fn loss_of(case: &Case) -> Box<dyn Loss> {
    let mut problems = Problems::new();
    let built = Registry::standard().build_loss(&case.component, &case.shape, &mut problems).unwrap();
    assert!(problems.is_empty(), "{problems}");
    built.unwrap_or_else(|misfit| panic!("{}", misfit.0))
}

/// Measures a batch that is cut in two, as lanes are: gradients are scaled by the weight of both.
fn measure(case: &Case, y: &[f32], mut dy: Option<&mut [f32]>, isa: Isa) -> f64 {
    let (loss, targets) = (loss_of(case), CaseTargets::of(case));
    let (outputs, cut) = (case.shape.elements(), case.records / 2);
    let parts = [0..cut, cut..case.records];
    let weights = parts.clone().map(|part| loss.weight(targets.view(&*loss, part.clone()), part.len()));
    let scale = (1.0 / (weights[0] + weights[1])) as f32;
    let mut total = BatchMetrics::default();
    for (part, weight) in parts.into_iter().zip(weights) {
        let numbers = part.start * outputs..part.end * outputs;
        let dy = dy.as_deref_mut().map(|dy| &mut dy[numbers.clone()]);
        let (records, targets, y) = (part.len(), targets.view(&*loss, part), &y[numbers]);
        let metrics = loss.measure(Measure { records, y, targets, dy, scale, isa });
        assert_eq!(metrics.weight, weight, "weights do not depend on outputs");
        assert!(loss.weighs() || weight == records as f64, "records weigh 1 where the loss says so");
        total.add(&metrics);
    }
    total.loss()
}

/// Compares a loss with PyTorch: mean over the batch, and its gradient.
pub(crate) fn check_loss(name: &str, tolerance: f64) {
    for case in cases(name) {
        let y = case.x();
        for isa in Isa::available() {
            let mut dy = vec![f32::NAN; y.len()];
            let loss = measure(&case, &y, Some(&mut dy), isa);
            let (expected, what) =
                (case.array("loss")[0], format!("{:?} {}", case.component.params, case.shape));
            assert!(
                (loss - expected).abs() <= tolerance * loss.abs().max(1.0),
                "{what}: {loss}, not {expected}"
            );
            assert_close(&dy, case.array("dy"), tolerance, &(what + " dy"));
            assert!((measure(&case, &y, None, isa) - loss).abs() < 1e-12, "the same without gradient");
        }
    }
}

/// Compares a loss's gradient with central differences.
pub(crate) fn check_loss_gradient(name: &str, tolerance: f64) {
    for case in cases(name) {
        let y = case.x();
        let mut dy = vec![f32::NAN; y.len()];
        measure(&case, &y, Some(&mut dy), Isa::best());
        check_differences(&y, &dy, tolerance, |y| measure(&case, y, None, Isa::best()));
    }
}

/// Compares several updates of an optimizer with PyTorch.
pub(crate) fn check_optimizer(name: &str, tolerance: f64) {
    for case in cases(name) {
        // PyTorch's SGD has a default rate that ours asks for.
        let optimizer = Registry::standard().build_optimizer(&case.component).unwrap();
        let mut params = noise(1, case.shape.elements());
        let mut state = OptimizerState::new(&*optimizer, params.len());
        let mut team = crate::Team::new(2).unwrap();
        for step in 0..case.records as u64 {
            let grads = noise(100 + step, params.len());
            let moment = Moment { update: step + 1, rate: optimizer.base_rate(), isa: Isa::best() };
            crate::update(&*optimizer, &mut team, moment, (&mut params, &grads), &mut state);
            let what = format!("{:?}, update {step}", case.component.params);
            assert_close(&params, case.array(&step.to_string()), tolerance, &what);
        }
    }
}

/// Compares a schedule with PyTorch at every step of a job.
pub(crate) fn check_schedule(test: &str) {
    let mut tried = 0;
    for row in json("schedules.json").as_array().unwrap().iter().filter(|row| row["test"] == test) {
        let schedule = component(row["name"].as_str().unwrap(), &row["params"]);
        let schedule = Registry::standard().build_schedule(&schedule).unwrap();
        let (steps_per_epoch, epochs) =
            (row["steps_per_epoch"].as_u64().unwrap(), row["epochs"].as_u64().unwrap());
        for (step, expected) in (0..).zip(row["factors"].as_array().unwrap()) {
            let factor = schedule.factor(Progress { step, steps_per_epoch, epochs });
            assert!((factor - expected.as_f64().unwrap()).abs() < 1e-12, "{row}, step {step}: {factor}");
            tried += 1;
        }
    }
    assert!(tried > 0, "there are golden values for {test}");
}
