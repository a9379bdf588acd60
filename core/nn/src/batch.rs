//! Micro-batches, and what is counted on them.

use std::fmt;
use std::ops::Range;

/// Some records and what the model should say about them.
#[derive(Clone, Copy, Debug)]
pub struct BatchView<'a> {
    /// `count` records one after the other, channels last.
    pub inputs: &'a [f32],
    /// What the model should say.
    pub targets: Targets<'a>,
    /// Records.
    pub count: usize,
}

/// What the model should say about the records of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// Nobody knows: prediction. Only the outputs are computed.
    None,
    /// One class a record, from 0.
    Classes(&'a [u32]),
    /// As many numbers a record as the model has outputs.
    Values(&'a [f32]),
}

/// The kind of targets that a loss needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Class indices below `count`.
    Classes {
        /// Number of classes.
        count: usize,
    },
    /// Numbers.
    Values {
        /// Numbers a record.
        count: usize,
    },
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetKind::Classes { count } => write!(f, "one class below {count} a record"),
            TargetKind::Values { count } => write!(f, "{count} numbers a record"),
        }
    }
}

/// What was measured on some records. Sums, so that micro-batches can be added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchMetrics {
    /// Sum of the records' losses; divided by `records` it is what PyTorch's `reduction="mean"` gives.
    pub loss_sum: f64,
    /// Records whose class got the largest output.
    pub top1: u64,
    /// Records whose class got one of the five largest outputs.
    pub top5: u64,
    /// Records.
    pub records: u64,
}

impl BatchMetrics {
    /// Adds what was measured on other records.
    pub fn add(&mut self, other: &BatchMetrics) {
        self.loss_sum += other.loss_sum;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.records += other.records;
    }

    /// Mean loss of a record.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.records.max(1) as f64
    }

    /// Share of records whose class got the largest output.
    pub fn top1_share(&self) -> f64 {
        self.top1 as f64 / self.records.max(1) as f64
    }

    /// Share of records whose class got one of the five largest outputs.
    pub fn top5_share(&self) -> f64 {
        self.top5 as f64 / self.records.max(1) as f64
    }
}

impl BatchView<'_> {
    /// Whether the numbers `range` of every record, of `record` numbers, are whole, not negative and below `limit`.
    pub(crate) fn check_whole(&self, record: usize, range: Range<usize>, limit: usize) -> Result<(), String> {
        let right = |number: f32| number >= 0.0 && number < limit as f32 && number.fract() == 0.0;
        for (i, numbers) in self.inputs.chunks_exact(record).enumerate() {
            if let Some(j) = range.clone().find(|j| !right(numbers[*j])) {
                return Err(format!(
                    "number {j} of record {i} is {}, but has to be a whole number from 0 to {}",
                    numbers[j],
                    limit - 1
                ));
            }
        }
        Ok(())
    }

    /// Whether the batch is one that a model with `record` numbers a record and targets of `kind` can take.
    ///
    /// # Errors
    /// Says what does not fit, and names the first record whose class does not exist.
    pub fn check(&self, record: usize, kind: TargetKind) -> Result<(), String> {
        if self.inputs.len() != self.count * record {
            let found = self.inputs.len();
            return Err(format!(
                "{} records of {record} numbers expected, {found} numbers found",
                self.count
            ));
        }
        match (self.targets, kind) {
            (Targets::None, _) => Ok(()),
            (Targets::Classes(classes), TargetKind::Classes { count }) if classes.len() == self.count => {
                match classes.iter().position(|class| *class as usize >= count) {
                    Some(i) => Err(format!(
                        "record {i} has class {}, but the model knows the classes 0 to {}",
                        classes[i],
                        count - 1
                    )),
                    None => Ok(()),
                }
            }
            (Targets::Values(values), TargetKind::Values { count }) if values.len() == self.count * count => {
                Ok(())
            }
            (Targets::Classes(classes), _) => Err(format!(
                "{} classes for {} records found; the loss needs {kind}",
                classes.len(),
                self.count
            )),
            (Targets::Values(values), _) => Err(format!(
                "{} numbers for {} records found; the loss needs {kind}",
                values.len(),
                self.count
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_rows_of_a_table_are_found() {
        let check =
            |inputs: &[f32]| BatchView { inputs, targets: Targets::None, count: 2 }.check_whole(3, 1..3, 5);
        assert_eq!(check(&[9.5, 0.0, 4.0, -1.0, 3.0, 1.0]), Ok(()));
        for bad in [5.0, -1.0, 0.5, f32::NAN, f32::INFINITY] {
            let message = check(&[0.0, 0.0, 4.0, 0.0, 3.0, bad]).unwrap_err();
            assert!(message.starts_with("number 2 of record 1 is"), "{message}");
            assert!(message.ends_with("whole number from 0 to 4"), "{message}");
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_described() {
        let classes = TargetKind::Classes { count: 10 };
        let batch = BatchView { inputs: &[0.0; 6], targets: Targets::Classes(&[1, 10]), count: 2 };
        assert!(batch.check(3, classes).unwrap_err().contains("record 1 has class 10"));
        assert!(batch.check(4, classes).unwrap_err().contains("2 records of 4 numbers"));
        let batch = BatchView { targets: Targets::Values(&[0.0; 2]), ..batch };
        assert!(batch.check(3, classes).unwrap_err().contains("one class below 10"));
        assert_eq!(batch.check(3, TargetKind::Values { count: 1 }), Ok(()));
        assert_eq!(BatchView { targets: Targets::None, ..batch }.check(3, classes), Ok(()));
    }
}
