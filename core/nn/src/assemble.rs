//! From a description to layers whose shapes fit: names, shapes and layouts.

use crate::layer::{Layer, Misfit, ParameterSpec};
use crate::layers::relayout::Relayout;
use crate::model::{Described, Node, Parameter};
use crate::registry::Registry;
use crate::shape::{Layout, Shape};
use ringspin_job::{Component, ModelSpec, Problems, Value};
use std::collections::HashMap;

/// More parameters than this are a typing mistake: 32 GiB of weights.
const MAX_PARAMETERS: usize = 1 << 33;
/// More layers than this are a program gone wild.
const MAX_LAYERS: usize = 100_000;

/// The layers of a model, as far as they could be built.
pub(crate) struct Assembly {
    pub(crate) described: Vec<Described>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) nodes: Vec<Node>,
    /// Shape of the last layer's output; `None` behind a layer that does not fit.
    shape: Option<Shape>,
}

impl Assembly {
    /// Builds every layer of `spec`; mistakes go to `problems`. Behind a layer that does not fit nothing is
    /// known about shapes, and only names and parameters are checked.
    pub(crate) fn of(
        registry: &Registry,
        spec: &ModelSpec,
        input: &Shape,
        problems: &mut Problems,
    ) -> Assembly {
        let mut assembly =
            Assembly { described: vec![], parameters: vec![], nodes: vec![], shape: Some(input.clone()) };
        let components = components(registry, spec, problems);
        for (index, component) in components.iter().enumerate() {
            let (name, component) = split_name(component, index, problems);
            let input = assembly.shape.clone().unwrap_or_else(|| input.clone());
            let built = registry.build_layer(&component, &input, problems);
            let known = assembly.shape.is_some();
            match built {
                Some(Ok(layer)) if known => assembly.add(layer, name, &component, problems),
                Some(Err(Misfit(message))) if known => {
                    problems.add(&component.origin, component.path.clone(), message);
                    assembly.shape = None;
                }
                _ => assembly.shape = None,
            }
        }
        assembly
    }

    /// Shape of the output, when every layer fits.
    pub(crate) fn output(&self) -> Option<&Shape> {
        self.shape.as_ref()
    }

    fn add(&mut self, layer: Box<dyn Layer>, prefix: String, component: &Component, problems: &mut Problems) {
        let start = self.parameters.last().map_or(0, |last| last.range.end);
        let mut end = start;
        for ParameterSpec { name, shape, init } in layer.parameters() {
            let elements = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
            let begin = end;
            end = match elements.and_then(|elements| end.checked_add(elements)) {
                Some(end) if end <= MAX_PARAMETERS => end,
                _ => {
                    let message =
                        format!("with {name} {shape:?} the model has more than {MAX_PARAMETERS} parameters");
                    problems.add(&component.origin, component.path.clone(), message);
                    self.shape = None;
                    return;
                }
            };
            let (name, layer) = (format!("{prefix}.{name}"), component.path.clone());
            self.parameters.push(Parameter { name, shape, range: begin..end, layer, init });
        }
        self.described.push(Described {
            name: component.name.clone(),
            prefix,
            output: layer.output().clone(),
            parameters: end - start,
            flops: layer.flops(),
        });
        self.shape = Some(layer.output().clone());
        let index = self.nodes.len() as u32;
        let path = format!("{} ({})", component.path, component.name);
        self.nodes.push(Node { layer, path, index, params: start..end });
    }
}

/// The layers that `spec` lists or that its model's name stands for, each with a path.
fn components(registry: &Registry, spec: &ModelSpec, problems: &mut Problems) -> Vec<Component> {
    let mut components = if spec.layers.is_empty() {
        registry.list_layers(&spec.model, problems).unwrap_or_default()
    } else {
        spec.layers.clone()
    };
    for (i, component) in components.iter_mut().enumerate().filter(|(_, component)| component.path.is_empty())
    {
        component.path = format!("{}.layers[{i}]", spec.model.path);
        component.origin = spec.model.origin.clone();
    }
    if components.is_empty() && problems.is_empty() {
        problems.add(&spec.model.origin, spec.model.path.clone(), "the model has no layers");
    }
    if components.len() > MAX_LAYERS {
        let message = format!("{} layers, more than {MAX_LAYERS}", components.len());
        problems.add(&spec.model.origin, spec.model.path.clone(), message);
        components.truncate(MAX_LAYERS);
    }
    duplicate_names(&components, problems);
    components
}

/// Takes the parameter `name`, which every layer has, from a component.
fn split_name(component: &Component, index: usize, problems: &mut Problems) -> (String, Component) {
    let mut component = component.clone();
    let name = match component.params.0.remove("name") {
        None => index.to_string(),
        Some(setting) => match setting.value {
            Value::Text(name) if !name.is_empty() => name,
            other => {
                let message = format!("expected a name in quotes, found {other}");
                problems.add(&setting.origin, format!("{}.name", component.path), message);
                index.to_string()
            }
        },
    };
    (name, component)
}

/// Reports layers whose parameters would get the same names.
fn duplicate_names(components: &[Component], problems: &mut Problems) {
    let mut first: HashMap<String, usize> = HashMap::new();
    for (i, component) in components.iter().enumerate() {
        let name = match component.params.0.get("name").map(|setting| &setting.value) {
            Some(Value::Text(name)) => name.clone(),
            _ => i.to_string(),
        };
        if let Some(other) = first.get(&name) {
            let message = format!("\"{name}\" is what layer {other} is called as well");
            problems.add(&component.origin, format!("{}.name", component.path), message);
        }
        first.entry(name).or_insert(i);
    }
}

/// Gives every node the layout it wants, with conversions where needed, and leaves out what does nothing.
/// Records come in, and leave, channels last.
pub(crate) fn arrange(nodes: Vec<Node>, input: &Shape) -> Vec<Node> {
    let mut arranged: Vec<Node> = Vec::with_capacity(nodes.len());
    let (mut layout, mut shape) = (Layout::ChannelsLast, input.clone());
    for mut node in nodes {
        let wanted = node.layer.wants(layout);
        convert(&mut arranged, &shape, layout, wanted);
        layout = node.layer.arrange(wanted);
        shape = node.layer.output().clone();
        arranged.push(node);
    }
    convert(&mut arranged, &shape, layout, Layout::ChannelsLast);
    // A model that is nothing but identities keeps one: something has to write the output.
    let mut left = arranged.len();
    arranged.retain(|node| {
        let needless = left > 1 && node.layer.is_identity();
        left -= usize::from(needless);
        !needless
    });
    arranged
}

fn convert(arranged: &mut Vec<Node>, shape: &Shape, from: Layout, to: Layout) {
    let Some(image) = shape.as_image().filter(|image| image.c > 1 && image.pixels() > 1 && from != to) else {
        return;
    };
    let mut relayout = Relayout::new(image, shape.clone(), from);
    relayout.arrange(from);
    let end = arranged.last().map_or(0, |last| last.params.end);
    let path = format!("{from:?} to {to:?}");
    arranged.push(Node { layer: Box::new(relayout), path, index: 0, params: end..end });
}
