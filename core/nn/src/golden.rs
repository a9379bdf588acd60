//! For the tests: what PyTorch computed (`tests/golden/`), and differences as a second oracle.

mod layers;
mod models;

pub(crate) use layers::{check_layer, check_layer_bf16, check_layer_gradient, single_layer};
pub(crate) use models::check_model;

use crate::batch::{BatchMetrics, TargetKind, Targets, ignored_class};
use crate::kernels::Isa;
use crate::layer::{Init, ParameterKind};
use crate::losses::{Loss, Measure};
use crate::model::Parameter;
use crate::optimizers::{Due, UpdateOptions, Updater};
use crate::registry::Registry;
use crate::schedules::{Progress, Validated};
use crate::shape::Shape;
use ringspin_job::{Component, Problems, Value};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde_json::Value as Json;
use std::collections::HashMap;
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

/// Numbers of both signs from 1 to 2: what can be divided by.
fn far(seed: u64, count: usize) -> Vec<f32> {
    noise(seed, count).into_iter().map(|v| v + 1f32.copysign(v)).collect()
}

/// Whole numbers from 0 to 6: rows of a table.
fn ids(seed: u64, count: usize) -> Vec<f32> {
    noise(seed, count).into_iter().map(|v| ((v + 1.0) / 2.0 * 7.0).floor()).collect()
}

/// 0 and 1: for masks.
fn flags(seed: u64, count: usize) -> Vec<f32> {
    noise(seed, count).into_iter().map(|v| f32::from(u8::from(v > 0.2))).collect()
}

/// What makes an input, by its name in make_golden.py.
fn maker(name: &Json) -> fn(u64, usize) -> Vec<f32> {
    match name.as_str() {
        Some("spaced") => spaced,
        Some("ids") => ids,
        Some("far") => far,
        Some("flags") => flags,
        Some("narrower") => |seed, count| spaced(seed, count).into_iter().map(|v| 0.93 * v).collect(),
        Some("wide") => |seed, count| noise(seed, count).into_iter().map(|v| 4.0 * v).collect(),
        Some("unit") => |seed, count| noise(seed, count).into_iter().map(|v| 0.5 + 0.3 * v).collect(),
        _ => noise,
    }
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
    /// Of the first input.
    shape: Shape,
    /// Of all inputs.
    shapes: Vec<Shape>,
    /// What makes each input; the last makes the others too.
    inputs: Vec<fn(u64, usize) -> Vec<f32>>,
    /// Whether the second parameter array starts at 0.
    zeros: bool,
    arrays: Vec<(String, Vec<f64>)>,
    /// PyTorch's names of a model's parameters, in the order that they were made in.
    parameters: Vec<String>,
}

impl Case {
    fn array(&self, name: &str) -> &[f64] {
        let found = self.arrays.iter().find(|(own, _)| own == name);
        &found.unwrap_or_else(|| panic!("{:?} has no {name}", self.component)).1
    }

    fn has(&self, name: &str) -> bool {
        self.arrays.iter().any(|(own, _)| own == name)
    }

    fn x(&self) -> Vec<f32> {
        self.inputs[0](1, self.records * self.shape.elements())
    }

    /// The inputs of a layer that joins several.
    fn xs(&self) -> Vec<Vec<f32>> {
        let others = self.shapes[1..].iter().enumerate().map(|(k, shape)| {
            let make = self.inputs[(k + 1).min(self.inputs.len() - 1)];
            make(41 + k as u64, self.records * shape.elements())
        });
        std::iter::once(self.x()).chain(others).collect()
    }
}

pub(crate) fn component(name: &str, params: &Json) -> Component {
    fn value(json: &Json) -> Value {
        match json {
            Json::Bool(v) => Value::Bool(*v),
            Json::Number(v) => v.as_i64().map_or_else(|| Value::Float(v.as_f64().unwrap()), Value::Int),
            Json::String(v) => Value::Text(v.clone()),
            Json::Array(items) => Value::List(items.iter().map(value).collect()),
            Json::Object(entries) => {
                Value::Table(entries.iter().map(|(name, json)| (name.clone(), value(json))).collect())
            }
            other => panic!("no parameter is {other}"),
        }
    }
    let params = params.as_object().unwrap();
    params.iter().fold(Component::new("x", name), |component, (key, json)| component.with(key, value(json)))
}

/// The numbers of an array.
fn numbers(view: &TensorView<'_>) -> Vec<f64> {
    match view.dtype() {
        safetensors::Dtype::F64 => {
            view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
        }
        _ => view
            .data()
            .chunks_exact(4)
            .map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap())))
            .collect(),
    }
}

/// All arrays of a file that holds no cases.
pub(crate) fn tensors(name: &str) -> HashMap<String, Vec<f64>> {
    let bytes = file(&format!("{name}.safetensors"));
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.iter().map(|(name, view)| (name.to_string(), numbers(&view))).collect()
}

