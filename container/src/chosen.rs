//! The weights that a job writes: those of its end, or the best that validations found.

use crate::report::Report;
use crate::step::Stepper;
use ringspin_control::status::Metrics;
use std::borrow::Cow;

/// Weights to be written, and what is known of them.
pub(crate) struct Chosen<'a> {
    pub(crate) weights: Cow<'a, [f32]>,
    pub(crate) step: u64,
    /// Epochs they were trained.
    pub(crate) epochs: u64,
    pub(crate) training: Option<Metrics>,
    pub(crate) validation: Option<Metrics>,
}

impl<'a> Chosen<'a> {
    /// The weights of now.
    pub(crate) fn now(stepper: &'a Stepper, report: &Report<'_>) -> Self {
        Chosen {
            weights: Cow::Borrowed(stepper.weights()),
            step: stepper.step(),
            epochs: stepper.step() / stepper.steps_per_epoch(),
            training: report.last_epoch.clone(),
            validation: report.validation.clone(),
        }
    }

    /// A copy that outlives further steps.
    pub(crate) fn kept(self) -> Chosen<'static> {
        let Chosen { weights, step, epochs, training, validation } = self;
        Chosen { weights: Cow::Owned(weights.into_owned()), step, epochs, training, validation }
    }

    /// The best weights where they were kept, else those of now.
    pub(crate) fn of(best: Option<Chosen<'static>>, stepper: &'a Stepper, report: &Report<'_>) -> Self {
        let Some(best) = best else { return Chosen::now(stepper, report) };
        if let Some(metrics) = best.validation.as_ref().filter(|_| best.step < stepper.step()) {
            report.kept(best.epochs - 1, metrics.clone());
        }
        best
    }
}
