//! The phases of a pass: each is a fixed number of tasks, and ends before the next begins.
//!
//! All `unsafe` here hands parts of shared buffers to tasks. Why they do not overlap: the plan gives numbers
//! that live at the same time different places (`arena::assign`); the tasks of a phase work on different
//! records, slots, shards or threads, and so on different parts of each place.

use crate::arena::Shared;
use crate::batch::{BatchMetrics, BatchView, Targets};
use crate::kernels::Isa;
use crate::layer::{Backward, Context, Forward, WeightsShard};
use crate::losses::Measure;
use crate::model::Model;
use crate::plan::{Place, Plan, Segment};
use crate::random::RandomKey;
use crate::team::Team;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one task measured.
#[derive(Default)]
pub(crate) struct SlotMetrics([AtomicU64; 6]);

impl SlotMetrics {
    fn set(&self, metrics: &BatchMetrics) {
        let BatchMetrics { loss_sum, weight, top1, top5, classified, records } = *metrics;
        let words = [loss_sum.to_bits(), weight.to_bits(), top1, top5, classified, records];
        self.0.iter().zip(words).for_each(|(cell, word)| cell.store(word, Ordering::Relaxed));
    }

    fn get(&self) -> BatchMetrics {
        let [loss, weight, top1, top5, classified, records] =
            std::array::from_fn(|i| self.0[i].load(Ordering::Relaxed));
        let (loss_sum, weight) = (f64::from_bits(loss), f64::from_bits(weight));
        BatchMetrics { loss_sum, weight, top1, top5, classified, records }
    }
}

/// The memory of a pass, for all its tasks.
#[derive(Clone, Copy)]
pub(crate) struct SharedMemory<'a> {
    pub(crate) whole: Shared<'a>,
    pub(crate) block: Shared<'a>,
    pub(crate) scratch: Shared<'a>,
    pub(crate) slots: Shared<'a>,
    pub(crate) packed: Shared<'a>,
    pub(crate) metrics: &'a [SlotMetrics],
}

/// A pass over one micro-batch: what its tasks share.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) model: &'a Model,
    pub(crate) plan: &'a Plan,
    pub(crate) isa: Isa,
    pub(crate) batch: &'a BatchView<'a>,
    pub(crate) params: &'a [f32],
    pub(crate) key: RandomKey,
    pub(crate) training: bool,
    pub(crate) scale: f32,
    pub(crate) memory: SharedMemory<'a>,
}

/// Adds up what the tasks measured, in their order.
fn sum(metrics: &[SlotMetrics]) -> BatchMetrics {
    let mut total = BatchMetrics::default();
    metrics.iter().for_each(|metrics| total.add(&metrics.get()));
    total
}

