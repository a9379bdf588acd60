//! The layers a job is put together from: built-in defaults, then files, then `-D key=value`, then flags.
//!
//! Text becomes [`Settings`]: every full key with its last value and the place that value came from. Syntax
//! errors, unknown keys and ill-typed values are collected, not thrown one at a time.

use crate::keys::{ALIASES, COMPONENT_LISTS, COMPONENT_TABLES, KEYS, Kind, find};
use crate::{Component, Origin, Params, Problems, Setting, Value, nearest, parse_bytes, parse_duration};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Every key that somebody set, with its value and origin; unset keys have their built-in default.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    entries: BTreeMap<String, Setting>,
    problems: Problems,
}

impl Settings {
    /// No layer yet: everything has its default.
    pub fn new() -> Self {
        Settings::default()
    }

    /// Adds a job file. `path` is how the user named it, for messages.
    pub fn file(&mut self, path: &str, text: &str) {
        let line_of = |offset: usize| {
            1 + text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count()
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let line = error.span().map_or(1, |span| line_of(span.start));
            let origin = Origin::File { path: path.into(), line };
            self.problems.add(&origin, "syntax", error.message().to_string());
        }
        let at = |offset: usize| Origin::File { path: path.into(), line: line_of(offset) };
        self.table("", table.get_ref(), &at);
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, at: &dyn Fn(usize) -> Origin) {
        for (name, value) in table {
            let key = if prefix.is_empty() {
                name.get_ref().to_string()
            } else {
                format!("{prefix}.{}", name.get_ref())
            };
            self.entry(key, value, name.span().start, at);
        }
    }

    fn entry(
        &mut self,
        key: String,
        value: &Spanned<DeValue<'_>>,
        offset: usize,
        at: &dyn Fn(usize) -> Origin,
    ) {
        match value.get_ref() {
            DeValue::Table(table) => self.table(&key, table, at),
            DeValue::Array(items)
                if COMPONENT_LISTS.contains(&key.as_str())
                    && items.iter().all(|item| matches!(item.get_ref(), DeValue::Table(_))) =>
            {
                for (i, item) in items.iter().enumerate() {
                    self.entry(format!("{key}[{i}]"), item, item.span().start, at);
                }
            }
            other => match Value::from_toml(other) {
                Ok(value) => self.set(&key, value, at(offset)),
                Err(message) => self.problems.add(&at(offset), key, message),
            },
        }
    }

    /// Adds one `-D key=value`.
    pub fn define(&mut self, argument: &str) {
        match argument.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                let (key, value) = (key.trim(), value.trim());
                let wants_text = find(key).is_some_and(|k| {
                    matches!(k.kind, Kind::Text | Kind::Bytes(_) | Kind::Duration(_) | Kind::Choice(_))
                });
                let parsed = Value::from_argument(value);
                let parsed = match (&parsed, wants_text) {
                    (Value::Text(_), _) | (_, false) => parsed,
                    (_, true) => Value::Text(value.into()),
                };
                self.set(key, parsed, Origin::Define);
            }
            _ => self.problems.add(
                &Origin::Define,
                argument,
                "expected -D key=value, such as -D optimizer.lr=0.05",
            ),
        }
    }

    /// Adds what a flag of its own says, such as `--queue ml` for `yarn.queue`.
    pub fn flag(&mut self, flag: &str, key: &str, value: Value) {
        self.set(key, value, Origin::Flag(flag.into()));
    }

    /// Adds what is the case unless somebody wrote otherwise.
    pub(crate) fn fill(&mut self, key: &str, value: Value) {
        if !self.is_set(key) {
            self.set(key, value, Origin::Default);
        }
    }

    fn set(&mut self, key: &str, value: Value, origin: Origin) {
        let key = match ALIASES.iter().find(|(alias, _)| *alias == key) {
            Some((_, full)) => full,
            None => key,
        };
        let value = as_columns(key, value);
        let known = match find(key) {
            Some(known) => Some(known),
            None if in_component(key) => None,
            None => return self.unknown(key, &origin),
        };
        match known.map(|known| check(known.kind, &value)) {
            Some(Err(message)) => self.problems.add(&origin, key, message),
            _ => {
                self.entries.insert(key.into(), Setting { value, origin });
            }
        }
    }

    fn unknown(&mut self, key: &str, origin: &Origin) {
        let names = KEYS.iter().map(|key| key.name).chain([
            "optimizer.lr",
            "optimizer.name",
            "model.name",
            "loss.name",
        ]);
        let hint = match nearest(key, names) {
            Some(near) => format!("; did you mean \"{near}\"?"),
            None => "; `ringspin job defaults` lists all keys".into(),
        };
        self.problems.add(origin, key, format!("unknown key{hint}"));
    }

    /// What was found wrong so far, taken out.
    pub(crate) fn take_problems(&mut self) -> Problems {
        std::mem::take(&mut self.problems)
    }

    /// The setting of `key`: what somebody wrote, else its default, else nothing.
    pub fn get(&self, key: &str) -> Option<Setting> {
        if let Some(setting) = self.entries.get(key) {
            return Some(setting.clone());
        }
        let default = find(key)?.default?;
        Some(Setting { value: Value::from_argument(default), origin: Origin::Default })
    }

    /// Whether somebody wrote `key`.
    pub fn is_set(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether somebody wrote `key` with another value than its default.
    pub(crate) fn differs(&self, key: &str) -> bool {
        let default = find(key).and_then(|key| key.default).map(Value::from_argument);
        self.entries.get(key).is_some_and(|setting| Some(&setting.value) != default.as_ref())
    }

    /// Every key that has a value, in the order of the key list, then the components' parameters.
    pub fn iter(&self) -> impl Iterator<Item = (String, Setting)> + '_ {
        let listed = KEYS.iter().filter_map(|key| Some((key.name.to_string(), self.get(key.name)?)));
        let open = self.entries.iter().filter(|(key, _)| find(key).is_none());
        listed.chain(open.map(|(key, setting)| (key.clone(), setting.clone())))
    }

    /// The component of the table `path`, named by its `selector` key (`name`, or `type` for a layer).
    pub(crate) fn component(
        &self,
        path: &str,
        selector: &str,
        default: &str,
    ) -> Result<Component, (Origin, String)> {
        let prefix = format!("{path}.");
        let mut component = Component {
            path: path.into(),
            name: default.into(),
            origin: Origin::Default,
            params: Params::default(),
        };
        for (key, setting) in self.entries.range(prefix.clone()..) {
            let Some(name) = key.strip_prefix(&prefix) else { break };
            if name == selector {
                match &setting.value {
                    Value::Text(text) => component.name.clone_from(text),
                    other => {
                        return Err((
                            setting.origin.clone(),
                            format!("expected text in quotes, found {other}"),
                        ));
                    }
                }
                component.origin = setting.origin.clone();
            } else if !name.starts_with("layers[") {
                component.params.0.insert(name.into(), setting.clone());
            }
        }
        Ok(component)
    }

    /// How many `[[model.layers]]` there are.
    pub(crate) fn layer_count(&self) -> usize {
        (0..)
            .take_while(|i| {
                let prefix = format!("model.layers[{i}].");
                self.entries.range(prefix.clone()..).next().is_some_and(|(key, _)| key.starts_with(&prefix))
            })
            .count()
    }
}

