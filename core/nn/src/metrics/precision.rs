//! Precision: `right / predictions`, averaged over classes as [`super::confusion`] says.

use super::confusion::{self, quotient};
use super::{Metric, Scored};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "share of what was predicted as a class that is of it";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = confusion::PARAMS;

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    confusion::build("precision", reader, scored, |counts| quotient(counts.right, counts.predicted))
}
