//! Layers that are faster together: rewrites of the graph that leave what it computes as it is.

use crate::graph::{Graph, Node};
use crate::kernels::Isa;
use crate::kernels::elementwise::{derive_in_place, map_in_place};
use crate::layer::{Backward, Forward, Layer, Needs, ParameterSpec, Sharded, Tabled};
use crate::layers::activation::Activation;
use crate::layers::add::Add;
use crate::layers::batch_norm::BatchNorm;
use crate::layers::conv_prepared::Prepared;
use crate::layers::conv2d::Conv2d;
use crate::layers::max_pool2d::MaxPool2d;
use crate::layers::normed_conv::NormedConv;
use crate::shape::{Layout, Shape};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Rewrites a graph.
pub(crate) fn fuse(mut graph: Graph) -> Graph {
    while pool_first(&mut graph) {}
    activate(add_to_norm(graph))
}

/// The graph for predictions of at most `records` records at a time with parameters that do not change: convolutions are
/// packed once, and take in the batch norms behind them. All other layers are shared with `graph`.
pub(crate) fn prepare(graph: &Graph, records: usize) -> Graph {
    let mut gone = vec![None; graph.nodes.len()];
    let mut nodes = graph.nodes.clone();
    for (i, node) in graph.nodes.iter().enumerate() {
        if let Some(prepared) = known::<Conv2d>(node).and_then(|conv| conv.prepared(records)) {
            nodes[i].layer = Arc::new(prepared);
        }
        let Some(norm) = known::<BatchNorm>(node).filter(|norm| norm.tracks()) else { continue };
        let x = node.inputs[0];
        let Some(before) = x.checked_sub(1).filter(|_| graph.only_reader(x) == Some(i)) else { continue };
        let conv = &graph.nodes[before];
        let plain =
            known::<Conv2d>(conv).filter(|conv| !conv.needs().output).and_then(|conv| conv.prepared(records));
        // Together they have one range of parameters.
        let Some(prepared) = plain.filter(|_| conv.params.end == node.params.start) else { continue };
        // It runs where the norm stood, once what is added is there.
        nodes[i].layer = Arc::new(prepared.with_norm(norm));
        nodes[i].index = conv.index;
        nodes[i].path = format!("{} + {}", conv.path, node.path);
        nodes[i].inputs[0] = conv.inputs[0];
        nodes[i].params = conv.params.start..node.params.end;
        gone[before] = Some(conv.inputs[0]);
    }
    expand(Graph { nodes, outputs: graph.outputs.clone() }.without(&gone))
}

/// Convolutions of single pixels that a depthwise one alone reads are computed by it, where what lies between is large.
fn expand(graph: Graph) -> Graph {
    let mut gone = vec![None; graph.nodes.len()];
    let mut nodes = graph.nodes.clone();
    for (i, node) in graph.nodes.iter().enumerate() {
        let Some(depthwise) = known::<Prepared>(node) else { continue };
        let x = node.inputs[0];
        let Some(before) = x.checked_sub(1).filter(|_| graph.only_reader(x) == Some(i)) else { continue };
        let conv = &graph.nodes[before];
        let first = known::<Prepared>(conv).filter(|_| conv.params.end == node.params.start);
        let both = first.and_then(|first| depthwise.with_expansion(first, conv.params.len()));
        let Some(both) = both else { continue };
        nodes[i].layer = Arc::new(both);
        nodes[i].path = format!("{} + {}", conv.path, node.path);
        nodes[i].inputs = conv.inputs.clone();
        nodes[i].params = conv.params.start..node.params.end;
        gone[before] = Some(conv.inputs[0]);
    }
    Graph { nodes, outputs: graph.outputs.clone() }.without(&gone)
}

/// The graph for training: batch norms that a convolution alone reads are computed by it, as it reads what they read.
/// All other layers are shared with `graph`.
pub(crate) fn norms_in_convolutions(graph: &Graph) -> Graph {
    let mut gone = vec![None; graph.nodes.len()];
    let mut nodes = graph.nodes.clone();
    for (i, conv) in graph.nodes.iter().enumerate() {
        let Some(before) = conv.inputs[0].checked_sub(1).filter(|before| norms(graph, *before, i)) else {
            continue;
        };
        let norm = &graph.nodes[before];
        let known = known::<BatchNorm>(norm).expect("its type was just checked");
        nodes[i].layer = Arc::new(NormedConv::new(known.clone(), Arc::clone(&conv.layer)));
        nodes[i].path = format!("{} + {}", norm.path, conv.path);
        nodes[i].inputs[0] = norm.inputs[0];
        nodes[i].params = norm.params.start..conv.params.end;
        gone[before] = Some(norm.inputs[0]);
    }
    Graph { nodes, outputs: graph.outputs.clone() }.without(&gone)
}

/// Takes the layer of a node that gets another, or goes.
fn take(node: &mut Node) -> Arc<dyn Layer> {
    let nothing = crate::layers::flatten::nothing(node.layer.output().clone()).into();
    std::mem::replace(&mut node.layer, nothing)
}

fn is<T: Layer>(node: &Node) -> bool {
    known::<T>(node).is_some()
}

