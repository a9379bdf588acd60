//! Tests of tables whose gradient are single rows: beside the same table with a dense gradient, and beside PyTorch.

use crate::golden::{assert_close, json, noise};
use crate::optimizers::{Due, UpdateOptions, Updater};
use crate::{
    BatchView, Gradients, Model, ParameterKind, RandomKey, Registry, Shape, Targets, Team, TrainingPass,
    Workspace,
};
use ringspin_job::{Component, ModelSpec, Value};
use std::sync::Arc;

const RECORDS: usize = 70;
const IDS: usize = 5;

fn layer(name: &str) -> Component {
    Component::new("", name)
}

fn table(name: &str, sparse: &str) -> Component {
    let table = layer(name).with("num_embeddings", 40).with("embedding_dim", 3);
    table.with("padding_idx", 2).with("sparse", sparse)
}

fn list(names: [&str; 2]) -> Value {
    Value::List(names.map(Value::from).to_vec())
}

/// A table that is looked up in some way.
fn layers(how: &str, sparse: &str) -> Vec<Component> {
    let mut layers = match how {
        "bag" => vec![table("embedding_bag", sparse)],
        "sum" => vec![table("embedding_bag", sparse).with("mode", "sum")],
        "shared" => vec![
            table("embedding", sparse).with("name", "a"),
            table("embedding", sparse).with("name", "b").with("inputs", "input").with("share", "a"),
            layer("multiply").with("inputs", list(["a", "b"])),
        ],
        "steps" => {
            let inner = table("embedding", sparse);
            let inner = inner.params.0.into_iter().map(|(name, setting)| (name, setting.value));
            let inner = inner.chain([("type".to_string(), Value::from("embedding"))]).collect();
            let shape = Value::List(vec![Value::Int(IDS as i64), Value::Int(1)]);
            let reshape = layer("reshape").with("shape", shape);
            vec![reshape, layer("time_distributed").with("layer", Value::Table(inner))]
        }
        _ => vec![table("embedding", sparse)],
    };
    layers.extend([layer("flatten"), layer("linear").with("out_features", 2)]);
    layers
}

fn build(layers: Vec<Component>) -> Result<Arc<Model>, String> {
    let spec = ModelSpec { model: Component::new("model", "custom"), layers };
    let (loss, input) = (Component::new("loss", "mse"), Shape::flat(IDS).unwrap());
    let model = Model::build(&Registry::standard(), &spec, &input, &loss);
    model.map(Arc::new).map_err(|problems| problems.to_string())
}

/// Adds the gradient of a batch that touches half of the table's rows.
fn pass(workspace: &mut Workspace, params: &[f32], grads: &mut Gradients, (seed, accumulate): (u64, bool)) {
    let ids = noise(seed, RECORDS * IDS).into_iter().map(|v| ((v + 1.0) * 10.0).floor());
    let (ids, targets) = (ids.collect::<Vec<f32>>(), noise(seed + 50, RECORDS * 2));
    let batch = BatchView { inputs: &ids, targets: Targets::Values(&targets), count: RECORDS };
    let training =
        TrainingPass { params, scale: 1.0 / RECORDS as f32, key: RandomKey::default(), accumulate };
    workspace.forward_backward(&batch, &training, grads, &mut |_, _| {});
}

/// Compares with numbers that are of ours.
fn assert_same(got: &[f32], expected: &[f32], tolerance: f64, what: &str) {
    let expected: Vec<f64> = expected.iter().map(|number| f64::from(*number)).collect();
    assert_close(got, &expected, tolerance, what);
}

/// Numbers by the parameters' names.
fn named(model: &Model, numbers: &[f32]) -> Vec<(String, Vec<f32>)> {
    let named = model.parameters().iter().map(|p| (p.name.clone(), numbers[p.range.clone()].to_vec()));
    let mut named: Vec<_> = named.collect();
    named.sort_by(|a, b| a.0.cmp(&b.0));
    named
}

/// Gradients with rows written into whole tables.
fn whole(model: &Model, grads: &Gradients) -> Vec<f32> {
    let mut numbers = grads.dense.clone();
    numbers.resize(model.parameter_count(), 0.0);
    for table in &grads.tables {
        let columns = table.sum.columns();
        for (row, values) in table.sum.rows().iter().zip(table.sum.values().chunks_exact(columns)) {
            assert!(*row < 20 && *row != 2, "only what was touched, and no padding");
            numbers[table.range().start + *row as usize * columns..][..columns].copy_from_slice(values);
        }
    }
    numbers
}

