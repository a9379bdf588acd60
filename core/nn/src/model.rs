//! A model: layers whose shapes fit, a loss, and names for everything that is learned.
//!
//! [`Model::build`] reads a description, finds every mistake in it, and decides what does not depend on data:
//! shapes, layouts, which layers are fused. What depends on the size of a micro-batch is planned by
//! [`crate::Workspace`]. A model holds no numbers: parameters and gradients are flat buffers of the caller.

use crate::assemble::{Assembly, arrange};
use crate::batch::{TargetKind, Targets};
use crate::fuse::fuse;
use crate::initialize::draw;
use crate::layer::{Init, Layer, Misfit};
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
    /// Where its numbers are in the flat buffers of parameters and of gradients.
    pub range: Range<usize>,
    /// Path of its layer in the job, such as `model.layers[7]`.
    pub layer: String,
    pub(crate) init: Init,
}

/// A layer as the user described it.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Registered name, such as `conv2d`.
    pub name: String,
    /// What its parameters are called after.
    pub prefix: String,
    /// Shape of an output record.
    pub output: Shape,
    /// Numbers it learns.
    pub parameters: usize,
    /// Floating-point operations of one record's forward pass.
    pub flops: u64,
}

/// A layer as it runs: one of the user's, several fused, or one that the engine put in.
pub(crate) struct Node {
    pub(crate) layer: Box<dyn Layer>,
    /// For messages.
    pub(crate) path: String,
    /// Place in the user's list: a coordinate of random numbers.
    pub(crate) index: u32,
    /// Its parameters in the flat buffers.
    pub(crate) params: Range<usize>,
}

/// Layers whose shapes fit, and a loss.
pub struct Model {
    input: Shape,
    output: Shape,
    described: Vec<Described>,
    parameters: Vec<Parameter>,
    nodes: Vec<Node>,
    loss: Box<dyn Loss>,
}

impl Model {
    /// Builds the model that `spec` describes for records of shape `input`, to be trained with `loss`.
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
        let assembly = Assembly::of(registry, spec, input, &mut problems);
        let output = assembly.output().cloned();
        // A loss is checked for its parameters even where the output is not known.
        let loss_built = registry.build_loss(loss, output.as_ref().unwrap_or(input), &mut problems);
        if let (Some(Err(Misfit(message))), Some(_)) = (&loss_built, &output) {
            problems.add(&loss.origin, loss.path.clone(), message);
        }
        match (loss_built, output) {
            (Some(Ok(loss)), Some(output)) if problems.is_empty() => {
                let Assembly { described, parameters, nodes, .. } = assembly;
                let nodes = arrange(fuse(nodes), input);
                Ok(Model { input: input.clone(), output, described, parameters, nodes, loss })
            }
            _ => Err(problems),
        }
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
        self.loss.targets()
    }

    /// What metrics are measured on.
    pub fn scored(&self) -> Scored<'_> {
        Scored { output: &self.output, targets: self.targets() }
    }

    /// Whether [`Model::weight`] may be another number than that of the records.
    pub fn weighs(&self) -> bool {
        self.loss.weighs()
    }

    /// What records with these targets weigh in the loss's mean. Where [`Model::weighs`] says no, it is their
    /// number.
    pub fn weight(&self, targets: Targets<'_>, records: usize) -> f64 {
        self.loss.weight(targets, records)
    }

    /// The user's layers.
    pub fn layers(&self) -> &[Described] {
        &self.described
    }

    /// What is learned, in the order of the flat buffers, without gaps.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Numbers that are learned: length of the flat buffers.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.range.end)
    }

    /// Draws the initial parameters: PyTorch's distributions, the same numbers for the same seed everywhere.
    pub fn initialize(&self, seed: u64) -> Vec<f32> {
        let mut numbers = vec![0.0; self.parameter_count()];
        for (index, parameter) in self.parameters.iter().enumerate() {
            draw(parameter, index, seed, &mut numbers[parameter.range.clone()]);
        }
        numbers
    }

    /// The name of the first parameter with a number in `numbers` (parameters or gradients) that is infinite or
    /// not a number, with its layer's path.
    pub fn find_non_finite(&self, numbers: &[f32]) -> Option<&Parameter> {
        self.parameters
            .iter()
            .find(|parameter| !numbers[parameter.range.clone()].iter().all(|n| n.is_finite()))
    }

    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn loss(&self) -> &dyn Loss {
        &*self.loss
    }
}
