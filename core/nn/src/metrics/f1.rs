//! F1: `2 right / (predictions + targets)`, averaged over classes as [`super::confusion`] says.

use super::confusion::{self, quotient};
use super::{Metric, Scored};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "harmonic mean of precision and recall";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = confusion::PARAMS;

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    confusion::build("f1", reader, scored, |counts| {
        quotient(2 * counts.right, counts.predicted + counts.actual)
    })
}
