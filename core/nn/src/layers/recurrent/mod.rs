//! What LSTM, GRU and RNN share: layers of cells that go through the time steps of a sequence, one after the other.
//!
//! x (T, F), y (T, D·H) or, of the last step alone, (D·H), with D directions and states of H numbers. A second input of
//! one number a record is its length: steps beyond it are not made, their outputs are 0, the reverse direction begins
//! at the last step that there is, and "last" means that one (PyTorch's pack_padded_sequence). A record of length 0
//! gives 0.
//!
//! A task takes a block of records through all steps, so that no thread waits for another. Within the block numbers lie
//! step by step, `[T][records][..]`: the sums over the inputs of [`CHUNK_ROWS`] rows are one matrix product, those over
//! the states one a step, added to those over the inputs where the cell allows it. `saved` holds, for each layer, all states
//! `[T][records][D·H]`, and for each of its directions what the cell keeps, `[T][records][..]`.

mod backward;
mod forward;

use crate::kernels::Isa;
use crate::kernels::gemm::Prepacked;
use crate::kernels::recurrent::Cell;
use crate::layer::{Backward, Context, Forward, Init, Layer, Misfit, Needs, ParameterSpec};
use crate::layers::dims::sequence;
use crate::layers::dropout::Mask;
use crate::layers::projection::Projection;
use crate::registry::ParamDoc;
use crate::shape::Shape;
use ringspin_job::ParamReader;
use std::ops::Range;

/// Rows (steps times records) whose sums over the inputs are computed together: they stay in the cache until the steps
/// have used them. Few in tests, so that small sequences have several chunks.
const CHUNK_ROWS: usize = if cfg!(test) { 16 } else { 256 };
/// Fewest records of a block: rows of the products over the states.
const LEAST_RECORDS: usize = 16;
/// More layers than this are a typing mistake.
const MAX_LAYERS: usize = 1000;

/// A recurrent layer, of any cell.
pub(super) struct Recurrent {
    cell: Cell,
    steps: usize,
    features: usize,
    hidden: usize,
    layers: usize,
    directions: usize,
    bias: bool,
    /// Between layers, in training.
    dropout: Option<Mask>,
    /// Whether the output is that of all steps.
    all: bool,
    output: Shape,
}

/// Parameters that all recurrent layers have.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("hidden_size", "required", "numbers of a state"),
    ParamDoc::new("input_size", "from the input", "features of a step, checked when given"),
    ParamDoc::new("num_layers", "1", "layers on top of each other"),
    ParamDoc::new("bias", "true", "whether learned numbers are added to the sums"),
    ParamDoc::new("dropout", "0", "share of the numbers between layers that is dropped in training"),
    ParamDoc::new(
        "bidirectional",
        "false",
        "whether a second direction goes from the last step to the first",
    ),
    ParamDoc::new(
        "output",
        "\"all\"",
        "\"all\": the states of all steps; \"last\": those after the last step (of both directions)",
    ),
];

/// Reads the parameters that all cells have.
pub(super) fn build(
    cell: Cell,
    name: &str,
    reader: &mut ParamReader<'_>,
    inputs: &[Shape],
) -> Result<Box<dyn Layer>, Misfit> {
    let hidden = reader.count("hidden_size", 1, None);
    let expected = reader.has("input_size").then(|| reader.count("input_size", 1, None));
    let mut layers = reader.count("num_layers", 1, Some(1));
    if layers > MAX_LAYERS {
        reader.problem("num_layers", format!("more than {MAX_LAYERS}"));
        layers = 1;
    }
    let bias = reader.flag("bias", true);
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.0));
    let directions = if reader.flag("bidirectional", false) { 2 } else { 1 };
    let all = reader.choice("output", &["all", "last"], Some("all")) == "all";
    let [steps, features] = sequence(name, &inputs[0])?;
    if let Some(expected) = expected.filter(|expected| *expected != features) {
        return Err(Misfit(format!("input_size = {expected}, but the layer before gives {}", inputs[0])));
    }
    match &inputs[1..] {
        [] => {}
        [lengths] if lengths.elements() == 1 => {}
        [other] => {
            return Err(Misfit(format!(
                "the second input of {name} is the length of a record, one number, not {other}"
            )));
        }
        more => {
            let count = more.len() + 1;
            return Err(Misfit(format!(
                "{name} reads a sequence and, if need be, its length, not {count} inputs"
            )));
        }
    }
    let columns = hidden.saturating_mul(directions);
    let output = if all { Shape::new(&[steps, columns])? } else { Shape::flat(columns)? };
    let dropout = (dropout > 0.0 && layers > 1).then(|| Mask::new(dropout));
    Ok(Box::new(Recurrent { cell, steps, features, hidden, layers, directions, bias, dropout, all, output }))
}

