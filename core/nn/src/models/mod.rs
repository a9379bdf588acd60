//! Models by name: functions from parameters to a list of layers, the same list a job file could hold.

pub(crate) mod autoencoder;
pub(crate) mod inception_v1;
pub(crate) mod inception_v3;
pub(crate) mod lenet5;
pub(crate) mod mlp;
pub(crate) mod mobilenet;
mod net;
pub(crate) mod neumf;
pub(crate) mod resnet;
pub(crate) mod text;
pub(crate) mod transformer_encoder;
pub(crate) mod transformer_encoder_layer;
pub(crate) mod vgg;
pub(crate) mod wide_deep;

use ringspin_job::{Component, Value};

/// A layer without a path of its own: `Model::build` gives it one.
fn layer(name: &str) -> Component {
    Component::new("", name)
}

/// A count as a job file would write it.
fn count(value: usize) -> Value {
    // Counts come from job files as i64 and are handed on unchanged.
    Value::Int(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
pub(crate) use tests::weights as golden_weights;

#[cfg(test)]
mod tests {
    use crate::golden::{component, json, noise};
    use crate::{BatchView, Model, Registry, Shape, Targets, Team, Workspace};
    use ringspin_job::{Component, ModelSpec};
    use std::sync::Arc;

    fn build(name: &str, shape: &[usize], classes: Option<usize>) -> Model {
        let model = Component::new("model", name);
        let model = classes.into_iter().fold(model, |model, classes| model.with("classes", classes));
        built(name, model, shape, if name == "neumf" { "mse" } else { "cross_entropy" })
    }

    fn built(name: &str, model: Component, shape: &[usize], loss: &str) -> Model {
        let spec = ModelSpec { model, layers: Vec::new() };
        let loss = Component::new("loss", loss);
        let built = Model::build(&Registry::standard(), &spec, &Shape::new(shape).unwrap(), &loss);
        built.unwrap_or_else(|problems| panic!("{name}: {problems}"))
    }

    /// As `weights` of golden_models.py.
    pub(crate) fn weights(model: &Model) -> Vec<f32> {
        let mut named: Vec<_> = model.parameters().iter().collect();
        named.sort_by(|a, b| a.name.cmp(&b.name));
        let mut params = vec![f32::NAN; model.parameter_count()];
        for (seed, parameter) in (1000..).zip(named) {
            let numbers = noise(seed, parameter.range.len());
            let filter: usize = parameter.shape[1..].iter().product();
            let to = &mut params[parameter.range.clone()];
            for (to, number) in to.iter_mut().zip(numbers) {
                *to = if parameter.shape.len() > 1 {
                    number * (6.0 / filter as f64).sqrt() as f32
                } else if parameter.name.ends_with("running_var") || parameter.name.ends_with("weight") {
                    1.0 + number / 4.0
                } else {
                    number / 4.0
                };
            }
        }
        params
    }

    #[test]
    fn models_answer_as_in_pytorch() {
        let golden = json("models.json");
        let number = |key: &str| golden[key].as_u64().unwrap() as usize;
        let (classes, records) = (number("classes"), number("records"));
        for (name, answer) in golden["answers"].as_object().unwrap() {
            let list = |key: &str| serde_json::from_value::<Vec<usize>>(answer[key].clone());
            let (model, inputs) = match list("limits") {
                Ok(limits) => {
                    let params = component(name, &answer["params"]);
                    let inputs =
                        noise(1, records * limits.len()).into_iter().enumerate().map(|(i, number)| {
                            ((f64::from(number) + 1.0) / 2.0 * limits[i % limits.len()] as f64).floor() as f32
                        });
                    (built(name, params, &[limits.len()], "mse"), inputs.collect())
                }
                Err(_) => {
                    let shape = list("shape").unwrap();
                    (build(name, &shape, Some(classes)), noise(1, records * shape.iter().product::<usize>()))
                }
            };
            let params: Arc<[f32]> = weights(&model).into();
            let model = Arc::new(model);
            let batch = BatchView { inputs: &inputs, targets: Targets::None, count: records };
            let mut outputs = vec![f32::NAN; records * model.output().elements()];
            let mut workspace = Workspace::for_inference(model, Team::new(2).unwrap(), records, &params);
            workspace.forward(&batch, &params, Some(&mut outputs));
            let expected: Vec<f64> = serde_json::from_value(answer["outputs"].clone()).unwrap();
            let scale = expected.iter().fold(0.0f64, |scale, v| scale.max(v.abs()));
            for (got, expected) in outputs.iter().zip(expected) {
                let error = (f64::from(*got) - expected).abs();
                assert!(error <= 2e-4 * scale, "{name}: {got} instead of {expected}");
            }
        }
    }

    #[test]
    fn models_have_the_published_numbers_of_parameters() {
        let registry = Registry::standard();
        for (name, count) in json("models.json")["parameters"].as_object().unwrap() {
            let entry = registry.models().entries().iter().find(|entry| entry.name() == name).unwrap();
            let model = build(name, entry.input(), None);
            assert_eq!(model.learned_count() as u64, count.as_u64().unwrap(), "{name}");
        }
    }
}
