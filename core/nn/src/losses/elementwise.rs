//! What the losses share that compare outputs and targets number by number: the mean over all of them.
//!
//! `loss = share · Σ l(y, t)`, `dy = scale · share · l'(y, t)`, where share is 1 / F, F the numbers of a record.

use super::binary::Labels;
use super::{Loss, Measure};
use crate::batch::{BatchMetrics, TargetKind};
use crate::layer::Misfit;
use ringspin_job::ParamReader;

/// The loss of one number.
pub(crate) trait PerNumber: Send + Sync {
    /// `l(y, t)` of output `i` of a record.
    fn loss(&self, i: usize, y: f64, t: f64) -> f64;
    /// Its derivative with respect to `y`.
    fn slope(&self, i: usize, y: f32, t: f32) -> f32;
}

/// A loss that is the mean of losses of single numbers.
pub(crate) struct Elementwise<N> {
    pub(crate) targets: TargetKind,
    /// What a record's sum is multiplied by.
    pub(crate) share: f64,
    pub(crate) number: N,
}

impl<N: PerNumber> Elementwise<N> {
    /// The mean over all `outputs` numbers of a record, whose targets are numbers.
    pub(crate) fn of_values(outputs: usize, number: N) -> Self {
        Elementwise { targets: TargetKind::Values { count: outputs }, share: 1.0 / outputs as f64, number }
    }

    /// The mean over all `outputs` numbers of a record, whose targets are yes or no.
    pub(crate) fn of_binary(outputs: usize, (no, boundary): (f32, f32), number: N) -> Self {
        let targets = TargetKind::Binary { count: outputs, no, boundary };
        Elementwise { targets, share: 1.0 / outputs as f64, number }
    }
}

impl<N: PerNumber> Loss for Elementwise<N> {
    fn targets(&self) -> TargetKind {
        self.targets
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let no = if let TargetKind::Binary { no, .. } = self.targets { no } else { 0.0 };
        let (labels, outputs) = (Labels::new(measure.targets, no), self.targets.per_record());
        let mut metrics = BatchMetrics::of(measure.records);
        for (record, y) in measure.y.chunks_exact(outputs).enumerate() {
            let target = |i: usize| f64::from(labels.at(record * outputs + i));
            let losses = y.iter().enumerate().map(|(i, y)| self.number.loss(i, f64::from(*y), target(i)));
            metrics.loss_sum += losses.sum::<f64>() * self.share;
        }
        if let Some(dy) = measure.dy {
            let factor = measure.scale * self.share as f32;
            for (i, (dy, y)) in dy.iter_mut().zip(measure.y).enumerate() {
                *dy = factor * self.number.slope(i % outputs, *y, labels.at(i));
            }
        }
        metrics
    }
}

/// Factors of a record's outputs; empty: all 1.
#[derive(Default)]
pub(crate) struct Factors(Vec<f64>);

impl Factors {
    /// Reads a list that must be as long as there are outputs.
    pub(crate) fn read(reader: &mut ParamReader<'_>, name: &'static str) -> Factors {
        Factors(reader.numbers(name, 0.0..=f64::MAX, Some(Vec::new())))
    }

    /// Whether there is one for every output.
    pub(crate) fn check(&self, what: &str, outputs: usize) -> Result<(), Misfit> {
        let found = self.0.len();
        if found == 0 || found == outputs {
            return Ok(());
        }
        Err(Misfit(format!("{what} lists {found} numbers, but the model gives {outputs}")))
    }

    /// The factor of output `i`.
    pub(crate) fn of(&self, i: usize) -> f64 {
        self.0.get(i).copied().unwrap_or(1.0)
    }
}
