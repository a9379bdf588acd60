//! Tests of whole passes: against PyTorch, against other numbers of threads, records and blocks.

use crate::golden::{component, json, noise};
#[cfg(not(feature = "blas"))]
use crate::kernels::Isa;
use crate::optimizers::{Due, UpdateOptions, Updater};
use crate::{
    BatchMetrics, BatchView, Gradients, Model, Parameter, ParameterKind, RandomKey, Registry, Shape, Targets,
    Team, TrainingPass, Workspace, ignored_class,
};
use ringspin_job::{Component, ModelSpec, Value};
use std::sync::Arc;

fn named(name: &str, params: &[(&str, Value)]) -> ModelSpec {
    let model = params
        .iter()
        .fold(Component::new("model", name), |model, (key, value)| model.with(key, value.clone()));
    ModelSpec { model, layers: Vec::new() }
}

fn build(spec: &ModelSpec, input: &[usize]) -> Arc<Model> {
    let loss = Component::new("loss", "cross_entropy");
    let input = Shape::new(input).unwrap();
    Arc::new(Model::build(&Registry::standard(), spec, &input, &loss).unwrap_or_else(|p| panic!("{p}")))
}

fn lenet() -> Arc<Model> {
    build(&named("lenet5", &[]), &[28, 28, 1])
}

fn mlp(hidden: &[i64], dropout: f64) -> Arc<Model> {
    let hidden = Value::List(hidden.iter().map(|size| Value::Int(*size)).collect());
    build(&named("mlp", &[("hidden", hidden), ("dropout", Value::Float(dropout))]), &[5, 7, 3])
}

fn workspace(model: &Arc<Model>, threads: usize, records: usize) -> Workspace {
    Workspace::new(Arc::clone(model), Team::new(threads).unwrap(), records)
}

fn classes(seed: u64, count: usize) -> Vec<u32> {
    noise(seed, count).into_iter().map(|v| ((f64::from(v) + 1.0) * 5.0) as u32).collect()
}

/// Gradients and metrics of one pass over `count` records.
fn pass(workspace: &mut Workspace, count: usize) -> (Vec<f32>, BatchMetrics) {
    let model = Arc::clone(workspace.model());
    let (inputs, targets) = (noise(1, count * model.input().elements()), classes(2, count));
    let params = model.initialize(3);
    let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count };
    let key = RandomKey { seed: 4, step: 5, lane: 6 };
    let training = TrainingPass { params: &params, scale: 1.0 / count as f32, key, accumulate: false };
    let mut grads = Gradients::new(&model, count);
    grads.dense.fill(f32::NAN);
    let metrics = workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| ());
    (grads.dense, metrics)
}

/// Trains from the weights, and on the batches, that make_golden.py had, and compares losses and what is left.
fn follow_pytorch(file: &str, model: &Arc<Model>, rate: f64, start: impl Fn(&Parameter) -> f64) {
    let golden = json(file);
    let records = golden["records"].as_u64().unwrap() as usize;
    let mut params = model.initialize(0);
    let learned = model.parameters().iter().filter(|parameter| parameter.kind == ParameterKind::Learned);
    for (i, parameter) in learned.enumerate() {
        let bound = start(parameter);
        let numbers = noise(10 + i as u64, parameter.range.len()).into_iter().map(|v| v * bound as f32);
        params[parameter.range.clone()].copy_from_slice(&numbers.collect::<Vec<_>>());
    }
    let optimizer = Component::new("optimizer", "sgd").with("lr", rate).with("momentum", 0.9);
    let optimizers = Registry::standard().build_optimizers(&optimizer).unwrap();
    let mut updater = Updater::new(optimizers, model.parameters(), UpdateOptions::default()).unwrap();
    let mut workspace = workspace(model, 2, records);
    let mut grads = Gradients::new(model, records);
    for (step, expected) in (0u64..).zip(golden["losses"].as_array().unwrap()) {
        let inputs = noise(200 + step, records * model.input().elements());
        let targets = classes(300 + step, records);
        let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count: records };
        let scale = 1.0 / records as f32;
        let training = TrainingPass { params: &params, scale, key: RandomKey::default(), accumulate: false };
        let loss = workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| ()).loss();
        let expected = expected.as_f64().unwrap();
        assert!((loss - expected).abs() <= 1e-4 * expected, "step {step}: {loss} instead of {expected}");
        let due = Due { update: step + 1, factor: 1.0 };
        updater.update(workspace.team(), due, &mut params, &mut grads);
    }
    for parameter in model.parameters() {
        let numbers = &params[parameter.range.clone()];
        let expected = golden["last"][&parameter.name].as_array().unwrap();
        for (got, expected) in numbers.iter().step_by(numbers.len() / 5 + 1).zip(expected) {
            let (got, expected) = (f64::from(*got), expected.as_f64().unwrap());
            assert!((got - expected).abs() < 2e-5, "{}: {got} instead of {expected}", parameter.name);
        }
    }
}

