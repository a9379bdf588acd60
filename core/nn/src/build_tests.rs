//! Tests of `Model::build`: what is refused, with which words, and what a program can add.

use crate::layer::{Backward, Forward, Layer, Misfit, Needs};
use crate::{Model, Registry, Shape};
use ringspin_job::{Component, ModelSpec, Problems, Value};

fn layers(layers: Vec<Component>) -> ModelSpec {
    ModelSpec { model: Component::new("model", "custom"), layers }
}

fn with(name: &str, params: &[(&str, i64)]) -> Component {
    params.iter().fold(Component::new("", name), |layer, (key, value)| layer.with(key, Value::Int(*value)))
}

fn build(spec: &ModelSpec, input: &[usize], loss: &str) -> Result<Model, Problems> {
    let loss = Component::new("loss", loss);
    Model::build(&Registry::standard(), spec, &Shape::new(input).unwrap(), &loss)
}

fn refused(spec: &ModelSpec, input: &[usize], loss: &str) -> String {
    build(spec, input, loss).err().expect("the model is wrong").to_string()
}

#[test]
fn every_mistake_is_reported_with_path_and_shapes() {
    let spec = layers(vec![
        with("conv2d", &[("out_channels", 4), ("kernel_size", 3), ("pading", 1)]),
        with("linear", &[("out_features", 10)]),
        with("rellu", &[]),
        with("dropout", &[("p", 3)]),
        with("linear", &[]),
    ]);
    let text = refused(&spec, &[28, 28, 1], "crossentropy");
    for part in [
        "model.layers[0].pading: \"conv2d\" has no such parameter; did you mean \"padding\"?",
        "model.layers[1]: linear needs flat records or sequences (T × F), the layer before gives 26 × 26 × 4; put a flatten",
        "model.layers[2]: unknown layer \"rellu\"; did you mean \"relu\"?",
        "model.layers[3].p: expected a number from 0 to 1, found 3",
        "model.layers[4].out_features: is required",
        "unknown loss \"crossentropy\"; did you mean \"cross_entropy\"?",
    ] {
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    assert_eq!(text.lines().count(), 6, "{text}");
}

#[test]
fn layers_that_do_not_fit_say_both_shapes() {
    let conv = with("conv2d", &[("out_channels", 4), ("kernel_size", 9)]);
    assert!(refused(&layers(vec![conv]), &[8, 8, 1], "mse").contains("does not fit on 8 × 8"));
    let conv = with("conv2d", &[("out_channels", 4), ("kernel_size", 3), ("in_channels", 3)]);
    assert!(
        refused(&layers(vec![conv]), &[8, 8, 1], "mse")
            .contains("in_channels = 3, but the layer before gives 8 × 8 × 1")
    );
    let conv = with("conv2d", &[("out_channels", 4), ("kernel_size", 3), ("groups", 3)]);
    assert!(refused(&layers(vec![conv]), &[8, 8, 6], "mse").contains("6 input channels and 4 filters"));
    let pool = with("max_pool2d", &[("kernel_size", 2), ("padding", 2)]);
    assert!(refused(&layers(vec![pool]), &[8, 8, 6], "mse").contains("at most half of kernel_size"));
    let pool = with("avg_pool2d", &[("kernel_size", 2)]);
    assert!(
        refused(&layers(vec![pool]), &[64], "mse")
            .contains("avg_pool2d needs images (H × W × C), the layer before gives 64")
    );
    let linear = with("linear", &[("out_features", 4), ("in_features", 9)]);
    assert!(
        refused(&layers(vec![linear]), &[8], "mse").contains("in_features = 9, but the layer before gives 8")
    );
    assert!(
        refused(&layers(vec![with("relu", &[])]), &[8, 8, 1], "nll")
            .contains("loss: nll needs one output a class")
    );
}

#[test]
fn nonsense_sizes_are_refused_before_memory_is_asked_for() {
    let huge = i64::MAX;
    for (layer, input) in [
        (with("linear", &[("out_features", huge)]), vec![1 << 20]),
        (with("linear", &[("out_features", 1 << 30)]), vec![1 << 20]),
        (with("conv2d", &[("out_channels", huge), ("kernel_size", 1)]), vec![8, 8, 1]),
        (with("conv2d", &[("out_channels", 1), ("kernel_size", huge), ("padding", huge)]), vec![8, 8, 1]),
        (
            with("conv2d", &[("out_channels", 1), ("kernel_size", 1 << 20), ("padding", 1 << 20)]),
            vec![8, 8, 1],
        ),
        (with("conv2d", &[("out_channels", 1), ("kernel_size", 2), ("dilation", huge)]), vec![8, 8, 1]),
        (with("conv2d", &[("out_channels", 1), ("kernel_size", 1), ("padding", huge)]), vec![8, 8, 1]),
        (with("max_pool2d", &[("kernel_size", huge), ("padding", huge / 2)]), vec![8, 8, 1]),
    ] {
        let text = refused(&layers(vec![layer.clone()]), &input, "mse");
        assert!(text.contains("model.layers[0]"), "{text}");
    }
    // A stride that is larger than the image has no second window, and costs nothing.
    let stride = with("conv2d", &[("out_channels", 1), ("kernel_size", 1), ("stride", huge)]);
    let model = build(&layers(vec![stride]), &[8, 8, 1], "mse").unwrap();
    assert!(model.memory_bytes(1, 1) < 10_000);
    assert!(refused(&layers(vec![]), &[8], "mse").contains("unknown model \"custom\""));
}

#[test]
fn names_of_parameters_can_be_given_and_must_differ() {
    let named = |name: &str| with("linear", &[("out_features", 3)]).with("name", Value::Text(name.into()));
    let model = build(&layers(vec![named("a"), named("b.c")]), &[2], "mse").unwrap();
    let names: Vec<&str> = model.parameters().iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["a.weight", "a.bias", "b.c.weight", "b.c.bias"]);
    let text = refused(&layers(vec![named("a"), named("a")]), &[2], "mse");
    assert!(
        text.contains("model.layers[1].name: \"a\" is what model.layers[0] (linear) is called as well"),
        "{text}"
    );
    let text = refused(&layers(vec![with("relu", &[("name", 3)])]), &[2], "mse");
    assert!(
        text.contains("model.layers[0].name: expected a name in quotes, other than \"input\", found 3"),
        "{text}"
    );
}

