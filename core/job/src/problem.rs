//! Mistakes in a job, collected so that a user sees all of them at once.

use crate::Origin;
use std::fmt;

/// One mistake: where, which key, what is wrong and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where the offending value was written.
    pub origin: Origin,
    /// Full key, such as `optimizer.lr` or `model.layers[3].kernel`.
    pub key: String,
    /// What is wrong and, where it can be said, what is accepted.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Default => write!(f, "{}: {}", self.key, self.message),
            origin => write!(f, "{origin}: {}: {}", self.key, self.message),
        }
    }
}

/// All mistakes found in one job; printing it prints one line a mistake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// No mistakes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes a mistake.
    pub fn add(&mut self, origin: &Origin, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { origin: origin.clone(), key: key.into(), message: message.into() });
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` when nothing is wrong, all mistakes otherwise.
    pub fn or<T>(self, value: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i > 0 { "\n" } else { "" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The one of `known` that `typed` was most likely meant to be, if any is near enough.
///
/// Damerau-Levenshtein distance (optimal string alignment), at most a third of the longer word; a known key
/// whose last part equals the typed one is near as well (`lr` for `optimizer.lr`).
pub fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter_map(|candidate| {
            let last = candidate.rsplit('.').next().unwrap_or(candidate);
            let distance = if last == typed || candidate.strip_suffix('s') == Some(typed) {
                1
            } else {
                edit_distance(typed, candidate)
            };
            (distance <= typed.len().max(candidate.len()).div_ceil(3)).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_typing_mistakes_and_bare_names() {
        let known = ["epochs", "batch_size", "optimizer.lr", "workers.min", "workers.max"];
        assert_eq!(nearest("epcohs", known), Some("epochs"));
        assert_eq!(nearest("epoch", known), Some("epochs"));
        assert_eq!(nearest("lr", known), Some("optimizer.lr"));
        assert_eq!(nearest("worker.min", known), Some("workers.min"));
        assert_eq!(nearest("zebra", known), None);
    }
}