fn cases(name: &str) -> Vec<Case> {
    let bytes = file(&format!("{name}.safetensors"));
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let meta = header.metadata().clone().unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let described: Json = serde_json::from_str(&meta["cases"]).unwrap();
    let cases = described.as_array().unwrap().iter().enumerate().map(|(i, case)| {
        let prefix = format!("{i}.");
        let own =
            tensors.iter().filter_map(|(name, view)| Some((name.strip_prefix(&prefix)?.to_string(), view)));
        let arrays = own.map(|(name, view)| (name, numbers(&view)));
        let shape =
            |dims: &Json| Shape::new(&serde_json::from_value::<Vec<usize>>(dims.clone()).unwrap()).unwrap();
        let shapes: Vec<Shape> = match case["shapes"].as_array() {
            Some(shapes) => shapes.iter().map(shape).collect(),
            None => vec![shape(&case["shape"])],
        };
        Case {
            component: component(case["layer"].as_str().unwrap_or(name), &case["params"]),
            records: case["records"].as_u64().unwrap() as usize,
            shape: shapes[0].clone(),
            shapes,
            inputs: match case["inputs"].as_array() {
                Some(names) => names.iter().map(maker).collect(),
                None => vec![maker(&case["inputs"])],
            },
            zeros: case["zeros"].as_bool().unwrap_or(false),
            arrays: arrays.collect(),
            parameters: serde_json::from_value(case["parameters"].clone()).unwrap_or_default(),
        }
    });
    cases.collect()
}

/// Differences of at most `tolerance` of the largest expected number (at least 1).
pub(crate) fn assert_close(got: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1.0f64, |scale, v| scale.max(v.abs()));
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - expected).abs();
        assert!(error <= tolerance * scale, "{what}[{i}]: {got} instead of {expected}");
    }
}

/// Step of the differences, and how many numbers of each array are tried.
const STEP: f32 = 1e-2;
const TRIED: usize = 40;

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

/// Measures a batch that is cut in two, as lanes are: gradients are divided by the weight of both.
fn measure(case: &Case, y: &[f32], mut dy: Option<&mut [f32]>, isa: Isa) -> f64 {
    let (loss, targets) = (loss_of(case), CaseTargets::of(case));
    let (outputs, cut) = (case.shape.elements(), case.records / 2);
    let scale = 1.0 / case.records as f32;
    let mut total = BatchMetrics::default();
    for part in [0..cut, cut..case.records] {
        let numbers = part.start * outputs..part.end * outputs;
        let dy = dy.as_deref_mut().map(|dy| &mut dy[numbers.clone()]);
        let (records, targets, y) = (part.len(), targets.view(&*loss, part), &y[numbers]);
        let metrics = loss.measure(Measure { records, y, targets, dy, scale, isa });
        assert!(metrics.weight <= records as f64, "no record weighs more than 1");
        total.add(&metrics);
    }
    let factor = (case.records as f64 / total.weight) as f32;
    dy.into_iter().flatten().for_each(|dy| *dy *= factor);
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

/// Compares several updates of an optimizer, which changes two arrays, with PyTorch or a paper's formula.
pub(crate) fn check_optimizer(name: &str, tolerance: f64) {
    const FIRST: usize = 20;
    for case in cases(name) {
        let optimizers = Registry::standard().build_optimizers(&case.component).unwrap();
        let mut params = noise(1, case.shape.elements());
        if case.zeros {
            params[FIRST..].fill(0.0);
        }
        let arrays = [("a", 0..FIRST), ("b", FIRST..params.len())];
        let mut updater = Updater::new(optimizers, &parameters(&arrays), UpdateOptions::default()).unwrap();
        let mut team = crate::Team::new(2).unwrap();
        for step in 0..case.records as u64 {
            let mut grads = noise(100 + step, params.len()).into();
            updater.update(&mut team, Due { update: step + 1, factor: 1.0 }, &mut params, &mut grads);
            let what = format!("{name} {:?}, update {step}", case.component.params);
            assert_close(&params, case.array(&step.to_string()), tolerance, &what);
        }
    }
}

/// Parameters of these names and places.
pub(crate) fn parameters(arrays: &[(&str, Range<usize>)]) -> Vec<Parameter> {
    let parameter = |(name, range): &(&str, Range<usize>)| Parameter {
        kind: ParameterKind::Learned,
        number: 0,
        name: (*name).into(),
        shape: vec![range.len()],
        range: range.clone(),
        layer: "layer".into(),
        init: Init::Constant(0.0),
    };
    arrays.iter().map(parameter).collect()
}

/// Compares a schedule with PyTorch at every step of a job.
pub(crate) fn check_schedule(test: &str) {
    let mut tried = 0;
    for row in json("schedules.json").as_array().unwrap().iter().filter(|row| row["test"] == test) {
        let schedule = component(row["name"].as_str().unwrap(), &row["params"]);
        let schedule = Registry::standard().build_schedule(&schedule).unwrap();
        let (steps_per_epoch, epochs) =
            (row["steps_per_epoch"].as_u64().unwrap(), row["epochs"].as_u64().unwrap());
        let total_steps = steps_per_epoch * epochs;
        let measured = |(epoch, value): (u64, &Json)| {
            let (step, value) = ((epoch + 1) * steps_per_epoch, value.as_f64().unwrap_or(f64::NAN));
            Validated::new(step, value).with("top1", Some(value))
        };
        let validations = row["validations"].as_array().map(|values| (0..).zip(values).map(measured));
        let validations: Vec<Validated> = validations.into_iter().flatten().collect();
        for (step, expected) in (0..).zip(row["factors"].as_array().unwrap()) {
            let seen = validations.partition_point(|validated| validated.step <= step);
            let validations = &validations[..seen];
            let factor = schedule.factor(Progress { step, steps_per_epoch, total_steps, validations });
            assert!((factor - expected.as_f64().unwrap()).abs() < 1e-12, "{row}, step {step}: {factor}");
            tried += 1;
        }
    }
    assert!(tried > 0, "there are golden values for {test}");
}
