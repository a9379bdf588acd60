//! Every metric against scikit-learn, cut into batches and merged in other orders; and what is refused.

use super::{Gathered, NamedMetric, Records, Scored};
use crate::batch::{TargetKind, Targets, ignored_class};
use crate::golden::{component, json, noise};
use crate::{Registry, Shape};
use ringspin_job::{Component, Value};
use serde_json::Value as Json;
use std::ops::Range;

/// Some records of a golden row.
struct Row {
    component: Component,
    kind: TargetKind,
    output: Shape,
    y: Vec<f32>,
    classes: Vec<u32>,
    values: Vec<f32>,
    records: usize,
    value: f64,
}

impl Row {
    fn read(data: &Json, metric: &Json) -> Row {
        let count = |name: &str| data[name].as_u64().unwrap() as usize;
        let (records, outputs) = (count("records"), count("outputs"));
        let numbers = noise(1, records * outputs).into_iter().map(|v| 4.0 * v);
        let ties = data["ties"] == true;
        let kind = match data["kind"].as_str().unwrap() {
            "classes" => TargetKind::Classes { count: outputs, positions: 1, ignored: None },
            "binary" => TargetKind::Binary { count: outputs, no: 0.0, boundary: 0.5 },
            _ => TargetKind::Values { count: outputs },
        };
        let targets: Vec<f64> =
            data["targets"].as_array().unwrap().iter().map(|t| t.as_f64().unwrap()).collect();
        Row {
            component: component(metric["name"].as_str().unwrap(), &metric["params"]),
            kind,
            output: Shape::flat(outputs).unwrap(),
            y: numbers.map(|v| if ties { (v * 2.0).round_ties_even() / 2.0 } else { v }).collect(),
            classes: targets.iter().map(|t| *t as u32).collect(),
            values: targets.iter().map(|t| *t as f32).collect(),
            records,
            value: metric["value"].as_f64().unwrap(),
        }
    }

    fn metric(&self) -> NamedMetric {
        let scored = Scored { output: &self.output, targets: self.kind };
        let metrics = Registry::standard().build_metrics(std::slice::from_ref(&self.component), &scored);
        metrics.unwrap_or_else(|problems| panic!("{problems}")).remove(0)
    }

    /// What a metric gathers from some records, whose targets are classes where they can be.
    fn gather(&self, metric: &NamedMetric, records: Range<usize>) -> Gathered {
        let (outputs, per_record) = (self.output.elements(), self.kind.per_record());
        let own = records.start * per_record..records.end * per_record;
        let targets = match self.kind {
            TargetKind::Values { .. } => Targets::Values(&self.values[own]),
            _ => Targets::Classes(&self.classes[own]),
        };
        let numbers: Vec<u64> = records.clone().map(|number| number as u64).collect();
        let y = &self.y[records.start * outputs..records.end * outputs];
        let mut gathered = metric.begin();
        metric.metric.add(&mut gathered, &Records { numbers: &numbers, y, targets });
        gathered
    }
}

#[test]
fn values_are_those_of_scikit_learn_however_records_are_cut() {
    let sets = json("metrics.json");
    let rows = sets.as_array().unwrap().iter().flat_map(|set| {
        set["metrics"].as_array().unwrap().iter().map(|metric| Row::read(&set["data"], metric))
    });
    for row in rows {
        let (metric, what) = (row.metric(), format!("{} {:?}", row.component.name, row.component.params.0));
        let whole = metric.metric.value(row.gather(&metric, 0..row.records)).unwrap();
        assert!(
            (whole - row.value).abs() <= 1e-9 * row.value.abs().max(1.0),
            "{what}: {whole}, not {}",
            row.value
        );
        for step in [1, 7, row.records / 2 + 1] {
            let mut parts: Vec<Gathered> = (0..row.records)
                .step_by(step)
                .map(|start| row.gather(&metric, start..(start + step).min(row.records)))
                .collect();
            let third = parts.len() / 3;
            parts.rotate_left(third);
            let mut merged = metric.begin();
            parts.iter().rev().for_each(|part| merged.merge(part));
            assert_eq!(metric.metric.value(merged), Ok(whole), "{what} in parts of {step}");
        }
    }
}

fn refused(kind: TargetKind, output: &[usize], metric: Component) -> String {
    let output = Shape::new(output).unwrap();
    let scored = Scored { output: &output, targets: kind };
    Registry::standard().build_metrics(&[metric], &scored).err().unwrap().to_string()
}

