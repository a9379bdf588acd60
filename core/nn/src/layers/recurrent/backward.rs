//! Back through the steps, last layer first.

use super::{Block, Part, Place, Recurrent};
use crate::kernels::gemm::weights_gradient;
use crate::kernels::recurrent::{Active, Before, StepGradient, step_gradient};
use crate::kernels::rows::{add_row, sum_rows};
use crate::layer::Backward;
use std::ops::Range;

/// Where the gradient of a layer's states comes from.
#[derive(Clone, Copy)]
enum Above<'a> {
    /// The gradient of the output, record by record.
    Output(&'a [f32]),
    /// That of the inputs of the layer above, step by step.
    Layer(&'a [f32]),
}

/// What is the same for all directions of a layer.
#[derive(Clone, Copy)]
struct Given<'a> {
    params: &'a [f32],
    packed: &'a [f32],
    x: &'a [f32],
    /// States of the layer below.
    below: Option<&'a [f32]>,
    /// States of this layer.
    h: &'a [f32],
    above: Above<'a>,
    block: Block<'a>,
}

/// Where the gradient of a layer's inputs goes.
enum Below<'a> {
    /// Into the gradient of the input, record by record.
    Input(Option<&'a mut [f32]>),
    /// Step by step.
    Layer(&'a mut [f32]),
}

/// Room for a direction.
struct Room<'a> {
    inputs: &'a mut [f32],
    dinputs: &'a mut [f32],
    dgates: &'a mut [f32],
    /// Empty unless [`crate::kernels::recurrent::Cell::splits`].
    dstates: &'a mut [f32],
    dh: &'a mut [f32],
    carry: &'a mut [f32],
}

impl Recurrent {
    fn rooms(&self, records: usize) -> [usize; 6] {
        let (inputs, gates) = (self.chunk_inputs(records), self.chunk_rows(records) * self.gates());
        let state = records * self.hidden;
        [inputs, inputs, gates, if self.cell.splits() { gates } else { 0 }, state, state]
    }

    /// Gradients of the inputs of layers that are not the first: those of two layers at a time.
    fn between(&self, records: usize) -> usize {
        (self.layers - 1).min(2) * records * self.steps * self.columns()
    }

    pub(super) fn backward_scratch(&self, records: usize) -> usize {
        self.rooms(records).iter().sum::<usize>() + self.between(records)
    }

    pub(super) fn run_backward(&self, pass: Backward<'_>) {
        let block = self.block(pass.records, pass.others, pass.context);
        if let Some(lengths) = pass.dothers.first_mut().and_then(Option::as_mut) {
            lengths.fill(0.0);
        }
        let (mut dx, mut dparams) = (pass.dx, pass.dparams);
        let (between, scratch) = pass.scratch.split_at_mut(self.between(pass.records));
        let (mut now, mut next) = between.split_at_mut(if self.layers > 2 { between.len() / 2 } else { 0 });
        let len = pass.records * self.saved_layer();
        let saved = |layer: usize| {
            let states = pass.records * self.steps * self.columns();
            pass.saved[layer * len..][..len].split_at(states)
        };
        for layer in (0..self.layers).rev() {
            let (h, kept) = saved(layer);
            let above = if layer + 1 == self.layers { Above::Output(pass.dy) } else { Above::Layer(now) };
            let below = layer.checked_sub(1).map(|below| saved(below).0);
            let given = Given { params: pass.params, packed: pass.packed, x: pass.x, below, h, above, block };
            for direction in 0..self.directions {
                let place = Place { layer, direction };
                let len = kept.len() / self.directions;
                let kept = &kept[direction * len..][..len];
                let target = match layer {
                    0 => Below::Input(dx.as_deref_mut()),
                    _ => Below::Layer(next),
                };
                self.backward_direction(place, given, kept, (target, dparams.as_deref_mut()), scratch);
            }
            if layer > 0 && block.context.training {
                let used = block.steps * pass.records * self.columns();
                self.drop(layer, &(0..block.steps), block, &mut next[..used]);
            }
            std::mem::swap(&mut now, &mut next);
        }
    }

