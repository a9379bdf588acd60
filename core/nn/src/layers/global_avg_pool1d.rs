//! Mean of each feature over time: `y[f] = Σ x / T`, `dx = dy / T`.
//!
//! x (T, F), y (F): a flat record, as `adaptive_avg_pool1d` of output size 1 and `flatten` together; Keras' `GlobalAveragePooling1D`.

use super::adaptive_avg_pool2d::AdaptiveAvgPool;
use super::regions::Regions;
use crate::layer::{Layer, Misfit};
use crate::shape::Shape;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "mean of each feature over time (PyTorch AdaptiveAvgPool1d(1) and Flatten)";

pub(crate) fn build(_: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let regions = Regions::of_time("global_avg_pool1d", input)?;
    let shape = Shape::flat(regions.output.c)?;
    Ok(Box::new(AdaptiveAvgPool { regions, shape }))
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("global_avg_pool1d", 1e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("global_avg_pool1d", 2e-3);
    }
}
