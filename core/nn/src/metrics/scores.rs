//! How strongly outputs say yes, for the metrics that put records in order.
//!
//! Where targets are yes or no it is the output itself; with several classes it is the log-odds of class
//! `positive`, `y[c] - log Σ_{j≠c} exp y[j]`, which orders records as the class's probability does.
//! A score and its target are one integer whose order is that of the scores.

use super::perplexity::log_sum_exp;
use super::{Records, Scored};
use crate::batch::{TargetKind, Targets, ignored_class};
use crate::layer::Misfit;
use crate::losses::binary::Labels;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// The class that counts as yes.
pub(crate) const POSITIVE: ParamDoc =
    ParamDoc::new("positive", "1 of two classes", "class that the others are compared with");

/// Where scores come from.
pub(super) struct Scorer {
    targets: TargetKind,
    positive: usize,
}

impl Scorer {
    /// Reads `positive`.
    pub(super) fn read(
        metric: &str,
        reader: &mut ParamReader<'_>,
        scored: &Scored<'_>,
    ) -> Result<Scorer, Misfit> {
        let given = reader.has("positive");
        let positive = reader.count("positive", 0, Some(1));
        match scored.targets {
            TargetKind::Classes { count, .. } if positive >= count => {
                return Err(Misfit(format!(
                    "{metric}: positive = {positive}, but the classes are 0 to {}",
                    count - 1
                )));
            }
            TargetKind::Classes { count, .. } if count > 2 && !given => {
                return Err(Misfit(format!(
                    "{metric} of {count} classes: say which counts as yes, {metric}(positive = 1)"
                )));
            }
            TargetKind::Classes { .. } => {}
            TargetKind::Binary { count: 1, .. } | TargetKind::Values { count: 1 }
                if scored.output.elements() == 1 && !given => {}
            targets => {
                let given = if given { ", and positive is for classes" } else { "" };
                return Err(Misfit(format!(
                    "{metric} needs one output a record, or classes{given}; the model gives {}, the loss has {targets}",
                    scored.output
                )));
            }
        }
        Ok(Scorer { targets: scored.targets, positive })
    }

    /// Calls `take` with the number of each target that counts and its [`item`].
    pub(super) fn each(&self, records: &Records<'_>, mut take: impl FnMut(usize, u64)) {
        match (self.targets, records.targets) {
            (TargetKind::Classes { count, ignored, .. }, Targets::Classes(targets)) => {
                let ignored = ignored.map(ignored_class);
                for (i, (y, class)) in records.y.chunks_exact(count).zip(targets).enumerate() {
                    if Some(*class) != ignored {
                        let others = y.iter().enumerate().filter(|(j, _)| *j != self.positive);
                        let others = log_sum_exp(others.map(|(_, y)| f64::from(*y)));
                        let score = f64::from(y[self.positive]) - others;
                        take(i, item(score as f32, *class as usize == self.positive));
                    }
                }
            }
            (targets, given) => {
                let no = if let TargetKind::Binary { no, .. } = targets { no } else { 0.0 };
                let labels = Labels::new(given, no);
                for (i, y) in records.y.iter().enumerate() {
                    take(i, item(*y, labels.at(i) > (1.0 + no) / 2.0));
                }
            }
        }
    }
}

/// Score and target as an integer: larger scores are larger, what is not a number is the smallest.
fn item(score: f32, yes: bool) -> u64 {
    let key = if score.is_nan() {
        0
    } else {
        // 0 and -0 are equal.
        let bits = (score + 0.0).to_bits();
        if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
    };
    u64::from(key) << 1 | u64::from(yes)
}

/// The order of an item's score.
pub(super) fn key(item: u64) -> u64 {
    item >> 1
}

/// Whether an item's target is yes.
pub(super) fn is_yes(item: u64) -> bool {
    item & 1 == 1
}

/// Counts of no and yes for each different score, from the largest down.
///
/// # Errors
/// A score is not a number, or all targets are the same.
pub(super) fn curve(mut items: Vec<u64>) -> Result<Vec<[u64; 2]>, String> {
    items.sort_unstable_by(|a, b| b.cmp(a));
    if items.last().is_some_and(|item| key(*item) == 0) {
        return Err("a score is not a number".into());
    }
    let steps = items.chunk_by(|a, b| key(*a) == key(*b)).map(|equal| {
        let yes = equal.iter().filter(|item| is_yes(**item)).count() as u64;
        [equal.len() as u64 - yes, yes]
    });
    let steps: Vec<[u64; 2]> = steps.collect();
    for (i, name) in ["no", "yes"].into_iter().enumerate() {
        if steps.iter().all(|step| step[i] == 0) {
            return Err(format!("no target says {name}"));
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_have_the_order_of_scores() {
        let scores = [f32::NAN, f32::NEG_INFINITY, -2.0, -1e-40, 0.0, 1e-40, 0.5, 3.0, f32::INFINITY];
        let items: Vec<u64> = scores.iter().map(|score| item(*score, true)).collect();
        assert!(items.is_sorted_by(|a, b| key(*a) < key(*b)));
        assert_eq!(key(item(-0.0, true)), key(item(0.0, false)));
    }

    #[test]
    fn curves_need_both_answers_and_numbers() {
        let items = |scores: &[(f32, bool)]| scores.iter().map(|(score, yes)| item(*score, *yes)).collect();
        let steps = curve(items(&[(1.0, true), (2.0, false), (1.0, false), (3.0, true)]));
        assert_eq!(steps, Ok(vec![[0, 1], [1, 0], [1, 1]]));
        assert!(curve(items(&[(1.0, true)])).unwrap_err().contains("no target says no"));
        assert!(curve(items(&[(1.0, false), (f32::NAN, true)])).unwrap_err().contains("not a number"));
    }
}
