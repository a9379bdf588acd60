//! Perplexity: `exp(1/N Σ -log p[class])` over the N targets that count, `p` the softmax of the outputs.
//!
//! Whatever the loss: label smoothing and class weights do not enter, and outputs that are logarithms of
//! probabilities already, as of `log_softmax`, give the same.

use super::{Gathered, Metric, Records, Scored, exact_sum};
use crate::batch::{TargetKind, Targets, ignored_class};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "exponential of the mean cross-entropy of the targets";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>, scored: &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> {
    match scored.targets {
        TargetKind::Classes { count, ignored, .. } => {
            Ok(Box::new(Perplexity { classes: count, ignored: ignored.map(ignored_class) }))
        }
        targets => Err(Misfit(format!("perplexity needs classes as targets; the loss has {targets}"))),
    }
}

struct Perplexity {
    classes: usize,
    ignored: Option<u32>,
}

impl Metric for Perplexity {
    fn sums(&self) -> usize {
        exact_sum::LEN + 1
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        let Targets::Classes(targets) = records.targets else { panic!("perplexity is given classes") };
        let (sum, count) = gathered.sums.split_at_mut(exact_sum::LEN);
        for (y, class) in records.y.chunks_exact(self.classes).zip(targets) {
            if Some(*class) != self.ignored {
                let own = f64::from(y[*class as usize]);
                exact_sum::add(sum, log_sum_exp(y.iter().map(|y| f64::from(*y) - own)));
                count[0] += 1;
            }
        }
    }

    fn value(&self, gathered: Gathered) -> Result<f64, String> {
        let (sum, count) = gathered.sums.split_at(exact_sum::LEN);
        if count[0] == 0 {
            return Err("no record counts".into());
        }
        Ok(libm::exp(exact_sum::value(sum) / count[0] as f64))
    }
}

/// `log Σ exp(x)`, with the same bits on every CPU.
pub(super) fn log_sum_exp(x: impl Iterator<Item = f64> + Clone) -> f64 {
    let max = x.clone().fold(f64::NEG_INFINITY, f64::max);
    libm::log(x.map(|x| libm::exp(x - max)).sum()) + max
}
