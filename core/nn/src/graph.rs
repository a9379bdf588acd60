//! The layers of a model as a graph: who reads whose output.
//!
//! Values are numbered: 0 is the input record, `i + 1` the output of node `i`. Nodes stand in an order in which
//! they can run: a node reads only values before its own. The rewrites here leave what the graph computes as it is.

use crate::kernels::conv::Choice;
use crate::layer::Layer;
use crate::layers::conv2d::Conv2d;
use crate::layers::relayout::Relayout;
use crate::shape::{Layout, Shape};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Most values that a layer can join.
pub(crate) const MAX_INPUTS: usize = 32;

/// A layer as it runs: one of the user's, several fused, or one that the engine put in.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) layer: Arc<dyn Layer>,
    /// For messages.
    pub(crate) path: String,
    /// Place in the user's list: a coordinate of random numbers, and the row of a profile.
    pub(crate) index: u32,
    /// Values it reads.
    pub(crate) inputs: Vec<usize>,
    /// Its parameters in the flat buffers. Nodes that share weights have the same range.
    pub(crate) params: Range<usize>,
}

impl Node {
    /// The layer, to be changed.
    ///
    /// # Panics
    /// When another graph has it too, as only graphs of models that are built do.
    pub(crate) fn layer_mut(&mut self) -> &mut dyn Layer {
        Arc::get_mut(&mut self.layer).expect("layers are shared once the model is built")
    }
}

/// Nodes, and the values that leave the model.
#[derive(Clone, Default)]
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
    /// Values that a loss is measured on; the first is what the model says.
    pub(crate) outputs: Vec<usize>,
}

impl Graph {
    /// The node that alone reads `value`, when it leaves the model nowhere else.
    pub(crate) fn only_reader(&self, value: usize) -> Option<usize> {
        let mut readers = self.nodes.iter().enumerate().filter(|(_, node)| node.inputs.contains(&value));
        let (reader, node) = readers.next()?;
        let once = node.inputs.iter().filter(|input| **input == value).count() == 1;
        (once && readers.next().is_none() && !self.outputs.contains(&value)).then_some(reader)
    }

    /// Says which algorithms convolutions may use.
    pub(crate) fn choose(&mut self, choice: Choice) {
        for node in &mut self.nodes {
            let layer: &mut dyn Any = node.layer_mut();
            if let Some(conv) = layer.downcast_mut::<Conv2d>() {
                conv.choose(choice);
            }
        }
    }

    /// Takes nodes out: where `gone[i]` is a value, node `i` is left out and its output read from there.
    pub(crate) fn without(self, gone: &[Option<usize>]) -> Graph {
        let mut moved = vec![0];
        let mut nodes = Vec::with_capacity(self.nodes.len());
        for (mut node, gone) in self.nodes.into_iter().zip(gone) {
            match gone {
                Some(value) => moved.push(moved[*value]),
                None => {
                    node.inputs.iter_mut().for_each(|input| *input = moved[*input]);
                    nodes.push(node);
                    moved.push(nodes.len());
                }
            }
        }
        Graph { nodes, outputs: self.outputs.into_iter().map(|output| moved[output]).collect() }
    }

    /// Gives every node the layout it wants, with conversions where needed, and leaves out what does nothing.
    /// Records come in, and leave, channels last.
    pub(crate) fn arranged(self, input: &Shape) -> Graph {
        let mut arranger = Arranger {
            nodes: Vec::with_capacity(self.nodes.len()),
            values: vec![Arranged { value: 0, layout: Layout::ChannelsLast, shape: input.clone() }],
            converted: Vec::new(),
        };
        for mut node in self.nodes {
            let given: Vec<Layout> = node.inputs.iter().map(|input| arranger.values[*input].layout).collect();
            // A layer that joins values gets all of them in one layout.
            let same = given.iter().all(|layout| *layout == given[0]);
            let wanted = node.layer.wants(if same { given[0] } else { Layout::ChannelsLast });
            node.inputs.iter_mut().for_each(|input| *input = arranger.converted(*input, wanted));
            let layout = node.layer_mut().arrange(wanted);
            let shape = node.layer.output().clone();
            arranger.nodes.push(node);
            arranger.values.push(Arranged { value: arranger.nodes.len(), layout, shape });
        }
        let outputs = self.outputs.iter().map(|output| arranger.converted(*output, Layout::ChannelsLast));
        let outputs = outputs.collect();
        Graph { nodes: arranger.nodes, outputs }.without_identities()
    }

    fn without_identities(self) -> Graph {
        let mut gone = Vec::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            // The input record can not be an output: something has to write that.
            let needless =
                node.layer.is_identity() && !(self.outputs.contains(&(i + 1)) && node.inputs[0] == 0);
            gone.push(needless.then(|| node.inputs[0]));
        }
        // An output that is now read from a chain of identities from the input keeps the last of them.
        for output in &self.outputs {
            let mut value = *output;
            while value > 0 && gone[value - 1].is_some() {
                value = gone[value - 1].unwrap_or_default();
            }
            if value == 0 && *output > 0 {
                gone[*output - 1] = None;
            }
        }
        self.without(&gone)
    }
}

/// Where a value of the graph lies once layouts are arranged.
#[derive(Clone)]
struct Arranged {
    value: usize,
    layout: Layout,
    shape: Shape,
}

struct Arranger {
    nodes: Vec<Node>,
    /// By the value's number before.
    values: Vec<Arranged>,
    /// Conversions that are there: (value before, value of the conversion).
    converted: Vec<(usize, usize)>,
}

impl Arranger {
    /// The value in the layout `to`.
    fn converted(&mut self, value: usize, to: Layout) -> usize {
        let Arranged { value: now, layout, shape } = self.values[value].clone();
        let image = shape.as_image().filter(|image| image.c > 1 && image.pixels() > 1 && layout != to);
        let Some(image) = image else { return now };
        if let Some((_, converted)) = self.converted.iter().find(|(from, _)| *from == value) {
            return *converted;
        }
        let mut relayout = Relayout::new(image, shape, layout);
        relayout.arrange(layout);
        let path = format!("{layout:?} to {to:?}");
        // As if it belonged to the layer that wrote the value.
        let index = now.checked_sub(1).map_or(0, |i| self.nodes[i].index);
        self.nodes.push(Node { layer: Arc::new(relayout), path, index, inputs: vec![now], params: 0..0 });
        self.converted.push((value, self.nodes.len()));
        self.nodes.len()
    }
}
