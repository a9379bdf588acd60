//! The touched rows of tables on their way over the ring.
//!
//! Every rank tells how many rows of each table its lanes have touched, then which and what is to be added to them;
//! everybody adds the same rows in the same order, rank by rank. So what travels is N − 1 times what a rank touched,
//! whatever the size of the tables. A sum on the way, as dense buckets have it, would save nothing where ranks touch
//! different rows, as they mostly do, and its blocks would change their size at every hop.
//!
//! Nothing is believed of what arrives: counts are checked before there is room made for rows, rows before they are
//! used.

use bytemuck::{Pod, cast_slice, cast_slice_mut};
use ringspin_nn::{Addend, SparseRows, Team};
use ringspin_ring::{Reducer, RingError};
use std::ops::Range;

/// A table whose rows are summed over the ranks.
pub(crate) struct Table<'a, T> {
    /// What this rank has; then the sum over all.
    pub(crate) sum: &'a mut SparseRows<T>,
    /// Rows of the table.
    pub(crate) rows: usize,
    /// Most rows that the records of a step can touch.
    pub(crate) most: usize,
}

/// The memory of exchanges, kept between steps.
#[derive(Default)]
pub(crate) struct RowExchange {
    own: Vec<u64>,
    all: Vec<u64>,
}

/// Words that a rank's part of a table takes: its rows, then their numbers.
fn words<T>(count: usize, columns: usize) -> [usize; 2] {
    let room = |bytes: usize| bytes.div_ceil(size_of::<u64>());
    [room(count * size_of::<u32>()), room(count * columns * size_of::<T>())]
}

/// What a rank sent of a table.
#[derive(Clone, Copy)]
struct Part<'a, T> {
    rows: &'a [u32],
    values: &'a [T],
}

