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
    /// Classes from 0, one for each position of a record; a negative class that is ignored stands here as its
    /// two's complement ([`ignored_class`]).
    Classes(&'a [u32]),
    /// Numbers.
    Values(&'a [f32]),
}

/// How a class that does not count, such as PyTorch's -100, is written among [`Targets::Classes`].
pub fn ignored_class(index: i64) -> u32 {
    index as u32
}

/// The kind of targets that a loss needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TargetKind {
    /// Class indices below `count`.
    Classes {
        /// Number of classes.
        count: usize,
        /// Classes of a record: 1, or the positions of a sequence or an image.
        positions: usize,
        /// A class that does not count.
        ignored: Option<i64>,
    },
    /// Numbers.
    Values {
        /// Numbers a record.
        count: usize,
    },
    /// Yes or no: as numbers, or as the classes 0 (no) and 1 (yes).
    Binary {
        /// Targets of a record.
        count: usize,
        /// The number that stands for no, 0 or -1; yes is 1.
        no: f32,
        /// Outputs above it say yes.
        boundary: f32,
    },
}

impl TargetKind {
    /// Targets of a record.
    pub fn per_record(&self) -> usize {
        match self {
            TargetKind::Classes { positions, .. } => *positions,
            TargetKind::Values { count } | TargetKind::Binary { count, .. } => *count,
        }
    }

    /// Number of classes, where targets may be classes.
    pub fn classes(&self) -> Option<usize> {
        match self {
            TargetKind::Classes { count, .. } => Some(*count),
            TargetKind::Binary { .. } => Some(2),
            TargetKind::Values { .. } => None,
        }
    }

    /// The class that does not count.
    pub fn ignored(&self) -> Option<i64> {
        match self {
            TargetKind::Classes { ignored, .. } => *ignored,
            TargetKind::Values { .. } | TargetKind::Binary { .. } => None,
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TargetKind::Classes { count, positions: 1, .. } => write!(f, "one class below {count} a record"),
            TargetKind::Classes { count, positions, .. } => {
                write!(f, "{positions} classes below {count} a record")
            }
            TargetKind::Values { count: 1 } => write!(f, "one number a record"),
            TargetKind::Values { count } => write!(f, "{count} numbers a record"),
            TargetKind::Binary { count: 1, no, .. } => {
                write!(f, "one number a record, {no} or 1, or one of the classes 0 and 1")
            }
            TargetKind::Binary { count, no, .. } => {
                write!(f, "{count} numbers a record, each {no} or 1, or as many of the classes 0 and 1")
            }
        }
    }
}

/// What was measured on some records. Sums, so that micro-batches can be added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BatchMetrics {
    /// Sum of the records' losses; divided by `weight` it is what PyTorch's `reduction="mean"` gives.
    pub loss_sum: f64,
    /// What the records weigh in the mean: their number, unless classes have weights or are ignored.
    pub weight: f64,
    /// Targets whose class got the largest output.
    pub top1: u64,
    /// Targets whose class got one of the five largest outputs.
    pub top5: u64,
    /// Targets that are classes and count.
    pub classified: u64,
    /// Records.
    pub records: u64,
}

impl BatchMetrics {
    /// Nothing measured yet on `records` records that weigh as much as they are many.
    pub fn of(records: usize) -> BatchMetrics {
        BatchMetrics { records: records as u64, weight: records as f64, ..BatchMetrics::default() }
    }

    /// Adds what was measured on other records.
    pub fn add(&mut self, other: &BatchMetrics) {
        self.loss_sum += other.loss_sum;
        self.weight += other.weight;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.classified += other.classified;
        self.records += other.records;
    }

    /// Counts a target whose class has `rank` classes with larger outputs.
    pub fn count_rank(&mut self, rank: usize) {
        self.top1 += u64::from(rank < 1);
        self.top5 += u64::from(rank < 5);
        self.classified += 1;
    }

    /// Mean loss; not a number where nothing counts, as in PyTorch.
    pub fn loss(&self) -> f64 {
        self.loss_sum / self.weight
    }

    /// Share of the targets whose class got the largest output.
    pub fn top1_share(&self) -> f64 {
        self.top1 as f64 / self.classified.max(1) as f64
    }

    /// Share of the targets whose class got one of the five largest outputs.
    pub fn top5_share(&self) -> f64 {
        self.top5 as f64 / self.classified.max(1) as f64
    }
}