/// Where the arrays of a layer and direction lie among the parameters.
struct Part {
    weight_ih: Range<usize>,
    weight_hh: Range<usize>,
    bias_ih: Range<usize>,
    bias_hh: Range<usize>,
}

/// A layer and direction.
#[derive(Clone, Copy)]
struct Place {
    layer: usize,
    direction: usize,
}

/// The records of a call, and the steps they have.
#[derive(Clone, Copy)]
struct Block<'a> {
    records: usize,
    /// Steps of the longest record.
    steps: usize,
    lengths: &'a [f32],
    context: Context,
}

impl Block<'_> {
    /// Steps of a record.
    fn length(&self, record: usize) -> usize {
        self.lengths.get(record).map_or(self.steps, |length| *length as usize)
    }

    /// The last step that a direction makes of a record.
    fn last(&self, record: usize, direction: usize) -> Option<usize> {
        let last = self.length(record).checked_sub(1)?;
        Some(if direction == 0 { last } else { 0 })
    }

    /// The step that a direction makes `turn`-th.
    fn step(&self, turn: usize, direction: usize) -> usize {
        if direction == 0 { turn } else { self.steps - 1 - turn }
    }

    /// The steps that a direction makes in `turns`, in order of time.
    fn steps(&self, turns: &Range<usize>, direction: usize) -> Range<usize> {
        match direction {
            0 => turns.clone(),
            _ => self.steps - turns.end..self.steps - turns.start,
        }
    }
}

impl Recurrent {
    /// Numbers of a state of all directions.
    fn columns(&self) -> usize {
        self.directions * self.hidden
    }

    /// Sums of a step.
    fn gates(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Numbers kept of a step.
    fn kept(&self) -> usize {
        self.cell.kept() * self.hidden
    }

    /// Inputs of a layer.
    fn inputs(&self, layer: usize) -> usize {
        if layer == 0 { self.features } else { self.columns() }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        let directions = self.directions;
        (0..self.layers * directions).map(move |i| Place { layer: i / directions, direction: i % directions })
    }

    /// Numbers of a layer and direction.
    fn part_len(&self, layer: usize) -> usize {
        let gates = self.gates();
        gates * self.inputs(layer) + gates * self.hidden + if self.bias { 2 * gates } else { 0 }
    }

    fn part(&self, place: Place) -> Part {
        let before: usize = (0..place.layer).map(|layer| self.directions * self.part_len(layer)).sum();
        let start = before + place.direction * self.part_len(place.layer);
        let (gates, bias) = (self.gates(), if self.bias { self.gates() } else { 0 });
        let weight_ih = start..start + gates * self.inputs(place.layer);
        let weight_hh = weight_ih.end..weight_ih.end + gates * self.hidden;
        let bias_ih = weight_hh.end..weight_hh.end + bias;
        let bias_hh = bias_ih.end..bias_ih.end + bias;
        Part { weight_ih, weight_hh, bias_ih, bias_hh }
    }

    /// The sums over the inputs.
    fn input_projection(&self, layer: usize) -> Projection {
        Projection { inputs: self.inputs(layer), outputs: self.gates() }
    }

    /// The weights of states as they are multiplied: with states, and with gradients of the gates. They are packed even
    /// where there is a BLAS: products of few rows.
    fn state_products(&self) -> [Prepacked; 2] {
        let (inner, columns) = (self.hidden, self.gates());
        [Prepacked { inner, columns }, Prepacked { inner: columns, columns: inner }]
    }

    /// Numbers of the packed weights of a direction: for the states, for their gradients, for the inputs.
    fn packed_lens(&self, layer: usize, learns: bool) -> [usize; 3] {
        let [forward, backward] = self.state_products().map(|product| product.packed());
        [forward, backward, self.input_projection(layer).packed(learns || layer > 0)]
    }

    /// Where the packed weights of a layer and direction lie, among `total` numbers.
    fn packed_range(&self, place: Place, total: usize) -> Range<usize> {
        let learns = total == self.packed(true);
        let [first, other] = [0, 1].map(|layer| self.packed_lens(layer, learns).iter().sum::<usize>());
        let (before, len) = match place.layer {
            0 => (place.direction * first, first),
            layer => (self.directions * (first + (layer - 1) * other) + place.direction * other, other),
        };
        before..before + len
    }

    /// The packed weights of a layer and direction: for the states, for their gradients, for the inputs.
    fn packed_at<'a>(&self, packed: &'a [f32], place: Place) -> [&'a [f32]; 3] {
        let [forward, backward, _] = self.packed_lens(place.layer, false);
        let (forward, rest) = packed[self.packed_range(place, packed.len())].split_at(forward);
        let (backward, inputs) = rest.split_at(backward);
        [forward, backward, inputs]
    }