#[test]
fn graphs_that_can_not_be_are_refused() {
    let named = |name: &str, kind: &str, inputs: &[&str]| {
        let inputs = inputs.iter().map(|input| Value::from(*input)).collect();
        with(kind, &[]).with("name", name).with("inputs", Value::List(inputs))
    };
    let linear = |name: &str, outputs: i64| with("linear", &[("out_features", outputs)]).with("name", name);
    for (list, expected) in [
        // A cycle would be a layer that reads a later one.
        (
            vec![named("a", "relu", &["b"]), named("b", "relu", &["a"])],
            "layers[0].inputs: no layer before this one is called \"b\"",
        ),
        (vec![named("tower", "relu", &["input"]), named("b", "relu", &["towr"])], "did you mean \"tower\"?"),
        (vec![named("a", "relu", &[])], "expected 1 to 32 names of layers, found 0"),
        (vec![with("relu", &[("inputs", 3)])], "expected names of layers in quotes, found 3"),
        (
            vec![named("a", "relu", &["input"]), named("b", "relu", &["input"])],
            "nothing reads the output of \"a\"",
        ),
        (
            vec![linear("a", 2), linear("b", 3), named("c", "add", &["a", "b"])],
            "add needs inputs of one shape, not 2 and 3",
        ),
        (vec![linear("a", 2), named("b", "relu", &["a", "input"])], "reads one input, 2 are given"),
        (vec![linear("a", 2), linear("b", 3).with("share", "a")], "they can not be shared"),
        (vec![linear("a", 2).with("share", "z")], "no layer before this one is called \"z\""),
        (
            vec![linear("a", 2).with("loss_weight", -1), linear("b", 2)],
            "loss_weight: expected a number above 0, found -1",
        ),
        (vec![linear("a", 2).with("init", "normal")], "layers[0].init: expected \"zeros\""),
        (
            vec![linear("a", 2).with("bias_init", "one")],
            "layers[0].bias_init: expected \"zeros\" or a number",
        ),
        (
            vec![linear("a", 2), with("neumf", &[("users", 3), ("items", 3)])],
            "have to be a part of the record",
        ),
    ] {
        let text = refused(&layers(list), &[4], "mse");
        assert!(text.contains(expected), "{expected}\nis not in\n{text}");
    }
    // Outputs of different shapes that the loss does not fit.
    let text =
        refused(&layers(vec![linear("a", 1).with("loss_weight", 1), linear("b", 3)]), &[4], "cross_entropy");
    assert!(text.contains("loss: cross_entropy needs"), "{text}");
}

