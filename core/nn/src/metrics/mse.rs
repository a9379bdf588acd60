//! Mean squared error: `1/(N F) Σ (y - t)²` over N records of F numbers.

use super::mae::MeanError;
use super::{Metric, Scored, numbers};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean squared error of all outputs";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    numbers("mse", scored)?;
    Ok(Box::new(MeanError { no: scored.no(), error: |d| d * d }))
}
