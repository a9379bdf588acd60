//! Components: the parts of a job that are chosen by name and bring parameters of their own (a layer, a loss,
//! an optimizer, a schedule). Who builds the component reads its parameters through a [`ParamReader`], which
//! reports what is missing, ill-typed, out of range or unknown, with the place and the accepted values.

use crate::{Origin, Problems, Setting, Value, nearest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The parameters of one component, by name, with the place each was written.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Params(pub BTreeMap<String, Setting>);

/// A part of a job chosen by name: `[optimizer] name = "sgd"` or `[[model.layers]] type = "conv2d"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    /// Where it stands in the job, the first part of every key in a message: `optimizer`, `model.layers[3]`.
    pub path: String,
    /// Its registered name, such as `sgd` or `conv2d`.
    pub name: String,
    /// Where the name was written.
    pub origin: Origin,
    /// Everything else in its table.
    pub params: Params,
}

impl Component {
    /// A component written in code, without parameters.
    pub fn new(path: impl Into<String>, name: impl Into<String>) -> Self {
        Component { path: path.into(), name: name.into(), origin: Origin::Code, params: Params::default() }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.params.0.insert(name.into(), Setting { value: value.into(), origin: Origin::Code });
        self
    }

    /// Reports that the name is not one of `known`.
    pub fn unknown(&self, what: &str, known: &[&str], problems: &mut Problems) {
        let hint = match nearest(&self.name, known.iter().copied()) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None => String::new(),
        };
        let message = format!("unknown {what} \"{}\"{hint} (known: {})", self.name, known.join(", "));
        problems.add(&self.origin, self.path.clone(), message);
    }

    /// Starts reading the parameters; [`ParamReader::finish`] ends it.
    pub fn reader<'a>(&'a self, problems: &'a mut Problems) -> ParamReader<'a> {
        ParamReader { component: self, problems, asked: Vec::new() }
    }
}

/// Reads a component's parameters one by one; mistakes are collected, and a default stands in for a bad value
/// so that reading can go on to the next mistake.
pub struct ParamReader<'a> {
    component: &'a Component,
    problems: &'a mut Problems,
    asked: Vec<&'static str>,
}