#[test]
fn initial_weights_are_pytorchs_distribution_and_depend_on_the_seed_alone() {
    let model = build(&layers(vec![with("linear", &[("out_features", 400)])]), &[100], "mse").unwrap();
    let weights = model.initialize(1);
    let (weight, bias) = weights.split_at(40_000);
    for numbers in [weight, bias] {
        let largest = numbers.iter().fold(0.0f32, |largest, v| largest.max(v.abs()));
        assert!(largest <= 0.1 && largest > 0.098, "{largest}");
    }
    let variance: f32 = weight.iter().map(|v| v * v).sum::<f32>() / 40_000.0;
    assert!((variance - 0.01 / 3.0).abs() < 1e-4, "{variance}");
    assert_eq!(weights, model.initialize(1));
    assert_ne!(weights, model.initialize(2));
    // Known numbers: a change of the generator would change every job that is repeated.
    assert_eq!(weights[..2].iter().map(|v| v.to_bits()).collect::<Vec<_>>(), KNOWN);
}

const KNOWN: [u32; 2] = [1_008_848_243, 3_164_587_136];

/// A layer of a user's own: `y = 2 x`.
struct Double(Shape);

impl Layer for Double {
    fn output(&self) -> &Shape {
        &self.0
    }
    fn needs(&self) -> Needs {
        Needs { input: false, output: false }
    }
    fn forward(&self, pass: Forward<'_>) {
        pass.y.iter_mut().zip(pass.x).for_each(|(y, x)| *y = 2.0 * x);
    }
    fn backward(&self, pass: Backward<'_>) {
        if let Some(dx) = pass.dx {
            dx.iter_mut().zip(&*pass.dy).for_each(|(dx, dy)| *dx = 2.0 * dy);
        }
    }
}

#[test]
fn a_program_can_add_layers_and_models() {
    let mut registry = Registry::standard();
    registry.layer("double", |reader, input| {
        if reader.count("times", 1, Some(1)) > 1 {
            return Err(Misfit("double works once".into()));
        }
        Ok(Box::new(Double(input.clone())))
    });
    registry.model("mynet", |reader| {
        vec![
            with("conv2d", &[("out_channels", 2), ("kernel_size", reader.count("size", 1, Some(3)) as i64)]),
            with("double", &[]),
            with("flatten", &[]),
        ]
    });
    let spec = ModelSpec { model: with("mynet", &[("size", 5)]), layers: vec![] };
    let loss = Component::new("loss", "mse");
    let input = Shape::image(8, 8, 1).unwrap();
    let model = Model::build(&registry, &spec, &input, &loss).unwrap();
    assert_eq!(model.output(), &Shape::flat(32).unwrap());
    // Behind the planar convolution the user's layer still gets its records channels last.
    assert!(
        model.graph().nodes.iter().any(|node| node.path.contains("ChannelsLast")),
        "a conversion stands before it"
    );
    let spec = layers(vec![with("double", &[("times", 2)])]);
    let text = Model::build(&registry, &spec, &input, &loss).err().unwrap().to_string();
    assert!(text.contains("model.layers[0]: double works once"), "{text}");
}
