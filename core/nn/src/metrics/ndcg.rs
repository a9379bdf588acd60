//! Normalised discounted cumulative gain of one chosen item: `1 / log₂ (rank + 2)` for ranks from 0 below `k`,
//! 0 beyond, the mean over groups; see [`super::ranking`].

use super::{Metric, Scored, ranking};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "discounted gain of the rank of each group's record with target 1";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = ranking::PARAMS;

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    ranking::build("ndcg", reader, scored, |rank| 1.0 / libm::log2(rank as f64 + 2.0))
}