#[test]
fn ten_steps_of_lenet_follow_pytorch() {
    follow_pytorch("lenet_steps.json", &lenet(), 0.1, |parameter| match parameter.shape.split_first() {
        Some((_, filter)) if !filter.is_empty() => 1.0 / (filter.iter().product::<usize>() as f64).sqrt(),
        _ => 0.1,
    });
}

/// A graph with everything that a list of layers has not: `Branches` of make_golden.py.
fn branches() -> Arc<Model> {
    let layer = |name: &str, kind: &str, inputs: &[&str], params: &[(&str, i64)]| {
        let inputs = Value::List(inputs.iter().map(|input| Value::Text((*input).into())).collect());
        let layer = Component::new("", kind).with("name", Value::Text(name.into())).with("inputs", inputs);
        params.iter().fold(layer, |layer, (key, value)| layer.with(key, Value::Int(*value)))
    };
    let conv = |name: &str, input: &str, filters: i64, size: i64| {
        let params = [("out_channels", filters), ("kernel_size", size), ("padding", size / 2)];
        layer(name, "conv2d", &[input], &params)
    };
    let plain = |name: &str, input: &str, filters: i64| {
        conv(name, input, filters, 3).with("bias", Value::Bool(false))
    };
    let layers = vec![
        plain("stem", "input", 8),
        layer("bn0", "batch_norm2d", &["stem"], &[]),
        layer("x", "relu", &["bn0"], &[]),
        plain("a", "x", 8),
        layer("bn_a", "batch_norm2d", &["a"], &[]),
        layer("relu_a", "relu", &["bn_a"], &[]),
        plain("b", "relu_a", 8),
        layer("bn_b", "batch_norm2d", &["b"], &[]),
        layer("sum", "add", &["x", "bn_b"], &[]),
        layer("y", "relu", &["sum"], &[]),
        conv("left", "y", 4, 1),
        layer("relu_left", "relu", &["left"], &[]),
        conv("right", "y", 6, 3),
        layer("both", "concat", &["relu_left", "right"], &[]),
        layer("pool", "max_pool2d", &["both"], &[("kernel_size", 2)]),
        layer("flat", "flatten", &["pool"], &[]),
        layer("twice", "linear", &["flat"], &[("out_features", 160)]),
        layer("tanh", "tanh", &["twice"], &[]),
        layer("again", "linear", &["tanh"], &[("out_features", 160)])
            .with("share", Value::Text("twice".into())),
        layer("tanh2", "tanh", &["again"], &[]),
        layer("flat_aux", "flatten", &["y"], &[]),
        layer("aux", "linear", &["flat_aux"], &[("out_features", 10)]).with("loss_weight", Value::Float(0.3)),
        layer("head", "linear", &["tanh2"], &[("out_features", 10)]),
    ];
    build(&ModelSpec { model: Component::new("model", "custom"), layers }, &[8, 8, 3])
}

#[test]
fn ten_steps_of_a_graph_follow_pytorch() {
    follow_pytorch("branches_steps.json", &branches(), 0.05, |_| 0.2);
}

