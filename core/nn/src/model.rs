//! A model: a graph of layers whose shapes fit, a loss, and names for everything that is learned.
//!
//! [`Model::build`] reads a description, finds every mistake in it, and decides what does not depend on data:
//! shapes, layouts, which layers are fused. What depends on the size of a micro-batch is planned by
//! [`crate::Workspace`]. A model holds no numbers: parameters and gradients are flat buffers of the caller.

use crate::assemble::Assembly;
use crate::batch::{BatchView, TargetKind, find_not_whole};
use crate::fuse::fuse;
use crate::gradients::Gradients;
use crate::graph::Graph;
use crate::initialize::draw;
use crate::kernels::conv::Choice;
use crate::layer::{Init, Misfit, ParameterKind};
use crate::losses::Loss;
use crate::metrics::Scored;
use crate::registry::Registry;
use crate::shape::Shape;
use ringspin_job::{Component, ModelSpec, Problems};
use std::ops::Range;

/// A learned array and its place in the flat buffers.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Name as PyTorch's `nn.Sequential` would give it, such as `7.weight`.
    pub name: String,
    /// PyTorch's shape; the numbers lie in this order.
    pub shape: Vec<usize>,
    /// Where its numbers are in the flat buffer of parameters and, unless it is a table whose gradient are single rows,
    /// in that of gradients.
    pub range: Range<usize>,
    /// Path of its layer in the job, such as `model.layers[7]`.
    pub layer: String,
    /// Whether it is learned.
    pub kind: ParameterKind,
    pub(crate) init: Init,
    /// Place among the parameters as the layers stand in the model: what random numbers depend on.
    pub(crate) number: usize,
}

/// A layer as the user described it.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Registered name, such as `conv2d`.
    pub name: String,
    /// What its parameters are called after.
    pub prefix: String,
    /// What it reads: 0 is the input record, `i + 1` the output of layer `i`.
    pub inputs: Vec<usize>,
    /// Shape of an output record.
    pub output: Shape,
    /// Numbers it learns.
    pub parameters: usize,
    /// Floating-point operations of one record's forward pass.
    pub flops: u64,
}

/// An output, and what it is measured by.
pub(crate) struct Output {
    /// What the loss is multiplied by.
    pub(crate) weight: f32,
    pub(crate) loss: Box<dyn Loss>,
}

/// Layers whose shapes fit, and a loss.
pub struct Model {
    input: Shape,
    output: Shape,
    described: Vec<Described>,
    parameters: Vec<Parameter>,
    /// Numbers before the tables whose gradients are rows.
    dense: usize,
    graph: Graph,
    outputs: Vec<Output>,
    /// Numbers of a record that have to be whole, not negative, and below a number.
    whole: Vec<(Range<usize>, usize)>,
    choice: Choice,
}

impl Model {
    /// Builds the model that `spec` describes for records of shape `input`, to be trained with `loss`, which is
    /// measured on the last layer's output and on that of every layer with a `loss_weight`.
    ///
    /// # Errors
    /// All mistakes: unknown names, bad parameters, and layers that do not fit the one before, each with its
    /// path in the job and both shapes.
    pub fn build(
        registry: &Registry,
        spec: &ModelSpec,
        input: &Shape,
        loss: &Component,
    ) -> Result<Model, Problems> {
        let mut problems = Problems::new();
        let mut assembly = Assembly::of(registry, spec, input, &mut problems);
        let shapes = assembly.outputs().filter(|shapes| !shapes.is_empty());
        let output = shapes.as_ref().map_or(input, |shapes| shapes[0]).clone();
        // A loss is checked for its parameters even where the output is not known.
        let mut losses = Vec::new();
        for shape in shapes.as_deref().unwrap_or(&[input]) {
            match registry.build_loss(loss, shape, &mut problems) {
                Some(Ok(loss)) => losses.push(loss),
                Some(Err(Misfit(message))) if shapes.is_some() => {
                    problems.add(&loss.origin, loss.path.clone(), message);
                }
                _ => {}
            }
        }
        if !problems.is_empty() || shapes.is_none() {
            return Err(problems);
        }
        let dense = assembly.tables_last();
        let Assembly { described, parameters, graph, weights, whole, .. } = assembly;
        let graph = fuse(graph).arranged(input);
        let outputs = weights.into_iter().zip(losses);
        let outputs = outputs.map(|(weight, loss)| Output { weight, loss }).collect();
        Ok(Model {
            input: input.clone(),
            output,
            described,
            parameters,
            dense,
            graph,
            outputs,
            whole,
            choice: Choice::STANDARD,
        })
    }

    /// Lets convolutions of 3 × 3 with stride 1 use Winograd's F(4×4, 3×3), as they do at first, or not: it needs less
    /// than half the time and rounds a few times more coarsely.
    #[must_use]
    pub fn with_winograd(self, winograd: bool) -> Model {
        let choice = Choice { winograd, ..self.choice };
        self.with_choice(choice)
    }

