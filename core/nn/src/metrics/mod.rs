//! Metrics: how good a model is, measured on evaluation batches from outputs and targets. One file each.
//!
//! A metric gathers integers and small items from records ([`Gathered`]); what lanes and workers have gathered is
//! merged, and the value comes from all of it. Integers add up to the same in any order, and items are sorted
//! before they are used, so a value depends neither on how records were cut into batches nor on who measured
//! them. Sums of fractions are exact ([`exact_sum`]).
//!
//! Refuses to: take part in training; loss, top-1 and top-5 are counted there by the loss.

pub(crate) mod accuracy;
pub(crate) mod confusion;
pub(crate) mod exact_sum;
pub(crate) mod f1;
pub(crate) mod hr;
pub(crate) mod mae;
pub(crate) mod mse;
pub(crate) mod ndcg;
pub(crate) mod perplexity;
pub(crate) mod pr_auc;
pub(crate) mod precision;
pub(crate) mod r2;
pub(crate) mod ranking;
pub(crate) mod recall;
pub(crate) mod roc_auc;
pub(crate) mod scores;
#[cfg(test)]
mod tests;
pub(crate) mod top;

use crate::batch::{TargetKind, Targets};
use crate::layer::Misfit;
use crate::shape::Shape;

/// What a metric is built for: the outputs of a model and what its loss compares them with.
#[derive(Clone, Copy, Debug)]
pub struct Scored<'a> {
    /// Shape of an output record.
    pub output: &'a Shape,
    /// Kind of the targets.
    pub targets: TargetKind,
}

impl Scored<'_> {
    /// What stands for class 0 where targets are numbers.
    fn no(&self) -> f32 {
        if let TargetKind::Binary { no, .. } = self.targets { no } else { 0.0 }
    }
}

/// Some records that were evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// Number of each record within the data set.
    pub numbers: &'a [u64],
    /// Their outputs, one record after the other, channels last.
    pub y: &'a [f32],
    /// Their targets, of the kind that the metric was built for.
    pub targets: Targets<'a>,
}

/// What a metric has gathered from some records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Numbers that add up.
    pub sums: Vec<i64>,
    /// Items that are collected, in no order.
    pub kept: Vec<u64>,
}

impl Gathered {
    /// Adds what was gathered from other records.
    pub fn merge(&mut self, other: &Gathered) {
        self.sums.iter_mut().zip(&other.sums).for_each(|(sum, other)| *sum = sum.wrapping_add(*other));
        self.kept.extend_from_slice(&other.kept);
    }
}

/// How good a model is.
pub trait Metric: Send + Sync {
    /// Length of [`Gathered::sums`].
    fn sums(&self) -> usize;

    /// Length that [`Gathered::kept`] may have for `records` records, for the memory it takes: 8 bytes each.
    fn kept(&self, records: u64) -> u64 {
        let _ = records;
        0
    }

    /// Gathers from records that were not seen before.
    fn add(&self, gathered: &mut Gathered, records: &Records<'_>);

    /// The value of what was gathered from all records.
    ///
    /// # Errors
    /// Says why there is none, such as no record of a class.
    fn value(&self, gathered: Gathered) -> Result<f64, String>;
}

/// A metric and what it is called in results.
pub struct NamedMetric {
    /// As it was asked for, such as `top5` or `hr@10`.
    pub name: String,
    /// The metric.
    pub metric: Box<dyn Metric>,
}

impl NamedMetric {
    /// Nothing gathered yet.
    pub fn begin(&self) -> Gathered {
        Gathered { sums: vec![0; self.metric.sums()], kept: Vec::new() }
    }
}

/// A share of counts.
fn share(part: i64, of: i64) -> Result<f64, String> {
    if of == 0 { Err("no record counts".into()) } else { Ok(part as f64 / of as f64) }
}

/// Number of outputs and targets of a record, where both are numbers and as many.
fn numbers(metric: &str, scored: &Scored<'_>) -> Result<usize, Misfit> {
    match scored.targets {
        TargetKind::Values { count } | TargetKind::Binary { count, .. }
            if count == scored.output.elements() =>
        {
            Ok(count)
        }
        TargetKind::Classes { .. } => {
            Err(Misfit(format!("{metric} compares numbers; the targets are classes")))
        }
        targets => Err(Misfit(format!(
            "{metric} needs a number for each output ({}); the loss has {targets}",
            scored.output
        ))),
    }
}