impl ParamReader<'_> {
    fn find(&mut self, name: &'static str) -> Option<Setting> {
        self.asked.push(name);
        self.component.params.0.get(name).cloned()
    }

    /// Reports a mistake in the parameter `name`; for checks between parameters.
    pub fn problem(&mut self, name: &str, message: impl Into<String>) {
        let origin = match self.component.params.0.get(name) {
            Some(setting) => setting.origin.clone(),
            None => self.component.origin.clone(),
        };
        self.problems.add(&origin, format!("{}.{name}", self.component.path), message);
    }

    /// Whether the parameter was written at all.
    pub fn has(&mut self, name: &'static str) -> bool {
        self.find(name).is_some()
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        default: Option<T>,
        fallback: T,
        expected: &str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> T {
        match (self.find(name), default) {
            (Some(setting), default) => convert(&setting.value).unwrap_or_else(|| {
                self.problem(name, format!("expected {expected}, found {}", setting.value));
                default.unwrap_or(fallback)
            }),
            (None, Some(default)) => default,
            (None, None) => {
                self.problem(name, format!("is required: {expected}"));
                fallback
            }
        }
    }

    /// A count of at least `min`; required when `default` is `None`.
    pub fn count(&mut self, name: &'static str, min: usize, default: Option<usize>) -> usize {
        let expected = format!("a whole number of at least {min}");
        self.read(name, default, min, &expected, |value| match value {
            Value::Int(v) => usize::try_from(*v).ok().filter(|v| *v >= min),
            _ => None,
        })
    }

    /// A whole number from `range`.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
        default: Option<i64>,
    ) -> i64 {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, default, *range.start(), &expected, |value| match value {
            Value::Int(v) => Some(*v).filter(|v| range.contains(v)),
            _ => None,
        })
    }

    /// A pair: one number for both, or a list of two (`kernel = 3`, `kernel = [3, 5]`), each at least `min`.
    pub fn pair(&mut self, name: &'static str, min: usize, default: Option<[usize; 2]>) -> [usize; 2] {
        let expected = format!("a whole number of at least {min}, or a list of two");
        let one = |value: &Value| match value {
            Value::Int(v) => usize::try_from(*v).ok().filter(|v| *v >= min),
            _ => None,
        };
        self.read(name, default, [min; 2], &expected, |value| match value {
            Value::List(items) if items.len() == 2 => Some([one(&items[0])?, one(&items[1])?]),
            value => one(value).map(|v| [v, v]),
        })
    }

    /// A list of counts of at least `min`; one number is a list of one.
    pub fn counts(&mut self, name: &'static str, min: usize, default: Option<Vec<usize>>) -> Vec<usize> {
        let expected = format!("a whole number or a list of whole numbers of at least {min}");
        let one = |value: &Value| match value {
            Value::Int(v) => usize::try_from(*v).ok().filter(|v| *v >= min),
            _ => None,
        };
        self.read(name, default, Vec::new(), &expected, |value| match value {
            Value::List(items) => items.iter().map(one).collect(),
            value => one(value).map(|v| vec![v]),
        })
    }

    /// A number from `range`, which `expected` describes (`"a number from 0 to 1"`).
    pub fn number(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<f64>,
        default: Option<f64>,
    ) -> f64 {
        let expected = match (*range.start(), *range.end()) {
            (start, end) if end == f64::MAX => format!("a number of at least {start}"),
            (start, end) => format!("a number from {start} to {end}"),
        };
        self.read(name, default, *range.start(), &expected, |value| {
            let number = match value {
                Value::Int(v) => *v as f64,
                Value::Float(v) => *v,
                _ => return None,
            };
            range.contains(&number).then_some(number)
        })
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &'static str, default: bool) -> bool {
        self.read(name, Some(default), default, "true or false", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        })
    }

    /// One of `choices`.
    pub fn choice(
        &mut self,
        name: &'static str,
        choices: &[&'static str],
        default: Option<&'static str>,
    ) -> &'static str {
        let expected = format!("one of \"{}\"", choices.join("\", \""));
        self.read(name, default, choices[0], &expected, |value| match value {
            Value::Text(text) => choices.iter().find(|choice| *choice == text).copied(),
            _ => None,
        })
    }

    /// A component inside of this one, a table with a `type`; required. Its own parameters are for who builds it.
    pub fn component(&mut self, name: &'static str) -> Option<Component> {
        let path = format!("{}.{name}", self.component.path);
        let setting = self.find(name);
        if let Some(Setting { value: Value::Table(entries), origin }) = &setting
            && let Some(Value::Text(kind)) = entries.get("type")
        {
            let mut component = Component { origin: origin.clone(), ..Component::new(path, kind.as_str()) };
            for (name, value) in entries.iter().filter(|(name, _)| *name != "type") {
                let setting = Setting { value: value.clone(), origin: origin.clone() };
                component.params.0.insert(name.clone(), setting);
            }
            return Some(component);
        }
        let expected = format!("expected a {name}, such as {{ type = \"...\" }}");
        self.problem(
            name,
            match setting {
                Some(setting) => format!("{expected}, found {}", setting.value),
                None => expected,
            },
        );
        None
    }

    /// The parameters among `names` that were written, to be handed on as they are.
    pub fn given(&mut self, names: impl Iterator<Item = &'static str>) -> Params {
        Params(names.filter_map(|name| Some((name.to_string(), self.find(name)?))).collect())
    }

    /// Where mistakes go, for those of components inside of this one.
    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// Ends the reading: parameters nobody asked for are mistakes.
    pub fn finish(self) {
        for (name, setting) in &self.component.params.0 {
            if self.asked.contains(&name.as_str()) {
                continue;
            }
            let hint = match nearest(name, self.asked.iter().copied()) {
                Some(near) => format!("; did you mean \"{near}\"?"),
                None if self.asked.is_empty() => "; it has no parameters".into(),
                None => format!("; accepted: {}", self.asked.join(", ")),
            };
            self.problems.add(
                &setting.origin,
                format!("{}.{name}", self.component.path),
                format!("\"{}\" has no such parameter{hint}", self.component.name),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_mistakes_of_a_component_are_reported_together() {
        let component = Component::new("model.layers[2]", "conv2d")
            .with("out_channels", Value::Int(0))
            .with("kernel", Value::List(vec![Value::Int(3), Value::Int(5)]))
            .with("padd", Value::Int(1));
        let mut problems = Problems::new();
        let mut reader = component.reader(&mut problems);
        assert_eq!(reader.count("out_channels", 1, None), 1);
        assert_eq!(reader.pair("kernel", 1, None), [3, 5]);
        assert_eq!(reader.pair("padding", 0, Some([0, 0])), [0, 0]);
        reader.finish();
        let text = problems.to_string();
        assert!(
            text.contains("model.layers[2].out_channels: expected a whole number of at least 1, found 0")
        );
        assert!(
            text.contains(
                "model.layers[2].padd: \"conv2d\" has no such parameter; did you mean \"padding\"?"
            )
        );
        assert_eq!(problems.0.len(), 2);
    }
}
