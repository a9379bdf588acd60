//! The plan of a pass: in which order layers run, on how many records at a time, and where every number lies.
//!
//! Words. A *segment* is a run of layers that a task takes some records through, one layer after the other, so
//! that what lies between the layers stays in the cache; those records are a *block*. The last segment is the
//! *turn*: a task goes forward through it, measures the loss, and goes backward at once. The segments before it
//! go forward, all blocks of one before the next, and backward in reverse. Small networks are one segment,
//! large ones about one a layer. A layer that is [`crate::Wide`] is a segment of its own.
//!
//! Gradients of parameters are summed over blocks. A task of a backward segment is a *slot*: a fixed share of
//! the blocks, taken in order, with its own sums; slots are then added up in order. The number of slots depends
//! on the number of records alone, never on threads, hence the same bits on any number of threads. Large layers
//! have no slots: their gradients are computed over all records, cut by parameters (`layer::Sharded`).
//!
//! A value that several layers read gets its gradient from all of them: in the order of backward, the first
//! writes it, the others add to it.
//!
//! What backward reads again is kept, except for large outputs that are computed faster than memory gives them back
//! (`placing::RECOMPUTED_FLOPS`): those are computed again.
//!
//! Numbers that only one task needs lie in that thread's block memory, the others in the whole memory, which
//! holds all records.

mod placing;

use crate::arena::ALIGN;
use crate::graph::{Graph, Node};
use crate::layer::{ParameterKind, ParameterSpec};
use crate::shape::Shape;
use placing::Placing;
use std::ops::Range;

/// Most slots: threads beyond these have nothing to do in backward segments.
const SLOTS: usize = 16;
/// The same where the parameters do not fit into the cache and are read anew by every block.
const HEAVY_SLOTS: usize = 4;
/// Most records of a block: enough rows for matrix products.
const BLOCK_RECORDS: usize = 16;
/// Rows of matrix products in a block of layers whose parameters do not fit into the cache.
const HEAVY_ROWS: usize = 64;
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
    /// Whether its only layer takes all records at once.
    pub(crate) wide: bool,
    /// Most records of a block.
    pub(crate) block: usize,
    /// Fewest, where there are as many.
    pub(crate) least: usize,
    /// Blocks that are aimed at, if their records fit into the cache; most slots.
    pub(crate) tasks: usize,
    /// Numbers of one slot's sums.
    pub(crate) slot: usize,
    /// The sums of this segment that have to be added up.
    pub(crate) sums: Vec<Sum>,
}

/// A part of a slot's sums.
#[derive(Clone, Debug)]
pub(crate) struct Sum {
    /// Place in the slot.
    pub(crate) start: usize,
    /// The parameters.
    pub(crate) params: Range<usize>,
    /// Whether other layers with the same weights have already left a gradient there.
    pub(crate) add: bool,
}

/// How the gradient of an input gets where it belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edge {
    /// Nothing before it learns.
    Nowhere,
    /// The layer writes it.
    Write,
    /// The layer adds it to what others wrote.
    Add,
    /// The layer writes it here, and the engine adds it to what others wrote.
    Sum(Place),
    /// It is the gradient of the output, which lies where this one should.
    Passed,
}

/// How a node runs.
#[derive(Clone, Debug)]
pub(crate) struct NodePlan {
    /// Whether backward visits it.
    pub(crate) learns: bool,
    /// The gradients of its inputs.
    pub(crate) edges: Vec<Edge>,
    /// Whether its parameter gradients are cut by parameters, or are rows of a table.
    pub(crate) sharded: bool,
    /// Whether a pass may update its parameters itself: they are no other layer's, no statistics, and their gradients come
    /// in shards.
    pub(crate) at_once: bool,
    /// Whether layers with the same weights, later in the model, have already left a gradient.
    pub(crate) shared_after: bool,
    /// Whether its parameters' gradients are final once it has run backward.
    pub(crate) ready: bool,
    /// Whether the model's first output depends on it.
    pub(crate) needed: bool,
    /// Where its sums begin in a slot.
    pub(crate) slot: usize,
    /// Where its packed parameters lie.
    pub(crate) packed: Range<usize>,
    /// Where lies what forward keeps for backward.
    pub(crate) saved: Place,
    /// Where its output lies when backward reads it, unless that is where forward wrote it: it is then computed again,
    /// before the layer that reads it goes backward.
    pub(crate) again: Place,
}

