//! Times training steps (forward, loss, backward, optimizer) of text classifiers on synthetic texts.
//!
//! `cargo run --release -p ringspin-nn --example sequence_step -- [--model lstm|gru|transformer] [--threads 2]
//! [--batch 128] [--steps 200] [--seconds 5]`

use ringspin_job::{Component, ModelSpec};
use ringspin_nn::{
    BatchView, Model, Moment, OptimizerState, RandomKey, Registry, Shape, Targets, Team, TrainingPass,
    Workspace, update,
};
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

/// Words of the texts, and numbers of an embedded word.
const WORDS: usize = 10_000;
const WIDTH: usize = 128;

struct Options {
    model: String,
    threads: usize,
    batch: usize,
    steps: usize,
    seconds: f64,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { model: "lstm".into(), threads: 2, batch: 128, steps: 200, seconds: 5.0 };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--model" => options.model = value()?,
            "--threads" => options.threads = value()?.parse()?,
            "--batch" => options.batch = value()?.parse()?,
            "--steps" => options.steps = value()?.parse()?,
            "--seconds" => options.seconds = value()?.parse()?,
            _ => return Err(format!("unknown argument {flag}").into()),
        }
    }
    Ok(options)
}

fn build(options: &Options) -> Result<Model, Box<dyn Error>> {
    let layer = |name: &str| Component::new("", name);
    let embedding = layer("embedding").with("num_embeddings", WORDS).with("embedding_dim", WIDTH);
    let mut layers = vec![embedding];
    match options.model.as_str() {
        "transformer" => {
            let block = layer("transformer_encoder_layer").with("d_model", WIDTH).with("nhead", 4);
            layers.push(layer("positional_encoding"));
            layers.push(block.with("dim_feedforward", 4 * WIDTH).with("dropout", 0.0));
            layers.push(layer("pool_sequence").with("mode", "mean"));
        }
        recurrent => layers.push(layer(recurrent).with("hidden_size", WIDTH).with("output", "last")),
    }
    layers.push(layer("linear").with("out_features", 2));
    let spec = ModelSpec { model: Component::new("model", "custom"), layers };
    let (input, loss) = (Shape::flat(options.steps)?, Component::new("loss", "cross_entropy"));
    Ok(Model::build(&Registry::standard(), &spec, &input, &loss)?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let model = Arc::new(build(&options)?);
    let optimizer = Registry::standard().build_optimizer(&Component::new("o", "sgd").with("lr", 0.001))?;
    let mut params = model.initialize(1);
    let mut grads = vec![0.0; params.len()];
    let mut state = OptimizerState::new(&*optimizer, params.len());
    let mut workspace = Workspace::new(Arc::clone(&model), Team::new(options.threads)?, options.batch);
    let inputs: Vec<f32> = (0..options.batch * options.steps).map(|i| (i * 7919 % WORDS) as f32).collect();
    let classes: Vec<u32> = (0..options.batch as u32).map(|i| i % 2).collect();
    let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&classes), count: options.batch };
    let (start, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || start.elapsed().as_secs_f64() < options.seconds {
        let (begin, number) = (Instant::now(), times.len() as u64);
        let training = TrainingPass {
            params: &params,
            scale: 1.0 / options.batch as f32,
            key: RandomKey { seed: 1, step: number, lane: 0 },
            accumulate: false,
        };
        workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| {});
        let moment = Moment { update: number + 1, rate: optimizer.base_rate(), isa: workspace.isa() };
        update(&*optimizer, workspace.team(), moment, (&mut params, &grads), &mut state);
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let (best, median) = (times[0], times[times.len() / 2]);
    let flops: u64 = model.layers().iter().map(|layer| layer.flops).sum();
    let records = options.batch as f64;
    println!(
        "{}: {:.0} records/s at the median, {:.0} at best ({:.0} Gflop/s) of {} steps",
        options.model,
        records / median,
        records / best,
        3e-9 * flops as f64 * records / best,
        times.len()
    );
    Ok(())
}
