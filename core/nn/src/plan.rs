//! The plan of a pass: in which order layers run, on how many records at a time, and where every number lies.
//!
//! Words. A *segment* is a run of layers that a task takes some records through, one layer after the other, so
//! that what lies between the layers stays in the cache; those records are a *block*. The last segment is the
//! *turn*: a task goes forward through it, measures the loss, and goes backward at once. The segments before it
//! go forward, all blocks of one before the next, and backward in reverse. Small networks are one segment,
//! large ones about one a layer.
//!
//! Gradients of parameters are summed over blocks. A task of a backward segment is a *slot*: a fixed share of
//! the blocks, taken in order, with its own sums; slots are then added up in order. The number of slots depends
//! on the number of records alone, never on threads, hence the same bits on any number of threads. Large layers
//! have no slots: their gradients are computed over all records, cut by parameters (`layer::Sharded`).
//!
//! Numbers that only one task needs lie in that thread's block memory, the others in the whole memory, which
//! holds all records.

use crate::arena::{ALIGN, Lifetime, assign};
use crate::model::Node;
use crate::shape::Shape;
use std::ops::Range;

/// Most slots: threads beyond these have nothing to do in backward segments.
const SLOTS: usize = 16;
/// The same where the parameters do not fit into the cache and are read anew by every block.
const HEAVY_SLOTS: usize = 4;
/// Most records of a block: enough rows for matrix products.
const BLOCK_RECORDS: usize = 16;
/// Fewest records of a block, unless one record fills the cache.
const BLOCK_LEAST: usize = 4;
/// Numbers that a block's values, gradients and scratch should not exceed: half of a 1 MiB second-level cache.
const BLOCK_NUMBERS: usize = 128 * 1024;
/// Parameters that a segment's layers should not exceed together, so that they stay in the cache from block
/// to block.
const SEGMENT_PARAMETERS: usize = 128 * 1024;
/// Numbers that one task of a reduction adds up.
const REDUCE_NUMBERS: usize = 8 * 1024;

/// Where the numbers of a value or gradient lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the batch that the caller handed in.
    Batch,
    /// In the memory for all records.
    Whole(usize),
    /// In the memory of the thread.
    Block(usize),
    /// Nowhere: nobody needs it.
    Nowhere,
}

/// A run of layers that a block of records is taken through.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) nodes: Range<usize>,
    /// Most records of a block.
    pub(crate) block: usize,
    /// Blocks that are aimed at, if their records fit into the cache; most slots.
    pub(crate) tasks: usize,
    /// Numbers of one slot's sums.
    pub(crate) slot: usize,
    /// The sums of this segment that have to be added up: (place in the slot, range of parameters).
    pub(crate) sums: Vec<(usize, Range<usize>)>,
}

/// How a node runs.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    /// Whether backward visits it at all, and whether its input's gradient is wanted.
    pub(crate) learns: bool,
    pub(crate) input_gradient: bool,
    /// Whether its parameter gradients are cut by parameters.
    pub(crate) sharded: bool,
    /// Where its sums begin in a slot.
    pub(crate) slot: usize,
    /// Where its packed parameters lie.
    pub(crate) packed: Range<usize>,
}

/// The plan of a pass over at most `records` records.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) records: usize,
    pub(crate) segments: Vec<Segment>,
    pub(crate) nodes: Vec<NodePlan>,
    /// Numbers of a record of each value: the input, then the output of every node.
    pub(crate) lens: Vec<usize>,
    /// Where each value lies.
    pub(crate) values: Vec<Place>,
    /// Where the gradient of each value lies.
    pub(crate) gradients: Vec<Place>,
    /// Numbers of the memory for all records.
    pub(crate) whole: usize,
    /// Numbers of a thread's memory.
    pub(crate) block: usize,
    /// Numbers of a thread's scratch.
    pub(crate) scratch: usize,
    /// Numbers of all slots.
    pub(crate) slots: usize,
    /// Numbers of packed parameters.
    pub(crate) packed: usize,
}

/// How a segment's records are dealt to tasks; a function of the number of records alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Deal {
    records: usize,
    block: usize,
    pub(crate) blocks: usize,
    pub(crate) slots: usize,
}