/// What passes are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Forward and backward.
    Training,
    /// Forward only: nothing has to be kept.
    Inference,
}

/// The plan of a pass over at most `records` records.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) records: usize,
    pub(crate) segments: Vec<Segment>,
    pub(crate) nodes: Vec<NodePlan>,
    /// Numbers of a record of each value.
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
    /// Numbers of the scratch of layers that take all records at once.
    pub(crate) wide_scratch: usize,
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
        let block = records.div_ceil(self.tasks).clamp(self.least, self.block);
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
    /// Plans passes over at most `records` records on `threads` threads.
    pub(crate) fn new(
        graph: &Graph,
        input: &Shape,
        records: usize,
        threads: usize,
        purpose: Purpose,
    ) -> Plan {
        let nodes = &graph.nodes;
        let mut lens = vec![input.elements()];
        lens.extend(nodes.iter().map(|node| node.layer.output().elements()));
        let (plans, packed) = plan_nodes(graph, purpose);
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
            wide_scratch: 0,
            slots: 0,
            packed,
        };
        plan.place_sums(nodes);
        Placing::new(&mut plan, graph).place();
        for segment in &plan.segments {
            let nodes = nodes[segment.nodes.clone()].iter();
            if segment.wide {
                let scratch = nodes.filter_map(|node| Some(node.layer.wide()?.scratch(records, threads)));
                plan.wide_scratch = plan.wide_scratch.max(scratch.max().unwrap_or(0));
            } else {
                let block = segment.deal(records).block(0).len();
                let scratch = nodes.map(|node| node.layer.scratch(block)).max().unwrap_or(0);
                plan.scratch = plan.scratch.max(scratch.next_multiple_of(ALIGN));
            }
        }
        plan
    }

    /// Numbers that a workspace with `threads` threads allocates.
    pub(crate) fn numbers(&self, threads: usize) -> usize {
        let scratch = (threads * self.scratch).max(self.wide_scratch);
        self.whole + self.slots + self.packed + threads * self.block + scratch
    }

    /// Decides which parameters passes update themselves, with room for gradients of shards in the scratch of each of
    /// `threads` threads, and returns them. Not those of which all threads' shards would take more room than their
    /// gradient, or that have too few shards for the threads.
    pub(crate) fn update_at_once(&mut self, graph: &Graph, threads: usize) -> Vec<Range<usize>> {
        let (mut room, mut params) = (self.scratch, Vec::new());
        for (node, plan) in graph.nodes.iter().zip(&mut self.nodes).filter(|(_, plan)| plan.at_once) {
            let Some(sharded) = node.layer.sharded() else { continue };
            let shards = sharded.shards(self.records, threads);
            let numbers =
                |shard: usize| sharded.shard_ranges(shard, shards).map(|range| range.len()).iter().sum();
            let largest: usize = (0..shards).map(numbers).max().unwrap_or(0);
            plan.at_once = shards >= threads && threads * largest < node.params.len();
            if plan.at_once {
                room = room.max(largest);
                params.push(node.params.clone());
            }
        }
        self.scratch = room.next_multiple_of(ALIGN);
        params
    }

    /// Where backward finds a value.
    pub(crate) fn kept(&self, value: usize) -> Place {
        let again = value.checked_sub(1).map_or(Place::Nowhere, |node| self.nodes[node].again);
        if again == Place::Nowhere { self.values[value] } else { again }
    }

    /// Where the records `records` of a value or gradient with this place lie, for records counted within the
    /// micro-batch and the first record of the block.
    pub(crate) fn range(
        &self,
        len: usize,
        place: Place,
        records: &Range<usize>,
        thread: usize,
    ) -> Range<usize> {
        let start = match place {
            Place::Batch => records.start * len,
            Place::Whole(offset) => offset + records.start * len,
            Place::Block(offset) => thread * self.block + offset,
            Place::Nowhere => return 0..0,
        };
        start..start + records.len() * len
    }

    /// Gives the parameter gradients of layers that work block by block their places in slots.
    fn place_sums(&mut self, nodes: &[Node]) {
        for segment in self.segments.iter_mut().filter(|segment| !segment.wide) {
            let mut placed: Vec<(Range<usize>, usize)> = Vec::new();
            for i in segment.nodes.clone().rev() {
                let (node, plan) = (&nodes[i], &mut self.nodes[i]);
                if plan.sharded || !plan.learns || node.params.is_empty() {
                    continue;
                }
                if let Some((_, slot)) = placed.iter().find(|(params, _)| *params == node.params) {
                    plan.slot = *slot;
                    continue;
                }
                plan.slot = segment.slot;
                placed.push((node.params.clone(), plan.slot));
                for start in node.params.clone().step_by(REDUCE_NUMBERS) {
                    let params = start..(start + REDUCE_NUMBERS).min(node.params.end);
                    let start = plan.slot + start - node.params.start;
                    segment.sums.push(Sum { start, params, add: plan.shared_after });
                }
                segment.slot += node.params.len().next_multiple_of(ALIGN);
            }
            let slots = segment.deal(self.records).slots;
            self.slots = self.slots.max(slots * segment.slot);
        }
    }
}