/// Ten steps of named models, without dropout, from the weights and batches that golden_models.py had.
#[test]
fn ten_steps_of_named_models_follow_pytorch() {
    for (name, golden) in json("models_steps.json").as_object().unwrap() {
        let number = |key: &str| golden[key].as_u64().unwrap() as usize;
        let (records, classes, rate) =
            (number("records"), number("classes"), golden["rate"].as_f64().unwrap());
        let mut model = component(name, &golden["params"]);
        for key in without_dropout(name) {
            model = model.with(key, Value::Float(0.0));
        }
        let limits: Option<Vec<usize>> = serde_json::from_value(golden["limits"].clone()).unwrap_or_default();
        let shape: Vec<usize> = match &limits {
            Some(limits) => vec![limits.len()],
            None => serde_json::from_value(golden["shape"].clone()).unwrap(),
        };
        let loss = if name == "neumf" { "bce_with_logits" } else { "cross_entropy" };
        let spec = ModelSpec { model, layers: Vec::new() };
        let (loss, input) = (Component::new("loss", loss), Shape::new(&shape).unwrap());
        let model = Arc::new(Model::build(&Registry::standard(), &spec, &input, &loss).unwrap());
        let mut params = crate::models::golden_weights(&model);
        let shrink = golden["shrink"].as_f64().unwrap_or(1.0) as f32;
        let learned = model.parameters().iter().filter(|parameter| parameter.kind == ParameterKind::Learned);
        learned.for_each(|parameter| {
            params[parameter.range.clone()].iter_mut().for_each(|number| *number *= shrink)
        });
        let optimizer = Component::new("optimizer", "sgd").with("lr", rate).with("momentum", 0.9);
        let optimizers = Registry::standard().build_optimizers(&optimizer).unwrap();
        let mut updater = Updater::new(optimizers, model.parameters(), UpdateOptions::default()).unwrap();
        let mut workspace = workspace(&model, 2, records);
        let mut grads = Gradients::new(&model, records);
        for (step, expected) in (0u64..).zip(golden["losses"].as_array().unwrap()) {
            let mut inputs = noise(200 + step, records * input.elements());
            if let Some(limits) = &limits {
                for (i, number) in inputs.iter_mut().enumerate() {
                    let limit = limits[i % limits.len()] as f64;
                    *number = ((f64::from(*number) + 1.0) / 2.0 * limit).floor() as f32;
                }
            }
            let class = |v: f32| ((f64::from(v) + 1.0) / 2.0 * classes as f64) as u32;
            let targets: Vec<u32> = noise(300 + step, records).into_iter().map(class).collect();
            let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count: records };
            let (scale, key) = (1.0 / records as f32, RandomKey::default());
            let training = TrainingPass { params: &params, scale, key, accumulate: false };
            let loss = workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| ()).loss();
            let expected = expected.as_f64().unwrap();
            assert!(
                (loss - expected).abs() <= 1e-4 * expected,
                "{name}, step {step}: {loss} instead of {expected}"
            );
            updater.update(workspace.team(), Due { update: step + 1, factor: 1.0 }, &mut params, &mut grads);
        }
    }
}

/// What a model drops with.
fn without_dropout(name: &str) -> &'static [&'static str] {
    match name {
        "inception_v1" => &["dropout", "aux_dropout"],
        "transformer_text" => &["dropout"],
        _ => &[],
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    for model in [lenet(), mlp(&[300, 500], 0.3), mlp(&[9], 0.0), branches()] {
        for count in [1, 3, 37] {
            let expected = pass(&mut workspace(&model, 1, 37), count);
            assert!(expected.0.iter().all(|grad| grad.is_finite()));
            for threads in [2, 3, 5] {
                let mut workspace = workspace(&model, threads, 37);
                assert_eq!(pass(&mut workspace, count), expected, "{threads} threads, {count} records");
                assert_eq!(pass(&mut workspace, count), expected, "the same again");
            }
        }
    }
}

#[test]
fn the_size_of_the_workspace_does_not_change_a_bit() {
    for model in [lenet(), mlp(&[400, 400], 0.2), branches()] {
        assert_eq!(pass(&mut workspace(&model, 2, 11), 11), pass(&mut workspace(&model, 2, 200), 11));
    }
}

#[test]
#[cfg(not(feature = "blas"))]
fn instructions_do_not_change_a_bit() {
    for model in [lenet(), mlp(&[300, 500], 0.3)] {
        let expected = pass(&mut workspace(&model, 2, 20), 20);
        for isa in Isa::available() {
            let team = Team::new(2).unwrap().with_isa(isa);
            let mut workspace = Workspace::new(Arc::clone(&model), team, 20);
            assert_eq!(pass(&mut workspace, 20), expected, "{isa}");
        }
    }
}

#[test]
fn lanes_add_up() {
    for model in [lenet(), mlp(&[300, 20], 0.0)] {
        let mut workspace = workspace(&model, 2, 24);
        let (inputs, targets) = (noise(1, 24 * model.input().elements()), classes(2, 24));
        let params = model.initialize(3);
        let record = model.input().elements();
        let mut run = |records: std::ops::Range<usize>, accumulate: bool, grads: &mut Gradients| {
            let batch = BatchView {
                inputs: &inputs[records.start * record..records.end * record],
                targets: Targets::Classes(&targets[records.clone()]),
                count: records.len(),
            };
            let training =
                TrainingPass { params: &params, scale: 1.0 / 24.0, key: RandomKey::default(), accumulate };
            workspace.forward_backward(&batch, &training, grads, &mut |_, _| ())
        };
        let (mut whole, mut parts) = (Gradients::new(&model, 24), Gradients::new(&model, 24));
        parts.dense.fill(f32::NAN);
        let expected = run(0..24, false, &mut whole);
        let mut sum = run(0..5, false, &mut parts);
        sum.add(&run(5..24, true, &mut parts));
        assert_eq!((sum.records, sum.top1, sum.top5), (24, expected.top1, expected.top5));
        // With a BLAS a row's bits depend on the rows around it.
        let limit = if cfg!(feature = "blas") { 1e-6 } else { 1e-9 };
        assert!((sum.loss_sum - expected.loss_sum).abs() < limit * expected.loss_sum);
        let worst = whole.dense.iter().zip(&parts.dense).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-6, "{worst}");
    }
}