#[test]
fn metrics_that_do_not_fit_are_refused() {
    let classes = |count| TargetKind::Classes { count, positions: 1, ignored: None };
    let metric = |name: &str| Component::new("validation.metrics[0]", name);
    for (kind, output, metric, part) in [
        (
            classes(3),
            3,
            metric("mae"),
            "validation.metrics[0]: mae compares numbers; the targets are classes",
        ),
        (classes(3), 3, metric("roc_auc"), "say which counts as yes, roc_auc(positive = 1)"),
        (classes(3), 3, metric("roc_auc").with("positive", 3), "positive = 3, but the classes are 0 to 2"),
        (classes(3), 3, metric("f1").with("average", "binary"), "needs two classes; there are 3"),
        (classes(3), 3, metric("f1").with("threshold", 0.5), "threshold is for targets that are yes or no"),
        (classes(3), 3, metric("hr@200"), "validation.metrics[0].k: is 200; expected at most 100"),
        (classes(3), 3, metric("tpo5"), "unknown metric \"tpo\"; did you mean \"top\"?"),
        (
            classes(3),
            3,
            metric("top5").with("q", 1),
            "validation.metrics[0].q: \"top\" has no such parameter",
        ),
        (TargetKind::Values { count: 2 }, 2, metric("top1"), "top needs classes as targets"),
        (TargetKind::Values { count: 2 }, 2, metric("hr"), "hr needs one output a record"),
        (TargetKind::Binary { count: 1, no: -1.0, boundary: 0.0 }, 8, metric("accuracy"), "for each output"),
    ] {
        let text = refused(kind, &[output], metric);
        assert!(text.contains(part), "{part}\nis not in\n{text}");
    }
    let output = Shape::flat(3).unwrap();
    let scored = Scored { output: &output, targets: classes(3) };
    let twice = [metric("top1"), metric("top5"), metric("top1")];
    let text = Registry::standard().build_metrics(&twice, &scored).err().unwrap().to_string();
    assert!(text.contains("\"top1\" is listed twice"), "{text}");
}

#[test]
fn positions_that_are_ignored_do_not_count() {
    let kind = TargetKind::Classes { count: 2, positions: 3, ignored: Some(-100) };
    let output = Shape::new(&[3, 2]).unwrap();
    let scored = Scored { output: &output, targets: kind };
    let list = ["top1", "perplexity", "accuracy", "f1", "roc_auc"].map(|name| Component::new("x", name));
    let ignored = ignored_class(-100);
    let y = [2.0, 1.0, 9.0, 0.0, 1.0, 3.0];
    for NamedMetric { name, metric } in Registry::standard().build_metrics(&list, &scored).unwrap() {
        let mut gathered = Gathered { sums: vec![0; metric.sums()], kept: Vec::new() };
        let targets = Targets::Classes(&[0, ignored, 1]);
        metric.add(&mut gathered, &Records { numbers: &[0], y: &y, targets });
        let value = metric.value(gathered).unwrap();
        let expected = match name.as_str() {
            "perplexity" => (((-1f64).exp().ln_1p() + (-2f64).exp().ln_1p()) / 2.0).exp(),
            _ => 1.0,
        };
        assert!((value - expected).abs() < 1e-12, "{name}: {value}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    let kind = TargetKind::Binary { count: 1, no: 0.0, boundary: 0.0 };
    let output = Shape::flat(1).unwrap();
    let scored = Scored { output: &output, targets: kind };
    let why = |metric: Component, y: &[f32], targets: &[u32]| {
        let metric = Registry::standard().build_metrics(&[metric], &scored).unwrap().remove(0);
        let (mut gathered, numbers) = (metric.begin(), (0..y.len() as u64).collect::<Vec<_>>());
        let targets = Targets::Classes(targets);
        metric.metric.add(&mut gathered, &Records { numbers: &numbers, y, targets });
        metric.metric.value(gathered).unwrap_err()
    };
    let hr = Component::new("x", "hr@1").with("group", Value::Int(3));
    assert!(why(hr.clone(), &[1.0; 4], &[1, 0, 0, 1]).contains("1 records are in no whole group of 3"));
    assert!(why(hr, &[1.0; 6], &[1, 0, 0, 1, 0, 1]).contains("1 of 2 groups do not have exactly one"));
    let auc = Component::new("x", "roc_auc");
    assert!(why(auc.clone(), &[1.0, 2.0], &[1, 1]).contains("no target says no"));
    assert!(why(auc, &[1.0, f32::NAN], &[1, 0]).contains("not a number"));
    assert!(why(Component::new("x", "accuracy"), &[], &[]).contains("no record counts"));
}
