//! Leave-one-out ranking, as in He et al., "Neural Collaborative Filtering" (2017): `group` consecutive records
//! hold one item that a user chose (target 1) and others that she did not; the rank of the first among all of
//! them is what counts.
//!
//! Groups are records `0 .. group`, `group .. 2 group` and so on of the data set, in the order of files and lines.
//! Lanes and batches may cut them: what has come of a group is kept, 16 bytes a record, until it is whole, so
//! little more is ever kept than the groups at the ends of lanes. Equal scores count against the chosen item,
//! so that a model that says the same of everything does not shine.

use super::scores::{Scorer, is_yes, key};
use super::{Gathered, Metric, Records, Scored};
use crate::layer::Misfit;
use crate::registry::ParamDoc;
use ringspin_job::ParamReader;

/// Parameters of both rankings.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("k", "10", "ranks that count: hr@10"),
    ParamDoc::new("group", "100", "records of a group, one of them with target 1"),
    super::scores::POSITIVE,
];
/// More ranks are a typing mistake.
const MAX_RANKS: usize = 1 << 20;

/// The mean over groups of what the rank of the chosen item is worth.
pub(super) struct Ranking {
    scorer: Scorer,
    group: u64,
    /// Worth of the ranks from 0.
    worth: Vec<f64>,
}

/// Sums: groups, groups without exactly one chosen item, then groups by the rank of the chosen one.
const HEAD: usize = 2;

pub(super) fn build(
    metric: &str,
    reader: &mut ParamReader<'_>,
    scored: &Scored<'_>,
    worth: fn(usize) -> f64,
) -> Result<Box<dyn Metric>, Misfit> {
    let (k, group) = (reader.count("k", 1, Some(10)), reader.count("group", 2, Some(100)));
    if k > group || k > MAX_RANKS {
        let most = group.min(MAX_RANKS);
        reader.problem("k", format!("is {k}; expected at most {most}, of the {group} records of a group"));
    }
    let scorer = Scorer::read(metric, reader, scored)?;
    if scored.targets.per_record() != 1 {
        return Err(Misfit(format!("{metric} needs one target a record; the loss has {}", scored.targets)));
    }
    let worth = (0..k.min(MAX_RANKS)).map(worth).collect();
    Ok(Box::new(Ranking { scorer, group: group as u64, worth }))
}

impl Ranking {
    /// Counts the groups that are whole and lets go of their records.
    fn settle(&self, gathered: &mut Gathered) {
        let mut records: Vec<(u64, u64)> =
            gathered.kept.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        records.sort_unstable();
        gathered.kept.clear();
        for group in records.chunk_by(|a, b| a.0 / self.group == b.0 / self.group) {
            if (group.len() as u64) < self.group {
                gathered.kept.extend(group.iter().flat_map(|(number, item)| [*number, *item]));
                continue;
            }
            gathered.sums[0] += 1;
            let mut chosen = group.iter().filter(|(_, item)| is_yes(*item));
            let (Some((_, own)), None) = (chosen.next(), chosen.next()) else {
                gathered.sums[1] += 1;
                continue;
            };
            let rank = group.iter().filter(|(_, item)| key(*item) >= key(*own)).count() - 1;
            if rank < self.worth.len() {
                gathered.sums[HEAD + rank] += 1;
            }
        }
    }
}

impl Metric for Ranking {
    fn sums(&self) -> usize {
        HEAD + self.worth.len()
    }

    fn add(&self, gathered: &mut Gathered, records: &Records<'_>) {
        self.scorer.each(records, |i, item| gathered.kept.extend([records.numbers[i], item]));
        if gathered.kept.len() as u64 >= 2 * self.group {
            self.settle(gathered);
        }
    }

    fn value(&self, mut gathered: Gathered) -> Result<f64, String> {
        self.settle(&mut gathered);
        let (groups, wrong) = (gathered.sums[0], gathered.sums[1]);
        if !gathered.kept.is_empty() {
            return Err(format!(
                "{} records are in no whole group of {}; the data must hold whole groups",
                gathered.kept.len() / 2,
                self.group
            ));
        }
        if wrong > 0 {
            return Err(format!("{wrong} of {groups} groups do not have exactly one record with target 1"));
        }
        if groups == 0 {
            return Err("no record counts".into());
        }
        let counts = gathered.sums[HEAD..].iter().zip(&self.worth);
        Ok(counts.map(|(count, worth)| *count as f64 * worth).sum::<f64>() / groups as f64)
    }
}