impl RowExchange {
    /// Sums rows over all ranks.
    ///
    /// # Errors
    /// The ring broke, or a rank sent rows that do not exist.
    pub(crate) fn exchange<T: Addend + Pod>(
        &mut self,
        reducer: &mut Reducer,
        team: &mut Team,
        tables: &mut [Table<'_, T>],
    ) -> Result<(), RingError> {
        let world = reducer.world();
        let own: Vec<u64> = tables.iter().map(|table| table.sum.rows().len() as u64).collect();
        let counts = reducer.with_ring(move |ring| {
            let mut all = vec![0; own.len() * world];
            ring.all_gather(cast_slice(&own), cast_slice_mut(&mut all)).map(|()| all)
        })??;
        let counts = check_counts(&counts, tables)?;
        let lengths = counts.iter().map(|counts| {
            let parts = counts.iter().zip(&*tables);
            parts.map(|(count, table)| words::<T>(*count, table.sum.columns()).iter().sum::<usize>()).sum()
        });
        let longest: usize = lengths.max().unwrap_or(0);
        if longest == 0 {
            return Ok(());
        }
        self.own.clear();
        tables.iter().for_each(|table| append(&mut self.own, table.sum));
        // Ranks send as much as the one that has most; lanes are of nearly equal size.
        self.own.resize(longest, 0);
        self.all.resize(longest * world, 0);
        let (own, mut all) = (std::mem::take(&mut self.own), std::mem::take(&mut self.all));
        (self.own, self.all) = reducer.with_ring(move |ring| {
            ring.all_gather(cast_slice(&own), cast_slice_mut(&mut all)).map(|()| (own, all))
        })??;
        let mut begun = vec![0; world];
        for (number, table) in tables.iter_mut().enumerate() {
            let columns = table.sum.columns();
            let parts = (0..world).map(|rank| {
                let count = counts[rank][number];
                let [rows, values] = words::<T>(count, columns);
                let start = rank * longest + begun[rank];
                begun[rank] += rows + values;
                let (rows, values) = self.all[start..start + rows + values].split_at(rows);
                let (rows, values) = (&cast_slice(rows)[..count], &cast_slice(values)[..count * columns]);
                check_rows(rank, number, rows, table.rows).map(|()| Part { rows, values })
            });
            let parts: Vec<Part<'_, T>> = parts.collect::<Result<_, _>>()?;
            add_up(team, table.sum, &parts);
        }
        Ok(())
    }
}

/// Appends rows and numbers.
fn append<T: Addend + Pod>(words_of_rank: &mut Vec<u64>, sum: &SparseRows<T>) {
    let begin = words_of_rank.len();
    let [rows, values] = words::<T>(sum.rows().len(), sum.columns());
    words_of_rank.resize(begin + rows + values, 0);
    let (to_rows, to_values) = words_of_rank[begin..].split_at_mut(rows);
    cast_slice_mut(to_rows)[..sum.rows().len()].copy_from_slice(sum.rows());
    cast_slice_mut(to_values)[..sum.values().len()].copy_from_slice(sum.values());
}

/// The rows of each rank and table.
///
/// # Errors
/// A rank claims more than a step can touch.
fn check_counts<T: Addend>(all: &[u64], tables: &[Table<'_, T>]) -> Result<Vec<Vec<usize>>, RingError> {
    let ranks = all.chunks_exact(tables.len()).enumerate().map(|(rank, counts)| {
        let counts = counts.iter().zip(tables).enumerate().map(|(number, (count, table))| {
            let most = table.rows.min(table.most);
            usize::try_from(*count).ok().filter(|count| *count <= most).ok_or_else(|| RingError::Mismatch {
                rank,
                detail: format!("{count} rows of table {number}, of which a step touches {most} at most"),
            })
        });
        counts.collect()
    });
    ranks.collect()
}

/// # Errors
/// Rows that do not rise, or that the table does not have.
fn check_rows(rank: usize, number: usize, rows: &[u32], of: usize) -> Result<(), RingError> {
    let wrong = |detail: String| Err(RingError::Mismatch { rank, detail });
    if let Some(row) = rows.iter().find(|row| **row as usize >= of) {
        return wrong(format!("row {row} of table {number}, which has {of}"));
    }
    match rows.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => wrong(format!("row {} of table {number} after row {}", pair[1], pair[0])),
        None => Ok(()),
    }
}

/// The sum of all parts, rank by rank.
fn add_up<T: Addend>(team: &mut Team, sum: &mut SparseRows<T>, parts: &[Part<'_, T>]) {
    let columns = sum.columns();
    let ranges = parts.iter().scan(0, |end, part| {
        let start = *end;
        *end += part.rows.len();
        Some(start..*end)
    });
    let ranges: Vec<Range<usize>> = ranges.collect();
    sum.clear();
    let contributions = parts.iter().flat_map(|part| part.rows.iter().copied()).zip(0..);
    sum.add(team, contributions, &|number| {
        let rank = ranges.partition_point(|range| range.end <= number);
        &parts[rank].values[(number - ranges[rank].start) * columns..][..columns]
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringspin_ring::Wire;
    use ringspin_ring::memory::{MemoryOptions, rings};

    fn rows(columns: usize, of: &[(u32, f32)]) -> SparseRows<f32> {
        let mut team = Team::new(1).unwrap();
        let values: Vec<Vec<f32>> = of.iter().map(|(_, value)| vec![*value; columns]).collect();
        let mut sum = SparseRows::new(columns, 0, 0);
        sum.add(&mut team, of.iter().map(|(row, _)| *row).zip(0..), &|i| &values[i]);
        sum
    }

    /// What each rank has of two tables after an exchange, where rank `r` had `own[r]`.
    fn exchanged(
        own: Vec<[SparseRows<f32>; 2]>,
        limits: [[usize; 2]; 2],
    ) -> Vec<Result<Vec<SparseRows<f32>>, RingError>> {
        let rings = rings(own.len(), &MemoryOptions::default()).unwrap();
        std::thread::scope(|scope| {
            let ranks: Vec<_> = rings.into_iter().zip(own).collect();
            let ranks = ranks.into_iter().map(|(ring, mut own)| {
                scope.spawn(move || {
                    let mut reducer = Reducer::new(ring, Wire::F32, 1).unwrap();
                    let mut tables: Vec<Table<'_, f32>> = own
                        .iter_mut()
                        .zip(limits)
                        .map(|(sum, [rows, most])| Table { sum, rows, most })
                        .collect();
                    let mut team = Team::new(2).unwrap();
                    let result = RowExchange::default().exchange(&mut reducer, &mut team, &mut tables);
                    result.map(|()| own.to_vec())
                })
            });
            let ranks: Vec<_> = ranks.collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
        })
    }

    #[test]
    fn every_rank_has_the_sum_of_all() {
        let own = vec![
            [rows(3, &[(1, 1.0), (7, 2.0)]), rows(1, &[])],
            [rows(3, &[]), rows(1, &[(4, 8.0), (0, 3.0)])],
            [rows(3, &[(7, 0.5), (9, 4.0), (0, 1.0)]), rows(1, &[(4, 1.0)])],
        ];
        let first = [(0, 1.0), (1, 1.0), (7, 2.5), (9, 4.0)];
        for rank in exchanged(own, [[10, 4], [5, 4]]) {
            let rank = rank.unwrap();
            for (got, expected) in rank.iter().zip([rows(3, &first), rows(1, &[(0, 3.0), (4, 9.0)])]) {
                assert_eq!((got.rows(), got.values()), (expected.rows(), expected.values()));
            }
        }
        let nothing = vec![[rows(3, &[]), rows(1, &[])], [rows(3, &[]), rows(1, &[])]];
        assert!(
            exchanged(nothing, [[10, 4], [5, 4]])
                .iter()
                .all(|rank| rank.as_ref().unwrap()[0].rows().is_empty())
        );
    }

    #[test]
    fn rows_that_can_not_be_are_refused_and_named() {
        let own =
            || vec![[rows(2, &[(1, 1.0)]), rows(1, &[])], [rows(2, &[(2, 1.0), (6, 1.0)]), rows(1, &[])]];
        for (limits, expected) in [
            ([[6, 4], [5, 4]], "rank 1 is out of step: row 6 of table 0, which has 6"),
            ([[7, 1], [5, 4]], "rank 1 is out of step: 2 rows of table 0, of which a step touches 1 at most"),
        ] {
            for rank in exchanged(own(), limits) {
                assert_eq!(rank.unwrap_err().to_string(), expected);
            }
        }
        let (mut a, mut b) = (rows(1, &[]), rows(1, &[]));
        let tables = [Table { sum: &mut a, rows: 9, most: 9 }, Table { sum: &mut b, rows: 9, most: 9 }];
        let error = check_counts(&[0, 9, u64::MAX, 0], &tables).unwrap_err().to_string();
        assert!(
            error.contains("rank 1") && error.contains("18446744073709551615 rows of table 0"),
            "{error}"
        );
        let error = check_rows(3, 1, &[4, 4], 9).unwrap_err().to_string();
        assert_eq!(error, "rank 3 is out of step: row 4 of table 1 after row 4");
    }
}