/// A model that gives one of four classes for each pixel, some of which do not count.
#[test]
fn lanes_add_up_where_positions_weigh_differently() {
    let conv = Component::new("", "conv2d").with("out_channels", 4).with("kernel_size", 3);
    let spec = ModelSpec { model: Component::new("model", "custom"), layers: vec![conv] };
    let weights = Value::List([1.0, 0.5, 0.0, 8.0].map(Value::Float).to_vec());
    let loss = Component::new("loss", "cross_entropy").with("weight", weights).with("ignore_index", -100);
    let input = Shape::image(5, 6, 2).unwrap();
    let model = Arc::new(Model::build(&Registry::standard(), &spec, &input, &loss).unwrap());
    let (records, positions) = (9, 12);
    let ignore = |class: u32| if class > 3 { ignored_class(-100) } else { class };
    let targets: Vec<u32> = classes(2, records * positions).into_iter().map(|c| ignore(c / 2)).collect();
    let (inputs, params) = (noise(1, records * input.elements()), model.initialize(3));
    let mut workspace = workspace(&model, 2, records);
    let mut run = |part: std::ops::Range<usize>, accumulate: bool, grads: &mut Gradients| {
        let batch = BatchView {
            inputs: &inputs[part.start * input.elements()..part.end * input.elements()],
            targets: Targets::Classes(&targets[part.start * positions..part.end * positions]),
            count: part.len(),
        };
        let (scale, key) = (1.0 / records as f32, RandomKey::default());
        let training = TrainingPass { params: &params, scale, key, accumulate };
        workspace.forward_backward(&batch, &training, grads, &mut |_, _| ())
    };
    let (mut whole, mut parts) = (Gradients::new(&model, records), Gradients::new(&model, records));
    let expected = run(0..records, false, &mut whole);
    let mut sum = run(0..2, false, &mut parts);
    sum.add(&run(2..records, true, &mut parts));
    assert!(expected.weight < records as f64 && (expected.weight - sum.weight).abs() < 1e-12);
    assert!((sum.loss() - expected.loss()).abs() < 1e-9);
    assert_eq!(sum.classified as usize, targets.iter().filter(|class| **class < 4).count());
    let worst = whole.dense.iter().zip(&parts.dense).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst < 1e-6, "{worst}");
}

#[test]
fn gradients_are_ready_once_each_from_the_last_layer_on() {
    for model in [lenet(), mlp(&[600, 600, 3], 0.0)] {
        let mut workspace = workspace(&model, 2, 9);
        let (inputs, targets) = (noise(1, 9 * model.input().elements()), classes(2, 9));
        let params = model.initialize(3);
        let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count: 9 };
        let training =
            TrainingPass { params: &params, scale: 1.0, key: RandomKey::default(), accumulate: false };
        let (mut grads, mut seen, mut end) =
            (Gradients::new(&model, 9), vec![0.0; params.len()], params.len());
        workspace.forward_backward(&batch, &training, &mut grads, &mut |range, part| {
            assert_eq!((range.end, range.len()), (end, part.len()));
            end = range.start;
            seen[range].copy_from_slice(part);
        });
        assert_eq!((end, seen), (0, grads.dense), "what was ready was final");
    }
}

