//! Falls by a factor every few epochs or steps: `gamma ^ floor(t / step_size)`, as PyTorch's `StepLR`.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "multiplied by gamma every step_size epochs or steps (PyTorch StepLR)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("step_size", "required", "epochs (or steps, by unit) between changes"),
    ParamDoc::new("gamma", "0.1", "what the rate is multiplied by at each change"),
    ParamDoc::new("unit", "\"epoch\"", "\"epoch\" or \"step\": what step_size counts"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    let size = reader.count("step_size", 1, None) as u64;
    let gamma = reader.number("gamma", 0.0..=f64::MAX, Some(0.1));
    let epochs = reader.choice("unit", &["epoch", "step"], Some("epoch")) == "epoch";
    Box::new(Step { size, gamma, epochs })
}

struct Step {
    size: u64,
    gamma: f64,
    epochs: bool,
}

impl Schedule for Step {
    fn factor(&self, progress: Progress) -> f64 {
        let count = if self.epochs { progress.epoch() } else { progress.step };
        self.gamma.powf((count / self.size) as f64)
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("step");
    }
}
