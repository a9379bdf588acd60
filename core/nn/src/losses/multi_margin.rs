//! Hinge loss over classes: the right class should be `margin` above every other.
//!
//! `loss = 1/K Σ_{j≠c} w[c] max(0, margin - y[c] + y[j])^p`, the mean over records whatever the weights; y is
//! (K = classes), `c` the record's class. As PyTorch's `MultiMarginLoss`.

use super::classes::{self, WEIGHT, rank};
use super::{Loss, Measure};
use crate::batch::{BatchMetrics, TargetKind, Targets};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "the class above all others by a margin (PyTorch MultiMarginLoss)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("p", "1", "power of each shortfall, 1 or 2"),
    ParamDoc::new("margin", "1", "how far above the others the class should be"),
    WEIGHT,
];

pub(crate) fn build(reader: &mut ParamReader<'_>, output: &Shape) -> Result<Box<dyn Loss>, Misfit> {
    let p = reader.count("p", 1, Some(1));
    if p > 2 {
        reader.problem("p", format!("expected 1 or 2, found {p}"));
    }
    let margin = reader.number("margin", f64::MIN..=f64::MAX, Some(1.0));
    let weights = classes::weights(reader);
    match classes::sizes("multi_margin", output)? {
        (count, 1) => {
            classes::check_weights("multi_margin", &weights, count)?;
            Ok(Box::new(MultiMargin { classes: count, squared: p == 2, margin, weights }))
        }
        _ => Err(Misfit(format!("multi_margin needs flat outputs, one a class; the model gives {output}"))),
    }
}

struct MultiMargin {
    classes: usize,
    squared: bool,
    margin: f64,
    weights: Vec<f64>,
}

impl MultiMargin {
    /// The loss of one record; writes its gradient times `scale`.
    fn record(&self, y: &[f32], class: usize, mut gradient: Option<(&mut [f32], f32)>) -> f64 {
        let weight = self.weights.get(class).copied().unwrap_or(1.0) / self.classes as f64;
        let (mut loss, mut own) = (0.0, 0.0);
        for (j, other) in y.iter().enumerate() {
            let short = self.margin - f64::from(y[class]) + f64::from(*other);
            let short = if j == class || short <= 0.0 { 0.0 } else { short };
            loss += if self.squared { short * short } else { short };
            if let Some((dy, scale)) = &mut gradient {
                let slope = if self.squared { 2.0 * short } else { f64::from(u8::from(short > 0.0)) };
                dy[j] = *scale * (weight * slope) as f32;
                own += dy[j];
            }
        }
        if let Some((dy, _)) = gradient {
            dy[class] = -own;
        }
        weight * loss
    }
}

impl Loss for MultiMargin {
    fn targets(&self) -> TargetKind {
        TargetKind::Classes { count: self.classes, positions: 1, ignored: None }
    }

    fn measure(&self, measure: Measure<'_>) -> BatchMetrics {
        let Targets::Classes(targets) = measure.targets else {
            panic!("multi_margin is given classes");
        };
        let mut metrics = BatchMetrics::of(measure.records);
        let mut dy = measure.dy;
        for (i, (y, class)) in measure.y.chunks_exact(self.classes).zip(targets).enumerate() {
            let class = *class as usize;
            let dy = dy.as_deref_mut().map(|dy| &mut dy[i * self.classes..][..self.classes]);
            metrics.loss_sum += self.record(y, class, dy.map(|dy| (dy, measure.scale)));
            metrics.count_rank(rank(y, class));
        }
        metrics
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_loss("multi_margin", 2e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_loss_gradient("multi_margin", 1e-3);
    }
}
