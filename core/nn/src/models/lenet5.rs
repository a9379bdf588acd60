//! LeNet-5 as BigDL builds it for MNIST: two 5×5 convolutions of 6 and 12 channels, 100 hidden units.
//!
//! The output is logits, for `cross_entropy`; BigDL's own ends in `log_softmax`, for `nll`: the same loss.

use super::{count, layer};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader};

/// One line for the documentation.
pub(crate) const DOC: &str = "LeNet-5 with 6 and 12 channels and tanh, as BigDL's; for 28 × 28 × 1";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("classes", "10", "outputs")];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(10));
    vec![
        layer("conv2d").with("out_channels", count(6)).with("kernel_size", count(5)),
        layer("tanh"),
        layer("max_pool2d").with("kernel_size", count(2)),
        layer("tanh"),
        layer("conv2d").with("out_channels", count(12)).with("kernel_size", count(5)),
        layer("max_pool2d").with("kernel_size", count(2)),
        layer("flatten"),
        layer("linear").with("out_features", count(100)),
        layer("tanh"),
        layer("linear").with("out_features", count(classes)),
    ]
}

#[cfg(test)]
mod tests {
    use crate::{Model, Registry, Shape};
    use ringspin_job::{Component, ModelSpec};

    #[test]
    fn has_the_parameters_of_bigdl_and_pytorch() {
        let spec = ModelSpec { model: Component::new("model", "lenet5"), layers: Vec::new() };
        let input = Shape::image(28, 28, 1).unwrap();
        let loss = Component::new("loss", "cross_entropy");
        let model = Model::build(&Registry::standard(), &spec, &input, &loss).unwrap();
        assert_eq!(model.parameter_count(), 22_278);
        let names: Vec<&str> = model.parameters().iter().map(|p| p.name.as_str()).collect();
        assert_eq!(
            names,
            ["0.weight", "0.bias", "4.weight", "4.bias", "7.weight", "7.bias", "9.weight", "9.bias"]
        );
        assert_eq!(model.output(), &Shape::flat(10).unwrap());
    }
}
