//! Times single passes of convolutions and single products, each beside the FMA peak of the same moment: one JSON
//! document a line.
//!
//! `cargo run --release -p ringspin-nn --example conv_passes -- [--threads 2] [--milliseconds 200] [--only TEXT]
//! [--images 1] [--direct] [--bf16]`

use ringspin_nn::conv::{
    BackwardData, BackwardDataArgs, BackwardWeights, BackwardWeightsArgs, Begin, Choice, ConvSize, Forward,
    ForwardArgs,
};
use ringspin_nn::{Bounds, Isa, Prepacked, Team, peak_flops, weights_gradient};
use std::error::Error;
use std::time::{Duration, Instant};

/// A name, what is computed, and images.
type Layer = (&'static str, ConvSize, usize);

/// Convolutions of ResNet-50 (R), VGG-16 (V), Inception-v1 (I), LeNet-5 (L: models take another kernel for so few filters,
/// on planar images), and depthwise ones of MobileNet (M).
fn layers() -> Vec<Layer> {
    let conv =
        |name, side: usize, [inputs, outputs]: [usize; 2], [kernel, stride, padding]: [usize; 3], images| {
            (name, ConvSize::new([side, side, inputs], outputs, kernel, stride, padding), images)
        };
    let depthwise = |name, side: usize, channels: usize, [kernel, stride]: [usize; 2]| {
        let size = ConvSize::new([side, side, channels], channels, kernel, stride, kernel / 2);
        (name, ConvSize { groups: channels, ..size }, 16)
    };
    vec![
        conv("R_7x7s2_3-64@224", 224, [3, 64], [7, 2, 3], 16),
        conv("R_3x3s1_64-64@56", 56, [64, 64], [3, 1, 1], 16),
        conv("R_1x1s1_64-256@56", 56, [64, 256], [1, 1, 0], 16),
        conv("R_1x1s1_256-64@56", 56, [256, 64], [1, 1, 0], 16),
        conv("R_3x3s2_128-128@56", 56, [128, 128], [3, 2, 1], 16),
        conv("R_3x3s1_128-128@28", 28, [128, 128], [3, 1, 1], 16),
        conv("R_1x1s2_512-1024@28", 28, [512, 1024], [1, 2, 0], 16),
        conv("R_3x3s1_256-256@14", 14, [256, 256], [3, 1, 1], 16),
        conv("R_1x1s1_1024-256@14", 14, [1024, 256], [1, 1, 0], 16),
        conv("R_3x3s1_512-512@7", 7, [512, 512], [3, 1, 1], 16),
        conv("V_3x3s1_64-64@224", 224, [64, 64], [3, 1, 1], 8),
        conv("V_3x3s1_256-256@56", 56, [256, 256], [3, 1, 1], 8),
        conv("V_3x3s1_512-512@28", 28, [512, 512], [3, 1, 1], 8),
        conv("I_1x1s1_192-64@28", 28, [192, 64], [1, 1, 0], 16),
        conv("I_3x3s1_96-128@28", 28, [96, 128], [3, 1, 1], 16),
        conv("I_5x5s1_16-32@28", 28, [16, 32], [5, 1, 2], 16),
        conv("L_5x5s1_1-6@28", 28, [1, 6], [5, 1, 2], 128),
        conv("L_5x5s1_6-12@12", 12, [6, 12], [5, 1, 0], 128),
        conv("M_1x1s1_16-96@112", 112, [16, 96], [1, 1, 0], 16),
        conv("M_1x1s1_32-192@28", 28, [32, 192], [1, 1, 0], 16),
        conv("M_1x1s1_64-384@14", 14, [64, 384], [1, 1, 0], 16),
        depthwise("M_dw3x3s1_32@112", 112, 32, [3, 1]),
        depthwise("M_dw3x3s2_64@112", 112, 64, [3, 2]),
        depthwise("M_dw3x3s1_128@56", 56, 128, [3, 1]),
        depthwise("M_dw3x3s1_512@14", 14, 512, [3, 1]),
        depthwise("M_dw5x5s1_240@14", 14, 240, [5, 1]),
    ]
}

/// Rows, columns and inner dimension of products with packed weights: gates of an LSTM, linear layers.
const PRODUCTS: [[usize; 3]; 5] =
    [[16, 512, 128], [128, 512, 128], [32, 1000, 2048], [16, 4096, 4096], [2048, 256, 256]];

/// Rows, outputs and inputs of gradients of weights: of an LSTM, of linear layers of NeuMF and of a Transformer.
const GRADIENTS: [[usize; 3]; 4] = [[512, 512, 128], [2048, 256, 512], [2048, 128, 256], [4096, 256, 1024]];

struct Options {
    threads: usize,
    window: Duration,
    only: String,
    choice: Choice,
    /// Images of every layer, instead of as many as it has in training.
    images: Option<usize>,
}

fn options() -> Result<Options, Box<dyn Error>> {
    let mut options = Options {
        threads: 2,
        window: Duration::from_millis(200),
        only: String::new(),
        choice: Choice::STANDARD,
        images: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{flag} needs a value"));
        match flag.as_str() {
            "--threads" => options.threads = value()?.parse()?,
            "--milliseconds" => options.window = Duration::from_millis(value()?.parse()?),
            "--only" => options.only = value()?,
            "--images" => options.images = Some(value()?.parse()?),
            "--bf16" => options.choice.bf16 = true,
            "--direct" => options.choice.winograd = false,
            _ => return Err(format!("unknown argument {flag}").into()),
        }
    }
    Ok(options)
}

/// Numbers that begin at a cache line, as the engine's do.
struct Numbers {
    all: Vec<f32>,
    start: usize,
    len: usize,
}

impl Numbers {
    fn new(len: usize) -> Numbers {
        let all: Vec<f32> = (0..len + 16).map(|i| ((i * 37) % 101) as f32 * 0.02 - 1.0).collect();
        let start = all.as_ptr().align_offset(64);
        Numbers { all, start, len }
    }

    fn get(&self) -> &[f32] {
        &self.all[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [f32] {
        &mut self.all[self.start..][..self.len]
    }
}

/// Seconds of the best of many runs.
fn best(window: Duration, run: &mut dyn FnMut()) -> f64 {
    run();
    let (begin, mut best, mut runs) = (Instant::now(), f64::MAX, 0);
    while begin.elapsed() < window || runs < 5 {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

/// Times all passes of a layer; `report` gets the pass and the best seconds.
fn time_layer(
    (_, size, images): &Layer,
    (team, isa): (&mut Team, Isa),
    options: &Options,
    report: &mut dyn FnMut(&mut Team, &str, f64),
) {
    let (records, window, threads) = (*images, options.window, options.threads);
    let forward = Forward::plan(size, options.choice);
    let backward_data = BackwardData::plan(size, options.choice);
    let backward_weights = BackwardWeights::plan(size, options.choice);
    let scratch = forward.scratch(records, threads).max(backward_data.scratch(records, threads));
    let mut scratch = Numbers::new(scratch.max(backward_weights.scratch(records, threads)));
    let weights = Numbers::new(size.weights_len());
    let (mut x, mut y) =
        (Numbers::new(records * size.input_len()), Numbers::new(records * size.output_len()));
    let mut packed = Numbers::new(forward.packed());
    forward.pack(team, isa, weights.get(), packed.get_mut());
    let seconds = best(window, &mut || {
        let args = ForwardArgs {
            records,
            x: x.get(),
            weights: packed.get(),
            y: y.get_mut(),
            begin: Begin::Zero,
            bounds: Bounds::NONE,
            prologue: None,
        };
        forward.run(team, isa, args, scratch.get_mut());
    });
    report(team, "forward", seconds);
    let mut dweights = Numbers::new(size.weights_len());
    let seconds = best(window, &mut || {
        let args = BackwardWeightsArgs {
            records,
            x: x.get(),
            dy: y.get(),
            prologue: None,
            dweights: dweights.get_mut(),
            dbias: None,
            add: false,
        };
        backward_weights.run(team, isa, args, scratch.get_mut());
    });
    report(team, "backward-weights", seconds);
    if size.input[2] <= 3 {
        // The first layer of a network: nobody needs dx.
        return;
    }
    let mut packed = Numbers::new(backward_data.packed());
    backward_data.pack(team, isa, weights.get(), packed.get_mut());
    let seconds = best(window, &mut || {
        let (weights, dx) = (packed.get(), x.get_mut());
        let args = BackwardDataArgs { records, dy: y.get(), weights, dx, add: false };
        backward_data.run(team, isa, args, scratch.get_mut());
    });
    report(team, "backward-data", seconds);
}

/// Times a product of one thread with weights that are packed once.
fn time_product([rows, columns, inner]: [usize; 3], isa: Isa, window: Duration) -> f64 {
    let size = Prepacked { inner, columns };
    let (a, b, mut c) =
        (Numbers::new(rows * inner), Numbers::new(inner * columns), Numbers::new(rows * columns));
    let mut packed = Numbers::new(size.packed());
    size.pack(isa, b.get(), true, packed.get_mut());
    best(window, &mut || {
        size.multiply(isa, (a.get(), inner), packed.get(), (c.get_mut(), columns), false);
    })
}

/// Times a gradient of weights, of one thread.
fn time_gradient([rows, outputs, inputs]: [usize; 3], isa: Isa, window: Duration) -> f64 {
    let (dy, x) = (Numbers::new(rows * outputs), Numbers::new(rows * inputs));
    let mut dweights = Numbers::new(outputs * inputs);
    best(window, &mut || {
        let size = [rows, outputs, inputs];
        weights_gradient(isa, size, (dy.get(), outputs), (x.get(), inputs), dweights.get_mut(), false);
    })
}

/// Times a product of these sizes.
type TimeProduct = fn([usize; 3], Isa, Duration) -> f64;

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let (mut team, isa) = (Team::new(options.threads)?, Isa::best().with_bf16(options.choice.bf16));
    for (name, size, images) in layers().into_iter().filter(|layer| layer.0.contains(&options.only)) {
        let (images, threads) = (options.images.unwrap_or(images), options.threads);
        let flops = size.flops() as f64 * images as f64;
        time_layer(&(name, size, images), (&mut team, isa), &options, &mut |team, pass, seconds| {
            let peak = peak_flops(team);
            let ([h, w, c], [kernel, _], [stride, _]) = (size.input, size.kernel, size.stride);
            println!(
                "{{\"name\": \"{name}\", \"pass\": \"{pass}\", \"isa\": \"{isa}\", \"threads\": {threads}, \"images\": {images}, \
                 \"input\": [{h}, {w}, {c}], \"outputs\": {}, \"kernel\": {kernel}, \"stride\": {stride}, \"padding\": {}, \
                 \"groups\": {}, \"milliseconds\": {:.4}, \"gflops\": {:.1}, \"peak_gflops\": {:.1}}}",
                size.output[2],
                size.padding[0],
                size.groups,
                seconds * 1e3,
                flops / seconds * 1e-9,
                peak * 1e-9
            );
        });
    }
    let mut one = Team::new(1)?;
    let products = PRODUCTS.map(|size| ("P", "product", size, time_product as TimeProduct));
    let gradients = GRADIENTS.map(|size| ("G", "gradient", size, time_gradient as TimeProduct));
    for (kind, pass, size, time) in products.into_iter().chain(gradients) {
        let [rows, columns, inner] = size;
        let name = format!("{kind}_{rows}x{columns}x{inner}");
        if name.contains(&options.only) {
            let seconds = time(size, isa, options.window);
            println!(
                "{{\"name\": \"{name}\", \"pass\": \"{pass}\", \"isa\": \"{isa}\", \"threads\": 1, \"rows\": {rows}, \
                 \"columns\": {columns}, \"inner\": {inner}, \"milliseconds\": {:.4}, \"gflops\": {:.1}, \"peak_gflops\": {:.1}}}",
                seconds * 1e3,
                (2 * rows * columns * inner) as f64 / seconds * 1e-9,
                peak_flops(&mut one) * 1e-9
            );
        }
    }
    Ok(())
}