impl<'a> BatchView<'a> {
    /// Some of its records.
    ///
    /// # Panics
    /// When it does not have them.
    pub(crate) fn part(&self, records: Range<usize>) -> BatchView<'a> {
        let range = |len: usize| {
            let each = len / self.count.max(1);
            records.start * each..records.end * each
        };
        let targets = match self.targets {
            Targets::None => Targets::None,
            Targets::Classes(classes) => Targets::Classes(&classes[range(classes.len())]),
            Targets::Values(values) => Targets::Values(&values[range(values.len())]),
        };
        BatchView { inputs: &self.inputs[range(self.inputs.len())], targets, count: records.len() }
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
        let (expected, records) = (self.count * kind.per_record(), self.count);
        match (self.targets, kind.classes()) {
            (Targets::None, _) => Ok(()),
            (Targets::Classes(classes), Some(count)) if classes.len() == expected => {
                let ignored = kind.ignored().map(ignored_class);
                let bad = |class: &u32| *class as usize >= count && Some(*class) != ignored;
                match classes.iter().position(bad) {
                    Some(i) => Err(format!(
                        "record {} has class {}, but the model knows the classes 0 to {}",
                        i / kind.per_record(),
                        classes[i],
                        count - 1
                    )),
                    None => Ok(()),
                }
            }
            (Targets::Values(values), _)
                if values.len() == expected && !matches!(kind, TargetKind::Classes { .. }) =>
            {
                Ok(())
            }
            (Targets::Classes(classes), _) => {
                Err(format!("{} classes for {records} records found; the loss needs {kind}", classes.len()))
            }
            (Targets::Values(values), _) => {
                Err(format!("{} numbers for {records} records found; the loss needs {kind}", values.len()))
            }
        }
    }
}

/// The first of `inputs`, records of `record` numbers, whose numbers `range` are not all whole, not negative and below
/// `limit`; and what is wrong with it.
pub(crate) fn find_not_whole(
    inputs: &[f32],
    record: usize,
    range: &Range<usize>,
    limit: usize,
) -> Option<(usize, String)> {
    let right = |number: f32| number >= 0.0 && number < limit as f32 && number.fract() == 0.0;
    inputs.chunks_exact(record).enumerate().find_map(|(i, numbers)| {
        let j = range.clone().find(|j| !right(numbers[*j]))?;
        let (number, most) = (numbers[j], limit - 1);
        Some((i, format!("number {j} is {number}, but has to be a whole number from 0 to {most}")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_no_rows_of_a_table_are_found() {
        let find = |inputs: &[f32]| find_not_whole(inputs, 3, &(1..3), 5);
        assert_eq!(find(&[9.5, 0.0, 4.0, -1.0, 3.0, 1.0]), None);
        for bad in [5.0, -1.0, 0.5, f32::NAN, f32::INFINITY] {
            let (record, message) = find(&[0.0, 0.0, 4.0, 0.0, 3.0, bad]).unwrap();
            assert!(record == 1 && message.starts_with("number 2 is"), "{message}");
            assert!(message.ends_with("whole number from 0 to 4"), "{message}");
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_described() {
        let classes = TargetKind::Classes { count: 10, positions: 1, ignored: None };
        let batch = BatchView { inputs: &[0.0; 6], targets: Targets::Classes(&[1, 10]), count: 2 };
        assert!(batch.check(3, classes).unwrap_err().contains("record 1 has class 10"));
        assert!(batch.check(4, classes).unwrap_err().contains("2 records of 4 numbers"));
        let values = BatchView { targets: Targets::Values(&[0.0; 2]), ..batch };
        assert!(values.check(3, classes).unwrap_err().contains("one class below 10"));
        assert_eq!(values.check(3, TargetKind::Values { count: 1 }), Ok(()));
        assert!(batch.check(3, TargetKind::Values { count: 1 }).unwrap_err().contains("one number a record"));
        assert_eq!(BatchView { targets: Targets::None, ..batch }.check(3, classes), Ok(()));
    }

    #[test]
    fn positions_ignored_classes_and_yes_or_no_are_known() {
        let sequence = TargetKind::Classes { count: 4, positions: 3, ignored: Some(-100) };
        let targets = [0, 3, ignored_class(-100), 1, 1, 1];
        let batch = BatchView { inputs: &[0.0; 2], targets: Targets::Classes(&targets), count: 2 };
        assert_eq!(batch.check(1, sequence), Ok(()));
        let none = TargetKind::Classes { count: 4, positions: 3, ignored: None };
        assert!(batch.check(1, none).unwrap_err().contains("record 0 has class 4294967196"));
        let short = BatchView { targets: Targets::Classes(&targets[..2]), ..batch };
        assert!(short.check(1, none).unwrap_err().contains("3 classes below 4 a record"));
        let binary = TargetKind::Binary { count: 1, no: 0.0, boundary: 0.5 };
        assert!(short.check(1, binary).unwrap_err().contains("class 3"));
        assert_eq!(BatchView { targets: Targets::Values(&[0.2, 1.0]), ..batch }.check(1, binary), Ok(()));
    }
}