    /// Most rows that are in a chunk of `records` records.
    fn chunk_rows(&self, records: usize) -> usize {
        CHUNK_ROWS.max(records).min(self.steps * records)
    }

    /// Numbers of a chunk's inputs, of any layer.
    fn chunk_inputs(&self, records: usize) -> usize {
        let inputs = if self.layers > 1 { self.features.max(self.columns()) } else { self.features };
        self.chunk_rows(records) * inputs
    }

    /// Turns cut into chunks, the first turns first.
    fn chunks(&self, block: Block<'_>) -> impl DoubleEndedIterator<Item = Range<usize>> {
        let steps = (CHUNK_ROWS / block.records).max(1);
        (0..block.steps.div_ceil(steps)).map(move |i| i * steps..((i + 1) * steps).min(block.steps))
    }

    fn block<'a>(&self, records: usize, others: &[&'a [f32]], context: Context) -> Block<'a> {
        let lengths = others.first().copied().unwrap_or_default();
        let longest = lengths.iter().fold(0, |longest, length| longest.max(*length as usize));
        let steps = if lengths.is_empty() { self.steps } else { longest };
        Block { records, steps, lengths, context }
    }

    /// Numbers of a layer in `saved`, of one record.
    fn saved_layer(&self) -> usize {
        self.steps * self.directions * (self.hidden + self.kept())
    }

    /// The inputs of a layer for some steps, `[steps][records][..]`: `chunk` is room for those that do not lie so, or
    /// get dropped.
    fn chunk_input<'a>(
        &self,
        (x, below): (&[f32], Option<&'a [f32]>),
        layer: usize,
        steps: &Range<usize>,
        block: Block<'_>,
        chunk: &'a mut [f32],
    ) -> &'a [f32] {
        let (rows, inputs) = (steps.len() * block.records, self.inputs(layer));
        let Some(below) = below else {
            // What a record has of these steps lies together.
            for (record, x) in x.chunks_exact(self.steps * inputs).enumerate() {
                let x = x[steps.start * inputs..steps.end * inputs].chunks_exact(inputs);
                for (x, to) in x.zip(chunk[record * inputs..].chunks_mut(block.records * inputs)) {
                    to[..inputs].copy_from_slice(x);
                }
            }
            return &chunk[..rows * inputs];
        };
        let below = &below[steps.start * block.records * inputs..][..rows * inputs];
        if self.dropout.is_none() || !block.context.training {
            return below;
        }
        let chunk = &mut chunk[..below.len()];
        chunk.copy_from_slice(below);
        self.drop(layer, steps, block, chunk);
        chunk
    }

    /// Drops inputs of a layer, or their gradients, of some steps: `[steps][records][..]`.
    fn drop(&self, layer: usize, steps: &Range<usize>, block: Block<'_>, numbers: &mut [f32]) {
        let Some(mask) = self.dropout else { return };
        let (columns, context) = (self.columns(), block.context);
        for record in 0..block.records {
            let random = context.key.record(context.layer, context.first_record + record);
            for (i, t) in steps.clone().enumerate() {
                let row = &mut numbers[(i * block.records + record) * columns..][..columns];
                mask.apply(context.isa, &random, (layer * self.steps + t) * columns.div_ceil(4), row);
            }
        }
    }
}

