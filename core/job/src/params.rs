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

    /// Reads `name` or `name(key = value, ...)`, values as in TOML.
    ///
    /// # Errors
    /// It has another form.
    pub fn from_call(path: &str, text: &str, origin: &Origin) -> Result<Component, String> {
        let expected = || {
            format!(
                "expected a name, with its parameters in brackets: \"top5\", \"hr@10(group = 100)\"; found \"{text}\""
            )
        };
        let (name, params) = match text.trim().split_once('(') {
            Some((name, rest)) => (name.trim_end(), rest.strip_suffix(')').ok_or_else(expected)?),
            None => (text.trim(), ""),
        };
        if name.is_empty() || name.contains(|c: char| !(c.is_ascii_alphanumeric() || "_@".contains(c))) {
            return Err(expected());
        }
        let Value::Table(params) = Value::from_argument(&format!("{{ {params} }}")) else {
            return Err(expected());
        };
        let setting = |value| Setting { value, origin: origin.clone() };
        let params = params.into_iter().map(|(name, value)| (name, setting(value))).collect();
        Ok(Component { path: path.into(), name: name.into(), origin: origin.clone(), params: Params(params) })
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

    /// Takes the components that are listed under `list` (`[[optimizer.groups]]`) out of the parameters: what is
    /// left, and they in order, each named by its `selector` or by nothing.
    pub fn split_list(
        &self,
        list: &str,
        selector: &str,
        problems: &mut Problems,
    ) -> (Component, Vec<Component>) {
        let (mut rest, mut listed) = (self.clone(), Vec::<Component>::new());
        let whole = format!("{}.{list}", self.path);
        rest.params.0.retain(|name, _| name != list && !name.starts_with(&format!("{list}[")));
        loop {
            let number = listed.len();
            let prefix = format!("{list}[{number}].");
            let mut item = Component::new(format!("{whole}[{number}]"), "");
            item.origin = Origin::Default;
            for (name, setting) in &self.params.0 {
                match (name.strip_prefix(&prefix), &setting.value) {
                    (Some(name), Value::Text(text)) if name == selector => {
                        (item.name, item.origin) = (text.clone(), setting.origin.clone());
                    }
                    (Some(name), _) => {
                        item.params.0.insert(name.into(), setting.clone());
                    }
                    (None, _) => {}
                }
            }
            if item.name.is_empty() && item.params.0.is_empty() {
                break;
            }
            listed.push(item);
        }
        let taken = |name: &str| {
            let number = name.strip_prefix(list)?.strip_prefix('[')?.split_once("].")?.0;
            number.parse().ok().filter(|number: &usize| *number < listed.len())
        };
        for (name, setting) in &self.params.0 {
            if !rest.params.0.contains_key(name) && taken(name).is_none() {
                let message = format!(
                    "no such entry: {} are listed as [[{whole}]]; the first one's are {whole}[0].{selector} and the like",
                    listed.len()
                );
                problems.add(&setting.origin, format!("{}.{name}", self.path), message);
            }
        }
        (rest, listed)
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

    /// A list of whole numbers from `range`.
    pub fn integers(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
        default: Option<Vec<i64>>,
    ) -> Vec<i64> {
        let expected = format!("a list of whole numbers of at least {}", range.start());
        self.read(name, default, Vec::new(), &expected, |value| match value {
            Value::List(items) => items
                .iter()
                .map(|item| match item {
                    Value::Int(v) => Some(*v).filter(|v| range.contains(v)),
                    _ => None,
                })
                .collect(),
            _ => None,
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
            (f64::MIN, f64::MAX) => "a number".into(),
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

    /// A list of numbers from `range`.
    pub fn numbers(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<f64>,
        default: Option<Vec<f64>>,
    ) -> Vec<f64> {
        let expected = match (*range.start(), *range.end()) {
            (start, end) if end == f64::MAX => format!("a list of numbers of at least {start}"),
            (start, end) => format!("a list of numbers from {start} to {end}"),
        };
        self.read(name, default, Vec::new(), &expected, |value| {
            let Value::List(items) = value else { return None };
            let numbers = items.iter().map(|item| match item {
                Value::Int(v) => Some(*v as f64),
                Value::Float(v) => Some(*v),
                _ => None,
            });
            numbers.map(|number| number.filter(|number| range.contains(number))).collect()
        })
    }

    /// A whole number from `range`, possibly negative; `None` when it is not given.
    pub fn whole(&mut self, name: &'static str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        self.read(name, Some(None), None, &expected, |value| match value {
            Value::Int(v) if range.contains(v) => Some(Some(*v)),
            _ => None,
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

    /// A text; required when `default` is `None`.
    pub fn text(&mut self, name: &'static str, default: Option<&str>) -> String {
        self.read(name, default.map(String::from), String::new(), "text in quotes", |value| match value {
            Value::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        })
    }

    /// One text or a list of at least one; required when `default` is `None`.
    pub fn texts(&mut self, name: &'static str, default: Option<Vec<String>>) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::Text(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        };
        self.read(name, default, Vec::new(), "text in quotes or a list of texts", |value| match value {
            Value::List(items) if !items.is_empty() => items.iter().map(text).collect(),
            value => text(value).map(|text| vec![text]),
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
    fn calls_name_a_component_and_its_parameters() {
        let read = |text: &str| Component::from_call("m[0]", text, &Origin::Define);
        assert_eq!(read(" top5 ").map(|c| (c.name, c.params.0.len())), Ok(("top5".into(), 0)));
        let call = read("hr@10( group = 50, positive=1 )").unwrap();
        assert_eq!((call.path.as_str(), call.name.as_str()), ("m[0]", "hr@10"));
        assert_eq!(call.params.0["group"], Setting { value: Value::Int(50), origin: Origin::Define });
        assert_eq!(
            read("f1(average = \"micro\")").unwrap().params.0["average"].value,
            Value::Text("micro".into())
        );
        for wrong in ["", "(k = 1)", "top(k = 1", "top k", "top(k)", "top(k = 1) x", "top(}, {)"] {
            assert!(read(wrong).unwrap_err().contains("expected a name"), "{wrong}");
        }
    }

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

    #[test]
    fn listed_components_are_taken_out_in_order() {
        let component = Component::new("optimizer", "sgd")
            .with("lr", Value::Float(0.1))
            .with("groups[0].match", "*.bias")
            .with("groups[1].name", "ftrl")
            .with("groups[1].lr", Value::Int(1))
            .with("groups[4].lr", Value::Int(1))
            .with("groups", Value::Int(3));
        let mut problems = Problems::new();
        let (rest, listed) = component.split_list("groups", "name", &mut problems);
        assert_eq!(rest, Component::new("optimizer", "sgd").with("lr", Value::Float(0.1)));
        let paths: Vec<(&str, &str)> =
            listed.iter().map(|item| (item.path.as_str(), item.name.as_str())).collect();
        assert_eq!(paths, [("optimizer.groups[0]", ""), ("optimizer.groups[1]", "ftrl")]);
        assert_eq!(listed[1].params.0.keys().collect::<Vec<_>>(), ["lr"]);
        let text = problems.to_string();
        assert!(text.contains("optimizer.groups: no such entry: 2 are listed"), "{text}");
        assert!(text.contains("optimizer.groups[4].lr: no such entry") && problems.0.len() == 2, "{text}");
    }
}
