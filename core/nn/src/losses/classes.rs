//! What the losses over classes share: positions, weights, the class that does not count, and the rank of the
//! right class.
//!
//! The classes are the last dimension of the output, (classes) or (positions ..., classes), with one target for
//! each position. As in PyTorch the mean is over all positions of all records that count, or with weights
//! `Σ w[class] · loss / Σ w[class]`.

use crate::batch::{TargetKind, ignored_class};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// `weight`, which `cross_entropy`, `nll` and `multi_margin` have.
pub(crate) const WEIGHT: ParamDoc =
    ParamDoc::new("weight", "all 1", "weight of each class, a list as long as there are classes");
/// `ignore_index`, which `cross_entropy` and `nll` have.
pub(crate) const IGNORE_INDEX: ParamDoc =
    ParamDoc::new("ignore_index", "none", "class that does not count, such as PyTorch's -100");

/// The classes that outputs are compared with.
pub(crate) struct Classes {
    /// Number of classes.
    pub(crate) count: usize,
    /// Targets of a record.
    pub(crate) positions: usize,
    /// One a class, the largest 1; empty: all 1. A common factor does not change the mean.
    weights: Vec<f64>,
    ignored: Option<i64>,
}

impl Classes {
    /// Reads `weight` and `ignore_index` for a model that gives `output`.
    pub(crate) fn read(loss: &str, reader: &mut ParamReader<'_>, output: &Shape) -> Result<Classes, Misfit> {
        let mut weights = weights(reader);
        let ignored = reader.whole("ignore_index", i64::from(i32::MIN)..=i64::from(u32::MAX));
        let (count, positions) = sizes(loss, output)?;
        check_weights(loss, &weights, count)?;
        let largest = weights.iter().copied().fold(0.0, f64::max);
        weights.iter_mut().for_each(|weight| *weight /= largest);
        Ok(Classes { count, positions, weights, ignored })
    }

    /// What the loss is compared with.
    pub(crate) fn kind(&self) -> TargetKind {
        TargetKind::Classes { count: self.count, positions: self.positions, ignored: self.ignored }
    }

    /// The class of a target and its weight; `None` where it does not count.
    pub(crate) fn of(&self, target: u32) -> Option<(usize, f64)> {
        if self.ignored.map(ignored_class) == Some(target) {
            return None;
        }
        Some((target as usize, self.weight_of(target as usize)))
    }

    /// Weight of a class.
    pub(crate) fn weight_of(&self, class: usize) -> f64 {
        self.weights.get(class).copied().unwrap_or(1.0)
    }

    /// Weight of all classes together.
    pub(crate) fn weight_of_all(&self) -> f64 {
        if self.weights.is_empty() { self.count as f64 } else { self.weights.iter().sum() }
    }

    /// What these positions weigh, in records.
    pub(crate) fn weight(&self, targets: &[u32]) -> f64 {
        let sum: f64 = targets.iter().filter_map(|target| self.of(*target)).map(|of| of.1).sum();
        sum / self.positions as f64
    }
}

/// Reads the list `weight`.
pub(crate) fn weights(reader: &mut ParamReader<'_>) -> Vec<f64> {
    let weights = reader.numbers("weight", 0.0..=f64::MAX, Some(Vec::new()));
    if !weights.is_empty() && weights.iter().all(|weight| *weight == 0.0) {
        reader.problem("weight", "all weights are 0; at least one class must count");
    }
    weights
}

/// Whether there is a weight for every class.
pub(crate) fn check_weights(loss: &str, weights: &[f64], count: usize) -> Result<(), Misfit> {
    if weights.is_empty() || weights.len() == count {
        return Ok(());
    }
    let found = weights.len();
    Err(Misfit(format!("{loss}: weight lists {found} numbers, but the model gives {count} classes")))
}

/// Number of classes of an output and of its positions.
pub(crate) fn sizes(loss: &str, output: &Shape) -> Result<(usize, usize), Misfit> {
    match output.dims().split_last() {
        Some((classes, positions)) if *classes >= 2 => Ok((*classes, positions.iter().product())),
        _ => Err(Misfit(format!(
            "{loss} needs one output a class, at least 2 in the last dimension; the model gives {output}"
        ))),
    }
}

/// How many classes stand before `class`: those with a larger output, and those before it with the same.
/// A class whose output is not a number stands behind all others.
pub(crate) fn rank(outputs: &[f32], class: usize) -> usize {
    let own = outputs[class];
    if own.is_nan() {
        return outputs.len();
    }
    outputs.iter().enumerate().filter(|(i, other)| **other > own || (**other == own && *i < class)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;
    use ringspin_job::{Component, Problems, Value};

    #[test]
    fn ties_go_to_the_first_class_and_nan_to_none() {
        let outputs = [0.5, 2.0, 2.0, f32::NAN, -1.0];
        assert_eq!([0, 1, 2, 3, 4].map(|class| rank(&outputs, class)), [2, 0, 1, 5, 3]);
    }

    #[test]
    fn classes_are_the_last_dimension() {
        assert!(sizes("nll", &Shape::flat(1).unwrap()).unwrap_err().0.contains("at least 2"));
        assert!(sizes("nll", &Shape::image(5, 5, 1).unwrap()).unwrap_err().0.contains("5 × 5 × 1"));
        assert_eq!(sizes("nll", &Shape::image(2, 3, 4).unwrap()), Ok((4, 6)));
        assert_eq!(sizes("nll", &Shape::flat(10).unwrap()), Ok((10, 1)));
    }

    fn wrong(params: &[(&str, Value)]) -> String {
        let mut problems = Problems::new();
        let loss = Component::new("loss", "cross_entropy");
        let loss = params.iter().fold(loss, |loss, (name, value)| loss.with(name, value.clone()));
        let output = Shape::flat(3).unwrap();
        let built = Registry::standard().build_loss(&loss, &output, &mut problems).unwrap();
        let misfit = built.err().map(|misfit| misfit.0).unwrap_or_default();
        format!("{problems}{misfit}")
    }

    #[test]
    fn nonsense_is_refused_with_the_key() {
        let list = |numbers: &[f64]| Value::List(numbers.iter().map(|n| Value::Float(*n)).collect());
        assert_eq!(wrong(&[("weight", list(&[1.0, 0.0, 2.0])), ("ignore_index", Value::Int(-100))]), "");
        assert!(wrong(&[("weight", list(&[1.0, 2.0]))]).contains("lists 2 numbers, but the model gives 3"));
        assert!(wrong(&[("weight", list(&[1.0, -2.0, 1.0]))]).contains("loss.weight: expected a list"));
        assert!(wrong(&[("weight", list(&[0.0; 3]))]).contains("loss.weight: all weights are 0"));
        assert!(
            wrong(&[("ignore_index", Value::Float(0.5))]).contains("loss.ignore_index: expected a whole")
        );
        assert!(wrong(&[("ignore_index", Value::Int(i64::MAX))]).contains("loss.ignore_index"));
        assert!(wrong(&[("label_smoothing", Value::Float(1.5))]).contains("loss.label_smoothing"));
    }
}
