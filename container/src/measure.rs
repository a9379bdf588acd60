//! Measuring a model on evaluation data: its loss, and the metrics that were asked for.

use crate::Misfortune;
use crate::step::view;
use crate::step_sums::StepSums;
use ringspin_control::messages::FailureKind;
use ringspin_control::status::{Measurement, Metrics};
use ringspin_data::reader::Batch;
use ringspin_job::Component;
use ringspin_nn::{Gathered, Model, NamedMetric, Records, Registry, TargetKind, Workspace};
use ringspin_ring::{Ring, RingError};

/// The metrics of a model.
pub struct Measurer {
    metrics: Vec<NamedMetric>,
    has_classes: bool,
    outputs_of_record: usize,
    outputs: Vec<f32>,
}

/// What was measured so far.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    /// Losses, and classes that were found.
    pub(crate) sums: StepSums,
    /// What each metric has gathered.
    pub(crate) gathered: Vec<Gathered>,
}

impl Measurer {
    /// Builds `metrics` for `model`.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub(crate) fn new(
        registry: &Registry,
        metrics: &[Component],
        model: &Model,
    ) -> Result<Measurer, Misfortune> {
        let metrics = registry
            .build_metrics(metrics, &model.scored())
            .map_err(|problems| Misfortune::new(FailureKind::Job, problems.to_string()))?;
        Ok(Measurer {
            metrics,
            has_classes: matches!(model.targets(), TargetKind::Classes { .. }),
            outputs_of_record: model.output().elements(),
            outputs: Vec::new(),
        })
    }

    /// Whether what metrics keep while `records` records are measured fits into `limit_bytes`.
    ///
    /// # Errors
    /// Names the metric that does not.
    pub(crate) fn check_memory(&self, records: u64, limit_bytes: u64) -> Result<(), Misfortune> {
        for NamedMetric { name, metric } in &self.metrics {
            let bytes = metric.kept(records).saturating_add(metric.sums() as u64).saturating_mul(8);
            if bytes > limit_bytes {
                let mib = bytes >> 20;
                let message = format!(
                    "metric {name} keeps {mib} MiB while {records} records are measured, more than half of a \
                     worker's memory; give more (workers.memory), or leave it out of validation.metrics"
                );
                return Err(Misfortune::new(FailureKind::Job, message));
            }
        }
        Ok(())
    }

    /// Nothing measured yet.
    pub(crate) fn begin(&self) -> Measured {
        let gathered = self.metrics.iter().map(NamedMetric::begin).collect();
        Measured { sums: StepSums::default(), gathered }
    }

    /// Measures the records of a batch.
    ///
    /// # Errors
    /// As [`view`].
    pub(crate) fn measure(
        &mut self,
        workspace: &mut Workspace,
        params: &[f32],
        batch: &Batch,
        measured: &mut Measured,
    ) -> Result<(), Misfortune> {
        if batch.count() == 0 {
            return Ok(());
        }
        let records = view(workspace.model(), batch)?;
        if self.metrics.is_empty() {
            measured.sums.count(&workspace.forward(&records, params, None));
            return Ok(());
        }
        let numbers = batch.count() * self.outputs_of_record;
        self.outputs.resize(numbers.max(self.outputs.len()), 0.0);
        let y = &mut self.outputs[..numbers];
        measured.sums.count(&workspace.forward(&records, params, Some(&mut *y)));
        let records = Records { numbers: &batch.records, y, targets: records.targets };
        for (metric, gathered) in self.metrics.iter().zip(&mut measured.gathered) {
            metric.metric.add(gathered, &records);
        }
        Ok(())
    }

    /// What it comes to.
    pub(crate) fn metrics(&self, measured: Measured) -> Metrics {
        let others =
            self.metrics.iter().zip(measured.gathered).map(|(NamedMetric { name, metric }, gathered)| {
                let value = metric.value(gathered).and_then(|value| match value.is_finite() {
                    true => Ok(value),
                    false => Err("an output or target is not a number".into()),
                });
                let (value, why) = match value {
                    Ok(value) => (Some(value), String::new()),
                    Err(why) => (None, why),
                };
                Measurement { name: name.clone(), value, why }
            });
        Metrics { others: others.collect(), ..measured.sums.metrics(self.has_classes) }
    }
}

/// Adds up what the ranks have gathered; every rank gets all of it.
pub(crate) fn over_ranks(ring: &mut Ring, gathered: &mut [Gathered]) -> Result<(), RingError> {
    let mut sums: Vec<i64> = gathered.iter().flat_map(|gathered| gathered.sums.iter().copied()).collect();
    if !sums.is_empty() {
        ring.all_reduce_i64(&mut sums)?;
    }
    let mut sums = sums.into_iter();
    for gathered in gathered {
        gathered.sums.iter_mut().zip(&mut sums).for_each(|(own, sum)| *own = sum);
        gathered.kept = gather(ring, &gathered.kept)?;
    }
    Ok(())
}

/// The items of all ranks, one rank after the other.
fn gather(ring: &mut Ring, own: &[u64]) -> Result<Vec<u64>, RingError> {
    const ITEM: usize = size_of::<u64>();
    let mut counts = vec![0; ITEM * ring.world()];
    ring.all_gather(&(own.len() as u64).to_be_bytes(), &mut counts)?;
    let counts: Vec<usize> = items(&counts).map(|count| count as usize).collect();
    let longest = counts.iter().copied().max().unwrap_or(0);
    if longest == 0 {
        return Ok(Vec::new());
    }
    // Ranks send as much as the one that has most.
    let mut bytes: Vec<u8> = own.iter().flat_map(|item| item.to_be_bytes()).collect();
    bytes.resize(longest * ITEM, 0);
    let mut all = vec![0; bytes.len() * ring.world()];
    ring.all_gather(&bytes, &mut all)?;
    let ranks = all.chunks_exact(bytes.len()).zip(&counts);
    Ok(ranks.flat_map(|(bytes, count)| items(&bytes[..count * ITEM])).collect())
}

fn items(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes
        .chunks_exact(size_of::<u64>())
        .map(|b| u64::from_be_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
}
