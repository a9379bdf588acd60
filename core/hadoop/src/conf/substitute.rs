//! `${variables}` in values (`Configuration.substituteVars`).

use super::{Configuration, Environment};

/// Substitutions in one value, after which Hadoop gives up too.
const MAX_SUBSTITUTIONS: usize = 20;
/// Longest value while variables are put in: 20 substitutions of long values could fill the memory otherwise.
const MAX_VALUE_BYTES: usize = 1 << 20;

impl Configuration {
    /// `text` with its variables put in; one that is bound to nothing stays as it is, and so does everything
    /// after it.
    ///
    /// # Errors
    /// Says so when variables refer to each other without end.
    pub(super) fn substitute(&self, text: &str) -> Result<String, String> {
        let mut value = text.to_owned();
        for _ in 0..MAX_SUBSTITUTIONS {
            let Some((start, end)) = next_variable(&value) else { return Ok(value) };
            let name = &value[start + 2..end - 1];
            let Some(bound) = self.bound(name) else { return Ok(value) };
            // A variable that stands for itself stays; Hadoop does the same.
            if bound.contains(&value[start..end]) {
                return Ok(text.to_owned());
            }
            value.replace_range(start..end, &bound);
            if value.len() > MAX_VALUE_BYTES {
                return Err(format!("variables make it longer than {MAX_VALUE_BYTES} bytes"));
            }
        }
        match next_variable(&value) {
            None => Ok(value),
            Some(_) => {
                Err(format!("more than {MAX_SUBSTITUTIONS} variables, or variables that go in circles"))
            }
        }
    }

    fn bound(&self, name: &str) -> Option<String> {
        if let Some(variable) = name.strip_prefix("env.").filter(|v| !v.is_empty()) {
            return from_environment(variable, &self.environment).or_else(|| self.raw(name));
        }
        self.environment.properties.get(name).cloned().or_else(|| self.raw(name))
    }

    fn raw(&self, name: &str) -> Option<String> {
        self.property(name).map(|property| property.raw.clone())
    }
}

/// `NAME`, `NAME-default` (when unset) or `NAME:-default` (when unset or empty); the first `-` or `:-` counts.
fn from_environment(variable: &str, environment: &Environment) -> Option<String> {
    let set = |name: &str| environment.variables.get(name).cloned();
    let Some(dash) = variable.find('-') else { return set(variable) };
    let (name, default) = (&variable[..dash], &variable[dash + 1..]);
    match name.strip_suffix(':') {
        Some(name) => set(name).filter(|value| !value.is_empty()).or_else(|| Some(default.to_owned())),
        None => set(name).or_else(|| Some(default.to_owned())),
    }
}

/// Where the first variable stands, from its `$` to after its `}`: its name has at least one character, and
/// neither blanks nor `$` nor `}`, so of nested variables the innermost comes first.
fn next_variable(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(start) = text[from..].find("${").map(|at| from + at) {
        let inside = &text[start + 2..];
        let length = inside.find(['}', ' ', '$'])?;
        if length > 0 && inside[length..].starts_with('}') {
            return Some((start, start + 2 + length + 1));
        }
        from = start + 2 + if inside[length..].starts_with('$') { length } else { length + 1 };
    }
    None
}