impl Segment {
    /// Deals `records` records.
    pub(crate) fn deal(&self, records: usize) -> Deal {
        let block = records.div_ceil(self.tasks).clamp(BLOCK_LEAST.min(self.block), self.block);
        let blocks = records.div_ceil(block);
        Deal { records, block, blocks, slots: blocks.min(self.tasks) }
    }
}

impl Deal {
    /// Records of a block.
    pub(crate) fn block(&self, block: usize) -> Range<usize> {
        block * self.block..((block + 1) * self.block).min(self.records)
    }

    /// Blocks of a slot.
    pub(crate) fn slot(&self, slot: usize) -> Range<usize> {
        slot * self.blocks / self.slots..(slot + 1) * self.blocks / self.slots
    }
}

impl Plan {
    /// Plans passes over at most `records` records.
    pub(crate) fn new(nodes: &[Node], input: &Shape, records: usize) -> Plan {
        let mut lens = vec![input.elements()];
        lens.extend(nodes.iter().map(|node| node.layer.output().elements()));
        let (plans, packed) = plan_nodes(nodes);
        let mut plan = Plan {
            records,
            segments: cut(nodes, &plans, &lens),
            values: vec![Place::Batch; lens.len()],
            gradients: vec![Place::Nowhere; lens.len()],
            nodes: plans,
            lens,
            whole: 0,
            block: 0,
            scratch: 0,
            slots: 0,
            packed,
        };
        plan.place_sums(nodes);
        plan.place_values(nodes);
        for segment in &plan.segments {
            let block = segment.deal(records).block(0).len();
            let scratch = nodes[segment.nodes.clone()].iter().map(|node| node.layer.scratch(block)).max();
            plan.scratch = plan.scratch.max(scratch.unwrap_or(0).next_multiple_of(ALIGN));
        }
        plan
    }

    /// Where the records `records` of a value or gradient with this place lie, for records counted within the
    /// micro-batch and the first record of the block.
    pub(crate) fn range(
        &self,
        value: usize,
        place: Place,
        records: &Range<usize>,
        thread: usize,
    ) -> Range<usize> {
        let len = self.lens[value];
        let start = match place {
            Place::Batch => records.start * len,
            Place::Whole(offset) => offset + records.start * len,
            Place::Block(offset) => thread * self.block + offset,
            Place::Nowhere => return 0..0,
        };
        start..start + records.len() * len
    }

    fn place_sums(&mut self, nodes: &[Node]) {
        for segment in &mut self.segments {
            for i in segment.nodes.clone() {
                let (node, plan) = (&nodes[i], &mut self.nodes[i]);
                if plan.sharded || node.params.is_empty() {
                    continue;
                }
                plan.slot = segment.slot;
                for start in node.params.clone().step_by(REDUCE_NUMBERS) {
                    let range = start..(start + REDUCE_NUMBERS).min(node.params.end);
                    segment.sums.push((plan.slot + start - node.params.start, range));
                }
                segment.slot += node.params.len().next_multiple_of(ALIGN);
            }
            let slots = segment.deal(self.records).slots;
            self.slots = self.slots.max(slots * segment.slot);
        }
    }

    fn place_values(&mut self, nodes: &[Node]) {
        let (turn, last) = (self.segments.len() - 1, nodes.len());
        let segment_of = |node: usize| {
            self.segments.iter().position(|s| s.nodes.contains(&node)).expect("every node has one")
        };
        // Points in time: forward of segment s at s, the turn at `turn`, backward of s at 2 turn - s.
        let backward = |segment: usize| 2 * turn - segment;
        let mut whole: Vec<(usize, bool, Lifetime)> = Vec::new();
        let mut blocks: Vec<(usize, bool, usize, Lifetime)> = Vec::new();
        for value in 1..=last {
            let producer = segment_of(value - 1);
            let consumer = if value == last { turn } else { segment_of(value) };
            let read_again = nodes[value - 1].layer.needs().output && self.nodes[value - 1].learns;
            let next = (value < last).then(|| (&nodes[value], &self.nodes[value]));
            let needed =
                next.is_some_and(|(node, plan)| plan.learns && (node.layer.needs().input || plan.sharded));
            let sharded = next.is_some_and(|(_, plan)| plan.sharded);
            // Steps within a segment: node i at i, the loss at `last`, backward of i at 2 last - i.
            if producer == turn && !sharded {
                let to = if read_again { 2 * last - (value - 1) } else { value };
                let to = if needed { to.max(2 * last - value) } else { to };
                blocks.push((value, false, turn, Lifetime { len: self.lens[value], from: value - 1, to }));
            } else {
                let to = if read_again { backward(producer) } else { consumer };
                let to = if needed { to.max(backward(consumer)) } else { to };
                whole.push((value, false, Lifetime { len: self.lens[value], from: producer, to }));
            }
            if !self.nodes[value - 1].learns {
                continue;
            }
            if producer == consumer && !self.nodes[value - 1].sharded {
                let life =
                    Lifetime { len: self.lens[value], from: 2 * last - value, to: 2 * last - (value - 1) };
                blocks.push((value, true, producer, life));
            } else {
                let life =
                    Lifetime { len: self.lens[value], from: backward(consumer), to: backward(producer) };
                whole.push((value, true, life));
            }
        }
        self.assign_whole(&whole);
        self.assign_blocks(&blocks);
    }

