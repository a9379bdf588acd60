//! Mean absolute error: `1/(N F) Σ |y - t|` over N records of F numbers.

use super::{Gathered, Metric, Records, Scored, exact_sum, numbers};
use crate::layer::Misfit;
use crate::losses::binary::Labels;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean absolute error of all outputs";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    numbers("mae", scored)?;
    Ok(Box::new(MeanError { no: scored.no(), error: f64::abs }))
}

/// The mean of a function of `y - t`.
pub(super) struct MeanError {
    pub(super) no: f32,
    pub(super) error: fn(f64) -> f64,
}

impl Metric for MeanError {
    fn sums(&self) -> usize {
        exact_sum::LEN + 1
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        let labels = Labels::new(records.targets, self.no);
        let (sum, count) = gathered.sums.split_at_mut(exact_sum::LEN);
        for (i, y) in records.y.iter().enumerate() {
            exact_sum::add(sum, (self.error)(f64::from(*y) - f64::from(labels.at(i))));
        }
        count[0] += records.y.len() as i64;
    }

    fn value(&self, gathered: Gathered) -> Result<f64, String> {
        let (sum, count) = gathered.sums.split_at(exact_sum::LEN);
        if count[0] == 0 {
            Err("no record counts".into())
        } else {
            Ok(exact_sum::value(sum) / count[0] as f64)
        }
    }
}