fn plan_nodes(graph: &Graph, purpose: Purpose) -> (Vec<NodePlan>, usize) {
    let nodes = &graph.nodes;
    let (mut packed, mut plans) = (0usize, Vec::<NodePlan>::with_capacity(nodes.len()));
    for node in nodes {
        let learns = |value: usize| value > 0 && plans[value - 1].learns;
        let before = node.inputs.iter().any(|input| learns(*input));
        let start = packed.next_multiple_of(ALIGN);
        packed = start + node.layer.packed(purpose == Purpose::Training && before);
        plans.push(NodePlan {
            learns: purpose == Purpose::Training && (before || !node.params.is_empty()),
            edges: vec![Edge::Nowhere; node.inputs.len()],
            sharded: node.layer.sharded().is_some() || node.layer.tabled().is_some(),
            at_once: false,
            shared_after: false,
            ready: false,
            needed: false,
            slot: 0,
            packed: start..packed,
            saved: Place::Nowhere,
            again: Place::Nowhere,
        });
    }
    share(nodes, &mut plans);
    if let Some(output) = graph.outputs.first().filter(|output| **output > 0) {
        plans[output - 1].needed = true;
    }
    for i in (0..nodes.len()).rev().filter(|i| *i < nodes.len()) {
        if plans[i].needed {
            nodes[i]
                .inputs
                .iter()
                .filter(|input| **input > 0)
                .for_each(|input| plans[input - 1].needed = true);
        }
    }
    connect(graph, &mut plans);
    (plans, packed)
}

/// Which of the layers with the same weights is the first and the last to leave a gradient.
fn share(nodes: &[Node], plans: &mut [NodePlan]) {
    for i in (0..nodes.len()).filter(|i| !nodes[*i].params.is_empty()) {
        let same = |other: &Node| other.params == nodes[i].params;
        plans[i].shared_after = nodes[i + 1..].iter().any(same);
        plans[i].ready = nodes[i].layer.tabled().is_none() && !nodes[..i].iter().any(same);
        let alone = plans[i].ready && !plans[i].shared_after;
        let learned = |parameter: &ParameterSpec| parameter.kind == ParameterKind::Learned;
        plans[i].at_once = alone
            && plans[i].learns
            && nodes[i].layer.sharded().is_some()
            && nodes[i].layer.parameters().iter().all(learned);
    }
}