    /// Rounds operands of matrix products and convolutions to bf16 (to nearest, ties to even) or, as at first, does not.
    /// Sums, and all that lies between layers, stay f32. Convolutions of fewer than 16 channels, depthwise and transposed
    /// ones stay as they are. The bits are the same on every CPU; it is faster where the CPU has AMX.
    #[must_use]
    pub fn with_bf16(self, bf16: bool) -> Model {
        let choice = Choice { bf16, ..self.choice };
        self.with_choice(choice)
    }

    fn with_choice(mut self, choice: Choice) -> Model {
        self.choice = choice;
        self.graph.choose(choice);
        self
    }

    /// Whether operands of products are rounded to bf16.
    pub fn bf16(&self) -> bool {
        self.choice.bf16
    }

    /// Shape of an input record.
    pub fn input(&self) -> &Shape {
        &self.input
    }

    /// Shape of an output record.
    pub fn output(&self) -> &Shape {
        &self.output
    }

    /// What the loss compares outputs with.
    pub fn targets(&self) -> TargetKind {
        self.outputs[0].loss.targets()
    }

    /// What metrics are measured on.
    pub fn scored(&self) -> Scored<'_> {
        Scored { output: &self.output, targets: self.targets() }
    }

    /// The user's layers.
    pub fn layers(&self) -> &[Described] {
        &self.described
    }

    /// What is learned, in the order of the flat buffer of parameters, without gaps: layer by layer, then tables whose
    /// gradients are single rows.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Numbers that have gradients of their own: length of [`crate::Gradients::dense`]. Tables whose gradients are
    /// single rows lie behind them.
    pub fn dense_count(&self) -> usize {
        self.dense
    }

    /// Numbers that are learned: length of the flat buffer of parameters.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range.end)
    }

    /// Numbers that an optimizer changes: parameters without statistics.
    pub fn learned_count(&self) -> usize {
        let learned = self.parameters.iter().filter(|parameter| parameter.kind == ParameterKind::Learned);
        learned.map(|parameter| parameter.range.len()).sum()
    }

    /// Records that nobody measured, for profiles: numbers around 0, and rows of tables and lengths that exist.
    pub fn made_up_inputs(&self, records: usize) -> Vec<f32> {
        let elements = self.input.elements();
        let mut inputs: Vec<f32> =
            (0..records * elements).map(|i| ((i * 7919) % 1999) as f32 / 999.5 - 1.0).collect();
        for (range, limit) in &self.whole {
            for (r, record) in inputs.chunks_exact_mut(elements).enumerate() {
                for (i, number) in record[range.clone()].iter_mut().enumerate() {
                    *number = ((r * 7919 + i * 104_729 + r * i * 31) % limit) as f32;
                }
            }
        }
        inputs
    }

    /// Whether the model can take a batch: its size, its targets, and the numbers that are rows of a table or
    /// lengths.
    ///
    /// # Errors
    /// Says what does not fit, and names the first record with a class or a number that does not exist.
    pub fn check(&self, batch: &BatchView<'_>) -> Result<(), String> {
        batch.check(self.input.elements(), self.targets())?;
        match self.find_wrong(batch.inputs) {
            Some((record, message)) => Err(format!("record {record}: {message}")),
            None => Ok(()),
        }
    }

    /// The first of some whole records that has a number which is no row of a table, or no length, where it has to be
    /// one: its place among them, and what is wrong.
    pub fn find_wrong(&self, inputs: &[f32]) -> Option<(usize, String)> {
        let record = self.input.elements();
        self.whole.iter().find_map(|(range, limit)| find_not_whole(inputs, record, range, *limit))
    }

    /// Draws the initial parameters: PyTorch's distributions, the same numbers for the same seed everywhere.
    pub fn initialize(&self, seed: u64) -> Vec<f32> {
        let mut numbers = crate::zeros(self.parameter_count());
        for parameter in &self.parameters {
            draw(parameter, parameter.number, seed, &mut numbers[parameter.range.clone()]);
        }
        numbers
    }

    /// The first parameter with a gradient that is infinite or not a number.
    pub fn find_non_finite(&self, gradients: &Gradients) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| !gradients.of(parameter).iter().all(|n| n.is_finite()))
    }

    /// Numbers of a record that are rows of the table `parameter`, over all layers that read it.
    pub(crate) fn looked_up(&self, parameter: &Parameter) -> usize {
        let readers = self.graph.nodes.iter().filter(|node| node.params == parameter.range);
        let ids = readers.map(|node| match node.inputs[0] {
            0 => self.input.elements(),
            value => self.graph.nodes[value - 1].layer.output().elements(),
        });
        ids.sum()
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.graph
    }

    /// What the model says first, then what only training looks at.
    pub(crate) fn outputs(&self) -> &[Output] {
        &self.outputs
    }
}