/// The layer of a node, where it is of this kind.
fn known<T: Layer>(node: &Node) -> Option<&T> {
    let layer: &dyn Any = &*node.layer;
    layer.downcast_ref()
}

/// Activations never fall, so that the largest number of a window is the same before and after: the pool goes
/// first, and the activation then works on a quarter of the numbers or fewer. Whether there was such a pair.
fn pool_first(graph: &mut Graph) -> bool {
    let pair = (0..graph.nodes.len()).find_map(|i| {
        let reader = graph.only_reader(i + 1).filter(|_| rises(&graph.nodes[i]))?;
        is::<MaxPool2d>(&graph.nodes[reader]).then_some((i, reader))
    });
    let Some((activation, pool)) = pair else { return false };
    // The two change places: what read the pool now reads the activation behind it.
    graph.nodes.swap(activation, pool);
    let (first, second) = (activation, pool);
    graph.nodes[first].inputs = std::mem::replace(&mut graph.nodes[second].inputs, vec![first + 1]);
    let shape = graph.nodes[first].layer.output().clone();
    let layer: &mut dyn Any = graph.nodes[second].layer_mut();
    layer.downcast_mut::<Activation>().expect("only activations rise").shape = shape;
    true
}

/// Whether a node is a function of each number that never falls.
fn rises(node: &Node) -> bool {
    known::<Activation>(node).is_some_and(|activation| activation.function.rises())
}

/// The sum of a batch norm's output and another value is computed by the batch norm.
fn add_to_norm(mut graph: Graph) -> Graph {
    let mut gone = vec![None; graph.nodes.len()];
    for i in (0..graph.nodes.len()).filter(|i| is::<Add>(&graph.nodes[*i])).collect::<Vec<_>>() {
        let [first, second] = graph.nodes[i].inputs[..] else { continue };
        let absorbs = |graph: &mut Graph, value: usize| {
            let alone = value > 0 && graph.only_reader(value) == Some(i);
            alone && norm(&mut graph.nodes[value - 1]).is_some_and(BatchNorm::absorb_sum)
        };
        let (own, other) = if absorbs(&mut graph, first) {
            (first - 1, second)
        } else if absorbs(&mut graph, second) {
            (second - 1, first)
        } else {
            continue;
        };
        // It runs where the sum stood, once both inputs are there.
        let layer = take(&mut graph.nodes[own]);
        let x = graph.nodes[own].inputs[0];
        let (path, index, params) =
            (graph.nodes[own].path.clone(), graph.nodes[own].index, graph.nodes[own].params.clone());
        let path = format!("{path} + {}", graph.nodes[i].path);
        graph.nodes[i] = Node { layer, path, index, inputs: vec![x, other], params };
        gone[own] = Some(x);
    }
    graph.without(&gone)
}

/// Whether the layer computes the activation itself from now on.
fn absorbs(node: &mut Node, activation: &Activation) -> bool {
    let layer: &mut dyn Any = node.layer_mut();
    if let Some(norm) = layer.downcast_mut::<BatchNorm>() {
        return norm.absorb(activation);
    }
    layer.downcast_mut::<Conv2d>().is_some_and(|conv| conv.absorb(activation))
}

fn norm(node: &mut Node) -> Option<&mut BatchNorm> {
    let layer: &mut dyn Any = node.layer_mut();
    layer.downcast_mut()
}

/// Applies activations to the output of the layer before, where it lies.
fn activate(mut graph: Graph) -> Graph {
    let mut gone = vec![None; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        let Some(activation) = known::<Activation>(&graph.nodes[i]).cloned() else { continue };
        let value = graph.nodes[i].inputs[0];
        let before = value.checked_sub(1).filter(|_| graph.only_reader(value) == Some(i));
        let Some(before) = before.filter(|before| gone[*before].is_none()) else { continue };
        let node = &mut graph.nodes[before];
        let absorbed = absorbs(node, &activation);
        // What lies between the two is overwritten: neither may read it again.
        let read = node.layer.needs().output || activation.needs().input;
        if !absorbed && (read || node.layer.wide().is_some()) {
            continue;
        }
        if !absorbed {
            let inner = take(node);
            node.layer = Arc::new(Activated { inner, activation });
        }
        graph.nodes[before].path = format!("{} + {}", graph.nodes[before].path, graph.nodes[i].path);
        gone[i] = Some(value);
    }
    graph.without(&gone)
}

/// Whether node `before` is a batch norm that node `conv`, a convolution, can compute.
fn norms(graph: &Graph, before: usize, conv: usize) -> bool {
    let (norm_node, conv_node) = (&graph.nodes[before], &graph.nodes[conv]);
    let Some((norm, convolution)) = known::<BatchNorm>(norm_node).zip(known::<Conv2d>(conv_node)) else {
        return false;
    };
    // What it reads must have a gradient, in which the gradient between the two is computed; the parameters of both are
    // one range, which no other node shares.
    let learns = norm_node.inputs[0].checked_sub(1).is_some_and(|x| !graph.nodes[x].params.is_empty());
    let joint = norm_node.params.end == conv_node.params.start && !norm_node.params.is_empty();
    let alone = |params: &Range<usize>| graph.nodes.iter().filter(|node| node.params == *params).count() == 1;
    graph.only_reader(before + 1) == Some(conv)
        && NormedConv::fits(norm, convolution)
        && learns
        && joint
        && alone(&norm_node.params)
        && alone(&conv_node.params)
}

