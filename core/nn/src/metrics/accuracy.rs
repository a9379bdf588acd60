//! Accuracy: share of the targets that were predicted, as [`super::confusion`] has predictions.

use super::confusion::{THRESHOLD, Tally};
use super::{Gathered, Metric, Records, Scored, share};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "share of the targets, classes or yes or no, that were predicted";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[THRESHOLD];

pub(crate) fn build(reader: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    Ok(Box::new(Accuracy(Tally::read("accuracy", reader, scored)?)))
}

struct Accuracy(Tally);

impl Metric for Accuracy {
    fn sums(&self) -> usize {
        2
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        self.0.each(records, |predicted, actual| {
            gathered.sums[0] += i64::from(predicted == actual);
            gathered.sums[1] += 1;
        });
    }

    fn value(&self, gathered: Gathered) -> Result<f64, String> {
        share(gathered.sums[0], gathered.sums[1])
    }
}