impl<'a> Pass<'a> {
    /// Forward, loss, backward.
    pub(crate) fn train(
        &self,
        team: &mut Team,
        accumulate: bool,
        grads: &mut [f32],
        ready: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> BatchMetrics {
        self.pack(team);
        let (turn, before) = self.plan.segments.split_last().expect("a model has layers");
        for segment in before {
            self.forward_segment(team, segment);
        }
        let total = self.turn(team, turn);
        for (i, segment) in self.plan.segments.iter().enumerate().rev() {
            if i < before.len() {
                self.backward_segment(team, segment);
            }
            self.weights(team, segment, accumulate, grads);
            self.reduce(team, segment, accumulate, grads);
            for node in self.model.nodes()[segment.nodes.clone()].iter().rev() {
                if !node.params.is_empty() {
                    ready(node.params.clone(), &grads[node.params.clone()]);
                }
            }
        }
        total
    }

    /// Forward and, with targets, loss.
    pub(crate) fn evaluate(&self, team: &mut Team, outputs: Option<&mut [f32]>) -> BatchMetrics {
        self.pack(team);
        let (turn, before) = self.plan.segments.split_last().expect("a model has layers");
        for segment in before {
            self.forward_segment(team, segment);
        }
        let (deal, outputs) = (turn.deal(self.batch.count), outputs.map(Shared::new));
        let last = self.plan.lens.len() - 1;
        team.tasks(deal.blocks, &|block, thread| {
            let records = deal.block(block);
            self.forward_block(turn, &records, thread);
            self.memory.metrics[block].set(&self.measure(&records, thread));
            if let Some(outputs) = outputs {
                let len = self.plan.lens[last];
                // SAFETY: the records of different blocks do not overlap, and this task wrote the values.
                let (from, to) = unsafe {
                    let to = outputs.write(records.start * len..records.end * len);
                    (self.value(last, &records, thread), to)
                };
                to.copy_from_slice(from);
            }
        });
        sum(&self.memory.metrics[..deal.blocks])
    }

    /// Rearranges the parameters of the layers that want it.
    fn pack(&self, team: &mut Team) {
        if self.plan.packed == 0 {
            return;
        }
        team.tasks(self.model.nodes().len(), &|i, _| {
            let node = &self.model.nodes()[i];
            if !self.plan.nodes[i].packed.is_empty() {
                // SAFETY: every node has its own part.
                let packed = unsafe { self.memory.packed.write(self.plan.nodes[i].packed.clone()) };
                node.layer.pack(&self.params[node.params.clone()], packed);
            }
        });
    }

    fn forward_segment(&self, team: &mut Team, segment: &Segment) {
        let deal = segment.deal(self.batch.count);
        team.tasks(deal.blocks, &|block, thread| self.forward_block(segment, &deal.block(block), thread));
    }

    /// The last segment: forward, loss and backward of each block.
    fn turn(&self, team: &mut Team, segment: &Segment) -> BatchMetrics {
        let deal = segment.deal(self.batch.count);
        team.tasks(deal.slots, &|slot, thread| {
            let mut total = BatchMetrics::default();
            self.clear_slot(segment, slot);
            for block in deal.slot(slot) {
                let records = deal.block(block);
                self.forward_block(segment, &records, thread);
                total.add(&self.measure(&records, thread));
                self.backward_block(segment, slot, &records, thread);
            }
            self.memory.metrics[slot].set(&total);
        });
        sum(&self.memory.metrics[..deal.slots])
    }

    fn backward_segment(&self, team: &mut Team, segment: &Segment) {
        let deal = segment.deal(self.batch.count);
        team.tasks(deal.slots, &|slot, thread| {
            self.clear_slot(segment, slot);
            for block in deal.slot(slot) {
                self.backward_block(segment, slot, &deal.block(block), thread);
            }
        });
    }

    fn clear_slot(&self, segment: &Segment, slot: usize) {
        // SAFETY: every slot has its own part, and one task.
        unsafe { self.memory.slots.write(slot * segment.slot..(slot + 1) * segment.slot) }.fill(0.0);
    }

    /// # Safety
    /// Nobody writes the value of these records (or, for values of a thread, on this thread) meanwhile.
    unsafe fn value(&self, value: usize, records: &Range<usize>, thread: usize) -> &'a [f32] {
        // SAFETY: the caller vouches for it.
        unsafe { self.read(value, self.plan.values[value], records, thread) }
    }

