//! Times training steps (forward, loss, backward, optimizer) on synthetic data and prints them beside what the
//! CPU can do.
//!
//! `cargo run --release -p ringspin-nn --example lenet_step -- [--threads 2] [--batch 128] [--seconds 5]
//! [--model lenet5|mlp] [--json]`

use ringspin_job::{Component, ModelSpec, Value};
use ringspin_nn::{
    BatchView, Due, Isa, Model, RandomKey, Registry, Shape, Targets, Team, TrainingPass, UpdateOptions,
    Updater, Workspace, peak_flops,
};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Options {
    threads: usize,
    batch: usize,
    seconds: f64,
    model: String,
    json: bool,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options { threads: 2, batch: 128, seconds: 5.0, model: "lenet5".into(), json: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--threads" => options.threads = value()?.parse()?,
            "--batch" => options.batch = value()?.parse()?,
            "--seconds" => options.seconds = value()?.parse()?,
            "--model" => options.model = value()?,
            "--json" => options.json = true,
            _ => return Err(format!("unknown argument {flag}").into()),
        }
    }
    Ok(options)
}

fn build(name: &str) -> Result<Model, Box<dyn Error>> {
    let mut model = Component::new("model", name);
    if name == "mlp" {
        model = model.with("hidden", Value::List(vec![Value::Int(2048), Value::Int(2048)]));
    }
    let spec = ModelSpec { model, layers: Vec::new() };
    let input = Shape::image(28, 28, 1)?;
    Ok(Model::build(&Registry::standard(), &spec, &input, &Component::new("loss", "cross_entropy"))?)
}

/// Seconds of each step.
fn time_steps(model: &Arc<Model>, options: &Options) -> Result<Vec<f64>, Box<dyn Error>> {
    let optimizer = Component::new("optimizer", "sgd")
        .with("lr", Value::Float(0.001))
        .with("momentum", Value::Float(0.9));
    let optimizers = Registry::standard().build_optimizers(&optimizer)?;
    let mut updater = Updater::new(optimizers, model.parameters(), UpdateOptions::default())?;
    let mut params = model.initialize(1);
    let mut grads = vec![0.0; params.len()];
    let mut workspace = Workspace::new(Arc::clone(model), Team::new(options.threads)?, options.batch);
    let inputs: Vec<f32> =
        (0..options.batch * 784).map(|i| ((i * 7919) % 1999) as f32 / 999.5 - 1.0).collect();
    let targets: Vec<u32> = (0..options.batch as u32).map(|i| i % 10).collect();
    let batch = BatchView { inputs: &inputs, targets: Targets::Classes(&targets), count: options.batch };
    let (start, mut seconds, mut step) = (Instant::now(), Vec::new(), 0);
    while start.elapsed() < Duration::from_secs_f64(options.seconds) || step < 5 {
        let begin = Instant::now();
        let key = RandomKey { seed: 1, step, lane: 0 };
        let training =
            TrainingPass { params: &params, scale: 1.0 / options.batch as f32, key, accumulate: false };
        workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| ());
        step += 1;
        let due = Due { update: step, factor: 1.0 };
        updater.update(workspace.team(), due, &mut params, &mut grads);
        seconds.push(begin.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

fn cpu() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
        line.and_then(|line| line.split(':').nth(1)).unwrap_or("?").trim().to_string()
    };
    format!("{}, family {} model {}", field("model name"), field("cpu family"), field("model"))
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let model = Arc::new(build(&options.model)?);
    let peak = peak_flops(&mut Team::new(options.threads)?, Isa::best());
    let mut seconds = time_steps(&model, &options)?;
    seconds.sort_by(f64::total_cmp);
    let (best, median) = (seconds[0], seconds[seconds.len() / 2]);
    // Backward costs twice forward, but for the gradient of the input.
    let flops: u64 =
        model.layers().iter().map(|layer| 3 * layer.flops).sum::<u64>() - model.layers()[0].flops;
    let share = flops as f64 * options.batch as f64 / best / peak;
    let (records, isa, cpu) = (options.batch as f64, Isa::best(), cpu());
    let Options { threads, batch, model: name, .. } = &options;
    if options.json {
        println!(
            "{{\"model\": \"{name}\", \"threads\": {threads}, \"batch\": {batch}, \"cpu\": \"{cpu}\", \"isa\": \"{isa}\", \
             \"peak_gflops\": {:.1}, \"peak_share\": {share:.3}, \"steps\": {}, \"best_ms\": {:.4}, \"median_ms\": {:.4}, \
             \"best_records_per_second\": {:.0}, \"median_records_per_second\": {:.0}}}",
            peak * 1e-9,
            seconds.len(),
            best * 1e3,
            median * 1e3,
            records / best,
            records / median
        );
    } else {
        println!("{cpu}; {isa}, {threads} threads: FMA peak {:.1} GFLOP/s", peak * 1e-9);
        println!("{name}, batch {batch}, {} steps:", seconds.len());
        println!(
            "  best   {:8.3} ms  {:9.0} records/s  {:.1} % of the peak",
            best * 1e3,
            records / best,
            100.0 * share
        );
        println!("  median {:8.3} ms  {:9.0} records/s", median * 1e3, records / median);
    }
    Ok(())
}
