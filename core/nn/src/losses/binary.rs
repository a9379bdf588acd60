//! Targets that say yes or no, given as numbers or as the classes 0 (no) and 1 (yes).

use crate::batch::Targets;

/// The targets of some records as numbers.
#[derive(Clone, Copy)]
pub(crate) enum Labels<'a> {
    /// Classes, and the number that stands for class 0.
    Classes(&'a [u32], f32),
    /// Numbers.
    Values(&'a [f32]),
}

impl<'a> Labels<'a> {
    /// Targets of which class 0 stands for the number `no`, and any other for 1.
    ///
    /// # Panics
    /// When there are none.
    pub(crate) fn new(targets: Targets<'a>, no: f32) -> Labels<'a> {
        match targets {
            Targets::Classes(classes) => Labels::Classes(classes, no),
            Targets::Values(values) => Labels::Values(values),
            Targets::None => panic!("a loss is given targets"),
        }
    }

    /// Target number `i`.
    pub(crate) fn at(&self, i: usize) -> f32 {
        match self {
            Labels::Classes(classes, no) if classes[i] == 0 => *no,
            Labels::Classes(..) => 1.0,
            Labels::Values(values) => values[i],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_stand_for_numbers() {
        let labels = Labels::new(Targets::Classes(&[0, 1]), -1.0);
        assert_eq!((labels.at(0), labels.at(1)), (-1.0, 1.0));
        assert_eq!(Labels::new(Targets::Values(&[0.25]), 0.0).at(0), 0.25);
    }
}