#[test]
fn rows_are_those_of_the_dense_gradient() {
    for how in ["one", "bag", "sum", "shared", "steps"] {
        let models = ["no", "lazy"].map(|sparse| build(layers(how, sparse)).unwrap());
        let [dense, sparse] = &models;
        assert_eq!(dense.dense_count(), sparse.dense_count() + 120, "{how}");
        assert_eq!(sparse.parameters().last().unwrap().kind, ParameterKind::Rows { lazy: true });
        let [expected, same] = [dense, sparse].map(|model| named(model, &model.initialize(4)));
        assert_eq!(expected, same, "{how}: the same start");
        let run = |model: &Arc<Model>, threads: usize| {
            let mut workspace = Workspace::new(Arc::clone(model), Team::new(threads).unwrap(), RECORDS);
            let (params, mut grads) = (model.initialize(4), Gradients::new(model, RECORDS));
            [(1, false), (2, true), (3, true)]
                .into_iter()
                .for_each(|which| pass(&mut workspace, &params, &mut grads, which));
            named(model, &whole(model, &grads))
        };
        let (expected, got) = (run(dense, 2), run(sparse, 1));
        for ((name, expected), (_, got)) in expected.iter().zip(&got) {
            assert_same(got, expected, 1e-6, &format!("{how} {name}"));
        }
        assert_eq!(run(sparse, 3), got, "{how}: threads change no bit");
    }
}

/// Weights, and their average, after some steps.
fn trained(sparse: &str, optimizer: &Component, options: UpdateOptions) -> [Vec<(String, Vec<f32>)>; 2] {
    let model = build(layers("one", sparse)).unwrap();
    let optimizers = Registry::standard().build_optimizers(optimizer).unwrap();
    let mut updater = Updater::new(optimizers, model.parameters(), options).unwrap();
    let mut workspace = Workspace::new(Arc::clone(&model), Team::new(2).unwrap(), RECORDS);
    let (mut params, mut grads) = (model.initialize(4), Gradients::new(&model, RECORDS));
    for update in 1..6 {
        pass(&mut workspace, &params, &mut grads, (update, false));
        updater.update(workspace.team(), Due { update, factor: 1.0 }, &mut params, &mut grads);
    }
    let average = updater.average().unwrap_or(&params).to_vec();
    [params, average].map(|numbers| named(&model, &numbers))
}

#[test]
fn exact_updates_are_those_of_dense_gradients() {
    let all = UpdateOptions { clip_norm: Some(0.05), clip_value: Some(0.01), ema_decay: Some(0.8) };
    for name in ["sgd", "adam", "adamw", "adagrad", "adadelta", "adamax", "rmsprop", "ftrl", "lars", "lamb"] {
        let plain = Component::new("optimizer", name).with("lr", 0.05);
        let mut kinds = vec![plain.clone()];
        if name != "ftrl" {
            kinds.push(plain.clone().with("weight_decay", 0.1));
        }
        if name == "sgd" {
            kinds.push(plain.clone().with("momentum", 0.9));
        }
        let group = plain.with("groups[0].match", "0.*").with("groups[0].l1", 0.01);
        kinds.push(group.with("groups[0].l2", 0.1));
        for optimizer in kinds {
            for options in [UpdateOptions::default(), all] {
                let [expected, got] = ["no", "exact"].map(|sparse| trained(sparse, &optimizer, options));
                for (expected, got) in expected.iter().zip(&got) {
                    // Norms are added up in another order.
                    let measured = ["lars", "lamb"].contains(&name) || options.clip_norm.is_some();
                    for ((what, expected), (_, got)) in expected.iter().zip(got) {
                        let what = format!("{name} {:?} {what}", optimizer.params);
                        assert_same(got, expected, if measured { 1e-6 } else { 0.0 }, &what);
                    }
                }
            }
        }
    }
}

