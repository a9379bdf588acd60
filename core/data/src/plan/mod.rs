//! Lanes: who trains on which record when, as a pure function of the data set, seed, epoch and number of lanes.
//!
//! The words (ARCHITECTURE.md has them too): records are *dealt* to a fixed number of *lanes*, each a range of
//! the dealt order. Every epoch permutes each lane. *Step* `t` takes the next *micro-batch* of each lane, which
//! together are the global batch. Nothing here knows workers, reads data or looks at a clock, so whoever holds
//! a lane, at whatever time, gets the same records in the same order.

mod assign;
mod order;

pub use assign::assign_lanes;
pub use order::{LaneOrder, Window};

use crate::error::DataError;
use crate::index::DatasetIndex;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Order in which chunks are dealt to lanes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deal {
    /// As files and records follow each other: the same whatever cluster holds the blocks.
    FileOrder,
    /// Chunks by number, grouped by the host that has them ([`crate::blocks::by_host`]): lanes become local, and
    /// bits depend on where blocks are.
    ByHost(Vec<u32>),
}

/// Order of the records of a lane within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// A new permutation every epoch.
    Shuffled {
        /// Seed of the job.
        seed: u64,
        /// Bytes of records that are shuffled together.
        window_bytes: u64,
    },
    /// As dealt: for evaluation and prediction.
    Sequential,
}

/// What a plan is made of, besides the data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanOptions {
    /// Number of lanes.
    pub lanes: usize,
    /// Records of a step over all lanes.
    pub batch_size: usize,
    /// Order within a lane.
    pub order: Order,
    /// Order over lanes.
    pub deal: Deal,
}

/// A chunk in the order in which records are dealt.
#[derive(Clone, Copy, Debug)]
struct Dealt {
    /// Position of its first record.
    position: u64,
    chunk: u32,
    records: u32,
    bytes: u64,
}

/// Consecutive records of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Number of the chunk in the index.
    pub chunk: u32,
    /// First record, counted within the chunk.
    pub start: u32,
    /// Records.
    pub records: u32,
    /// Their bytes, in proportion.
    pub bytes: u64,
}

/// The plan of a pass over a data set.
#[derive(Clone, Debug)]
pub struct Plan {
    records: u64,
    batch_size: u64,
    order: Order,
    dealt: Arc<[Dealt]>,
    /// For each lane, its turn when single records are counted out round and round.
    turns: Vec<u64>,
    /// First position of each lane in the dealt order, and the end.
    cuts: Vec<u64>,
}

impl Plan {
    /// # Errors
    /// No lanes, an empty batch, or a dealing order that is not one of this index.
    pub fn new(index: &DatasetIndex, options: &PlanOptions) -> Result<Plan, DataError> {
        if options.lanes == 0 || options.batch_size == 0 {
            return Err(DataError::Input("a plan needs at least one lane and one record a step".into()));
        }
        let chunks = index.chunks();
        let order: Vec<u32> = match &options.deal {
            Deal::FileOrder => (0..chunks.len() as u32).collect(),
            Deal::ByHost(order) => {
                let mut sorted = order.clone();
                sorted.sort_unstable();
                if !sorted.iter().copied().eq(0..chunks.len() as u32) {
                    return Err(DataError::Broken("the dealing order does not name every chunk once".into()));
                }
                order.clone()
            }
        };
        let mut position = 0;
        let dealt = order.into_iter().map(|number| {
            let chunk = &chunks[number as usize];
            let dealt = Dealt { position, chunk: number, records: chunk.records, bytes: chunk.bytes };
            position += u64::from(chunk.records);
            dealt
        });
        let turns = turns(options.lanes);
        let mut cuts = vec![0];
        for lane in 0..options.lanes {
            cuts.push(cuts[lane] + taken(index.records(), turns[lane], options.lanes));
        }
        Ok(Plan {
            dealt: dealt.collect(),
            records: index.records(),
            batch_size: options.batch_size as u64,
            order: options.order,
            turns,
            cuts,
        })
    }

    /// Records of an epoch.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Number of lanes.
    pub fn lanes(&self) -> usize {
        self.turns.len()
    }

