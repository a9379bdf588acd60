//! After a workspace is built, passes and updates allocate nothing.
#![allow(clippy::unwrap_used)] // a test may panic

use ringspin_job::{Component, ModelSpec, Value};
use ringspin_nn::{
    BatchView, Due, Gradients, Model, RandomKey, Registry, Shape, Targets, Team, TrainingPass, UpdateOptions,
    Updater, Workspace,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what all threads allocate.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn layer(name: &str, params: &[(&str, i64)]) -> Component {
    params.iter().fold(Component::new("", name), |layer, (key, value)| layer.with(key, Value::Int(*value)))
}

fn steps(spec: &ModelSpec, input: &[usize]) -> usize {
    allocations(spec, input, false) + allocations(spec, input, true)
}

/// What steps allocate, with updates after the passes or within them.
fn allocations(spec: &ModelSpec, input: &[usize], within: bool) -> usize {
    let (registry, loss) = (Registry::standard(), Component::new("loss", "cross_entropy"));
    let model = Arc::new(Model::build(&registry, spec, &Shape::new(input).unwrap(), &loss).unwrap());
    let optimizer = Component::new("optimizer", "adam").with("groups[0].match", "*.bias");
    let optimizer = optimizer.with("groups[0].name", if within { "rmsprop" } else { "lamb" });
    let optimizers = registry.build_optimizers(&optimizer).unwrap();
    let clip_norm = (!within).then_some(1.0);
    let options = UpdateOptions { clip_norm, clip_value: Some(1.0), ema_decay: Some(0.9) };
    let mut updater = Updater::new(optimizers, model.parameters(), options).unwrap();
    let mut params = model.initialize(1);
    let mut grads = Gradients::new(&model, 40);
    let mut workspace = Workspace::new(Arc::clone(&model), Team::new(2).unwrap(), 40);
    if within {
        workspace = workspace.with_updates(&mut updater);
    }
    let (inputs, targets) = (model.made_up_inputs(40), vec![1; 40]);
    let mut step = |count: usize, update_number: u64| {
        let inputs = &inputs[..count * model.input().elements()];
        let batch = BatchView { inputs, targets: Targets::Classes(&targets[..count]), count };
        let (key, due) = (RandomKey::default(), Due { update: update_number, factor: 0.1 });
        if within {
            let mut update = updater.at_once(due, &mut params, &|_| 1.0);
            workspace.learn(&batch, (0.1, key), &mut update, &mut grads);
        } else {
            let training = TrainingPass { params: &params, scale: 0.1, key, accumulate: false };
            workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| ());
        }
        updater.update(workspace.team(), due, &mut params, &mut grads);
        workspace.forward(&batch, &params, None);
    };
    step(40, 1);
    // The harness allocates now and then on its own thread; what a step allocates, it allocates every time.
    let rounds = (0..3).map(|_| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for i in 2..10 {
            step(40, i);
            step(7, i);
            step(1, i);
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    rounds.min().expect("there are rounds")
}

/// Models of the layers that are in no other: of images, and of sequences.
fn plain_layers() -> [(Vec<Component>, &'static [usize]); 2] {
    let images = vec![
        layer("conv2d", &[("out_channels", 20), ("kernel_size", 3), ("padding", 1)]),
        layer("local_response_norm", &[("size", 5)]),
        layer("gelu", &[]),
        layer("group_norm", &[("num_groups", 4)]),
        layer("prelu", &[("num_parameters", 20)]),
        layer("conv_transpose2d", &[("out_channels", 6), ("kernel_size", 2), ("stride", 2)]),
        layer("within_channel_lrn", &[("size", 3)]),
        layer("hard_swish", &[]),
        layer("dropout2d", &[]),
        layer("adaptive_max_pool2d", &[("output_size", 5)]),
        layer("softplus", &[]),
        layer("global_avg_pool2d", &[]),
        layer("log_softmax", &[]),
    ];
    let shape = Value::List(vec![Value::Int(-1), Value::Int(4)]);
    let padding = Value::List(vec![Value::Int(1), Value::Int(2)]);
    let sequences = vec![
        layer("linear", &[("out_features", 36)]),
        Component::new("", "reshape").with("shape", shape),
        Component::new("", "pad").with("padding", padding),
        layer("conv1d", &[("out_channels", 8), ("kernel_size", 3)]),
        layer("elu", &[]),
        layer("conv_transpose1d", &[("out_channels", 6), ("kernel_size", 2)]),
        layer("softmax", &[("dim", 0)]),
        layer("max_pool1d", &[("kernel_size", 2)]),
        layer("transpose", &[]),
        layer("slice", &[("start", 1)]),
        layer("scale", &[("factor", 3)]),
        layer("identity", &[]),
        Component::new("", "reduce").with("op", Value::Text("max".into())),
    ];
    [(images, &[9, 9, 2]), (sequences, &[7])]
}

#[test]
fn a_step_allocates_nothing() {
    let named = |model| ModelSpec { model, layers: Vec::new() };
    let hidden = Value::List(vec![Value::Int(300), Value::Int(500), Value::Int(3)]);
    let mlp = Component::new("model", "mlp").with("hidden", hidden).with("dropout", Value::Float(0.5));
    let many_channels = vec![
        layer("conv2d", &[("out_channels", 20), ("kernel_size", 3)]),
        layer("relu", &[]),
        layer("conv2d", &[("out_channels", 5), ("kernel_size", 3), ("padding", 1)]),
        layer("avg_pool2d", &[("kernel_size", 2)]),
        layer("sigmoid", &[]),
        layer("flatten", &[]),
        layer("linear", &[("out_features", 2)]),
    ];
    for sparse in ["exact", "lazy"] {
        let table =
            layer("embedding", &[("num_embeddings", 30), ("embedding_dim", 8)]).with("sparse", sparse);
        let layers = vec![table, layer("flatten", &[]), layer("linear", &[("out_features", 3)])];
        let spec = ModelSpec { model: Component::new("model", "custom"), layers };
        assert_eq!(steps(&spec, &[7]), 0, "{sparse} rows");
    }
    let custom = ModelSpec { model: Component::new("model", "custom"), layers: many_channels };
    assert_eq!(steps(&named(Component::new("model", "lenet5")), &[28, 28, 1]), 0, "lenet5");
    assert_eq!(steps(&named(mlp), &[40]), 0, "mlp");
    assert_eq!(steps(&custom, &[9, 9, 2]), 0, "many channels");
    for (layers, input) in plain_layers() {
        let spec = ModelSpec { model: Component::new("model", "custom"), layers };
        assert_eq!(steps(&spec, input), 0, "{:?}", spec.layers);
    }
}
