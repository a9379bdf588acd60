//! The gradient on its way from the lanes to the ring: cut into buckets, summed over this worker's lanes.
//!
//! A bucket is a range of the flat gradient buffer. Backward finishes layers last to first, so buckets are
//! numbered from the end of the buffer; a bucket leaves for the ring as soon as the last lane has added to all
//! of it, while backward goes on with the layers before it.
//!
//! Sums are f32 (`fast`), or integers (`reproducible`): each lane's value is rounded once to a fixed number of
//! fraction bits, and integers add to the same sum in any order, so it does not matter which worker computed
//! which lane.

use std::ops::Range;

/// Cuts a flat buffer, described by the ranges of its parameters in order, into buckets of at least
/// `bucket_values` values (the last may be smaller), last parameter first. A parameter is never cut.
pub fn cut(parameters: &[Range<usize>], bucket_values: usize) -> Vec<Range<usize>> {
    let mut buckets: Vec<Range<usize>> = Vec::new();
    for parameter in parameters.iter().rev() {
        match buckets.last_mut() {
            Some(bucket) if bucket.len() < bucket_values => bucket.start = parameter.start,
            _ => buckets.push(parameter.clone()),
        }
    }
    buckets
}

/// Fixed-point numbers of one precision.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedPoint {
    scale: f64,
    limit: f64,
}

impl FixedPoint {
    /// Numbers with `fraction_bits` behind the binary point, of which `lanes` can be added without overflow.
    pub fn new(fraction_bits: u32, lanes: usize) -> Self {
        let carry_bits = usize::BITS - lanes.max(1).leading_zeros();
        let scale = (fraction_bits as f64).exp2();
        FixedPoint { scale, limit: (f64::from(62 - carry_bits)).exp2() / scale }
    }

    /// The largest magnitude one lane may contribute.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Adds `values` to `sums`. Returns how many values are not finite or over the limit; they add nothing.
    pub fn add(&self, sums: &mut [i64], values: &[f32]) -> usize {
        assert_eq!(sums.len(), values.len(), "a lane's gradient and its sum have the same length");
        let mut outside = 0;
        for (sum, value) in sums.iter_mut().zip(values) {
            let value = f64::from(*value);
            let fits = value.abs() <= self.limit;
            outside += usize::from(!fits);
            let scaled = if fits { (value * self.scale).round_ties_even() } else { 0.0 };
            *sum = sum.wrapping_add(scaled as i64);
        }
        outside
    }

    /// The sums as f32.
    pub fn read(&self, sums: &[i64], values: &mut [f32]) {
        assert_eq!(sums.len(), values.len(), "a gradient and its sum have the same length");
        let unit = 1.0 / self.scale;
        for (value, sum) in values.iter_mut().zip(sums) {
            *value = (*sum as f64 * unit) as f32;
        }
    }

    /// A single number, such as a loss; saturates.
    pub fn of(&self, value: f64) -> i64 {
        (value.clamp(-self.limit, self.limit) * self.scale).round_ties_even() as i64
    }

    /// Back from [`FixedPoint::of`].
    pub fn value(&self, fixed: i64) -> f64 {
        fixed as f64 / self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_the_buffer_from_its_end() {
        let parameters = [0..10, 10..12, 12..40, 40..41, 41..45];
        assert_eq!(cut(&parameters, 5), [40..45, 12..40, 0..12]);
        assert_eq!(cut(&parameters, 1), [41..45, 40..41, 12..40, 10..12, 0..10]);
        assert_eq!(cut(&parameters, 1000).first(), Some(&(0..45)));
        assert!(cut(&[], 5).is_empty());
    }

    #[test]
    fn integer_sums_do_not_depend_on_order_or_grouping() {
        let fixed = FixedPoint::new(40, 8);
        let lanes: Vec<Vec<f32>> = (0..8)
            .map(|lane| (0..100).map(|i| ((lane * 37 + i * 11) as f32).sin() * 1e-3).collect())
            .collect();
        let sum = |order: &[usize]| {
            let mut sums = vec![0; 100];
            for lane in order {
                assert_eq!(fixed.add(&mut sums, &lanes[*lane]), 0);
            }
            let mut values = vec![0.0; 100];
            fixed.read(&sums, &mut values);
            values
        };
        let forward = sum(&[0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(forward, sum(&[7, 3, 5, 1, 0, 2, 6, 4]));
        for (i, value) in forward.iter().enumerate() {
            let exact: f64 = lanes.iter().map(|lane| f64::from(lane[i])).sum();
            assert!((f64::from(*value) - exact).abs() <= 1e-11 + exact.abs() * 6e-8, "{value} {exact}");
        }
    }

    #[test]
    fn what_does_not_fit_is_counted_and_adds_nothing() {
        let fixed = FixedPoint::new(40, 16);
        let limit = fixed.limit() as f32;
        let mut sums = vec![0; 5];
        assert_eq!(fixed.add(&mut sums, &[f32::NAN, f32::INFINITY, limit * 2.0, limit, -limit]), 3);
        assert_eq!(sums[..3], [0, 0, 0]);
        for _ in 0..15 {
            fixed.add(&mut sums, &[0.0, 0.0, 0.0, limit, -limit]);
        }
        let mut values = vec![0.0; 5];
        fixed.read(&sums, &mut values);
        assert_eq!(values[3..], [limit * 16.0, -limit * 16.0], "sixteen times the limit does not overflow");
    }
}