/// The numbers of step `now`, `len` a step, and those of the step before it in a direction, if there is one.
fn step_and_before(
    numbers: &mut [f32],
    len: usize,
    now: usize,
    before: Option<usize>,
) -> (&mut [f32], &[f32]) {
    match before {
        Some(before) if before < now => {
            let (first, second) = numbers.split_at_mut(now * len);
            (&mut second[..len], &first[before * len..][..len])
        }
        Some(before) => {
            let (first, second) = numbers.split_at_mut(before * len);
            (&mut first[now * len..], &second[..len])
        }
        None => (&mut numbers[now * len..][..len], &[]),
    }
}

impl Layer for Recurrent {
    fn output(&self) -> &Shape {
        &self.output
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        // PyTorch's default: uniform within 1/√hidden, all of them.
        let init = Init::Uniform { bound: 1.0 / (self.hidden as f32).sqrt() };
        let gates = self.cell.gates().saturating_mul(self.hidden);
        let arrays = self.places().flat_map(|Place { layer, direction }| {
            let end = format!("l{layer}{}", if direction == 1 { "_reverse" } else { "" });
            let inputs = if layer == 0 { self.features } else { self.directions.saturating_mul(self.hidden) };
            let array = |name: &str, shape| ParameterSpec::learned(format!("{name}_{end}"), shape, init);
            let weights = [("weight_ih", vec![gates, inputs]), ("weight_hh", vec![gates, self.hidden])];
            let biases = [("bias_ih", vec![gates]), ("bias_hh", vec![gates])];
            let biases = biases.into_iter().filter(|_| self.bias);
            weights.into_iter().chain(biases).map(|(name, shape)| array(name, shape)).collect::<Vec<_>>()
        });
        arrays.collect()
    }

    fn flops(&self) -> u64 {
        let row = |place: Place| 2 * self.gates() * (self.inputs(place.layer) + self.hidden);
        (self.steps * self.places().map(row).sum::<usize>()) as u64
    }

    fn whole_below(&self, input: usize) -> Option<usize> {
        (input == 1).then_some(self.steps + 1)
    }

    fn least_records(&self) -> usize {
        LEAST_RECORDS
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn saved(&self, records: usize) -> usize {
        records * self.layers * self.saved_layer()
    }

    fn scratch(&self, records: usize) -> usize {
        let rows = self.chunk_rows(records);
        let states = if self.cell.splits() { records } else { 0 };
        let forward = self.chunk_inputs(records) + (rows + states) * self.gates();
        forward.max(self.backward_scratch(records))
    }

    fn packed(&self, learns: bool) -> usize {
        let of = |layer| self.packed_lens(layer, learns).iter().sum::<usize>();
        self.directions * (of(0) + (self.layers - 1) * of(1))
    }

    fn pack(&self, isa: Isa, params: &[f32], packed: &mut [f32]) {
        let ([states, gradients], total) = (self.state_products(), packed.len());
        for place in self.places() {
            let [forward, backward, _] = self.packed_lens(place.layer, false);
            let (part, packed) = (self.part(place), &mut packed[self.packed_range(place, total)]);
            let (forward, rest) = packed.split_at_mut(forward);
            let (backward, inputs) = rest.split_at_mut(backward);
            states.pack(isa, &params[part.weight_hh.clone()], true, forward);
            gradients.pack(isa, &params[part.weight_hh], false, backward);
            self.input_projection(place.layer).pack(isa, &params[part.weight_ih], inputs);
        }
    }

    fn forward(&self, pass: Forward<'_>) {
        self.run_forward(pass);
    }

    fn backward(&self, pass: Backward<'_>) {
        self.run_backward(pass);
    }
}
