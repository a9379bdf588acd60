//! The phases of a pass: each is a fixed number of tasks, and ends before the next begins.
//!
//! All `unsafe` here hands parts of shared buffers to tasks. Why they do not overlap: the plan gives numbers
//! that live at the same time different places (`arena::assign`); the tasks of a phase work on different
//! records, slots, shards or threads, and so on different parts of each place.

mod access;

use crate::arena::Shared;
use crate::batch::{BatchMetrics, BatchView, Targets};
use crate::gradients::{Gradients, TableGradient};
use crate::graph::{Graph, Node};
use crate::kernels::Isa;
use crate::kernels::rows::add_row;
use crate::layer::{Backward, WeightsShard};
use crate::losses::Measure;
use crate::model::{Model, Output};
use crate::optimizers::AtOnce;
use crate::plan::{Edge, Place, Plan, Segment, Sum};
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
    /// The model's layers, as they are for training or for prediction.
    pub(crate) graph: &'a Graph,
    pub(crate) plan: &'a Plan,
    pub(crate) isa: Isa,
    pub(crate) batch: &'a BatchView<'a>,
    pub(crate) params: Shared<'a>,
    /// The update that the pass makes itself.
    pub(crate) at_once: Option<&'a AtOnce<'a>>,
    pub(crate) key: RandomKey,
    pub(crate) training: bool,
    pub(crate) scale: f32,
    pub(crate) memory: SharedMemory<'a>,
    pub(crate) observer: Option<&'a Observer>,
}

/// Rearranges the parameters of the layers that want it in every pass.
pub(crate) fn pack(
    (graph, plan): (&Graph, &Plan),
    (team, isa): (&mut Team, Isa),
    params: Shared<'_>,
    packed: Shared<'_>,
) {
    if plan.packed == 0 {
        return;
    }
    team.tasks(graph.nodes.len(), &|i, _| {
        let node = &graph.nodes[i];
        if !plan.nodes[i].packed.is_empty() {
            // SAFETY: every node has its own part, and nobody writes parameters.
            let (params, packed) =
                unsafe { (params.read(node.params.clone()), packed.write(plan.nodes[i].packed.clone())) };
            node.layer.pack(isa, params, packed);
        }
    });
}

/// Adds up what the tasks measured, in their order.
fn sum(metrics: &[SlotMetrics]) -> BatchMetrics {
    let mut total = BatchMetrics::default();
    metrics.iter().for_each(|metrics| total.add(&metrics.get()));
    total
}

/// What a pass does with a node, as [`Observer`] is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Outputs from inputs.
    Forward,
    /// Gradients of inputs, and of parameters where they come with them.
    Backward,
    /// Gradients of parameters over all records, and their sums; updates that the pass makes itself.
    Weights,
    /// Loss and metrics.
    Loss,
}

/// Is told, on the thread that works, what begins: the place of the layer in [`Model::layers`] (of the last one
/// for the loss), the phase, and the thread.
pub type Observer = dyn Fn(usize, Phase, usize) + Send + Sync;

/// Numbers of a value that a task of the engine adds to another.
const ADD_NUMBERS: usize = 16 * 1024;

impl<'a> Pass<'a> {
    /// Forward, loss, backward.
    pub(crate) fn train(
        &self,
        team: &mut Team,
        accumulate: bool,
        Gradients { dense: grads, tables }: &mut Gradients,
        ready: &mut dyn FnMut(Range<usize>, &[f32]),
    ) -> BatchMetrics {
        let (turn, before) = self.plan.segments.split_last().expect("a model has layers");
        for segment in before {
            self.forward_segment(team, segment);
        }
        let total = self.turn(team, turn);
        let update = self.at_once.map(|at_once| (at_once, at_once.factor(total.weight)));
        for (i, segment) in self.plan.segments.iter().enumerate().rev() {
            if segment.wide {
                self.backward_wide(team, segment, accumulate, grads);
            } else if i < before.len() {
                self.backward_segment(team, segment);
            }
            self.weights(team, segment, accumulate, grads, update);
            self.rows(team, segment, accumulate, tables);
            self.reduce(team, segment, accumulate, grads);
            for i in segment.nodes.clone().rev() {
                let (params, plan) = (&self.nodes()[i].params, &self.plan.nodes[i]);
                if plan.ready && !(plan.at_once && update.is_some()) {
                    ready(params.clone(), &grads[params.clone()]);
                }
            }
        }
        total
    }

