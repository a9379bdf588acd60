//! Counts of what was predicted and what was right, class by class: what accuracy, precision, recall and F1 come from.
//!
//! Where targets are classes the largest output is the prediction (of equal ones the first); where they are yes
//! or no, each output above `threshold` says yes. Averages are scikit-learn's: `binary` of yes (class 1) alone,
//! `macro` the mean over classes that occur among targets or predictions, `weighted` the same with the number of
//! targets as weights, `micro` of all counts together. A quotient 0/0 is 0.

use super::{Gathered, Metric, Records, Scored};
use crate::batch::{TargetKind, Targets, ignored_class};
use crate::layer::Misfit;
use crate::losses::binary::Labels;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// `average` and `threshold`, which precision, recall and F1 have.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new(
        "average",
        "\"binary\" or \"macro\"",
        "binary: yes, or 1 of two classes; macro, micro, weighted: over classes",
    ),
    THRESHOLD,
];
/// What outputs are compared with where targets are yes or no.
pub(crate) const THRESHOLD: ParamDoc = ParamDoc::new(
    "threshold",
    "0.5 for bce, else 0",
    "output above which yes is predicted, where targets are yes or no",
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Average {
    Binary,
    Macro,
    Micro,
    Weighted,
}

/// Counts of one class: right predictions, predictions, targets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) right: i64,
    pub(super) predicted: i64,
    pub(super) actual: i64,
}

/// Integers of a class.
const LEN: usize = 3;

/// A quotient of counts, averaged over classes.
pub(super) struct Confusion {
    tally: Tally,
    average: Average,
    score: fn(Counts) -> f64,
}

/// What is counted.
pub(super) struct Tally {
    targets: TargetKind,
    threshold: f32,
}

impl Tally {
    /// Reads `threshold`.
    pub(super) fn read(
        metric: &str,
        reader: &mut ParamReader<'_>,
        scored: &Scored<'_>,
    ) -> Result<Tally, Misfit> {
        let boundary = if let TargetKind::Binary { boundary, .. } = scored.targets { boundary } else { 0.0 };
        let threshold = reader.number("threshold", f64::MIN..=f64::MAX, Some(f64::from(boundary)));
        let given = reader.has("threshold");
        match scored.targets {
            TargetKind::Classes { .. } if given => {
                let message = "threshold is for targets that are yes or no; the largest output counts here";
                return Err(Misfit(format!("{metric}: {message}")));
            }
            TargetKind::Classes { .. } => {}
            TargetKind::Binary { count, .. } if count == scored.output.elements() => {}
            targets => {
                return Err(Misfit(format!(
                    "{metric} needs classes or yes or no for each output; the loss has {targets}"
                )));
            }
        }
        Ok(Tally { targets: scored.targets, threshold: threshold as f32 })
    }

    /// Classes that are counted: with a single yes or no, yes alone.
    pub(super) fn classes(&self) -> usize {
        match self.targets {
            TargetKind::Classes { count, .. } => count,
            targets => targets.per_record(),
        }
    }

    /// Calls `count` with what was predicted, if anything, and the target.
    pub(super) fn each(&self, records: &Records<'_>, mut count: impl FnMut(Option<usize>, Option<usize>)) {
        match (self.targets, records.targets) {
            (TargetKind::Classes { count: classes, ignored, .. }, Targets::Classes(targets)) => {
                let ignored = ignored.map(ignored_class);
                for (y, class) in records.y.chunks_exact(classes).zip(targets) {
                    if Some(*class) != ignored {
                        count(largest(y), Some(*class as usize));
                    }
                }
            }
            (TargetKind::Binary { count: outputs, no, .. }, targets) => {
                let labels = Labels::new(targets, no);
                for (i, y) in records.y.iter().enumerate() {
                    let (output, yes) = (i % outputs, labels.at(i) > (1.0 + no) / 2.0);
                    count((*y > self.threshold).then_some(output), yes.then_some(output));
                }
            }
            _ => panic!("targets are of the kind that the metric was built for"),
        }
    }
}

/// The first of the largest numbers.
fn largest(y: &[f32]) -> Option<usize> {
    let best = |best: Option<usize>, (i, v): (usize, &f32)| match best {
        Some(best) if y[best] >= *v => Some(best),
        best => {
            if v.is_nan() {
                best
            } else {
                Some(i)
            }
        }
    };
    y.iter().enumerate().fold(None, best)
}

pub(super) fn build(
    metric: &str,
    reader: &mut ParamReader<'_>,
    scored: &Scored<'_>,
    score: fn(Counts) -> f64,
) -> Result<Box<dyn Metric>, Misfit> {
    let two = match scored.targets {
        TargetKind::Classes { count, .. } => count == 2,
        targets => targets.per_record() == 1,
    };
    let names = ["binary", "macro", "micro", "weighted"];
    let average = match reader.choice("average", &names, Some(if two { "binary" } else { "macro" })) {
        "binary" => Average::Binary,
        "micro" => Average::Micro,
        "weighted" => Average::Weighted,
        _ => Average::Macro,
    };
    let tally = Tally::read(metric, reader, scored)?;
    if average == Average::Binary && !two {
        return Err(Misfit(format!(
            "{metric}: average = \"binary\" needs two classes; there are {}",
            tally.classes()
        )));
    }
    Ok(Box::new(Confusion { tally, average, score }))
}

impl Metric for Confusion {
    fn sums(&self) -> usize {
        LEN * self.tally.classes()
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        let sums = &mut gathered.sums;
        self.tally.each(records, |predicted, actual| {
            if let Some(class) = predicted {
                sums[LEN * class] += i64::from(predicted == actual);
                sums[LEN * class + 1] += 1;
            }
            if let Some(class) = actual {
                sums[LEN * class + 2] += 1;
            }
        });
    }

    fn value(&self, gathered: Gathered) -> Result<f64, String> {
        let classes = gathered.sums.chunks_exact(LEN);
        let classes: Vec<Counts> =
            classes.map(|sums| Counts { right: sums[0], predicted: sums[1], actual: sums[2] }).collect();
        let occurring = classes.iter().filter(|counts| counts.predicted + counts.actual > 0);
        let weighted = |weight: fn(&Counts) -> f64| {
            let (sum, weights) = occurring.clone().fold((0.0, 0.0), |(sum, weights), counts| {
                (sum + weight(counts) * (self.score)(*counts), weights + weight(counts))
            });
            if weights == 0.0 { Err("no record counts".into()) } else { Ok(sum / weights) }
        };
        match self.average {
            // Of two classes the second; a single yes or no has yes alone.
            Average::Binary => Ok((self.score)(classes.last().copied().unwrap_or_default())),
            Average::Macro => weighted(|_| 1.0),
            Average::Weighted => weighted(|counts| counts.actual as f64),
            Average::Micro => {
                Ok((self.score)(classes.iter().fold(Counts::default(), |sum, counts| Counts {
                    right: sum.right + counts.right,
                    predicted: sum.predicted + counts.predicted,
                    actual: sum.actual + counts.actual,
                })))
            }
        }
    }
}

/// A quotient of counts, 0 where there is nothing.
pub(super) fn quotient(part: i64, of: i64) -> f64 {
    if of == 0 { 0.0 } else { part as f64 / of as f64 }
}
