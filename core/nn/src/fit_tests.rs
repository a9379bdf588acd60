//! Tests of what layers say when they do not fit their input, or their parameters each other.

use crate::{Model, Registry, Shape};
use ringspin_job::{Component, ModelSpec, Value};

fn counts(numbers: &[i64]) -> Value {
    Value::List(numbers.iter().map(|number| Value::Int(*number)).collect())
}

/// What is said about a model of one layer.
fn refused(layer: Component, input: &[usize]) -> String {
    let spec = ModelSpec { model: Component::new("model", "custom"), layers: vec![layer] };
    let (input, loss) = (Shape::new(input).unwrap(), Component::new("loss", "mse"));
    let built = Model::build(&Registry::standard(), &spec, &input, &loss);
    built.err().expect("the model is wrong").to_string()
}

fn with(name: &str, params: &[(&str, Value)]) -> Component {
    params.iter().fold(Component::new("", name), |layer, (key, value)| layer.with(key, value.clone()))
}

fn check(layer: Component, input: &[usize], part: &str) {
    let text = refused(layer, input);
    assert!(text.contains(part), "{part}\nis not in\n{text}");
}

#[test]
fn pools_and_convolutions_name_both_shapes() {
    let size = ("output_size", Value::Int(2));
    for name in ["adaptive_avg_pool2d", "adaptive_max_pool2d"] {
        let part = format!("{name} needs images (H × W × C), the layer before gives 8 × 3");
        check(with(name, std::slice::from_ref(&size)), &[8, 3], &part);
        check(
            with(name, &[("output_size", Value::Int(0))]),
            &[8, 8, 3],
            "output_size: expected a whole number",
        );
    }
    for name in ["global_avg_pool2d", "global_max_pool2d"] {
        check(with(name, &[]), &[8], &format!("{name} needs images (H × W × C), the layer before gives 8"));
    }
    let kernel = ("kernel_size", Value::Int(9));
    for name in ["max_pool1d", "avg_pool1d", "global_avg_pool1d", "global_max_pool1d"] {
        let params = if name.starts_with("global") { vec![] } else { vec![kernel.clone()] };
        let part = format!("{name} needs sequences (T × F), the layer before gives 8 × 8 × 3");
        check(with(name, &params), &[8, 8, 3], &part);
    }
    check(with("max_pool1d", std::slice::from_ref(&kernel)), &[8, 3], "does not fit on 1 × 8");
    let pool = [("kernel_size", Value::Int(2)), ("padding", Value::Int(2))];
    check(with("avg_pool1d", &pool), &[8, 3], "at most half of kernel_size");
    let conv = |name: &str, more: &[(&str, i64)]| {
        let more = more.iter().map(|(key, value)| (*key, Value::Int(*value)));
        let all = [("out_channels", Value::Int(4)), ("kernel_size", Value::Int(3))].into_iter().chain(more);
        with(name, &all.collect::<Vec<_>>())
    };
    check(conv("conv1d", &[]), &[2, 3], "conv1d: a window of 1 × 3");
    check(
        conv("conv1d", &[]),
        &[8, 8, 3],
        "conv1d needs sequences (T × F), the layer before gives 8 × 8 × 3",
    );
    check(
        conv("conv1d", &[("in_channels", 5)]),
        &[8, 3],
        "in_channels = 5, but the layer before gives 8 × 3",
    );
    for (name, input) in [("conv_transpose2d", &[8, 8, 6][..]), ("conv_transpose1d", &[8, 6])] {
        check(conv(name, &[("groups", 4)]), input, "6 input channels and 4 filters can not both be divided");
        check(conv(name, &[("padding", 5)]), input, "leave none within a padding of 5");
        check(
            conv(name, &[("output_padding", 1)]),
            input,
            "output_padding: has to be less than stride or dil",
        );
        check(conv(name, &[]), &[8], &format!("{name} needs"));
        check(conv(name, &[("stride", i64::MAX)]), input, "model.layers[0]");
    }
}

