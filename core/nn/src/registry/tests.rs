//! Tests of the tables of names.

use super::*;
use ringspin_job::{LESS_IS_BETTER, Value};

/// The parameters a component asks for: a name that nothing resembles makes the reader list them.
fn accepted(problems: &Problems) -> Vec<String> {
    let text = problems.to_string();
    let list = text.lines().find_map(|line| line.split_once("no such parameter; accepted: "));
    let mut names: Vec<String> =
        list.map(|(_, names)| names.split(", ").map(Into::into).collect()).unwrap_or_default();
    names.sort();
    names.dedup();
    names
}

fn documented(params: &[ParamDoc], but: &[ParamDoc]) -> Vec<String> {
    assert!(params.iter().all(|param| !param.doc.is_empty() && !param.default.is_empty()));
    let mut names: Vec<String> =
        params.iter().filter(|param| !but.contains(param)).map(|param| param.name.into()).collect();
    names.sort();
    names
}

#[test]
fn documentation_lists_what_is_accepted() {
    let registry = Registry::standard();
    let nonsense = |name: &str| Component::new("x", name).with("qqqqqqqqqqqqqqqqqqqqqqqq", Value::Int(1));
    let image = Shape::image(32, 32, 4).unwrap();
    for entry in registry.layers().entries() {
        let mut problems = Problems::new();
        assert!(
            registry
                .build_layer(&nonsense(entry.name()), std::slice::from_ref(&image), &mut problems)
                .is_some()
        );
        assert_eq!(accepted(&problems), documented(entry.params(), LAYER_PARAMS), "{}", entry.name());
        assert!(!entry.doc().is_empty());
    }
    for entry in registry.losses().entries() {
        let mut problems = Problems::new();
        assert!(registry.build_loss(&nonsense(entry.name()), &image, &mut problems).is_some());
        assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
    }
    for entry in registry.optimizers().entries() {
        let problems = registry.build_optimizers(&nonsense(entry.name())).err().unwrap();
        assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
    }
    for entry in registry.schedules().entries() {
        let problems = registry.build_schedule(&nonsense(entry.name())).err().unwrap();
        assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
    }
    for less in LESS_IS_BETTER.into_iter().filter(|less| *less != "loss") {
        assert!(registry.metrics().entries().iter().any(|entry| entry.name() == less), "{less}");
    }
    for entry in registry.metrics().entries() {
        let problems = registry.check_metrics(&[nonsense(entry.name())]);
        assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
    }
    for entry in registry.models().entries() {
        let mut problems = Problems::new();
        assert!(registry.list_layers(&nonsense(entry.name()), &mut problems).is_some());
        assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
    }
}

#[test]
fn unknown_names_are_reported_with_the_nearest() {
    let registry = Registry::standard();
    let text = registry.build_optimizers(&Component::new("optimizer", "agd")).err().unwrap().to_string();
    assert!(text.contains("unknown optimizer \"agd\"; did you mean \"sgd\"?"), "{text}");
    let text = registry.build_schedule(&Component::new("schedule", "stp")).err().unwrap().to_string();
    assert!(text.contains("did you mean \"step\"?"), "{text}");
}

#[test]
fn a_later_registration_replaces_an_earlier_one() {
    let mut registry = Registry::standard();
    registry.model("lenet5", |_| vec![Component::new("", "relu")]);
    let mut problems = Problems::new();
    let layers = registry.list_layers(&Component::new("model", "lenet5"), &mut problems).unwrap();
    assert_eq!((layers.len(), problems.is_empty()), (1, true));
}
