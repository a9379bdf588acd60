//! What is measured in a step, and how it travels over the ring.

use crate::gradients::FixedPoint;
use ringspin_control::status::Metrics;
use ringspin_nn::BatchMetrics;

/// What was measured in a step, over all ranks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepSums {
    /// Sum of the records' losses.
    pub loss: f64,
    /// What they weigh in the mean.
    pub weight: f64,
    /// Targets whose class got the largest output.
    pub top1: u64,
    /// Targets whose class got one of the five largest outputs.
    pub top5: u64,
    /// Targets that are classes and count.
    pub classified: u64,
    /// Records.
    pub records: u64,
    /// Losses and gradients that are not finite, or too large to be summed.
    pub not_finite: u64,
    /// Whether the targets are classes, so that `top1` and `top5` mean something.
    pub has_classes: bool,
}

impl StepSums {
    /// Adds another step's.
    pub fn add(&mut self, other: &StepSums) {
        self.loss += other.loss;
        self.weight += other.weight;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.classified += other.classified;
        self.records += other.records;
        self.not_finite += other.not_finite;
        self.has_classes = other.has_classes;
    }

    pub(crate) fn count(&mut self, metrics: &BatchMetrics) {
        if metrics.loss_sum.is_finite() {
            self.loss += metrics.loss_sum;
        } else {
            self.not_finite += 1;
        }
        self.weight += metrics.weight;
        self.top1 += metrics.top1;
        self.top5 += metrics.top5;
        self.classified += metrics.classified;
        self.records += metrics.records;
    }

    /// Means and shares; the latter where targets are classes.
    pub fn metrics(&self, has_classes: bool) -> Metrics {
        let share = |count: u64| count as f64 / self.classified.max(1) as f64;
        Metrics {
            records: self.records,
            loss: if self.not_finite > 0 { f64::NAN } else { self.loss / self.weight },
            top1: has_classes.then(|| share(self.top1)),
            top5: has_classes.then(|| share(self.top5)),
            others: Vec::new(),
        }
    }

    pub(crate) fn to_integers(self, fixed: FixedPoint) -> Vec<i64> {
        let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        vec![
            fixed.of(self.loss),
            fixed.of(self.weight),
            count(self.top1),
            count(self.top5),
            count(self.classified),
            count(self.records),
            count(self.not_finite),
        ]
    }

    pub(crate) fn from_integers(integers: &[i64], fixed: FixedPoint, has_classes: bool) -> Self {
        StepSums {
            loss: fixed.value(integers[0]),
            weight: fixed.value(integers[1]),
            top1: integers[2].unsigned_abs(),
            top5: integers[3].unsigned_abs(),
            classified: integers[4].unsigned_abs(),
            records: integers[5].unsigned_abs(),
            not_finite: integers[6].unsigned_abs(),
            has_classes,
        }
    }
}
