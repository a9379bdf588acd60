//! Area under the receiver operating characteristic: the probability that a record of the positive class has a
//! larger score than one of the others, ties counted as half.
//!
//! Exact: all scores are kept, 8 bytes a record, sorted at the end, and counted in integers. A histogram of fixed
//! size would be smaller, but its error depends on where scores lie, and confident models put most of them into
//! the outermost bins. As scikit-learn's `roc_auc_score`.

use super::scores::{POSITIVE, Scorer, curve};
use super::{Gathered, Metric, Records, Scored};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "area under the ROC curve, exact; keeps 8 bytes a target while it measures";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[POSITIVE];

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    let per_record = scored.targets.per_record() as u64;
    Ok(Box::new(Area { scorer: Scorer::read("roc_auc", reader, scored)?, per_record, area: roc_area }))
}

/// An area under a curve of sorted scores.
pub(super) struct Area {
    pub(super) scorer: Scorer,
    pub(super) per_record: u64,
    pub(super) area: fn(&[[u64; 2]]) -> f64,
}

impl Metric for Area {
    fn sums(&self) -> usize {
        0
    }

    fn kept(&self, records: u64) -> u64 {
        records.saturating_mul(self.per_record)
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        self.scorer.each(records, |_, item| gathered.kept.push(item));
    }

    fn value(&self, gathered: Gathered) -> Result<f64, String> {
        curve(gathered.kept).map(|steps| (self.area)(&steps))
    }
}

/// From counts of no and yes, largest score first.
fn roc_area(steps: &[[u64; 2]]) -> f64 {
    // Twice the pairs in which yes has the larger score, ties counted once.
    let (mut pairs, mut yes_above, mut no_above) = (0u128, 0u128, 0u128);
    for [no, yes] in steps {
        let (no, yes) = (u128::from(*no), u128::from(*yes));
        pairs += no * (2 * yes_above + yes);
        yes_above += yes;
        no_above += no;
    }
    pairs as f64 / (2 * yes_above * no_above) as f64
}
