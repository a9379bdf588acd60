//! A model of one's own, in a binary of one's own that trains here and ships itself to YARN:
//!
//! ```text
//! cargo run --release --example own_model -- train --conf conf/own-model.toml
//! target/release/examples/own_model train --conf conf/own-model.toml --master yarn --input hdfs:///data/mnist …
//! ```

use ringspin::job::{Component, ParamReader};
use ringspin::{App, layer};

/// A LeNet with parameters: `[model] name = "wide-lenet"`, `width = 16`, `classes = 10`.
fn wide_lenet(params: &mut ParamReader<'_>) -> Vec<Component> {
    let width = params.count("width", 1, Some(8));
    let classes = params.count("classes", 2, Some(10));
    vec![
        layer("conv2d").with("out_channels", width).with("kernel_size", 5),
        layer("relu"),
        layer("max_pool2d").with("kernel_size", 2),
        layer("conv2d").with("out_channels", 2 * width).with("kernel_size", 5),
        layer("relu"),
        layer("max_pool2d").with("kernel_size", 2),
        layer("flatten"),
        layer("linear").with("out_features", 100),
        layer("relu"),
        layer("linear").with("out_features", classes),
    ]
}

fn main() -> std::process::ExitCode {
    let mut app = App::new();
    app.registry().model("wide-lenet", wide_lenet);
    app.main()
}
