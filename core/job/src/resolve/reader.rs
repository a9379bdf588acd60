//! Keys of a job, read by their kind: what they were set to, or their default.

use crate::{Component, Origin, Problems, Settings, Value, parse_bytes, parse_duration};
use std::time::Duration;

/// Reads checked settings; what [`Settings`] accepted has the right type, so a miss here is a missing key.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a Settings,
    pub(super) problems: Problems,
}

impl Reader<'_> {
    pub(super) fn value(&self, key: &str) -> Option<Value> {
        self.settings.get(key).map(|setting| setting.value)
    }

    pub(super) fn text(&self, key: &str) -> String {
        self.optional_text(key).unwrap_or_default()
    }

    pub(super) fn optional_text(&self, key: &str) -> Option<String> {
        match self.value(key) {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn required_text(&mut self, key: &str, what: &str) -> String {
        let text = self.text(key);
        if text.is_empty() {
            self.problems.add(&self.origin(key), key, format!("is required: {what}"));
        }
        text
    }

    pub(super) fn origin(&self, key: &str) -> Origin {
        self.settings.get(key).map_or(Origin::Default, |setting| setting.origin)
    }

    pub(super) fn count(&self, key: &str) -> u64 {
        match self.value(key) {
            Some(Value::Int(n)) => n.unsigned_abs(),
            _ => 0,
        }
    }

    pub(super) fn number(&self, key: &str) -> Option<f64> {
        match self.value(key) {
            Some(Value::Int(n)) => Some(n as f64),
            Some(Value::Float(n)) => Some(n),
            _ => None,
        }
    }

    pub(super) fn flag(&self, key: &str) -> bool {
        self.value(key) == Some(Value::Bool(true))
    }

    pub(super) fn bytes(&self, key: &str) -> u64 {
        parse_bytes(&self.text(key)).unwrap_or_default()
    }

    pub(super) fn duration(&self, key: &str) -> Duration {
        parse_duration(&self.text(key)).unwrap_or_default()
    }

    pub(super) fn list<T>(&self, key: &str, convert: impl Fn(Value) -> Option<T>) -> Vec<T> {
        match self.value(key) {
            Some(Value::List(items)) => items.into_iter().filter_map(convert).collect(),
            Some(single) => convert(single).into_iter().collect(),
            None => Vec::new(),
        }
    }

    pub(super) fn numbers(&self, key: &str) -> Vec<f32> {
        self.list(key, |value| match value {
            Value::Int(n) => Some(n as f32),
            Value::Float(n) => Some(n as f32),
            _ => None,
        })
    }

    pub(super) fn counts(&self, key: &str) -> Vec<usize> {
        self.list(key, |value| match value {
            Value::Int(n) => usize::try_from(n).ok(),
            _ => None,
        })
    }

    pub(super) fn texts(&self, key: &str) -> Vec<String> {
        self.list(key, |value| match value {
            Value::Text(text) => Some(text),
            _ => None,
        })
    }

    pub(super) fn component(&mut self, path: &str, selector: &str, default: &str) -> Component {
        self.settings.component(path, selector, default).unwrap_or_else(|(origin, message)| {
            self.problems.add(&origin, format!("{path}.{selector}"), message);
            Component::new(path, default)
        })
    }
}