/// How the gradient of every input gets where it belongs; what needs a place gets it later.
fn connect(graph: &Graph, plans: &mut [NodePlan]) {
    let mut written = vec![false; plans.len() + 1];
    graph.outputs.iter().for_each(|output| written[*output] = true);
    for (i, node) in
        graph.nodes.iter().enumerate().rev().filter(|(i, _)| plans[*i].learns).collect::<Vec<_>>()
    {
        for (k, input) in node.inputs.iter().enumerate() {
            if *input == 0 || !plans[*input - 1].learns {
                continue;
            }
            let again = std::mem::replace(&mut written[*input], true);
            plans[i].edges[k] = match again {
                false if node.layer.passes() == Some(k) => Edge::Passed,
                false => Edge::Write,
                true if k == 0 && node.layer.adds() => Edge::Add,
                true => Edge::Sum(Place::Nowhere),
            };
        }
    }
}

/// Parameters that a pass over some records reads: of tables it reads few rows.
pub(crate) fn parameters_read(node: &Node) -> usize {
    if node.layer.tabled().is_some() { 0 } else { node.params.len() }
}

/// Cuts the layers into segments by the size of their parameters, and finds the size of their blocks.
fn cut(nodes: &[Node], plans: &[NodePlan], lens: &[usize]) -> Vec<Segment> {
    let mut ranges: Vec<(Range<usize>, bool)> = Vec::new();
    let mut parameters = 0;
    for (i, node) in nodes.iter().enumerate() {
        let wide = node.layer.wide().is_some();
        parameters += parameters_read(node);
        let fits = parameters <= SEGMENT_PARAMETERS || parameters_read(node) == 0;
        match ranges.last_mut() {
            Some((range, false)) if !wide && fits => range.end = i + 1,
            _ => {
                ranges.push((i..i + 1, wide));
                parameters = parameters_read(node);
            }
        }
    }
    if ranges.last().is_none_or(|(_, wide)| *wide) {
        // The turn measures the loss block by block.
        ranges.push((nodes.len()..nodes.len(), false));
    }
    let segments = ranges.into_iter().map(|(range, wide)| {
        let numbers: usize = range
            .clone()
            .map(|i| {
                let gradients = if plans[i].learns { 2 } else { 1 };
                let per_record = nodes[i].layer.scratch(2) - nodes[i].layer.scratch(1);
                gradients * lens[i + 1] + per_record + nodes[i].layer.saved(1)
            })
            .sum();
        let heavy = nodes[range.clone()].iter().map(parameters_read).sum::<usize>() > SEGMENT_PARAMETERS;
        let least = nodes[range.clone()].iter().map(|node| node.layer.least_records()).max().unwrap_or(1);
        let records = (BLOCK_NUMBERS / numbers.max(1)).clamp(1, BLOCK_RECORDS).max(least);
        // Parameters that do not fit into the cache are read once a block: fewer, larger blocks.
        let weighty = nodes[range.clone()].iter().filter(|node| parameters_read(node) > 0);
        let rows = weighty.map(|node| node.layer.rows()).min().unwrap_or(1);
        let (block, tasks) =
            if heavy { (records.max(HEAVY_ROWS.div_ceil(rows)), HEAVY_SLOTS) } else { (records, SLOTS) };
        let least = BLOCK_LEAST.min(block).max(least);
        Segment { nodes: range, wide, block, least, tasks, slot: 0, sums: Vec::new() }
    });
    segments.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_dealt_whole_and_evenly() {
        let sums = Vec::new();
        let segment = Segment { nodes: 0..1, wide: false, block: 6, least: 4, tasks: 16, slot: 0, sums };
        for records in 1..300 {
            let deal = segment.deal(records);
            let blocks: Vec<Range<usize>> =
                (0..deal.slots).flat_map(|slot| deal.slot(slot)).map(|b| deal.block(b)).collect();
            assert_eq!(blocks.first().map(|block| block.start), Some(0));
            assert!(blocks.windows(2).all(|pair| pair[0].end == pair[1].start), "{blocks:?}");
            assert_eq!(blocks.last().map(|block| block.end), Some(records));
            assert!(blocks.iter().all(|block| !block.is_empty() && block.len() <= 6));
        }
    }
}
