//! Through the steps, layer by layer.

use super::{Block, Place, Recurrent, step_and_before};
use crate::kernels::recurrent::{Active, Before, Step, step};
use crate::layer::Forward;

impl Recurrent {
    pub(super) fn run_forward(&self, pass: Forward<'_>) {
        let block = self.block(pass.records, pass.others, pass.context);
        let mut states: Option<&[f32]> = None;
        for (layer, saved) in pass.saved.chunks_exact_mut(pass.records * self.saved_layer()).enumerate() {
            let (h, kept) = saved.split_at_mut(pass.records * self.steps * self.columns());
            for direction in 0..self.directions {
                let len = pass.records * self.steps * self.kept();
                let kept = &mut kept[direction * len..][..len];
                let weights = (pass.params, pass.packed);
                let place = Place { layer, direction };
                self.forward_direction(place, (pass.x, states), weights, (h, kept), (block, pass.scratch));
            }
            states = Some(h);
        }
        if let Some(h) = states {
            self.give(block, h, pass.y);
        }
    }

    /// One direction of a layer over all steps; `below` are the states of the layer below.
    fn forward_direction(
        &self,
        place: Place,
        (x, below): (&[f32], Option<&[f32]>),
        (params, packed): (&[f32], &[f32]),
        (h, kept): (&mut [f32], &mut [f32]),
        (block, scratch): (Block<'_>, &mut [f32]),
    ) {
        let (isa, records, gates, columns) = (block.context.isa, block.records, self.gates(), self.columns());
        let (part, projection) = (self.part(place), self.input_projection(place.layer));
        let [weight_hh, _, weight_ih] = self.packed_at(packed, place);
        let weight_ih = (&params[part.weight_ih], weight_ih);
        let bias = [&params[part.bias_ih], &params[part.bias_hh]];
        let (chunk, scratch) = scratch.split_at_mut(self.chunk_inputs(records));
        let (input_sums, state_sums) = scratch.split_at_mut(self.chunk_rows(records) * gates);
        let state_sums = &mut state_sums[..if self.cell.splits() { records * gates } else { 0 }];
        for turns in self.chunks(block) {
            let steps = block.steps(&turns, place.direction);
            let inputs = self.chunk_input((x, below), place.layer, &steps, block, chunk);
            let sums = &mut input_sums[..steps.len() * records * gates];
            projection.forward(isa, (inputs, projection.inputs), weight_ih, (sums, gates));
            for turn in turns {
                let now = block.step(turn, place.direction);
                let before = turn.checked_sub(1).map(|turn| block.step(turn, place.direction));
                let (h, h_before) = step_and_before(h, records * columns, now, before);
                let (kept, kept_before) = step_and_before(kept, records * self.kept(), now, before);
                let first = place.direction * self.hidden;
                let h_before = if before.is_some() { &h_before[first..] } else { &[] };
                let input = &mut input_sums[(now - steps.start) * records * gates..][..records * gates];
                if before.is_some() {
                    let ([product, _], splits) = (self.state_products(), self.cell.splits());
                    let sums = if splits { &mut *state_sums } else { &mut *input };
                    product.multiply(isa, (h_before, columns), weight_hh, (sums, gates), !splits);
                } else {
                    state_sums.fill(0.0);
                }
                let made = Step {
                    hidden: self.hidden,
                    active: Active { step: now as f32, lengths: block.lengths },
                    input,
                    state: state_sums,
                    bias,
                    before: Before { h: h_before, kept: kept_before },
                    kept,
                    h: &mut h[first..],
                    stride: columns,
                };
                step(isa, self.cell, made);
            }
        }
    }

    /// Writes the outputs from the states of the last layer.
    fn give(&self, block: Block<'_>, h: &[f32], y: &mut [f32]) {
        let (columns, hidden) = (self.columns(), self.hidden);
        let state = |t: usize, record: usize| &h[(t * block.records + record) * columns..][..columns];
        for (record, y) in y.chunks_exact_mut(self.output.elements()).enumerate() {
            if self.all {
                for (t, y) in y.chunks_exact_mut(columns).enumerate() {
                    if t < block.steps {
                        y.copy_from_slice(state(t, record));
                    } else {
                        y.fill(0.0);
                    }
                }
                continue;
            }
            for (direction, y) in y.chunks_exact_mut(hidden).enumerate() {
                match block.last(record, direction) {
                    Some(t) => y.copy_from_slice(&state(t, record)[direction * hidden..][..hidden]),
                    None => y.fill(0.0),
                }
            }
        }
    }
}