    /// # Safety
    /// Nobody writes what `place` stands for meanwhile.
    unsafe fn read(&self, value: usize, place: Place, records: &Range<usize>, thread: usize) -> &'a [f32] {
        let range = self.plan.range(value, place, records, thread);
        match place {
            Place::Batch => &self.batch.inputs[range],
            // SAFETY: the caller vouches for it.
            Place::Whole(_) => unsafe { self.memory.whole.read(range) },
            // SAFETY: the caller vouches for it.
            Place::Block(_) => unsafe { self.memory.block.read(range) },
            Place::Nowhere => &[],
        }
    }

    /// # Safety
    /// Nobody else uses what `place` stands for meanwhile.
    unsafe fn write(
        &self,
        value: usize,
        place: Place,
        records: &Range<usize>,
        thread: usize,
    ) -> &'a mut [f32] {
        let range = self.plan.range(value, place, records, thread);
        match place {
            // SAFETY: the caller vouches for it.
            Place::Whole(_) => unsafe { self.memory.whole.write(range) },
            // SAFETY: the caller vouches for it.
            Place::Block(_) => unsafe { self.memory.block.write(range) },
            Place::Batch | Place::Nowhere => &mut [],
        }
    }

    fn context(&self, node: usize, records: &Range<usize>) -> Context {
        let layer = self.model.nodes()[node].index;
        Context { isa: self.isa, training: self.training, key: self.key, layer, first_record: records.start }
    }

    /// # Safety
    /// Only the thread `thread` calls this, and it has let go of what it got before.
    unsafe fn scratch(&self, thread: usize) -> &'a mut [f32] {
        // SAFETY: every thread has its own part.
        unsafe { self.memory.scratch.write(thread * self.plan.scratch..(thread + 1) * self.plan.scratch) }
    }

    /// # Safety
    /// Nobody packs meanwhile.
    unsafe fn packed(&self, node: usize) -> &'a [f32] {
        // SAFETY: the caller vouches for it.
        unsafe { self.memory.packed.read(self.plan.nodes[node].packed.clone()) }
    }

    fn forward_block(&self, segment: &Segment, records: &Range<usize>, thread: usize) {
        for i in segment.nodes.clone() {
            let node = &self.model.nodes()[i];
            // SAFETY: x and y have different places, both alive now; other tasks have other records and
            // threads; packing ended in a phase of its own.
            let (x, y, packed, scratch) = unsafe {
                let y = self.write(i + 1, self.plan.values[i + 1], records, thread);
                (self.value(i, records, thread), y, self.packed(i), self.scratch(thread))
            };
            let (params, context) = (&self.params[node.params.clone()], self.context(i, records));
            node.layer.forward(Forward { records: records.len(), params, packed, x, y, scratch, context });
        }
    }

    fn measure(&self, records: &Range<usize>, thread: usize) -> BatchMetrics {
        let last = self.plan.lens.len() - 1;
        let per_record = self.model.targets().per_record();
        let own = records.start * per_record..records.end * per_record;
        let targets = match self.batch.targets {
            Targets::None => return BatchMetrics::of(records.len()),
            Targets::Classes(classes) => Targets::Classes(&classes[own]),
            Targets::Values(values) => Targets::Values(&values[own]),
        };
        let learns = self.plan.gradients[last] != Place::Nowhere;
        // SAFETY: the outputs and their gradient have different places; other tasks have other records and
        // threads.
        let (y, dy) = unsafe {
            let dy = self.write(last, self.plan.gradients[last], records, thread);
            (self.value(last, records, thread), (self.training && learns).then_some(dy))
        };
        let (records, scale, isa) = (records.len(), self.scale, self.isa);
        self.model.loss().measure(Measure { records, y, targets, dy, scale, isa })
    }

    fn backward_block(&self, segment: &Segment, slot: usize, records: &Range<usize>, thread: usize) {
        for i in segment.nodes.clone().rev() {
            let (node, plan) = (&self.model.nodes()[i], &self.plan.nodes[i]);
            if !plan.learns {
                break;
            }
            let (needs, input_gradient) = (node.layer.needs(), self.plan.gradients[i]);
            // SAFETY: values, gradients, sums and scratch have different places, all alive now; other tasks
            // have other records, slots and threads.
            let (x, y, dy, dx, dparams, packed, scratch) = unsafe {
                let x = if needs.input { self.value(i, records, thread) } else { &[] };
                let y = if needs.output { self.value(i + 1, records, thread) } else { &[] };
                let dy = self.write(i + 1, self.plan.gradients[i + 1], records, thread);
                let dx = plan.input_gradient.then(|| self.write(i, input_gradient, records, thread));
                let start = slot * segment.slot + plan.slot;
                let own = !plan.sharded && !node.params.is_empty();
                let dparams = own.then(|| self.memory.slots.write(start..start + node.params.len()));
                (x, y, dy, dx, dparams, self.packed(i), self.scratch(thread))
            };
            let (params, context) = (&self.params[node.params.clone()], self.context(i, records));
            let records = records.len();
            node.layer.backward(Backward {
                records,
                params,
                packed,
                x,
                y,
                dy,
                dx,
                dparams,
                scratch,
                context,
            });
        }
    }

    /// The parameter gradients of the sharded layers of a segment, over all records.
    fn weights(&self, team: &mut Team, segment: &Segment, accumulate: bool, grads: &mut [f32]) {
        let grads = Shared::new(grads);
        let records = 0..self.batch.count;
        for i in segment.nodes.clone().rev() {
            let node = &self.model.nodes()[i];
            let Some(sharded) = node.layer.sharded().filter(|_| self.plan.nodes[i].sharded) else { continue };
            team.tasks(sharded.shards(), &|shard, _| {
                let at = |range: Range<usize>| node.params.start + range.start..node.params.start + range.end;
                let [first, second] = sharded.shard_ranges(shard).map(at);
                // SAFETY: shards have different parameters; the values and gradients of sharded layers lie in
                // the memory for all records, and nobody writes them in this phase.
                let (x, dy, dparams) = unsafe {
                    let dy = self.read(i + 1, self.plan.gradients[i + 1], &records, 0);
                    (self.value(i, &records, 0), dy, [grads.write(first), grads.write(second)])
                };
                let (records, isa) = (records.len(), self.isa);
                sharded.weights_shard(shard, WeightsShard { records, x, dy, dparams, accumulate, isa });
            });
        }
    }

    /// Adds the slots of a segment up, in their order.
    fn reduce(&self, team: &mut Team, segment: &Segment, accumulate: bool, grads: &mut [f32]) {
        let slots = segment.deal(self.batch.count).slots;
        let grads = Shared::new(grads);
        team.tasks(segment.sums.len(), &|i, _| {
            let (start, range) = &segment.sums[i];
            let used = (slots * segment.slot).max(start + range.len());
            // SAFETY: tasks have different parameters; nobody writes slots in this phase.
            let (slots_memory, grads) =
                unsafe { (self.memory.slots.read(0..used), grads.write(range.clone())) };
            if !accumulate {
                grads.fill(0.0);
            }
            for slot in 0..slots {
                let sums = &slots_memory[slot * segment.slot + start..][..range.len()];
                grads.iter_mut().zip(sums).for_each(|(grad, sum)| *grad += sum);
            }
        });
    }
}