/// A layer with an activation applied to its output where it lies, while it is in the cache. Needs a layer
/// that does not read its output again, and an activation whose derivative is written in terms of its own: what lies
/// between the two is overwritten.
struct Activated {
    inner: Arc<dyn Layer>,
    activation: Activation,
}

impl Layer for Activated {
    fn output(&self) -> &Shape {
        self.inner.output()
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        self.inner.parameters()
    }

    fn flops(&self) -> u64 {
        self.inner.flops() + self.activation.flops()
    }

    fn wants(&self, given: Layout) -> Layout {
        self.inner.wants(given)
    }

    fn arrange(&mut self, input: Layout) -> Layout {
        Arc::get_mut(&mut self.inner).expect("nobody else has the layer").arrange(input)
    }

    fn needs(&self) -> Needs {
        Needs { output: true, ..self.inner.needs() }
    }

    fn reads_others(&self) -> bool {
        self.inner.reads_others()
    }

    fn scratch(&self, records: usize) -> usize {
        self.inner.scratch(records)
    }

    fn saved(&self, records: usize) -> usize {
        self.inner.saved(records)
    }

    fn least_records(&self) -> usize {
        self.inner.least_records()
    }

    fn rows(&self) -> usize {
        self.inner.rows()
    }

    fn adds(&self) -> bool {
        self.inner.adds()
    }

    fn passes(&self) -> Option<usize> {
        self.inner.passes()
    }

    fn packed(&self, learns: bool) -> usize {
        self.inner.packed(learns)
    }

    fn pack(&self, isa: Isa, params: &[f32], packed: &mut [f32]) {
        self.inner.pack(isa, params, packed);
    }

    fn forward(&self, pass: Forward<'_>) {
        let (isa, function) = (pass.context.isa, self.activation.function);
        self.inner.forward(Forward { y: &mut *pass.y, ..pass });
        map_in_place(isa, function, pass.y);
    }

    fn backward(&self, pass: Backward<'_>) {
        derive_in_place(pass.context.isa, self.activation.function, pass.y, pass.dy);
        self.inner.backward(pass);
    }

    fn sharded(&self) -> Option<&dyn Sharded> {
        self.inner.sharded()
    }

    fn tabled(&self) -> Option<&dyn Tabled> {
        self.inner.tabled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use ringspin_job::{Component, Problems, Value};

    fn paths(names: &[(&str, Option<(&str, i64)>)]) -> Vec<String> {
        let (registry, mut problems) = (Registry::standard(), Problems::new());
        let mut shape = Shape::image(16, 16, 3).unwrap();
        let mut graph = Graph { nodes: vec![], outputs: vec![names.len()] };
        for (index, (name, param)) in names.iter().enumerate() {
            let mut component = Component::new("", *name);
            if let Some((key, value)) = param {
                component = component.with(key, Value::Int(*value));
            }
            if *name == "conv2d" {
                component = component.with("out_channels", Value::Int(4));
            }
            let layer = registry.build_layer(&component, &[shape], &mut problems).unwrap().unwrap();
            shape = layer.output().clone();
            let (path, inputs) = ((*name).into(), vec![index]);
            graph.nodes.push(Node { layer: layer.into(), path, index: index as u32, inputs, params: 0..0 });
        }
        assert!(problems.is_empty(), "{problems}");
        let graph = fuse(graph);
        assert_eq!(graph.nodes.last().unwrap().layer.output(), &shape);
        graph.nodes.into_iter().map(|node| node.path).collect()
    }

    #[test]
    fn activations_move_behind_pools_and_into_the_layer_before() {
        let kernel = |size| Some(("kernel_size", size));
        let lenet = [("conv2d", kernel(5)), ("tanh", None), ("max_pool2d", kernel(2)), ("tanh", None)];
        assert_eq!(paths(&lenet), ["conv2d", "max_pool2d + tanh", "tanh"]);
        let average = [("conv2d", kernel(3)), ("relu", None), ("avg_pool2d", kernel(2))];
        assert_eq!(paths(&average), ["conv2d + relu", "avg_pool2d"]);
        assert_eq!(paths(&[("relu", None), ("sigmoid", None)]), ["relu", "sigmoid"]);
        let clipped = [("conv2d", kernel(3)), ("relu6", None), ("max_pool2d", kernel(2)), ("elu", None)];
        assert_eq!(paths(&clipped), ["conv2d", "max_pool2d + relu6", "elu"]);
        // Their derivatives are written in terms of the input, and they fall as well as rise.
        for name in ["gelu", "silu", "hard_swish", "softplus"] {
            let last = [("conv2d", kernel(3)), (name, None), ("max_pool2d", kernel(2))];
            assert_eq!(paths(&last), ["conv2d", name, "max_pool2d"]);
        }
    }
}
