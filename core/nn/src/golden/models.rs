//! Models by name beside PyTorch.

use super::{assert_close, cases, noise};
use crate::{BatchView, Gradients, Model, RandomKey, Registry, Targets, Team, TrainingPass, Workspace};
use ringspin_job::{Component, ModelSpec};
use std::sync::Arc;

/// Compares outputs, and the gradients of mean squared error, with PyTorch.
pub(crate) fn check_model(name: &str, tolerance: f64) {
    for case in cases(name) {
        let spec = ModelSpec { model: case.component.clone(), layers: Vec::new() };
        let loss = Component::new("loss", "mse");
        let model = Model::build(&Registry::standard(), &spec, &case.shape, &loss);
        let model = Arc::new(model.unwrap_or_else(|problems| panic!("{problems}")));
        let names: Vec<&String> = model.parameters().iter().map(|parameter| &parameter.name).collect();
        assert!(names.len() == case.parameters.len(), "{names:?} instead of {:?}", case.parameters);
        let mut params = vec![f32::NAN; model.parameter_count()];
        for parameter in model.parameters() {
            let place = case.parameters.iter().position(|name| *name == parameter.name);
            let place = place.unwrap_or_else(|| panic!("PyTorch has no {}", parameter.name));
            let numbers = noise(10 + place as u64, parameter.range.len());
            params[parameter.range.clone()].copy_from_slice(&numbers);
        }
        let (inputs, len) = (case.x(), case.records * model.output().elements());
        let targets = noise(3, len);
        let batch = BatchView { inputs: &inputs, targets: Targets::Values(&targets), count: case.records };
        let mut workspace = Workspace::new(Arc::clone(&model), Team::new(2).unwrap(), case.records);
        let (mut outputs, mut grads) = (vec![f32::NAN; len], Gradients::new(&model, case.records));
        grads.dense.fill(f32::NAN);
        workspace.forward(&batch, &params, Some(&mut outputs));
        assert_close(&outputs, case.array("y"), tolerance, "y");
        let scale = 1.0 / case.records as f32;
        let training = TrainingPass { params: &params, scale, key: RandomKey::default(), accumulate: false };
        workspace.forward_backward(&batch, &training, &mut grads, &mut |_, _| {});
        for parameter in model.parameters() {
            let expected = case.array(&format!("d{}", parameter.name));
            assert_close(grads.of(parameter), expected, tolerance, &parameter.name);
        }
    }
}
