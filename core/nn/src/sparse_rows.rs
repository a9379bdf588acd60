//! Some rows of a table, and numbers for each of them: the gradient of a table of which a step touches few rows.

use crate::arena::Shared;
use crate::kernels::rows::add_row;
use crate::team::Team;

/// Numbers that one task adds up.
const TASK_NUMBERS: usize = 8 * 1024;

/// Numbers that sparse rows are made of: those of gradients, and the integers that reproducible sums are made in.
pub trait Addend: Copy + Default + Send + Sync {
    /// Adds `from` to `to`, number by number; integers wrap.
    fn add_to(to: &mut [Self], from: &[Self]);
}

impl Addend for f32 {
    fn add_to(to: &mut [f32], from: &[f32]) {
        add_row(to, from);
    }
}

impl Addend for i64 {
    fn add_to(to: &mut [i64], from: &[i64]) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = to.wrapping_add(*from));
    }
}

/// Rows of a table, in rising order and each once, and as many numbers for each as the table has columns. What is not
/// there is 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SparseRows<T> {
    columns: usize,
    rows: Vec<u32>,
    values: Vec<T>,
    /// What [`SparseRows::add`] works with, kept so that it does not allocate: row and number of every contribution,
    /// where those of each row begin, and the values before.
    keys: Vec<u64>,
    starts: Vec<usize>,
    before: Vec<T>,
}

impl<T: Addend> SparseRows<T> {
    /// No rows, of a table of `columns` columns. Sums of so many `contributions` to at most `rows` rows, of which as
    /// many were there before, allocate nothing.
    pub fn new(columns: usize, rows: usize, contributions: usize) -> Self {
        SparseRows {
            columns,
            rows: Vec::with_capacity(rows),
            values: Vec::with_capacity(rows * columns),
            keys: Vec::with_capacity(contributions + rows),
            starts: Vec::with_capacity(rows + 1),
            before: Vec::new(),
        }
    }

    /// Numbers of a row.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The rows, rising.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The numbers, row by row.
    pub fn values(&self) -> &[T] {
        &self.values
    }

    /// The numbers, row by row.
    pub fn values_mut(&mut self) -> &mut [T] {
        &mut self.values
    }

    /// No rows any more.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.values.clear();
    }

    /// The same rows as `other`; `convert` gets the numbers of those and makes these of them.
    pub fn convert<U>(&mut self, other: &SparseRows<U>, convert: impl FnOnce(&[U], &mut [T])) {
        self.rows.clear();
        self.rows.extend_from_slice(&other.rows);
        self.values.resize(other.values.len(), T::default());
        convert(&other.values, &mut self.values);
    }

    /// Adds to rows: every contribution is a row, in any order and as often as it likes, and the number by which
    /// `value` knows what to add to it. A row's sum is made in one order, what was there before first and then the
    /// contributions as their numbers rise, whatever the number of threads.
    pub fn add<'a>(
        &mut self,
        team: &mut Team,
        contributions: impl Iterator<Item = (u32, u32)>,
        value: &(dyn Fn(usize) -> &'a [T] + Sync),
    ) where
        T: 'a,
    {
        let SparseRows { columns, rows, values, keys, starts, before } = self;
        let (columns, old) = (*columns, rows.len());
        std::mem::swap(values, before);
        let key = |row: u32, number: usize| u64::from(row) << 32 | number as u64;
        keys.clear();
        keys.extend(rows.iter().enumerate().map(|(number, row)| key(*row, number)));
        keys.extend(contributions.map(|(row, number)| key(row, old + number as usize)));
        keys.sort_unstable();
        rows.clear();
        starts.clear();
        for (place, key) in keys.iter().enumerate() {
            let row = (key >> 32) as u32;
            if rows.last() != Some(&row) {
                rows.push(row);
                starts.push(place);
            }
        }
        starts.push(keys.len());
        // What is left of former values is overwritten.
        values.resize(rows.len() * columns, T::default());
        let (before, keys, starts, count) = (&*before, &*keys, &*starts, rows.len());
        let numbers = |key: u64| match key as u32 as usize {
            number if number < old => &before[number * columns..][..columns],
            number => value(number - old),
        };
        let (share, values) = ((TASK_NUMBERS / columns.max(1)).max(1), Shared::new(&mut values[..]));
        team.tasks(count.div_ceil(share), &|task, _| {
            let own = task * share..((task + 1) * share).min(count);
            // SAFETY: tasks have different rows.
            let sums = unsafe { values.write(own.start * columns..own.end * columns) };
            for (row, sum) in own.zip(sums.chunks_exact_mut(columns)) {
                let (first, more) =
                    keys[starts[row]..starts[row + 1]].split_first().expect("a row has contributions");
                sum.copy_from_slice(numbers(*first));
                more.iter().for_each(|key| T::add_to(sum, numbers(*key)));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::golden::noise;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn sums_are_those_of_a_dense_table(
            raw in proptest::collection::vec(proptest::collection::vec(0u32..40, 0..60), 1..5),
            columns in 1usize..20,
            threads in 1usize..4,
        ) {
            let (mut team, mut dense) = (Team::new(threads).unwrap(), vec![0.0f32; 40 * columns]);
            let (mut sums, mut integers) = (SparseRows::new(columns, 0, 0), SparseRows::new(columns, 0, 0));
            for (number, rows) in raw.iter().enumerate() {
                let values = noise(number as u64, rows.len() * columns);
                let whole: Vec<i64> = values.iter().map(|value| (value * 1e6) as i64).collect();
                let contributions = || rows.iter().zip(0..).map(|(row, i)| (*row, i));
                sums.add(&mut team, contributions(), &|i| &values[i * columns..][..columns]);
                integers.add(&mut team, contributions(), &|i| &whole[i * columns..][..columns]);
                for (row, values) in rows.iter().zip(values.chunks_exact(columns)) {
                    add_row(&mut dense[*row as usize * columns..][..columns], values);
                }
            }
            prop_assert!(sums.rows().windows(2).all(|pair| pair[0] < pair[1]));
            prop_assert_eq!(sums.rows(), integers.rows());
            for (row, values) in sums.rows().iter().zip(sums.values().chunks_exact(columns)) {
                let expected = &mut dense[*row as usize * columns..][..columns];
                prop_assert_eq!(values, &*expected);
                expected.fill(0.0);
            }
            prop_assert!(dense.iter().all(|number| *number == 0.0), "no row is missing");
        }
    }
}