    fn backward_direction(
        &self,
        place: Place,
        given: Given<'_>,
        kept: &[f32],
        (mut below, mut dparams): (Below<'_>, Option<&mut [f32]>),
        scratch: &mut [f32],
    ) {
        let (block, part) = (given.block, self.part(place));
        let mut rest = scratch;
        let [inputs, dinputs, dgates, dstates, dh, carry] = self.rooms(block.records).map(|len| {
            let (room, more) = std::mem::take(&mut rest).split_at_mut(len);
            rest = more;
            room
        });
        let mut room = Room { inputs, dinputs, dgates, dstates, dh, carry };
        room.dh.fill(0.0);
        room.carry.fill(0.0);
        for turns in self.chunks(block).rev() {
            let steps = block.steps(&turns, place.direction);
            for turn in turns.rev() {
                self.backward_step(place, given, kept, (turn, steps.start), &mut room);
            }
            if let Some(dparams) = dparams.as_deref_mut() {
                self.weights(place, given, &steps, &mut room, (&part, dparams));
            }
            self.inputs_gradient(place, given, &steps, &mut room, &mut below);
        }
        if let (Below::Input(Some(dx)), 0) = (below, place.direction) {
            for dx in dx.chunks_exact_mut(self.steps * self.features) {
                dx[block.steps * self.features..].fill(0.0);
            }
        }
    }

    /// One step: gradients of its gates from `room.dh`, which is then that of the state before.
    fn backward_step(
        &self,
        place: Place,
        given: Given<'_>,
        kept: &[f32],
        (turn, start): (usize, usize),
        room: &mut Room<'_>,
    ) {
        let (block, columns, hidden) = (given.block, self.columns(), self.hidden);
        let (records, gates, first) = (block.records, self.gates(), place.direction * self.hidden);
        let now = block.step(turn, place.direction);
        let before = turn.checked_sub(1).map(|turn| block.step(turn, place.direction));
        for (record, dh) in room.dh.chunks_exact_mut(hidden).enumerate() {
            let gradient = match given.above {
                Above::Layer(dh) => Some(&dh[(now * records + record) * columns + first..]),
                Above::Output(dy) if self.all => Some(&dy[(record * self.steps + now) * columns + first..]),
                Above::Output(dy) => {
                    let last = block.last(record, place.direction) == Some(now);
                    last.then(|| &dy[record * columns + first..])
                }
            };
            if let Some(gradient) = gradient {
                add_row(dh, &gradient[..hidden]);
            }
        }
        let rows = (now - start) * records * gates..(now - start + 1) * records * gates;
        let h = |t: usize| &given.h[t * records * columns..][..records * columns][first..];
        let kept_len = records * self.kept();
        let kept_of = |t: usize| &kept[t * kept_len..][..kept_len];
        let dstate = if self.cell.splits() { rows.clone() } else { 0..0 };
        let step = StepGradient {
            hidden,
            active: Active { step: now as f32, lengths: block.lengths },
            before: Before { h: before.map_or(&[], h), kept: before.map_or(&[], kept_of) },
            kept: kept_of(now),
            h: h(now),
            stride: columns,
            dh: room.dh,
            carry: room.carry,
            dinput: &mut room.dgates[rows.clone()],
            dstate: &mut room.dstates[dstate],
        };
        step_gradient(block.context.isa, self.cell, step);
        if before.is_some() {
            let dstates = if self.cell.splits() { &room.dstates[rows] } else { &room.dgates[rows] };
            let [_, weight_hh, _] = self.packed_at(given.packed, place);
            let [_, product] = self.state_products();
            let dh = &mut room.dh[..records * hidden];
            product.multiply(block.context.isa, (dstates, gates), weight_hh, (dh, hidden), false);
        }
    }

    /// Adds the gradients of the parameters over some steps.
    fn weights(
        &self,
        place: Place,
        given: Given<'_>,
        steps: &Range<usize>,
        room: &mut Room<'_>,
        (part, dparams): (&Part, &mut [f32]),
    ) {
        let (block, gates, columns) = (given.block, self.gates(), self.columns());
        let (isa, records) = (block.context.isa, block.records);
        let dgates = &room.dgates[..steps.len() * records * gates];
        let dstates = if self.cell.splits() { &room.dstates[..dgates.len()] } else { dgates };
        let inputs = self.chunk_input((given.x, given.below), place.layer, steps, block, room.inputs);
        let (projection, dweight) =
            (self.input_projection(place.layer), &mut dparams[part.weight_ih.clone()]);
        projection.gradient(isa, (dgates, gates), (inputs, projection.inputs), dweight);
        // Steps that have one before them, and those before.
        let (with, before) = match place.direction {
            0 => {
                let with = steps.start.max(1)..steps.end;
                (with.clone(), with.start - 1)
            }
            _ => {
                let with = steps.start..steps.end.min(block.steps - 1);
                (with.clone(), with.start + 1)
            }
        };
        if !with.is_empty() {
            let size = [with.len() * records, gates, self.hidden];
            let dstates = &dstates[(with.start - steps.start) * records * gates..];
            let states = &given.h[before * records * columns + place.direction * self.hidden..];
            let dweight = &mut dparams[part.weight_hh.clone()];
            weights_gradient(isa, size, (dstates, gates), (states, columns), dweight, true);
        }
        if self.bias {
            sum_rows(isa, (dgates, gates), &mut dparams[part.bias_ih.clone()]);
            if self.cell.splits() {
                sum_rows(isa, (dstates, gates), &mut dparams[part.bias_hh.clone()]);
            } else {
                // The same sums, added to the same: where gradients are added up, both begin with zeros.
                dparams.copy_within(part.bias_ih.clone(), part.bias_hh.start);
            }
        }
    }

    /// The gradient of the inputs of some steps, added to that of the direction before.
    fn inputs_gradient(
        &self,
        place: Place,
        given: Given<'_>,
        steps: &Range<usize>,
        room: &mut Room<'_>,
        below: &mut Below<'_>,
    ) {
        let (block, gates, inputs) = (given.block, self.gates(), self.inputs(place.layer));
        let (isa, records, projection) =
            (block.context.isa, block.records, self.input_projection(place.layer));
        let gradient = (&room.dgates[..steps.len() * records * gates], gates);
        let [_, _, packed] = self.packed_at(given.packed, place);
        let weights = (&given.params[self.part(place).weight_ih], packed);
        match below {
            Below::Input(None) => {}
            Below::Layer(next) => {
                let next = &mut next[steps.start * records * inputs..][..steps.len() * records * inputs];
                projection.backward(isa, gradient, weights, (next, inputs), place.direction > 0);
            }
            Below::Input(Some(dx)) => {
                let dinputs = &mut room.dinputs[..steps.len() * records * inputs];
                projection.backward(isa, gradient, weights, (dinputs, inputs), false);
                for (record, dx) in dx.chunks_exact_mut(self.steps * inputs).enumerate() {
                    let gradients = dinputs[record * inputs..].chunks(records * inputs);
                    for (dx, gradient) in dx[steps.start * inputs..].chunks_exact_mut(inputs).zip(gradients) {
                        if place.direction == 0 {
                            dx.copy_from_slice(&gradient[..inputs]);
                        } else {
                            add_row(dx, &gradient[..inputs]);
                        }
                    }
                }
            }
        }
    }
}
