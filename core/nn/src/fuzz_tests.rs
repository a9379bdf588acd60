//! Descriptions that nobody would write: whatever is typed, `Model::build` gives a model or says what is wrong, and a
//! model that it gives runs. `PROPTEST_CASES=100000 cargo test --release -p ringspin-nn fuzz` looks for longer.

use crate::{
    BatchView, Gradients, Model, ParamDoc, RandomKey, Registry, Shape, TargetKind, Targets, Team,
    TrainingPass, Workspace,
};
use proptest::prelude::*;
use ringspin_job::{Component, ModelSpec, Value};
use std::sync::Arc;

/// A model that needs more than this is only built.
const RUN_BYTES: u64 = 4 << 20;

fn value() -> impl Strategy<Value = Value> {
    let whole = prop_oneof![
        6 => (1i64..6).prop_map(Value::Int),
        2 => prop::sample::select(vec![0, -1, 7, 16, 17, 33, 1 << 20, 1 << 40, i64::MAX, i64::MIN]).prop_map(Value::Int),
    ];
    let number =
        prop::sample::select(vec![0.0, 0.5, 1.0, -1.0, 1e-30, 1e30, f64::MAX]).prop_map(Value::Float);
    let text = prop::sample::select(vec![
        "",
        "last",
        "all",
        "mean",
        "sum",
        "max",
        "relu",
        "tanh",
        "sum",
        "input",
        "a",
        "zeros",
        "normal:0.1",
        "normal:x",
    ])
    .prop_map(Value::from);
    let plain = prop_oneof![8 => whole, 1 => number, 1 => text, 1 => any::<bool>().prop_map(Value::Bool)];
    let list = prop::collection::vec(plain.clone(), 0..4).prop_map(Value::List);
    prop_oneof![7 => plain, 1 => list]
}

/// A layer (or a model as one) with some of its parameters, and sometimes with what every layer has.
fn layer() -> impl Strategy<Value = Component> {
    let registry = Registry::standard();
    let describe = |(name, params): (&str, &[ParamDoc])| {
        (
            name.to_string(),
            params.iter().map(|param| (param.name, param.default == "required")).collect::<Vec<_>>(),
        )
    };
    let layers = registry.layers().entries().iter().map(|entry| describe((entry.name(), entry.params())));
    // Of the named models, those without image sizes of their own.
    let models = ["mlp", "transformer_encoder_layer", "neumf"].into_iter().filter_map(|name| {
        let entry = registry.models().entries().iter().find(|entry| entry.name() == name)?;
        Some(describe((name, entry.params())))
    });
    let kinds: Vec<(String, Vec<(&'static str, bool)>)> = layers.chain(models).collect();
    let names = || prop::sample::select(vec!["input", "a", "b", "c", "d", "nobody"]).prop_map(Value::from);
    let inputs = prop::option::weighted(0.4, prop::collection::vec(names(), 1..4).prop_map(Value::List));
    let name = prop::option::weighted(0.7, names());
    (
        prop::sample::select(kinds),
        prop::collection::vec((value(), 0u8..10), 16),
        inputs,
        name,
        prop::option::weighted(0.05, names()),
    )
        .prop_map(|((kind, params), values, inputs, name, share)| {
            let mut layer = Component::new("", kind);
            for ((param, required), (value, chance)) in params.into_iter().zip(values) {
                let common = crate::LAYER_PARAMS.iter().any(|common| common.name == param);
                if !common && (required || chance < 2) {
                    layer = layer.with(param, value);
                }
            }
            let given = [("inputs", inputs), ("name", name), ("share", share)];
            given.into_iter().fold(layer, |layer, (key, value)| match value {
                Some(value) => layer.with(key, value),
                None => layer,
            })
        })
}

/// A training pass over two records; what it computes may be anything.
fn run(model: Model) {
    let (model, count) = (Arc::new(model), 2);
    let (mut classes, mut values) = (Vec::new(), Vec::new());
    match model.targets() {
        TargetKind::Classes { positions, .. } => classes = vec![0; count * positions],
        TargetKind::Values { count: each } => values = vec![0.5; count * each],
        TargetKind::Binary { count: each, no, .. } => values = vec![no; count * each],
    }
    let targets = if values.is_empty() { Targets::Classes(&classes) } else { Targets::Values(&values) };
    let inputs = model.made_up_inputs(count);
    let batch = BatchView { inputs: &inputs, targets, count };
    let params: Arc<[f32]> = model.initialize(1).into();
    let mut grads = Gradients::new(&model, count);
    let training = TrainingPass { params: &params, scale: 0.5, key: RandomKey::default(), accumulate: false };
    let mut workspace = Workspace::new(Arc::clone(&model), Team::new(2).unwrap(), count);
    let mut ready = 0;
    workspace.forward_backward(&batch, &training, &mut grads, &mut |range, _| ready += range.len());
    assert_eq!(ready, model.dense_count(), "every gradient is ready once");
    let mut outputs = vec![0.0; count * model.output().elements()];
    let mut workspace = Workspace::for_inference(model, Team::new(1).unwrap(), count, &params);
    workspace.forward(&batch, &params, Some(&mut outputs));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

    #[test]
    fn descriptions_build_or_are_refused_and_models_run(
        layers in prop::collection::vec(layer(), 1..6),
        dims in prop_oneof![
            Just(vec![4]), Just(vec![2]), Just(vec![5, 3]), Just(vec![1, 1]), Just(vec![6, 7, 3]), Just(vec![1, 1, 1]),
            Just(vec![8, 8, 16]), Just(vec![2, 3, 2, 2]),
        ],
        loss in prop::sample::select(vec!["cross_entropy", "mse", "l1", "bce_with_logits", "hinge", "nll", "kl_div"]),
    ) {
        let spec = ModelSpec { model: Component::new("model", "custom"), layers };
        let (input, loss) = (Shape::new(&dims).unwrap(), Component::new("loss", loss));
        match Model::build(&Registry::standard(), &spec, &input, &loss) {
            Err(problems) => prop_assert!(!problems.is_empty() && problems.to_string().contains("model")
                || problems.to_string().contains("loss"), "{}", problems),
            Ok(model) if model.memory_bytes(2, 2) < RUN_BYTES => run(model),
            Ok(_) => {}
        }
    }
}
