//! Times forward and backward of models that are mostly matrix products, with whichever of our kernels, OpenBLAS and
//! MKL the build has: one JSON document a line.
//!
//! `cargo run --release -p ringspin-nn --features mkl --example blas_steps -- [--threads 2] [--seconds 3]`

use ringspin_job::{Component, ModelSpec, Value};
use ringspin_nn::{
    BatchView, Gradients, Model, RandomKey, Registry, Shape, Targets, Team, TrainingPass, Workspace,
    peak_flops,
};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What computes matrix products.
const PRODUCTS: &str = if cfg!(feature = "openblas") {
    "OpenBLAS"
} else if cfg!(feature = "mkl") {
    "MKL"
} else {
    "own kernels"
};

/// Steps before it counts, and the fewest that do.
const WARM_UP: usize = 2;
const FEWEST: usize = 3;

/// A title, a model with what differs from its defaults, the shape of a record, and records.
struct Case {
    title: &'static str,
    name: &'static str,
    params: Vec<(&'static str, Value)>,
    shape: &'static [usize],
    records: usize,
}

fn cases() -> Vec<Case> {
    let widths = |sizes: &[i64]| Value::List(sizes.iter().map(|size| Value::Int(*size)).collect());
    let hidden = vec![("hidden", widths(&[2048, 2048])), ("outputs", Value::Int(1000))];
    let unmasked = vec![("masked", Value::Bool(false)), ("dropout", Value::Float(0.0))];
    vec![
        Case { title: "lstm_text", name: "lstm_text", params: Vec::new(), shape: &[200], records: 128 },
        Case {
            title: "transformer_text",
            name: "transformer_text",
            params: unmasked,
            shape: &[128],
            records: 32,
        },
        Case { title: "linear 2048-2048-1000", name: "mlp", params: hidden, shape: &[2048], records: 256 },
    ]
}

/// Seconds of the best step.
fn best_step(case: &Case, threads: usize, window: Duration) -> Result<f64, Box<dyn Error>> {
    let component = Component::new("model", case.name);
    let component = case.params.iter().fold(component, |all, (key, value)| all.with(key, value.clone()));
    let spec = ModelSpec { model: component, layers: Vec::new() };
    let loss = Component::new("loss", "cross_entropy");
    let model = Model::build(&Registry::standard(), &spec, &Shape::new(case.shape)?, &loss);
    let model = Arc::new(model.map_err(|problems| problems.to_string())?);
    let (inputs, params) = (model.made_up_inputs(case.records), model.initialize(1));
    let classes: Vec<u32> = (0..case.records as u32).map(|i| i % 2).collect();
    let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&classes), count: case.records };
    let pass = TrainingPass {
        params: &params,
        scale: 1.0 / case.records as f32,
        key: RandomKey::default(),
        accumulate: false,
    };
    let mut grads = Gradients::new(&model, case.records);
    let mut workspace = Workspace::new(Arc::clone(&model), Team::new(threads)?, case.records);
    let (mut best, mut steps, mut begun) = (f64::MAX, 0, Instant::now());
    while steps < WARM_UP + FEWEST || begun.elapsed() < window {
        if steps == WARM_UP {
            (best, begun) = (f64::MAX, Instant::now());
        }
        let start = Instant::now();
        workspace.forward_backward(&batch, &pass, &mut grads, &mut |_, _| ());
        best = best.min(start.elapsed().as_secs_f64());
        steps += 1;
    }
    Ok(best)
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut threads, mut seconds) = (2, 3.0);
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--threads" => threads = value.parse()?,
            "--seconds" => seconds = value.parse()?,
            _ => return Err(format!("unknown argument {flag}").into()),
        }
    }
    for case in cases() {
        let best = best_step(&case, threads, Duration::try_from_secs_f64(seconds)?)?;
        println!(
            "{{\"model\": \"{}\", \"products\": \"{PRODUCTS}\", \"threads\": {threads}, \"batch\": {}, \"best_ms\": {:.3}, \
             \"best_records_per_second\": {:.1}, \"peak_gflops\": {:.1}}}",
            case.title,
            case.records,
            best * 1e3,
            case.records as f64 / best,
            peak_flops(&mut Team::new(threads)?) * 1e-9
        );
    }
    Ok(())
}
