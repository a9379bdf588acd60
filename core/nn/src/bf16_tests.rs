//! Training with operands of products rounded to bf16, beside f32.

use crate::optimizers::{Due, UpdateOptions, Updater};
use crate::{
    BatchView, Gradients, Isa, Model, RandomKey, Registry, Shape, Targets, Team, TrainingPass, Workspace,
};
use ringspin_job::{Component, ModelSpec, Value};
use std::sync::Arc;

/// Steps of a curve.
const STEPS: u64 = 12;
/// Records of a step.
const RECORDS: usize = 16;

fn model(component: &Component, input: &[usize], bf16: bool) -> Arc<Model> {
    let spec = ModelSpec { model: component.clone(), layers: Vec::new() };
    let loss = Component::new("loss", "cross_entropy");
    let built = Model::build(&Registry::standard(), &spec, &Shape::new(input).unwrap(), &loss);
    Arc::new(built.unwrap_or_else(|problems| panic!("{problems}")).with_bf16(bf16))
}

/// The losses of steps over one batch, and the weights after them.
fn curve(model: &Arc<Model>, isa: Isa, threads: usize) -> (Vec<f64>, Vec<f32>) {
    // The LSTM begins with small gradients.
    let rate = if model.layers().iter().any(|layer| layer.name == "lstm") { 0.2 } else { 0.02 };
    let optimizer = Component::new("optimizer", "sgd").with("lr", rate).with("momentum", 0.9);
    let optimizers = Registry::standard().build_optimizers(&optimizer).unwrap();
    let mut updater = Updater::new(optimizers, model.parameters(), UpdateOptions::default()).unwrap();
    let team = Team::new(threads).unwrap().with_isa(isa);
    let mut workspace = Workspace::new(Arc::clone(model), team, RECORDS);
    let (inputs, mut params) = (model.made_up_inputs(RECORDS), model.initialize(3));
    let targets: Vec<u32> = (0..RECORDS as u32).map(|record| record % 2).collect();
    let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count: RECORDS };
    let mut grads = Gradients::new(model, RECORDS);
    let mut step = |step: u64| {
        let scale = 1.0 / RECORDS as f32;
        let training = TrainingPass { params: &params, scale, key: RandomKey::default(), accumulate: false };
        let loss = workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| ()).loss();
        let due = Due { update: step + 1, factor: 1.0 };
        updater.update(workspace.team(), due, &mut params, &mut grads);
        loss
    };
    let losses = (0..STEPS).map(&mut step).collect();
    (losses, params)
}

fn small(name: &str, params: &[(&str, i64)]) -> Component {
    let model = Component::new("model", name).with("vocabulary", Value::Int(50));
    params.iter().fold(model, |model, (key, value)| model.with(key, Value::Int(*value)))
}

#[test]
fn curves_are_those_of_f32_but_for_rounding() {
    let transformer = [("steps", 20), ("width", 32), ("num_layers", 2), ("heads", 2), ("inner", 64)];
    let models = [
        (Component::new("model", "lenet5"), vec![28, 28, 1]),
        (Component::new("model", "resnet20"), vec![32, 32, 3]),
        (small("lstm_text", &[("width", 24), ("hidden", 40)]), vec![20]),
        (small("transformer_text", &transformer).with("dropout", 0.0), vec![20]),
    ];
    for (component, input) in models {
        let (f32s, _) = curve(&model(&component, &input, false), Isa::best(), 2);
        let (bf16, _) = curve(&model(&component, &input, true), Isa::best(), 2);
        let name = &component.name;
        assert_ne!(f32s, bf16, "{name}: something is rounded");
        // Of what the loss was at first: 2 % while the curves fall.
        for (step, (f32, bf16)) in f32s.iter().zip(&bf16).enumerate() {
            let off = (f32 - bf16).abs();
            assert!(off <= 0.02 * f32s[0], "{name}, step {step}: {bf16} instead of {f32}: {f32s:?} {bf16:?}");
        }
        let [fall, bf16_fall] = [&f32s, &bf16].map(|curve| curve[0] - curve[curve.len() - 1]);
        assert!(fall > 0.05 && bf16_fall > 0.9 * fall, "{name} learns as fast: {f32s:?} {bf16:?}");
    }
}

/// One and two threads, tiles and vectors.
#[test]
fn neither_threads_nor_instructions_change_a_bit() {
    let models = [
        (Component::new("model", "lenet5"), vec![28, 28, 1]),
        (small("lstm_text", &[("width", 24), ("hidden", 40)]), vec![10]),
        // Weights whose gradients are cut by outputs, as threads have it.
        (Component::new("model", "mlp").with("hidden", Value::List(vec![Value::Int(150)])), vec![90]),
    ];
    for (component, input) in models {
        let model = model(&component, &input, true);
        let expected = curve(&model, Isa::best(), 1);
        for isa in Isa::available() {
            assert_eq!(curve(&model, isa, 2), expected, "{} on {isa}", component.name);
        }
    }
}