/// Columns are named or numbered, and both are text to everybody else.
fn as_columns(key: &str, value: Value) -> Value {
    let text = |value: Value| match value {
        Value::Int(number) => Value::Text(number.to_string()),
        other => other,
    };
    match (key, value) {
        ("input.csv.label" | "input.csv.features", Value::List(items)) => {
            Value::List(items.into_iter().map(text).collect())
        }
        ("input.csv.label", value) => text(value),
        (_, value) => value,
    }
}

fn in_component(key: &str) -> bool {
    key.split_once('.').is_some_and(|(table, name)| COMPONENT_TABLES.contains(&table) && !name.is_empty())
}

/// Whether a value is what its key accepts; the message says what would be.
fn check(kind: Kind, value: &Value) -> Result<(), String> {
    let all = |items: &[Value], ok: &dyn Fn(&Value) -> bool| items.iter().all(ok);
    let is_number = |v: &Value| matches!(v, Value::Int(_) | Value::Float(_));
    let is_count = |v: &Value| matches!(v, Value::Int(n) if *n >= 1);
    let fits = match (kind, value) {
        (Kind::Text, Value::Text(_)) | (Kind::Bool, Value::Bool(_)) | (Kind::Texts, Value::Text(_)) => true,
        (Kind::Int, Value::Int(n)) => i32::try_from(*n).is_ok(),
        (Kind::Count(min), Value::Int(n)) => u64::try_from(*n).is_ok_and(|n| n >= min),
        (Kind::Number(min, max), Value::Int(n)) => (min..=max).contains(&(*n as f64)),
        (Kind::Number(min, max), Value::Float(n)) => (min..=max).contains(n),
        (Kind::Bytes(min), Value::Text(text)) => parse_bytes(text)? >= min,
        (Kind::Duration(min), Value::Text(text)) => parse_duration(text)?.as_millis() >= u128::from(min),
        (Kind::Bytes(_), Value::Int(n)) => parse_bytes(&n.to_string()).map(|_| false)?,
        (Kind::Duration(_), Value::Int(n)) => parse_duration(&n.to_string()).map(|_| false)?,
        (Kind::Choice(words), Value::Text(text)) => {
            if !words.contains(&text.as_str()) {
                let hint =
                    nearest(text, words.iter().copied()).map(|near| format!("; did you mean \"{near}\"?"));
                return Err(format!(
                    "expected {}, found \"{text}\"{}",
                    kind.expected(),
                    hint.unwrap_or_default()
                ));
            }
            true
        }
        (Kind::Numbers, Value::List(items)) => all(items, &is_number),
        (Kind::Numbers, value) => is_number(value),
        (Kind::Counts, Value::List(items)) => all(items, &is_count),
        (Kind::Counts, value) => is_count(value),
        (Kind::Texts, Value::List(items)) => all(items, &|v| matches!(v, Value::Text(_))),
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("expected {}, found {value}", kind.expected())) }
}
