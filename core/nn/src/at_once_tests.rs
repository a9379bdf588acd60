//! Updates within passes, beside the same steps with updates after them.

use crate::golden::noise;
use crate::optimizers::{Due, UpdateOptions, Updater};
use crate::{
    BatchView, Gradients, Model, RandomKey, Registry, Shape, Targets, Team, TrainingPass, Workspace,
};
use ringspin_job::{Component, ModelSpec, Value};
use std::sync::Arc;

/// Those of the steps: more and fewer than large layers cut finely for.
const COUNTS: [usize; 3] = [70, 21, 69];
const RECORDS: usize = COUNTS[0];

fn layer(name: &str, params: &[(&str, Value)]) -> Component {
    params.iter().fold(Component::new("", name), |layer, (key, value)| layer.with(key, value.clone()))
}

fn linear(outputs: i32) -> Component {
    layer("linear", &[("out_features", outputs.into())])
}

/// Layers, and the shape of a record: small, sharded and whole linear layers, weights that two share, tables, steps.
fn models() -> Vec<(Vec<Component>, Vec<usize>)> {
    let named = |layer: Component, name: &str| layer.with("name", name);
    let steps = linear(900).params.0.into_iter().map(|(name, setting)| (name, setting.value));
    let steps = steps.chain([("type".to_string(), Value::from("linear"))]).collect();
    let table = [("num_embeddings", 4000.into()), ("embedding_dim", 5.into())];
    vec![
        (
            vec![linear(900), layer("tanh", &[]), named(linear(900), "mid"), layer("relu", &[]), linear(10)],
            vec![90],
        ),
        (
            vec![
                named(linear(120), "first"),
                named(linear(120), "again").with("share", "first"),
                named(linear(900), "mid").with("bias", Value::Bool(false)),
                layer("batch_norm1d", &[]),
                linear(10),
            ],
            vec![120],
        ),
        (
            vec![layer("embedding", &table), layer("flatten", &[]), named(linear(300), "mid"), linear(10)],
            vec![6],
        ),
        (
            vec![
                named(layer("time_distributed", &[("layer", Value::Table(steps))]), "mid"),
                layer("flatten", &[]),
                linear(10),
            ],
            vec![4, 150],
        ),
    ]
}

fn build(layers: Vec<Component>, shape: &[usize]) -> Arc<Model> {
    let spec = ModelSpec { model: Component::new("model", "custom"), layers };
    let (loss, input) = (Component::new("loss", "cross_entropy"), Shape::new(shape).unwrap());
    Arc::new(Model::build(&Registry::standard(), &spec, &input, &loss).unwrap_or_else(|p| panic!("{p}")))
}

/// Optimizers with states and without, groups, penalties, and what is frozen.
fn optimizers() -> Vec<Component> {
    let groups: [(&str, Value); 8] = [
        ("groups[0].match", "*.bias".into()),
        ("groups[0].name", "adamw".into()),
        ("groups[0].l1", 0.02.into()),
        ("groups[1].match", "mid.*weight".into()),
        ("groups[1].freeze", true.into()),
        ("groups[2].match", "*".into()),
        ("groups[2].l2", 0.1.into()),
        ("groups[2].lr_factor", 0.5.into()),
    ];
    let momentum = Component::new("optimizer", "sgd").with("lr", 0.1).with("momentum", 0.9);
    let grouped = groups.into_iter().fold(momentum.clone(), |sgd, (key, value)| sgd.with(key, value));
    vec![
        Component::new("optimizer", "sgd").with("lr", 0.1),
        momentum,
        grouped,
        Component::new("optimizer", "adam"),
    ]
}

/// Parameters, their average and the optimizers' arrays after some steps of which the records weigh half as much as
/// they could, and how many numbers were left to the passes.
fn steps(
    model: &Arc<Model>,
    optimizer: &Component,
    options: UpdateOptions,
    (at_once, threads): (bool, usize),
) -> (Vec<Vec<f32>>, usize) {
    let optimizers = Registry::standard().build_optimizers(optimizer).unwrap();
    let mut updater = Updater::new(optimizers, model.parameters(), options).unwrap();
    let mut workspace = Workspace::new(Arc::clone(model), Team::new(threads).unwrap(), RECORDS);
    if at_once {
        workspace = workspace.with_updates(&mut updater);
    }
    let (mut params, mut grads) = (model.initialize(7), Gradients::new(model, RECORDS));
    let targets: Vec<u32> = (0..RECORDS as u32).map(|record| record % 10).collect();
    for (step, count) in (0u64..).zip(COUNTS) {
        let inputs = model.made_up_inputs(count);
        let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets[..count]), count };
        let (scale, key) = (1.0 / count as f32, RandomKey { seed: 1, step, lane: 0 });
        let due = Due { update: step + 1, factor: 1.0 / (step + 1) as f64 };
        if at_once {
            let weigh = |weight: f64| (2.0 * count as f64 / weight) as f32;
            let mut update = updater.at_once(due, &mut params, &weigh);
            workspace.learn(&batch, (scale, key), &mut update, &mut grads);
            assert_eq!(update.not_finite(), None);
        } else {
            let training = TrainingPass { params: &params, scale, key, accumulate: false };
            workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| ());
        }
        for parameter in model.parameters() {
            let learned = parameter.kind == crate::ParameterKind::Learned;
            if learned && !updater.is_left(parameter.range.start) {
                grads.dense[parameter.range.clone()].iter_mut().for_each(|gradient| *gradient *= 2.0);
            }
        }
        updater.update(workspace.team(), due, &mut params, &mut grads);
    }
    let left = (0..params.len()).filter(|place| updater.is_left(*place)).count();
    let mut all = vec![params];
    all.extend(updater.average().map(<[f32]>::to_vec));
    all.extend(updater.states().flat_map(|state| state.arrays().to_vec()));
    (all, left)
}

