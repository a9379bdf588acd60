//! Area under the curve of precision over recall, as the average precision: `Σ (R[n] - R[n-1]) P[n]` over the
//! different scores, largest first.
//!
//! No straight lines are drawn between points, which would be too optimistic (Davis and Goadrich, 2006). Exact,
//! and kept like `roc_auc`. As scikit-learn's `average_precision_score`.

use super::roc_auc::Area;
use super::scores::{POSITIVE, Scorer};
use super::{Metric, Scored};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "area under the precision-recall curve (average precision), exact; keeps 8 bytes a target while it measures";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[POSITIVE];

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    let per_record = scored.targets.per_record() as u64;
    Ok(Box::new(Area {
        scorer: Scorer::read("pr_auc", reader, scored)?,
        per_record,
        area: average_precision,
    }))
}

fn average_precision(steps: &[[u64; 2]]) -> f64 {
    let all: u64 = steps.iter().map(|[_, yes]| yes).sum();
    let (mut area, mut right, mut taken) = (0.0, 0u64, 0u64);
    for [no, yes] in steps {
        (right, taken) = (right + yes, taken + no + yes);
        area += *yes as f64 / all as f64 * (right as f64 / taken as f64);
    }
    area
}
