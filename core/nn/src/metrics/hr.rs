//! Hit rate: share of the groups whose chosen item is among the first `k`; see [`super::ranking`].

use super::{Metric, Scored, ranking};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str =
    "hit rate: share of groups whose record with target 1 is among the k largest outputs";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = ranking::PARAMS;

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    ranking::build("hr", reader, scored, |_| 1.0)
}