#[test]
fn no_bit_differs_from_updates_after_the_pass() {
    let plain = UpdateOptions::default();
    let shaped = UpdateOptions { clip_norm: None, clip_value: Some(0.01), ema_decay: Some(0.9) };
    for (layers, shape) in models() {
        let model = build(layers, &shape);
        for (optimizer, options) in
            optimizers().iter().flat_map(|own| [plain, shaped].map(|options| (own, options)))
        {
            let (expected, nothing) = steps(&model, optimizer, options, (false, 2));
            assert_eq!(nothing, 0);
            for threads in [1, 2, 3] {
                let (got, left) = steps(&model, optimizer, options, (true, threads));
                for (got, expected) in got.iter().zip(&expected) {
                    let differ = got.iter().zip(expected).position(|(a, b)| a.to_bits() != b.to_bits());
                    assert_eq!(differ, None, "{shape:?}, {optimizer:?}, {options:?}, {threads} threads");
                }
                assert_eq!(got.len(), expected.len());
                assert!(left > 8 * 1024, "{shape:?}: something is left to passes");
            }
        }
    }
}

#[test]
fn what_two_layers_share_is_not_left_to_passes() {
    let [_, (layers, shape), ..] = &models()[..] else { panic!("there are more") };
    let model = build(layers.clone(), shape);
    let optimizers = Registry::standard().build_optimizers(&optimizers()[0]).unwrap();
    let mut updater = Updater::new(optimizers, model.parameters(), UpdateOptions::default()).unwrap();
    let _ = Workspace::new(Arc::clone(&model), Team::new(1).unwrap(), 3).with_updates(&mut updater);
    let left = model.parameters().iter().filter(|parameter| updater.is_left(parameter.range.start));
    assert_eq!(left.map(|parameter| parameter.name.as_str()).collect::<Vec<_>>(), ["mid.weight"]);
}

#[test]
fn gradients_that_are_not_finite_are_told_with_their_place() {
    let model = build(vec![linear(900), linear(900), linear(10)], &[120]);
    let optimizers = Registry::standard().build_optimizers(&optimizers()[1]).unwrap();
    let mut updater = Updater::new(optimizers, model.parameters(), UpdateOptions::default()).unwrap();
    let workspace = Workspace::new(Arc::clone(&model), Team::new(2).unwrap(), 4);
    let mut workspace = workspace.with_updates(&mut updater);
    let (mut params, mut grads) = (model.initialize(1), Gradients::new(&model, 4));
    let mut inputs = noise(1, 4 * 120);
    inputs[77] = f32::INFINITY;
    let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&[0, 1, 2, 3]), count: 4 };
    let mut update = updater.at_once(Due { update: 1, factor: 1.0 }, &mut params, &|_| 1.0);
    workspace.learn(&batch, (0.25, RandomKey::default()), &mut update, &mut grads);
    let place = update.not_finite().unwrap();
    assert!(place < 120 * 900, "{place}: the first parameter of the first layer");
}

/// Where a thread's share of a gradient takes as much room as all of it, it is kept as ever.
#[test]
fn updates_within_passes_never_take_more_memory() {
    for (outputs, records) in [(100, 2), (100, 100), (16, 100), (2000, 100)] {
        let model = build(vec![linear(outputs), linear(10)], &[9000]);
        for threads in [1, 2, 7, 16, 64] {
            let bytes = [model.memory_bytes(records, threads), model.updating_bytes(records, threads)];
            assert!(
                bytes[1] <= bytes[0],
                "{outputs} outputs, {records} records, {threads} threads: {bytes:?}"
            );
            let fine = outputs == 2000 && threads == 2;
            assert!(!fine || bytes[0] - bytes[1] > 40 << 20, "of 69 MiB little is in the making: {bytes:?}");
        }
    }
}
