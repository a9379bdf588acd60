//! Coefficient of determination: `R² = 1 - Σ (t - y)² / Σ (t - mean t)²`, the mean over the outputs.
//!
//! As scikit-learn's `r2_score`, also where all targets of an output are the same: 1 if they were predicted
//! exactly, 0 otherwise. `Σ (t - mean)² = Σ t² - (Σ t)²/N` is taken from exact sums, so that a mean far from 0
//! costs no digits.

use super::{Gathered, Metric, Records, Scored, exact_sum, numbers};
use crate::layer::Misfit;
use crate::losses::binary::Labels;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "share of the targets' variance that is predicted, R², the mean over outputs";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    Ok(Box::new(R2 { outputs: numbers("r2", scored)?, no: scored.no() }))
}

/// Sums of an output: of targets, of their squares, of squared errors.
const SUMS: usize = 3;

struct R2 {
    outputs: usize,
    no: f32,
}

impl Metric for R2 {
    fn sums(&self) -> usize {
        1 + self.outputs * SUMS * exact_sum::LEN
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        let labels = Labels::new(records.targets, self.no);
        gathered.sums[0] += records.numbers.len() as i64;
        for (i, y) in records.y.iter().enumerate() {
            let (y, t) = (f64::from(*y), f64::from(labels.at(i)));
            let at = 1 + i % self.outputs * SUMS * exact_sum::LEN;
            let sums = gathered.sums[at..].chunks_exact_mut(exact_sum::LEN);
            sums.zip([t, t * t, (t - y) * (t - y)]).for_each(|(sum, value)| exact_sum::add(sum, value));
        }
    }

    fn value(&self, gathered: Gathered) -> Result<f64, String> {
        let (count, sums) = gathered.sums.split_at(1);
        if count[0] < 2 {
            return Err("less than two records".into());
        }
        let outputs = sums.chunks_exact(SUMS * exact_sum::LEN).map(|sums| of_output(count[0] as f64, sums));
        Ok(outputs.sum::<f64>() / self.outputs as f64)
    }
}

fn of_output(count: f64, sums: &[i64]) -> f64 {
    let [targets, squares, errors] =
        [0, 1, 2].map(|i| exact_sum::parts(&sums[i * exact_sum::LEN..][..exact_sum::LEN]));
    // The square of the sum, and its quotient by the count, each with what its rounding left.
    let square = targets.0 * targets.0;
    let square_rest = targets.0.mul_add(targets.0, -square) + 2.0 * targets.0 * targets.1;
    let quotient = square / count;
    let quotient_rest = (square_rest - quotient.mul_add(count, -square)) / count;
    let variation = (squares.0 - quotient) + (squares.1 - quotient_rest);
    let errors = errors.0 + errors.1;
    match (variation > 0.0, errors == 0.0) {
        (true, _) => 1.0 - errors / variation,
        (false, true) => 1.0,
        // Not a number stays so.
        (false, false) => 0.0 * errors,
    }
}