    /// Steps of an epoch; the last one may be short.
    pub fn steps_per_epoch(&self) -> u64 {
        self.records.div_ceil(self.batch_size)
    }

    /// Epoch and step within it of a step counted from the start of the job.
    pub fn position(&self, step: u64) -> (u64, u64) {
        (step / self.steps_per_epoch(), step % self.steps_per_epoch())
    }

    /// Records of all micro-batches of a step: the batch size, less in the last step of an epoch.
    pub fn step_records(&self, step_in_epoch: u64) -> u64 {
        let range = self.step_range(step_in_epoch);
        range.end - range.start
    }

    /// Records of a lane; those of two lanes differ by one at most.
    pub fn lane_records(&self, lane: usize) -> u64 {
        let range = self.lane_range(lane);
        range.end - range.start
    }

    /// The part of a lane's order that a step takes; empty when it is not the lane's turn, which happens when
    /// a step has fewer records than there are lanes.
    pub fn micro_batch(&self, step_in_epoch: u64, lane: usize) -> Range<u64> {
        let step = self.step_range(step_in_epoch);
        let taken = |total| taken(total, self.turns[lane], self.lanes());
        taken(step.start)..taken(step.end)
    }

    /// The step of an epoch in which a lane's record at `position` of its order is used.
    pub fn step_of(&self, lane: usize, position: u64) -> u64 {
        let (mut low, mut high) = (0, self.steps_per_epoch());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.micro_batch(middle, lane).end <= position { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// The order of a lane in an epoch.
    pub fn lane_order(&self, epoch: u64, lane: usize) -> LaneOrder {
        LaneOrder::new(self.pieces(lane), self.order, (epoch, lane as u64))
    }

    /// A lane's records before they are permuted: chunks, or parts of the first and the last.
    pub fn pieces(&self, lane: usize) -> Vec<Piece> {
        let range = self.lane_range(lane);
        if range.is_empty() {
            return Vec::new();
        }
        let first = self.dealt.partition_point(|dealt| dealt.position <= range.start) - 1;
        let touched = self.dealt[first..].iter().take_while(|dealt| dealt.position < range.end);
        touched
            .map(|dealt| {
                let end = dealt.position + u64::from(dealt.records);
                let (start, end) = (range.start.max(dealt.position), range.end.min(end));
                let share = u128::from(dealt.bytes) * u128::from(end - start);
                Piece {
                    chunk: dealt.chunk,
                    start: (start - dealt.position) as u32,
                    records: (end - start) as u32,
                    bytes: (share / u128::from(dealt.records)) as u64,
                }
            })
            .collect()
    }

    /// Positions of the dealt order that belong to a lane.
    fn lane_range(&self, lane: usize) -> Range<u64> {
        self.cuts[lane]..self.cuts[lane + 1]
    }

    fn step_range(&self, step_in_epoch: u64) -> Range<u64> {
        let end = |steps: u64| self.records.min(steps.saturating_mul(self.batch_size));
        end(step_in_epoch)..end(step_in_epoch.saturating_add(1))
    }
}

/// Records that the lane with this turn has among the first `total` of an epoch.
///
/// Records are counted out singly, lane after lane by their turns. So at any point lanes differ by one record at
/// most, and so do the micro-batches of any step.
fn taken(total: u64, turn: u64, lanes: usize) -> u64 {
    let lanes = lanes as u64;
    total / lanes + u64::from(turn < total % lanes)
}

/// The turn of each lane: bit-reversed numbers, ranked. Lanes that get one record more in the same step then lie
/// far apart, so that they belong to different workers when workers hold neighbouring lanes.
fn turns(lanes: usize) -> Vec<u64> {
    let bits = usize::BITS - (lanes - 1).leading_zeros();
    let reversed = |lane: usize| if bits == 0 { 0 } else { lane.reverse_bits() >> (usize::BITS - bits) };
    let mut by_turn: Vec<usize> = (0..lanes).collect();
    by_turn.sort_by_key(|lane| reversed(*lane));
    let mut turns = vec![0; lanes];
    by_turn.into_iter().enumerate().for_each(|(turn, lane)| turns[lane] = turn as u64);
    turns
}

#[cfg(test)]
mod tests;