#[test]
fn evaluation_measures_what_training_measures() {
    for model in [lenet(), mlp(&[400, 400], 0.0)] {
        let mut workspace = workspace(&model, 2, 50);
        let (_, expected) = pass(&mut workspace, 50);
        let (inputs, targets) = (noise(1, 50 * model.input().elements()), classes(2, 50));
        let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count: 50 };
        let mut outputs = vec![f32::NAN; 50 * 10];
        let params = model.initialize(3);
        let metrics = workspace.forward(&batch, &params, Some(&mut outputs));
        assert_eq!((metrics.top1, metrics.top5, metrics.records), (expected.top1, expected.top5, 50));
        assert!((metrics.loss_sum - expected.loss_sum).abs() < 1e-6 * expected.loss_sum);
        let mut again = vec![f32::NAN; 50 * 10];
        let metrics =
            workspace.forward(&BatchView { targets: Targets::None, ..batch }, &params, Some(&mut again));
        assert_eq!((metrics.loss_sum, metrics.records), (0.0, 50));
        assert_eq!(again, outputs, "prediction needs no targets");
    }
}

/// Images so large that predictions take some at a time.
#[test]
fn predictions_in_rounds_are_those_of_single_records() {
    let layer = |name: &str| Component::new("", name);
    let conv = layer("conv2d").with("out_channels", Value::Int(9)).with("kernel_size", Value::Int(3));
    let (side, count) = (448, 11);
    let model = |tracks: bool| {
        let norm = layer("batch_norm2d").with("track_running_stats", Value::Bool(tracks));
        let head = [layer("global_avg_pool2d"), layer("linear").with("out_features", Value::Int(10))];
        let layers = [conv.clone(), norm].into_iter().chain(head).collect();
        build(&ModelSpec { model: Component::new("model", "custom"), layers }, &[side, side, 1])
    };
    let (inputs, targets) = (noise(1, count * side * side), classes(2, count));
    let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count };
    assert_eq!(crate::workspace::round(&model(true), count), 8, "of 2 M numbers each");
    assert_eq!(
        crate::workspace::round(&model(false), count),
        count,
        "statistics of a batch are of all of it"
    );
    let model = model(true);
    let params: Arc<[f32]> = model.initialize(3).into();
    let mut together = Workspace::for_inference(Arc::clone(&model), Team::new(2).unwrap(), count, &params);
    assert_eq!(together.max_records(), count);
    let mut outputs = vec![f32::NAN; count * 10];
    let metrics = together.forward(&batch, &params, Some(&mut outputs));
    let mut single = Workspace::for_inference(Arc::clone(&model), Team::new(1).unwrap(), 1, &params);
    let mut expected = BatchMetrics::default();
    for record in 0..count {
        let mut output = vec![f32::NAN; 10];
        expected.add(&single.forward(&batch.part(record..record + 1), &params, Some(&mut output)));
        let together = &outputs[record * 10..][..10];
        if cfg!(not(feature = "blas")) {
            assert_eq!(output, together, "record {record}");
        }
        let close = |(one, other): (&f32, &f32)| (one - other).abs() <= 1e-5;
        assert!(output.iter().zip(together).all(close), "record {record}: {output:?} and {together:?}");
    }
    assert!((metrics.loss_sum - expected.loss_sum).abs() < 1e-5 * expected.loss_sum);
    assert_eq!((metrics.top1, metrics.records), (expected.top1, count as u64));
}

#[test]
fn an_image_leaves_as_it_came_channels_last() {
    let conv = |filters| {
        Component::new("", "conv2d")
            .with("out_channels", Value::Int(filters))
            .with("kernel_size", Value::Int(1))
    };
    let layers = vec![conv(3).with("bias", Value::Bool(false)), Component::new("", "dropout")];
    let spec = ModelSpec { model: Component::new("model", "custom"), layers };
    let loss = Component::new("loss", "mse");
    let input = Shape::image(4, 5, 3).unwrap();
    let model = Arc::new(Model::build(&Registry::standard(), &spec, &input, &loss).unwrap());
    // The identity: filter k looks at channel k.
    let params: Vec<f32> = (0..9).map(|i| if i % 4 == 0 { 1.0 } else { 0.0 }).collect();
    let inputs = noise(1, 2 * 60);
    let mut outputs = vec![f32::NAN; 2 * 60];
    let batch = BatchView { inputs: &inputs, targets: Targets::Values(&inputs), count: 2 };
    let metrics = workspace(&model, 2, 2).forward(&batch, &params, Some(&mut outputs));
    assert_eq!((outputs, metrics.loss_sum), (inputs, 0.0));
}

#[test]
fn numbers_that_are_none_are_found() {
    let model = lenet();
    let mut grads = Gradients::from(model.initialize(1));
    assert_eq!(model.find_non_finite(&grads), None);
    grads.dense[2000] = f32::INFINITY;
    let found = model.find_non_finite(&grads).unwrap();
    assert_eq!((found.name.as_str(), found.layer.as_str()), ("7.weight", "model.layers[7]"));
}