#[test]
fn lazy_updates_leave_other_rows_alone() {
    let options = UpdateOptions { ema_decay: Some(0.5), ..UpdateOptions::default() };
    let adam = Component::new("optimizer", "adam").with("lr", 0.05).with("weight_decay", 0.1);
    let [lazy, average] = trained("lazy", &adam, options);
    let [exact, _] = trained("exact", &adam, options);
    let start = build(layers("one", "lazy")).unwrap();
    let start = named(&start, &start.initialize(4));
    let table = |numbers: &[(String, Vec<f32>)]| numbers[0].1.clone();
    let (lazy, average, exact, start) = (table(&lazy), table(&average), table(&exact), table(&start));
    assert_eq!(lazy[20 * 3..], start[20 * 3..], "rows that no step touches");
    assert_eq!(average[20 * 3..], start[20 * 3..]);
    assert!(lazy[..2 * 3].iter().zip(&start).all(|(a, b)| a != b));
    assert!(exact[20 * 3..].iter().zip(&start[20 * 3..]).all(|(a, b)| a != b), "decay reaches all");
}

/// Trains a table by rows and compares it, after every update, with what PyTorch's optimizer makes of it.
fn check_rows(golden: &str, optimizer: &Component, sparse: &str) {
    let golden = json("embedding_updates.json")[golden].clone();
    let table = layer("embedding").with("num_embeddings", 9).with("embedding_dim", 3).with("sparse", sparse);
    let spec = ModelSpec { model: Component::new("model", "custom"), layers: vec![table, layer("flatten")] };
    let (registry, loss) = (Registry::standard(), Component::new("loss", "mse"));
    let model = Arc::new(Model::build(&registry, &spec, &Shape::flat(2).unwrap(), &loss).unwrap());
    let optimizers = registry.build_optimizers(optimizer).unwrap();
    let mut updater = Updater::new(optimizers, model.parameters(), UpdateOptions::default()).unwrap();
    let mut workspace = Workspace::new(Arc::clone(&model), Team::new(2).unwrap(), 3);
    let (mut params, mut grads) = (noise(10, 27), Gradients::new(&model, 3));
    for (step, expected) in (0u64..).zip(golden.as_array().unwrap()) {
        let ids = noise(20 + step, 6).into_iter().map(|v| ((v + 1.0) / 2.0 * 7.0).floor());
        let (ids, targets) = (ids.collect::<Vec<f32>>(), noise(30 + step, 18));
        let batch = BatchView { inputs: &ids, targets: Targets::Values(&targets), count: 3 };
        let training =
            TrainingPass { params: &params, scale: 1.0 / 3.0, key: RandomKey::default(), accumulate: false };
        workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| {});
        let due = Due { update: step + 1, factor: 1.0 };
        updater.update(workspace.team(), due, &mut params, &mut grads);
        let expected: Vec<f64> = expected.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect();
        assert_close(&params, &expected, 2e-6, &format!("{optimizer:?} {sparse}, step {step}"));
    }
}

#[test]
fn rows_are_updated_as_pytorch_does() {
    let adam = Component::new("optimizer", "adam").with("lr", 0.05);
    // SparseAdam adds eps to a root that is not corrected yet: without it the two are the same.
    check_rows("sparse_adam", &adam.clone().with("eps", 1e-14), "lazy");
    check_rows("adam", &adam, "exact");
    let sgd = Component::new("optimizer", "sgd").with("lr", 0.5);
    check_rows("sgd", &sgd, "lazy");
    check_rows("sgd", &sgd, "exact");
    check_rows("momentum", &sgd.with("momentum", 0.9), "exact");
}

#[test]
fn what_does_not_go_with_rows_is_said() {
    let model = build(layers("one", "lazy")).unwrap();
    let lamb = Component::new("optimizer", "lamb");
    let optimizers = |lamb: &Component| Registry::standard().build_optimizers(lamb).unwrap();
    let text = optimizers(&lamb).assign(model.parameters()).unwrap_err().to_string();
    assert!(
        text.contains("optimizer.name: its steps depend on whole arrays, but 0.weight of model.layers[0]"),
        "{text}"
    );
    let lamb = lamb.with("groups[0].match", "0.weight").with("groups[0].name", "adam");
    assert!(optimizers(&lamb).assign(model.parameters()).is_ok());
    let mut shared = layers("shared", "exact");
    shared[1] = shared[1].clone().with("sparse", "no");
    let text = build(shared).err().unwrap();
    assert!(text.contains("give both layers the same \"sparse\""), "{text}");
    assert!(
        build(layers("one", "yes")).err().unwrap().contains("expected one of \"no\", \"exact\", \"lazy\"")
    );
    let shown = model.summary();
    assert!(shown.contains("0.weight: sparse gradients; updates are lazy"), "{shown}");
}
