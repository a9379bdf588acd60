//! A validation: the model measured on data it does not learn from, over all ranks.

use crate::Misfortune;
use crate::measure::Measurer;
use crate::step::Stepper;
use ringspin_control::status::Metrics;
use ringspin_data::Dataset;
use ringspin_data::plan::Plan;
use ringspin_data::reader::{Reader, ReaderOptions};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Measures the model on validation data; every rank takes the lanes it trains.
pub(crate) struct Validation {
    pub(crate) measurer: Measurer,
    pub(crate) dataset: Arc<Dataset>,
    pub(crate) plan: Arc<Plan>,
    pub(crate) lanes: Vec<usize>,
    pub(crate) runtime: Handle,
    pub(crate) prefetch: usize,
}

impl Validation {
    /// What the stepper's weights come to; every rank gets the same.
    ///
    /// # Errors
    /// Data can not be read, or the ring broke.
    pub(crate) fn measure(&mut self, stepper: &mut Stepper) -> Result<Metrics, Misfortune> {
        let steps = self.plan.steps_per_epoch();
        let options = ReaderOptions { prefetch: self.prefetch, end_step: steps };
        let mut reader =
            Reader::new(self.runtime.clone(), Arc::clone(&self.dataset), Arc::clone(&self.plan), options);
        self.lanes.iter().for_each(|lane| reader.hold(*lane, 0));
        let mut measured = self.measurer.begin();
        for _ in 0..steps {
            for lane in &self.lanes {
                if let Some(batch) = reader.next(*lane)? {
                    stepper.evaluate(&batch, &mut self.measurer, &mut measured)?;
                    reader.recycle(batch);
                }
            }
        }
        Ok(self.measurer.metrics(stepper.sum_over_ranks(measured)?))
    }
}