    fn assign_whole(&mut self, whole: &[(usize, bool, Lifetime)]) {
        let lives: Vec<Lifetime> =
            whole.iter().map(|(_, _, life)| Lifetime { len: life.len * self.records, ..*life }).collect();
        let (offsets, total) = assign(&lives);
        for ((value, gradient, _), offset) in whole.iter().zip(offsets) {
            let places = if *gradient { &mut self.gradients } else { &mut self.values };
            places[*value] = Place::Whole(offset);
        }
        self.whole = total;
    }

    fn assign_blocks(&mut self, blocks: &[(usize, bool, usize, Lifetime)]) {
        for (s, segment) in self.segments.iter().enumerate() {
            let records = segment.deal(self.records).block(0).len();
            let own: Vec<_> = blocks.iter().filter(|(_, _, of, _)| *of == s).collect();
            let lives: Vec<Lifetime> =
                own.iter().map(|(_, _, _, life)| Lifetime { len: life.len * records, ..*life }).collect();
            let (offsets, total) = assign(&lives);
            for ((value, gradient, _, _), offset) in own.into_iter().zip(offsets) {
                let places = if *gradient { &mut self.gradients } else { &mut self.values };
                places[*value] = Place::Block(offset);
            }
            self.block = self.block.max(total);
        }
    }
}

fn plan_nodes(nodes: &[Node]) -> (Vec<NodePlan>, usize) {
    let (mut learns, mut packed) = (false, 0usize);
    let plans = nodes.iter().map(|node| {
        let input_gradient = learns;
        learns |= !node.params.is_empty();
        let sharded = node.layer.sharded().is_some();
        let start = packed.next_multiple_of(ALIGN);
        packed = start + node.layer.packed();
        NodePlan { learns, input_gradient, sharded, slot: 0, packed: start..packed }
    });
    (plans.collect(), packed)
}

/// Cuts the layers into segments by the size of their parameters, and finds the size of their blocks.
fn cut(nodes: &[Node], plans: &[NodePlan], lens: &[usize]) -> Vec<Segment> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut parameters = 0;
    for (i, node) in nodes.iter().enumerate() {
        parameters += node.params.len();
        match ranges.last_mut() {
            Some(range) if parameters <= SEGMENT_PARAMETERS || node.params.is_empty() => range.end = i + 1,
            _ => {
                ranges.push(i..i + 1);
                parameters = node.params.len();
            }
        }
    }
    let segments = ranges.into_iter().map(|range| {
        let numbers: usize = range
            .clone()
            .map(|i| {
                let gradients = if plans[i].learns { 2 } else { 1 };
                let per_record = nodes[i].layer.scratch(2) - nodes[i].layer.scratch(1);
                gradients * lens[i + 1] + per_record
            })
            .sum();
        let heavy =
            nodes[range.clone()].iter().map(|node| node.params.len()).sum::<usize>() > SEGMENT_PARAMETERS;
        let records = (BLOCK_NUMBERS / numbers.max(1)).clamp(1, BLOCK_RECORDS);
        // Parameters that do not fit into the cache are read once a block: fewer, larger blocks.
        let (block, tasks) =
            if heavy { (records.max(4 * BLOCK_RECORDS), HEAVY_SLOTS) } else { (records, SLOTS) };
        Segment { nodes: range, block, tasks, slot: 0, sums: Vec::new() }
    });
    segments.collect()
}