#[test]
fn norms_and_activations_name_channels_and_shape() {
    let groups = |groups| with("group_norm", &[("num_groups", Value::Int(groups))]);
    check(groups(4), &[3, 3, 6], "num_groups = 4 does not divide the channels of 3 × 3 × 6");
    check(
        groups(3).with("num_channels", Value::Int(9)),
        &[5, 6],
        "num_channels = 9, but the layer before gives 5 × 6",
    );
    check(with("within_channel_lrn", &[("size", Value::Int(4))]), &[8, 8, 3], "size: has to be odd");
    check(with("within_channel_lrn", &[]), &[8, 3], "needs images (H × W × C), the layer before gives 8 × 3");
    check(with("local_response_norm", &[]), &[8, 3], "size: is required");
    let slopes = with("prelu", &[("num_parameters", Value::Int(5))]);
    check(slopes, &[8, 8, 3], "num_parameters = 5, but the layer before gives 8 × 8 × 3: it can be 1 or 3");
    check(with("gelu", &[("approximate", Value::Text("tan".into()))]), &[3], "one of \"none\", \"tanh\"");
    check(
        with("softmax", &[("dim", Value::Int(2))]),
        &[8, 3],
        "softmax has dimension 2, but the layer before gives",
    );
}

#[test]
fn shapes_that_can_not_be_are_refused() {
    let shape = |sizes: &[i64]| with("reshape", &[("shape", counts(sizes))]);
    check(shape(&[5, -1]), &[8, 3], "[5, -1] is no shape of the 24 numbers of 8 × 3");
    check(shape(&[-1, -1]), &[8, 3], "is no shape of the 24 numbers");
    check(shape(&[0, -1]), &[8, 3], "is no shape of the 24 numbers");
    check(shape(&[i64::MAX, 2]), &[8, 3], "shape: expected a list of whole numbers");
    check(shape(&[1 << 31, 1 << 31]), &[8, 3], "model.layers[0]");
    check(shape(&[4, 5]), &[8, 3], "is no shape of the 24 numbers of 8 × 3");
    check(
        with("transpose", &[]),
        &[8],
        "transpose has dimension -2, but the layer before gives 8, of 1 dimensions",
    );
    let slice = |start, end| with("slice", &[("start", Value::Int(start)), ("end", Value::Int(end))]);
    for (start, end) in [(3, 3), (2, 1), (0, 9), (-9, 2), (8, 8)] {
        check(
            slice(start, end),
            &[4, 8],
            &format!("slice from {start} to {end} has no place in dimension 1 of 4 × 8"),
        );
    }
    let pad = |padding: &[i64]| with("pad", &[("padding", counts(padding))]);
    check(pad(&[1, 2, 3]), &[8, 8, 3], "padding = [1, 2, 3] does not fit 8 × 8 × 3");
    check(pad(&[1, 2, 3, 4]), &[8, 3], "it takes two numbers for each of 1 dimensions");
    check(pad(&[1, i64::MAX]), &[8, 3], "has more than");
    check(with("reduce", &[("op", Value::Text("prod".into()))]), &[8], "op: expected one of \"sum\"");
}

#[test]
fn joins_want_inputs_of_one_shape() {
    for name in ["subtract", "divide"] {
        check(with(name, &[]), &[8], &format!("{name} reads two inputs, 1 are given"));
    }
    for name in ["maximum", "minimum", "subtract"] {
        let (mut problems, shapes) = (ringspin_job::Problems::new(), [8, 9].map(|n| Shape::flat(n).unwrap()));
        let built = Registry::standard().build_layer(&Component::new("x", name), &shapes, &mut problems);
        let misfit = built.unwrap().err().expect("the shapes differ");
        assert_eq!(misfit.0, format!("{name} needs inputs of one shape, not 8 and 9"));
    }
}
