//! Layers that are faster together: rewrites of the list of layers that leave what it computes as it is.

use crate::kernels::elementwise::{derive_in_place, map_in_place};
use crate::layer::{Backward, Forward, Layer, Needs, ParameterSpec, Sharded};
use crate::layers::activation::Activation;
use crate::layers::max_pool2d::MaxPool2d;
use crate::model::Node;
use crate::shape::{Layout, Shape};
use std::any::Any;

/// Rewrites a sequence of layers.
pub(crate) fn fuse(nodes: Vec<Node>) -> Vec<Node> {
    let mut fused: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in pool_first(nodes) {
        match fused.pop() {
            Some(before) if is::<Activation>(&node) && !before.layer.needs().output => {
                fused.push(activated(before, node));
            }
            Some(before) => fused.extend([before, node]),
            None => fused.push(node),
        }
    }
    fused
}

fn is<T: Layer>(node: &Node) -> bool {
    let layer: &dyn Any = &*node.layer;
    layer.is::<T>()
}

fn downcast<T: Layer>(node: Node) -> Result<(Box<T>, String), Node> {
    if !is::<T>(&node) {
        return Err(node);
    }
    let layer: Box<dyn Any> = node.layer;
    Ok((layer.downcast().expect("the type was just checked"), node.path))
}

/// Activations never fall, so that the largest number of a window is the same before and after: the pool goes
/// first, and the activation then works on a quarter of the numbers or fewer.
fn pool_first(nodes: Vec<Node>) -> Vec<Node> {
    let mut ordered: Vec<Node> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let mut held = Vec::new();
        if is::<MaxPool2d>(&node) {
            while ordered.last().is_some_and(is::<Activation>) {
                held.extend(ordered.pop());
            }
        }
        let output = node.layer.output().clone();
        ordered.push(node);
        for activation in held.into_iter().rev() {
            let (index, params) = (activation.index, activation.params.clone());
            match downcast::<Activation>(activation) {
                Ok((layer, path)) => {
                    let layer = Box::new(Activation { function: layer.function, shape: output.clone() });
                    ordered.push(Node { layer, path, index, params });
                }
                Err(node) => ordered.push(node),
            }
        }
    }
    ordered
}

fn activated(before: Node, activation: Node) -> Node {
    match downcast::<Activation>(activation) {
        Ok((activation, path)) => Node {
            layer: Box::new(Activated { inner: before.layer, activation: *activation }),
            path: format!("{} + {path}", before.path),
            index: before.index,
            params: before.params,
        },
        Err(_) => unreachable!("only activations are fused"),
    }
}

/// A layer with an activation applied to its output where it lies, while it is in the cache. Needs a layer
/// that does not read its output again: it is overwritten.
struct Activated {
    inner: Box<dyn Layer>,
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
        self.inner.arrange(input)
    }

    fn needs(&self) -> Needs {
        Needs { output: true, ..self.inner.needs() }
    }

    fn scratch(&self, records: usize) -> usize {
        self.inner.scratch(records)
    }

    fn packed(&self) -> usize {
        self.inner.packed()
    }

    fn pack(&self, params: &[f32], packed: &mut [f32]) {
        self.inner.pack(params, packed);
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use ringspin_job::{Component, Problems, Value};

    fn paths(names: &[(&str, Option<(&str, i64)>)]) -> Vec<String> {
        let (registry, mut problems) = (Registry::standard(), Problems::new());
        let mut shape = Shape::image(16, 16, 3).unwrap();
        let mut nodes = Vec::new();
        for (index, (name, param)) in names.iter().enumerate() {
            let mut component = Component::new("", *name);
            if let Some((key, value)) = param {
                component = component.with(key, Value::Int(*value));
            }
            if *name == "conv2d" {
                component = component.with("out_channels", Value::Int(4));
            }
            let layer = registry.build_layer(&component, &shape, &mut problems).unwrap().unwrap();
            shape = layer.output().clone();
            nodes.push(Node { layer, path: (*name).into(), index: index as u32, params: 0..0 });
        }
        assert!(problems.is_empty(), "{problems}");
        let nodes = fuse(nodes);
        assert_eq!(nodes.last().unwrap().layer.output(), &shape);
        nodes.into_iter().map(|node| node.path).collect()
    }

    #[test]
    fn activations_move_behind_pools_and_into_the_layer_before() {
        let kernel = |size| Some(("kernel_size", size));
        let lenet = [("conv2d", kernel(5)), ("tanh", None), ("max_pool2d", kernel(2)), ("tanh", None)];
        assert_eq!(paths(&lenet), ["conv2d", "max_pool2d + tanh", "tanh"]);
        let average = [("conv2d", kernel(3)), ("relu", None), ("avg_pool2d", kernel(2))];
        assert_eq!(paths(&average), ["conv2d + relu", "avg_pool2d"]);
        assert_eq!(paths(&[("relu", None), ("sigmoid", None)]), ["relu", "sigmoid"]);
    }
}
