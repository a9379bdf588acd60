//! How batches make steps: `accumulate_steps` batches each, within an epoch.
//!
//! A step learns from the mean over the records of all its batches (by what they weigh, where the loss has weights),
//! as from one batch that large. The last step of an epoch takes what is left, so that epochs and steps begin
//! together.

/// The rhythm of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cadence {
    /// Records of an epoch.
    pub records: u64,
    /// Records of a batch.
    pub batch_size: u64,
    /// Batches of a step.
    pub accumulate: u64,
}

/// A batch's place in its step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whether the step begins with it.
    pub first: bool,
    /// Whether the step ends with it.
    pub last: bool,
    /// Records of the whole step.
    pub records: u64,
}

impl Cadence {
    fn batches_per_epoch(&self) -> u64 {
        self.records.div_ceil(self.batch_size)
    }

    /// Batches of a step, where the epoch has so many.
    pub fn batches_per_step(&self) -> u64 {
        self.accumulate.min(self.batches_per_epoch())
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.batches_per_epoch().div_ceil(self.accumulate)
    }

    /// The place of a batch, counted from the start of the job.
    pub fn place(&self, batch: u64) -> Place {
        let per_epoch = self.batches_per_epoch();
        let position = batch % per_epoch;
        let begin = position - position % self.accumulate;
        let end = begin.saturating_add(self.accumulate).min(per_epoch);
        let records = end.saturating_mul(self.batch_size).min(self.records) - begin * self.batch_size;
        Place { first: position == begin, last: position + 1 == end, records }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_a_step_unless_more_are_asked_for() {
        let cadence = Cadence { records: 25, batch_size: 10, accumulate: 1 };
        assert_eq!(cadence.steps_per_epoch(), 3);
        let records: Vec<u64> = (0..6).map(|batch| cadence.place(batch).records).collect();
        assert_eq!(records, [10, 10, 5, 10, 10, 5]);
        assert!((0..6).all(|batch| cadence.place(batch).first && cadence.place(batch).last));
    }

    #[test]
    fn steps_do_not_cross_epochs() {
        let cadence = Cadence { records: 65, batch_size: 10, accumulate: 3 };
        let places: Vec<Place> = (0..8).map(|batch| cadence.place(batch)).collect();
        let told = |tell: fn(&Place) -> bool| places.iter().map(tell).collect::<Vec<_>>();
        let (yes, no) = (true, false);
        assert_eq!(told(|place| place.first), [yes, no, no, yes, no, no, yes, yes]);
        assert_eq!(told(|place| place.last), [no, no, yes, no, no, yes, yes, no]);
        let records: Vec<u64> = places.iter().map(|place| place.records).collect();
        assert_eq!(records, [30, 30, 30, 30, 30, 30, 5, 30]);
        assert_eq!(cadence.steps_per_epoch(), 3);
        let whole = Cadence { accumulate: u64::MAX, ..cadence };
        assert_eq!((whole.steps_per_epoch(), whole.place(3).records, whole.place(6).last), (1, 65, true));
    }
}
