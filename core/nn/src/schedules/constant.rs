//! The optimizer's own rate throughout: factor 1.

use super::{Progress, Schedule};
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "the same learning rate throughout";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[];

pub(crate) fn build(_: &mut ParamReader<'_>) -> Box<dyn Schedule> {
    Box::new(Constant)
}

struct Constant;

impl Schedule for Constant {
    fn factor(&self, _: Progress<'_>) -> f64 {
        1.0
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_schedule("constant");
    }
}