    /// Forward and, with targets, loss.
    pub(crate) fn evaluate(&self, team: &mut Team, outputs: Option<&mut [f32]>) -> BatchMetrics {
        let (turn, before) = self.plan.segments.split_last().expect("a model has layers");
        for segment in before {
            self.forward_segment(team, segment);
        }
        let (deal, outputs) = (turn.deal(self.batch.count), outputs.map(Shared::new));
        let value = self.graph.outputs[0];
        team.tasks(deal.blocks, &|block, thread| {
            let records = deal.block(block);
            self.forward_block(turn, &records, thread);
            self.memory.metrics[block].set(&self.measure(&records, thread));
            if let Some(outputs) = outputs {
                let len = self.plan.lens[value];
                // SAFETY: the records of different blocks do not overlap, and this task wrote the values.
                let (from, to) = unsafe {
                    let to = outputs.write(records.start * len..records.end * len);
                    (self.value(value, &records, thread), to)
                };
                to.copy_from_slice(from);
            }
        });
        sum(&self.memory.metrics[..deal.blocks])
    }

    fn nodes(&self) -> &'a [Node] {
        &self.graph.nodes
    }

    fn observe(&self, node: usize, phase: Phase, thread: usize) {
        if let Some(observer) = self.observer {
            observer(self.nodes()[node].index as usize, phase, thread);
        }
    }

    /// Whether the pass has to do with a node: what only training looks at is left out of evaluation.
    fn runs(&self, node: usize) -> bool {
        self.training || self.plan.nodes[node].needed
    }

    fn forward_segment(&self, team: &mut Team, segment: &Segment) {
        if segment.wide {
            return self.forward_wide(team, segment.nodes.start);
        }
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

    fn forward_block(&self, segment: &Segment, records: &Range<usize>, thread: usize) {
        for i in segment.nodes.clone().filter(|i| self.runs(*i)) {
            self.observe(i, Phase::Forward, thread);
            // SAFETY: other tasks have other records and threads; packing ended in a phase of its own.
            unsafe {
                let (packed, scratch) = (self.packed(i), self.scratch(thread));
                let to = self.plan.values[i + 1];
                self.forward_node((i, to), records, thread, (packed, scratch), &mut |pass| {
                    self.nodes()[i].layer.forward(pass);
                });
            }
        }
    }

    fn forward_wide(&self, team: &mut Team, node: usize) {
        if self.runs(node) {
            self.observe(node, Phase::Forward, 0);
            self.compute_wide(team, node, self.plan.values[node + 1]);
        }
    }

    /// Computes the output of a layer that takes all records at once.
    fn compute_wide(&self, team: &mut Team, node: usize, to: Place) {
        let Some(wide) = self.nodes()[node].layer.wide() else { return };
        let len = wide.scratch(self.batch.count, team.threads());
        // SAFETY: no task runs; the layer has the memory to itself.
        unsafe {
            let scratch = self.memory.scratch.write(0..len);
            let packed = self.packed(node);
            self.forward_node((node, to), &(0..self.batch.count), 0, (packed, scratch), &mut |pass| {
                wide.forward(team, pass);
            });
        }
    }

    fn measure(&self, records: &Range<usize>, thread: usize) -> BatchMetrics {
        self.observe(self.nodes().len() - 1, Phase::Loss, thread);
        let mut total = BatchMetrics::default();
        for (number, output) in self.model.outputs().iter().enumerate() {
            let metrics = self.measure_output((self.graph.outputs[number], output), records, thread);
            if number == 0 {
                total = metrics;
            } else if self.training {
                total.loss_sum += metrics.loss_sum * f64::from(output.weight);
            }
            if !self.training {
                break;
            }
        }
        total
    }

    fn measure_output(
        &self,
        (value, output): (usize, &Output),
        records: &Range<usize>,
        thread: usize,
    ) -> BatchMetrics {
        let per_record = self.model.targets().per_record();
        let own = records.start * per_record..records.end * per_record;
        let targets = match self.batch.targets {
            Targets::None => return BatchMetrics::of(records.len()),
            Targets::Classes(classes) => Targets::Classes(&classes[own]),
            Targets::Values(values) => Targets::Values(&values[own]),
        };
        let learns = self.plan.gradients[value] != Place::Nowhere;
        // SAFETY: the outputs and their gradient have different places; other tasks have other records and
        // threads.
        let (y, dy) = unsafe {
            let dy = self.gradient(value, records, thread);
            (self.value(value, records, thread), (self.training && learns).then_some(dy))
        };
        let (records, scale, isa) = (records.len(), self.scale * output.weight, self.isa);
        output.loss.measure(Measure { records, y, targets, dy, scale, isa })
    }

    fn backward_block(&self, segment: &Segment, slot: usize, records: &Range<usize>, thread: usize) {
        for i in segment.nodes.clone().rev() {
            let (node, plan) = (&self.nodes()[i], &self.plan.nodes[i]);
            if !plan.learns {
                continue;
            }
            self.observe(i, Phase::Backward, thread);
            // SAFETY: sums and scratch have different places, all alive now; other tasks have other records,
            // slots and threads.
            unsafe {
                let start = slot * segment.slot + plan.slot;
                let own = !plan.sharded && !node.params.is_empty();
                let dparams = own.then(|| self.memory.slots.write(start..start + node.params.len()));
                let (packed, scratch) = (self.packed(i), self.scratch(thread));
                self.backward_node(i, records, thread, (dparams, packed, scratch), &mut |pass| {
                    node.layer.backward(pass);
                });
                for (input, edge) in node.inputs.iter().zip(&plan.edges) {
                    if let Edge::Sum(place) = edge {
                        let sum = self.read(self.plan.lens[*input], *place, records, thread);
                        add_row(self.gradient(*input, records, thread), sum);
                    }
                }
            }
        }
    }

    fn backward_wide(&self, team: &mut Team, segment: &Segment, accumulate: bool, grads: &mut [f32]) {
        let i = segment.nodes.start;
        let (node, plan) = (&self.nodes()[i], &self.plan.nodes[i]);
        let Some(wide) = node.layer.wide().filter(|_| plan.learns) else { return };
        for before in node.inputs.iter().filter_map(|input| input.checked_sub(1)) {
            let again = self.plan.nodes[before].again;
            if again != Place::Nowhere {
                self.observe(before, Phase::Backward, 0);
                self.compute_wide(team, before, again);
            }
        }
        self.observe(i, Phase::Backward, 0);
        let records = 0..self.batch.count;
        let dparams = (!plan.sharded).then(|| &mut grads[node.params.clone()]);
        let accumulate = accumulate || plan.shared_after;
        let len = wide.scratch(self.batch.count, team.threads());
        // SAFETY: no task runs; the layer has the memory to itself.
        unsafe {
            let scratch = self.memory.scratch.write(0..len);
            self.backward_node(i, &records, 0, (dparams, &[], scratch), &mut |pass| {
                wide.backward(team, Backward { accumulate, ..pass });
            });
            for (input, edge) in node.inputs.iter().zip(&plan.edges) {
                if let Edge::Sum(place) = edge {
                    let sum = self.read(self.plan.lens[*input], *place, &records, 0);
                    let gradient = Shared::new(self.gradient(*input, &records, 0));
                    team.tasks(sum.len().div_ceil(ADD_NUMBERS), &|task, _| {
                        let range = task * ADD_NUMBERS..((task + 1) * ADD_NUMBERS).min(sum.len());
                        add_row(gradient.write(range.clone()), &sum[range]);
                    });
                }
            }
        }
    }

    /// The parameter gradients of the sharded layers of a segment, over all records, and what comes of them at once.
    fn weights(
        &self,
        team: &mut Team,
        segment: &Segment,
        accumulate: bool,
        grads: &mut [f32],
        update: Option<(&AtOnce<'_>, f32)>,
    ) {
        let grads = Shared::new(grads);
        let all = 0..self.batch.count;
        for i in segment.nodes.clone().rev() {
            let (node, plan) = (&self.nodes()[i], &self.plan.nodes[i]);
            let Some(sharded) = node.layer.sharded().filter(|_| plan.learns) else { continue };
            let update = update.filter(|_| plan.at_once);
            self.observe(i, Phase::Weights, 0);
            let (records, isa, accumulate) = (all.len(), self.isa, accumulate || plan.shared_after);
            let (shards, own) = (sharded.shards(records, team.threads()), team.isa());
            team.tasks(shards, &|shard, thread| {
                let at = |range: Range<usize>| node.params.start + range.start..node.params.start + range.end;
                let [first, second] = sharded.shard_ranges(shard, shards).map(at);
                // SAFETY: the values and gradients of sharded layers lie in the memory for all records, and nobody
                // writes them in this phase.
                let (x, dy) = unsafe {
                    let dy = self.read(self.plan.lens[i + 1], self.plan.gradients[i + 1], &all, 0);
                    let input = node.inputs[0];
                    (self.read(self.plan.lens[input], self.plan.kept(input), &all, 0), dy)
                };
                let run = |dparams: [&mut [f32]; 2], accumulate: bool| {
                    sharded.weights_shard(WeightsShard {
                        shard,
                        shards,
                        records,
                        x,
                        dy,
                        dparams,
                        accumulate,
                        isa,
                    });
                };
                match update {
                    // SAFETY: shards have different parameters.
                    None => run(unsafe { [grads.write(first), grads.write(second)] }, accumulate),
                    // SAFETY: as above, and nobody reads parameters in this phase; the scratch is this thread's.
                    Some((at_once, factor)) => unsafe {
                        let (a, b) =
                            self.scratch(thread)[..first.len() + second.len()].split_at_mut(first.len());
                        run([a, b], false);
                        at_once.update(own, first, a, factor);
                        at_once.update(own, second, b, factor);
                    },
                }
            });
        }
    }

    /// The gradients of the tables of a segment.
    fn rows(&self, team: &mut Team, segment: &Segment, accumulate: bool, tables: &mut [TableGradient]) {
        let records = 0..self.batch.count;
        for i in segment.nodes.clone().rev() {
            let (node, plan) = (&self.nodes()[i], &self.plan.nodes[i]);
            let Some(tabled) = node.layer.tabled().filter(|_| plan.learns) else { continue };
            self.observe(i, Phase::Weights, 0);
            let table = tables.iter_mut().find(|table| *table.range() == node.params);
            let sum = &mut table.expect("every table of the model has its gradient").sum;
            if !accumulate && !plan.shared_after {
                sum.clear();
            }
            // SAFETY: as of sharded layers, values and gradients lie in the memory for all records, and nobody
            // writes them in this phase.
            let (x, dy) = unsafe {
                let dy = self.read(self.plan.lens[i + 1], self.plan.gradients[i + 1], &records, 0);
                (self.value(node.inputs[0], &records, 0), dy)
            };
            let columns = sum.columns();
            let touched = x.iter().zip(0..).filter_map(|(id, number)| Some((tabled.row(*id)?, number)));
            sum.add(team, touched, &|number| &dy[tabled.gradient_row(number) * columns..][..columns]);
        }
    }

    /// Adds the slots of a segment up, in their order.
    fn reduce(&self, team: &mut Team, segment: &Segment, accumulate: bool, grads: &mut [f32]) {
        if segment.sums.is_empty() {
            return;
        }
        self.observe(segment.nodes.start, Phase::Weights, 0);
        let slots = segment.deal(self.batch.count).slots;
        let grads = Shared::new(grads);
        team.tasks(segment.sums.len(), &|i, _| {
            let Sum { start, params, add } = &segment.sums[i];
            let used = (slots * segment.slot).max(start + params.len());
            // SAFETY: tasks have different parameters; nobody writes slots in this phase.
            let (slots_memory, grads) =
                unsafe { (self.memory.slots.read(0..used), grads.write(params.clone())) };
            if !accumulate && !add {
                grads.fill(0.0);
            }
            for slot in 0..slots {
                let sums = &slots_memory[slot * segment.slot + start..][..params.len()];
                add_row(grads, sums);
            }
        });
    }
}
