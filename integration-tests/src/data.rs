//! Small data sets that tests write themselves: three classes of eight bytes that a small network tells apart.

use std::fmt::Write as _;
use std::path::Path;

/// Bytes of a record, without its label.
pub const FEATURES: usize = 8;
/// Classes.
pub const CLASSES: usize = 3;

/// The features of record `number`, and its class: noise, on which two of the bytes stand out by the class.
pub fn record(number: usize) -> ([u8; FEATURES], u8) {
    let class = number % CLASSES;
    let mut features = [0; FEATURES];
    let mut state = number as u32 ^ 0x9e37_79b9;
    for feature in &mut features {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *feature = (state >> 26) as u8;
    }
    features[class * 2] += 150;
    features[class * 2 + 1] += 100;
    (features, class as u8)
}

/// `count` raw records with one byte of label in front.
pub fn raw(count: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(count * (FEATURES + 1));
    for (features, class) in (0..count).map(record) {
        bytes.push(class);
        bytes.extend_from_slice(&features);
    }
    bytes
}

/// An IDX file of `count` images of 2 × 4.
pub fn idx_images(count: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 3];
    for size in [count as u32, 2, 4] {
        bytes.extend_from_slice(&size.to_be_bytes());
    }
    (0..count).for_each(|number| bytes.extend_from_slice(&record(number).0));
    bytes
}

/// The IDX file of their labels.
pub fn idx_labels(count: usize) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, 1];
    bytes.extend_from_slice(&(count as u32).to_be_bytes());
    bytes.extend((0..count).map(|number| record(number).1));
    bytes
}

/// Lines of CSV for records `from..to`: the features, then the class; names in the first line.
pub fn csv(from: usize, to: usize) -> String {
    let names: Vec<String> = (0..FEATURES).map(|feature| format!("f{feature}")).collect();
    let mut text = format!("{},class\n", names.join(","));
    for number in from..to {
        let (features, class) = record(number);
        for feature in features {
            write!(text, "{},", f32::from(feature) / 255.0).expect("a string takes everything");
        }
        writeln!(text, "{class}").expect("a string takes everything");
    }
    text
}

/// The job that learns raw records: `train.raw` is the input below `[input] path`, `check.raw` the validation.
pub const RAW_JOB: &str = r#"
name = "three-classes"
seed = 3
epochs = 4
batch_size = 32
lanes = 6
[input]
format = "raw"
files = "train.raw"
raw.shape = [8]
[validation]
files = "check.raw"
[model]
name = "mlp"
hidden = [16]
outputs = 3
[loss]
name = "cross_entropy"
[optimizer]
name = "sgd"
lr = 0.2
momentum = 0.9
"#;

/// A linear model of the same records with the layer of `examples/failing_layer.rs`, which panics at step 3.
pub const FAILING_JOB: &str = r#"
epochs = 4
batch_size = 32
lanes = 6
[input]
format = "raw"
files = "train.raw"
raw.shape = [8]
[[model.layers]]
type = "linear"
out_features = 3
[[model.layers]]
type = "failing"
step = 3
[loss]
name = "cross_entropy"
[optimizer]
name = "sgd"
lr = 0.2
"#;

/// The same network on CSV files `train-*.csv`.
pub const CSV_JOB: &str = r#"
name = "three-classes"
epochs = 4
batch_size = 32
lanes = 6
[input]
format = "csv"
files = "train-*.csv"
csv.header = true
csv.label = "class"
[validation]
files = "check.csv"
[model]
name = "mlp"
hidden = [16]
outputs = 3
[loss]
name = "cross_entropy"
[optimizer]
name = "sgd"
lr = 0.2
momentum = 0.9
"#;

/// The same on IDX files, the network written layer by layer.
pub const IDX_JOB: &str = r#"
name = "three-classes"
epochs = 4
batch_size = 32
lanes = 6
[input]
format = "idx"
images = "train-images"
labels = "train-labels"
[loss]
name = "nll"
[optimizer]
name = "adam"
lr = 0.01
[model]
[[model.layers]]
type = "flatten"
[[model.layers]]
type = "linear"
out_features = 16
[[model.layers]]
type = "tanh"
[[model.layers]]
type = "linear"
out_features = 3
[[model.layers]]
type = "log_softmax"
"#;

/// Writes `job.toml`, `train.raw` with `count` records and `check.raw` with 90.
pub fn write_raw(folder: &Path, count: usize) -> std::io::Result<()> {
    std::fs::write(folder.join("job.toml"), RAW_JOB)?;
    std::fs::write(folder.join("train.raw"), raw(count))?;
    std::fs::write(folder.join("check.raw"), raw(90))
}
