//! What a task gets to work with: where its values, gradients and scratch lie, and what a layer's passes need.

use super::Pass;
use crate::graph::MAX_INPUTS;
use crate::layer::{Backward, Context, Forward};
use crate::plan::{Edge, Place};
use std::ops::Range;

impl<'a> Pass<'a> {
    /// # Safety
    /// Nobody writes the value of these records (or, for values of a thread, on this thread) meanwhile.
    pub(super) unsafe fn value(&self, value: usize, records: &Range<usize>, thread: usize) -> &'a [f32] {
        // SAFETY: the caller vouches for it.
        unsafe { self.read(self.plan.lens[value], self.plan.values[value], records, thread) }
    }

    /// # Safety
    /// Nobody writes what `place` stands for meanwhile.
    pub(super) unsafe fn read(
        &self,
        len: usize,
        place: Place,
        records: &Range<usize>,
        thread: usize,
    ) -> &'a [f32] {
        let range = self.plan.range(len, place, records, thread);
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
    pub(super) unsafe fn write(
        &self,
        len: usize,
        place: Place,
        records: &Range<usize>,
        thread: usize,
    ) -> &'a mut [f32] {
        let range = self.plan.range(len, place, records, thread);
        match place {
            // SAFETY: the caller vouches for it.
            Place::Whole(_) => unsafe { self.memory.whole.write(range) },
            // SAFETY: the caller vouches for it.
            Place::Block(_) => unsafe { self.memory.block.write(range) },
            Place::Batch | Place::Nowhere => &mut [],
        }
    }

    /// # Safety
    /// Nobody else uses the gradient of these records meanwhile.
    pub(super) unsafe fn gradient(
        &self,
        value: usize,
        records: &Range<usize>,
        thread: usize,
    ) -> &'a mut [f32] {
        // SAFETY: the caller vouches for it.
        unsafe { self.write(self.plan.lens[value], self.plan.gradients[value], records, thread) }
    }

    fn context(&self, node: usize, records: &Range<usize>) -> Context {
        Context {
            isa: self.isa,
            training: self.training,
            key: self.key,
            layer: self.nodes()[node].index,
            first_record: records.start,
            scale: self.scale,
        }
    }

    /// # Safety
    /// Only the thread `thread` calls this, and it has let go of what it got before.
    pub(super) unsafe fn scratch(&self, thread: usize) -> &'a mut [f32] {
        // SAFETY: every thread has its own part.
        unsafe { self.memory.scratch.write(thread * self.plan.scratch..(thread + 1) * self.plan.scratch) }
    }

    /// # Safety
    /// Nobody packs meanwhile.
    pub(super) unsafe fn packed(&self, node: usize) -> &'a [f32] {
        // SAFETY: the caller vouches for it.
        unsafe { self.memory.packed.read(self.plan.nodes[node].packed.clone()) }
    }

    /// Where a node keeps what backward gets again: numbers a record and place, or all numbers of a wide layer.
    fn saved(&self, node: usize, records: &Range<usize>) -> (usize, Range<usize>) {
        let layer = &self.nodes()[node].layer;
        match layer.wide() {
            Some(_) => (layer.saved(records.len()), 0..1),
            None => (layer.saved(1), records.clone()),
        }
    }

    /// Collects what a layer's forward needs, with the place of its output.
    ///
    /// # Safety
    /// Nobody else uses the node's output, or what it keeps, for these records (or on this thread) meanwhile, nor
    /// writes its inputs.
    pub(super) unsafe fn forward_node(
        &self,
        (i, to): (usize, Place),
        records: &Range<usize>,
        thread: usize,
        (packed, scratch): (&'a [f32], &'a mut [f32]),
        run: &mut dyn FnMut(Forward<'_>),
    ) {
        let node = &self.nodes()[i];
        // SAFETY: inputs, output and what is kept have different places, all alive now; the caller vouches for
        // other tasks. Parameters change in phases of their own.
        unsafe {
            let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
            for (place, input) in inputs.iter_mut().zip(&node.inputs) {
                *place = self.value(*input, records, thread);
            }
            let (len, saved) = self.saved(i, records);
            run(Forward {
                records: records.len(),
                params: self.params.read(node.params.clone()),
                packed,
                x: inputs[0],
                others: &inputs[1..node.inputs.len()],
                y: self.write(self.plan.lens[i + 1], to, records, thread),
                saved: self.write(len, self.plan.nodes[i].saved, &saved, thread),
                scratch,
                context: self.context(i, records),
            });
        }
    }

    /// Collects what a layer's backward needs.
    ///
    /// # Safety
    /// Nobody else uses the gradients of the node's output and inputs for these records (or on this thread)
    /// meanwhile, nor writes its values.
    pub(super) unsafe fn backward_node(
        &self,
        i: usize,
        records: &Range<usize>,
        thread: usize,
        (dparams, packed, scratch): (Option<&mut [f32]>, &'a [f32], &'a mut [f32]),
        run: &mut dyn FnMut(Backward<'_>),
    ) {
        let (node, plan) = (&self.nodes()[i], &self.plan.nodes[i]);
        let (needs, reads_others) = (node.layer.needs(), node.layer.reads_others());
        // SAFETY: values, gradients and what is kept have different places, all alive now; the caller vouches for
        // other tasks. Parameters change in phases of their own.
        unsafe {
            let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
            let mut gradients: [Option<&mut [f32]>; MAX_INPUTS] = [const { None }; MAX_INPUTS];
            for (k, (input, edge)) in node.inputs.iter().zip(&plan.edges).enumerate() {
                let reads = if k == 0 { needs.input } else { reads_others };
                if reads {
                    let place = self.plan.kept(*input);
                    inputs[k] = self.read(self.plan.lens[*input], place, records, thread);
                }
                gradients[k] = match edge {
                    Edge::Nowhere | Edge::Passed => None,
                    Edge::Write | Edge::Add => Some(self.gradient(*input, records, thread)),
                    Edge::Sum(place) => Some(self.write(self.plan.lens[*input], *place, records, thread)),
                };
            }
            let (len, saved) = self.saved(i, records);
            let [dx, dothers @ ..] = &mut gradients;
            run(Backward {
                records: records.len(),
                params: self.params.read(node.params.clone()),
                packed,
                x: inputs[0],
                others: if reads_others { &inputs[1..node.inputs.len()] } else { &[] },
                y: if needs.output { self.value(i + 1, records, thread) } else { &[] },
                saved: self.read(len, plan.saved, &saved, thread),
                dy: self.gradient(i + 1, records, thread),
                dx: dx.as_deref_mut(),
                add: plan.edges[0] == Edge::Add,
                dothers: &mut dothers[..node.inputs.len() - 1],
                dparams,
                accumulate: true,
                scratch,
                context: self.context(i, records),
            });
        }
    }
}
