//! What a schedule counts: epochs, as most schedules of PyTorch are used, or steps.

use super::Progress;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// What a schedule counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Epoch,
    Step,
}

impl Unit {
    /// The parameter, for schedules that count epochs unless told otherwise.
    pub(super) const PARAM: ParamDoc =
        ParamDoc::new("unit", "\"epoch\"", "what is counted: \"epoch\" or \"step\"");

    /// Reads the parameter.
    pub(super) fn read(reader: &mut ParamReader<'_>) -> Unit {
        match reader.choice("unit", &["epoch", "step"], Some("epoch")) {
            "step" => Unit::Step,
            _ => Unit::Epoch,
        }
    }

    /// How many were made.
    pub(super) fn count(self, progress: Progress<'_>) -> u64 {
        match self {
            Unit::Epoch => progress.epoch(),
            Unit::Step => progress.step,
        }
    }
}
