//! The gradient on its way from the lanes to the ring: cut into buckets, summed over this worker's lanes.
//!
//! A bucket is a range of the flat gradient buffer. Backward finishes layers last to first, so buckets are
//! numbered from the end of the buffer; a bucket leaves for the ring as soon as the last lane has added to all
//! of it, while backward goes on with the layers before it.
//!
//! Of tables whose gradient are single rows, the rows leave when the last lane is complete (`row_exchange`): they are
//! at a model's input, where backward ends.
//!
//! Sums are f32 (`fast`), or integers (`reproducible`): each lane's value is rounded once to a fixed number of
//! fraction bits, and integers add to the same sum in any order, so it does not matter which worker computed
//! which lane.

use ringspin_nn::{Gradients, SparseRows, Team, zeros};
use ringspin_ring::{Bucket, Reducer, RingError};
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

/// How gradients are summed over this worker's lanes.
pub(crate) enum Sums {
    /// In the gradient buffer itself; `travelling` holds the buckets' vectors where there is a ring.
    Fast { travelling: Vec<Vec<f32>> },
    /// As integers, bucket by bucket.
    Fixed { point: FixedPoint, sums: Vec<Vec<i64>>, rows: Vec<RowSum>, lane: Gradients },
}

impl Sums {
    /// In f32, for buckets that travel where there is a ring.
    pub(crate) fn fast(buckets: &[Range<usize>], ring: bool) -> Sums {
        let travelling = if ring { buckets } else { &[] };
        Sums::Fast { travelling: travelling.iter().map(|bucket| zeros(bucket.len())).collect() }
    }

    /// In integers; `lane` is where passes leave the gradients of a lane.
    pub(crate) fn fixed(point: FixedPoint, buckets: &[Range<usize>], lane: Gradients) -> Sums {
        let sums = buckets.iter().map(|bucket| vec![0; bucket.len()]).collect();
        let rows = lane
            .tables
            .iter()
            .map(|table| RowSum { sum: SparseRows::new(table.sum.columns(), 0, 0), rounded: Vec::new() });
        Sums::Fixed { point, sums, rows: rows.collect(), lane }
    }
}

/// The touched rows of a table, summed as integers.
pub(crate) struct RowSum {
    pub(crate) sum: SparseRows<i64>,
    /// The rows of one lane.
    rounded: Vec<i64>,
}

impl RowSum {
    /// Adds the rows of a lane. Returns how many numbers add nothing, as [`FixedPoint::add`].
    pub(crate) fn add(&mut self, point: &FixedPoint, team: &mut Team, lane: &SparseRows<f32>) -> usize {
        let (rounded, columns) = (&mut self.rounded, lane.columns());
        rounded.clear();
        rounded.resize(lane.values().len(), 0);
        let outside = point.add(rounded, lane.values());
        self.sum.add(team, lane.rows().iter().copied().zip(0..), &|number| {
            &rounded[number * columns..][..columns]
        });
        outside
    }
}

/// Gradients on their way from backward to the ring, in one lane.
pub(crate) struct Outgoing<'a> {
    buckets: &'a [Range<usize>],
    reducer: Option<&'a mut Reducer>,
    /// Values of each bucket that this lane has not finished yet.
    pub(crate) missing: &'a mut [usize],
    /// Buckets that have left, all those before included: every rank submits them in this order.
    sent: usize,
    pub(crate) failure: Option<RingError>,
}

impl<'a> Outgoing<'a> {
    pub(crate) fn new(
        buckets: &'a [Range<usize>],
        reducer: Option<&'a mut Reducer>,
        missing: &'a mut [usize],
    ) -> Self {
        Outgoing { buckets, reducer, missing, sent: 0, failure: None }
    }

    /// The next lane begins.
    pub(crate) fn begin_lane(&mut self) {
        for (missing, bucket) in self.missing.iter_mut().zip(self.buckets) {
            *missing = bucket.len();
        }
    }

    /// Hands the part of `range` that each bucket has to `take`, as `(bucket, offset in it, values)`.
    pub(crate) fn spread(
        &mut self,
        range: Range<usize>,
        values: &[f32],
        mut take: impl FnMut(usize, usize, &[f32]),
    ) {
        for (number, bucket) in self.buckets.iter().enumerate() {
            let (start, end) = (range.start.max(bucket.start), range.end.min(bucket.end));
            if start < end {
                take(number, start - bucket.start, &values[start - range.start..end - range.start]);
                self.missing[number] -= end - start;
            }
        }
    }

    /// Submits the buckets that are complete; `values` takes one out of where it was collected.
    pub(crate) fn send<B: Into<Bucket>>(&mut self, mut values: impl FnMut(usize) -> B) {
        let Some(reducer) = &mut self.reducer else { return };
        while self.missing.get(self.sent) == Some(&0) {
            if let Err(error) = reducer.submit(self.sent, values(self.sent)) {
                self.failure.get_or_insert(error);
            }
            self.sent += 1;
        }
    }
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
