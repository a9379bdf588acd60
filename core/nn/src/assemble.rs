//! From a description to layers whose shapes fit: names, connections, shapes and shared weights.

use crate::graph::{Graph, MAX_INPUTS, Node};
use crate::initialize::Start;
use crate::layer::{Layer, Misfit, ParameterKind, ParameterSpec};
use crate::model::{Described, Parameter};
use crate::registry::Registry;
use crate::shape::Shape;
use ringspin_job::{Component, ModelSpec, Problems, Setting, Value, nearest};
use std::collections::HashMap;
use std::ops::Range;

/// More parameters than this are a typing mistake: 32 GiB of weights.
const MAX_PARAMETERS: usize = 1 << 33;
/// More layers than this are a program gone wild.
const MAX_LAYERS: usize = 100_000;
/// Models inside of models inside of models.
const MAX_DEPTH: usize = 16;
/// What the input record is called where a layer names what it reads.
const INPUT: &str = "input";

/// The layers of a model, as far as they could be built.
pub(crate) struct Assembly {
    pub(crate) described: Vec<Described>,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) graph: Graph,
    /// What each output's loss is multiplied by.
    pub(crate) weights: Vec<f32>,
    /// Shape of every value; `None` behind a layer that does not fit.
    shapes: Vec<Option<Shape>>,
    /// Values by name.
    names: HashMap<String, usize>,
    /// Whether each value is read by anybody.
    read: Vec<bool>,
    /// The numbers of the record that each value consists of, where it is a copy of some.
    copies: Vec<Option<Range<usize>>>,
    /// Numbers of the record that have to be whole, not negative, and below a number.
    pub(crate) whole: Vec<(Range<usize>, usize)>,
}

/// What every layer has beside its own parameters, read and taken out of the component.
struct Common {
    name: String,
    inputs: Vec<usize>,
    share: Option<(String, Setting)>,
    loss_weight: Option<f64>,
    start: Start,
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
        let mut assembly = Assembly {
            described: Vec::new(),
            parameters: Vec::new(),
            graph: Graph::default(),
            weights: Vec::new(),
            shapes: vec![Some(input.clone())],
            names: HashMap::from([(INPUT.to_string(), 0)]),
            read: vec![false],
            copies: vec![Some(0..input.elements())],
            whole: Vec::new(),
        };
        let components = components(registry, spec, problems);
        let scope = Scope { prefix: String::new(), inputs: vec![0], depth: 0 };
        let last = assembly.list(registry, &components, &scope, problems);
        assembly.finish(last, spec, problems);
        assembly
    }

    /// Shapes of the outputs, when every layer fits.
    pub(crate) fn outputs(&self) -> Option<Vec<&Shape>> {
        self.graph.outputs.iter().map(|output| self.shapes[*output].as_ref()).collect()
    }

    /// Builds a list of layers; returns the value of the last.
    fn list(
        &mut self,
        registry: &Registry,
        components: &[Component],
        scope: &Scope,
        problems: &mut Problems,
    ) -> usize {
        let mut before = scope.inputs[0];
        for (index, component) in components.iter().enumerate() {
            let mut component = component.clone();
            let common = self.common(&mut component, (index, before), scope, problems);
            before = if registry.is_model(&component.name) {
                self.inside(registry, &component, common, scope, problems)
            } else {
                self.layer(registry, &component, common, problems)
            };
        }
        before
    }

    /// A named model as a part of this one.
    fn inside(
        &mut self,
        registry: &Registry,
        component: &Component,
        common: Common,
        scope: &Scope,
        problems: &mut Problems,
    ) -> usize {
        let depth = scope.depth + 1;
        let mistake = if depth > MAX_DEPTH {
            Some(format!("more than {MAX_DEPTH} models inside of each other"))
        } else if common.share.is_some() {
            Some("weights are shared layer by layer; \"share\" does not go with a whole model".to_string())
        } else {
            None
        };
        if let Some(message) = mistake {
            problems.add(&component.origin, component.path.clone(), message);
            return self.unknown(common.name, component);
        }
        let mut layers = registry.list_layers(component, problems).unwrap_or_default();
        place(&mut layers, component);
        if let Some(name) = (1..common.inputs.len()).map(input_name).find(|name| !names(&layers, name)) {
            let count = common.inputs.len();
            let message =
                format!("{count} inputs are given, but nothing in \"{}\" reads \"{name}\"", component.name);
            problems.add(&component.origin, component.path.clone(), message);
            return self.unknown(common.name, component);
        }
        let inner = Scope { prefix: format!("{}.", common.name), inputs: common.inputs, depth };
        let last = self.list(registry, &layers, &inner, problems);
        self.names.insert(common.name, last);
        last
    }

    fn layer(
        &mut self,
        registry: &Registry,
        component: &Component,
        common: Common,
        problems: &mut Problems,
    ) -> usize {
        common.inputs.iter().for_each(|input| self.read[*input] = true);
        let shapes: Option<Vec<Shape>> =
            common.inputs.iter().map(|input| self.shapes[*input].clone()).collect();
        // Where shapes are not known, the parameters are checked against any shape.
        let any = || vec![Shape::flat(1).expect("one number"); common.inputs.len()];
        let built = registry.build_layer(component, &shapes.clone().unwrap_or_else(any), problems);
        let layer = match (built, shapes) {
            (Some(Ok(layer)), Some(_)) => layer,
            (Some(Err(Misfit(message))), Some(_)) => {
                problems.add(&component.origin, component.path.clone(), message);
                return self.unknown(common.name, component);
            }
            _ => return self.unknown(common.name, component),
        };
        let Some(params) = self.parameters(&*layer, &common, component, problems) else {
            return self.unknown(common.name, component);
        };
        self.described.push(Described {
            name: component.name.clone(),
            prefix: common.name.clone(),
            inputs: common.inputs.clone(),
            output: layer.output().clone(),
            parameters: if common.share.is_some() { 0 } else { params.len() },
            flops: layer.flops(),
        });
        self.whole_inputs(&*layer, &common.inputs, component, problems);
        let copied = layer.copies().zip(self.copies[common.inputs[0]].clone());
        self.copies.push(copied.map(|(of, x)| x.start + of.start..x.start + of.end));
        self.shapes.push(Some(layer.output().clone()));
        self.read.push(false);
        let index = self.described.len() as u32 - 1;
        let path = format!("{} ({})", component.path, component.name);
        self.graph.nodes.push(Node { layer: layer.into(), path, index, inputs: common.inputs, params });
        let value = self.graph.nodes.len();
        self.names.insert(common.name, value);
        if let Some(weight) = common.loss_weight {
            self.read[value] = true;
            self.graph.outputs.push(value);
            self.weights.push(weight as f32);
        }
        value
    }

    /// A layer that could not be built stands in the graph by its name alone.
    fn unknown(&mut self, name: String, component: &Component) -> usize {
        let shape = Shape::flat(1).expect("one number");
        let layer = crate::layers::flatten::nothing(shape);
        let path = format!("{} ({})", component.path, component.name);
        let node = Node { layer: layer.into(), path, index: 0, inputs: vec![0], params: 0..0 };
        self.graph.nodes.push(node);
        self.shapes.push(None);
        self.copies.push(None);
        self.read.push(true);
        self.names.insert(name, self.graph.nodes.len());
        self.graph.nodes.len()
    }

    /// Notes which numbers of a record a layer takes for rows of a table or for lengths.
    fn whole_inputs(
        &mut self,
        layer: &dyn Layer,
        inputs: &[usize],
        component: &Component,
        problems: &mut Problems,
    ) {
        for (k, input) in inputs.iter().enumerate() {
            let Some(limit) = layer.whole_below(k) else { continue };
            match &self.copies[*input] {
                Some(range) => self.whole.push((range.clone(), limit)),
                None => problems.add(
                    &component.origin,
                    component.path.clone(),
                    format!(
                        "input {k} of {} are whole numbers below {limit}, which have to be a part of the record; \
                         here another layer computes them",
                        component.name
                    ),
                ),
            }
        }
    }

    /// Places the parameters of a layer, or finds those it shares.
    fn parameters(
        &mut self,
        layer: &dyn Layer,
        common: &Common,
        component: &Component,
        problems: &mut Problems,
    ) -> Option<Range<usize>> {
        let specs = layer.parameters();
        if let Some((name, setting)) = &common.share {
            let shared = self.shared(name, &specs);
            if let Err(message) = &shared {
                problems.add(&setting.origin, format!("{}.share", component.path), message.clone());
            }
            return shared.ok();
        }
        let start = self.parameters.last().map_or(0, |last| last.range.end);
        let mut end = start;
        for ParameterSpec { name, shape, init, kind } in specs {
            let init = if kind != ParameterKind::Statistic { common.start.of(&shape, init) } else { init };
            let elements = shape.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
            let begin = end;
            end = match elements.and_then(|elements| end.checked_add(elements)) {
                Some(end) if end <= MAX_PARAMETERS => end,
                _ => {
                    let message =
                        format!("with {name} {shape:?} the model has more than {MAX_PARAMETERS} parameters");
                    problems.add(&component.origin, component.path.clone(), message);
                    return None;
                }
            };
            let (name, layer) = (format!("{}.{name}", common.name), component.path.clone());
            let (range, number) = (begin..end, self.parameters.len());
            self.parameters.push(Parameter { name, shape, range, layer, init, kind, number });
        }
        Some(start..end)
    }

    /// Puts tables whose gradients are rows behind everything else in the flat buffer; returns how many numbers lie
    /// before them.
    pub(crate) fn tables_last(&mut self) -> usize {
        let mut moved = HashMap::new();
        self.parameters.sort_by_key(|parameter| parameter.kind.is_rows());
        let (mut end, mut dense) = (0, 0);
        for parameter in &mut self.parameters {
            let range = end..end + parameter.range.len();
            moved.insert(parameter.range.start, range.start);
            (parameter.range, end) = (range.clone(), range.end);
            if !parameter.kind.is_rows() {
                dense = end;
            }
        }
        // The parameters of a layer are all of one kind and stay together.
        for node in self.graph.nodes.iter_mut().filter(|node| !node.params.is_empty()) {
            let start = moved[&node.params.start];
            node.params = start..start + node.params.len();
        }
        dense
    }

    /// The range of the parameters of the layer `name`, when they are of the shapes `specs`.
    fn shared(&self, name: &str, specs: &[ParameterSpec]) -> Result<Range<usize>, String> {
        let value = self.names.get(name).copied().filter(|value| *value > 0);
        let Some(node) = value.map(|value| &self.graph.nodes[value - 1]) else {
            return Err(format!("no layer before this one is called \"{name}\""));
        };
        let theirs = node.layer.parameters();
        let text = |specs: &[ParameterSpec]| {
            let each: Vec<String> = specs.iter().map(|p| format!("{} {:?}", p.name, p.shape)).collect();
            if each.is_empty() { "no parameters".to_string() } else { each.join(", ") }
        };
        let same = |(a, b): (&ParameterSpec, &ParameterSpec)| {
            (&a.name, &a.shape, a.kind) == (&b.name, &b.shape, b.kind)
        };
        let is_table = |specs: &[ParameterSpec]| specs.iter().any(|spec| spec.kind.is_rows());
        if is_table(specs) != is_table(&theirs) {
            return Err(format!(
                "one of this layer and \"{name}\" has a table with sparse gradients, the other has not: they can not be \
                 shared; give both layers the same \"sparse\", or neither"
            ));
        }
        if specs.is_empty() || specs.len() != theirs.len() || !specs.iter().zip(&theirs).all(same) {
            let (own, theirs) = (text(specs), text(&theirs));
            return Err(format!("this layer has {own}, but \"{name}\" has {theirs}: they can not be shared"));
        }
        Ok(node.params.clone())
    }

    /// Reads and takes out what every layer has: name, inputs, shared weights, weight of its loss.
    fn common(
        &self,
        component: &mut Component,
        (index, before): (usize, usize),
        scope: &Scope,
        problems: &mut Problems,
    ) -> Common {
        let mut take = |name: &str| component.params.0.remove(name);
        let (name, inputs) = (take("name"), take("inputs"));
        let (share, loss_weight) = (take("share"), take("loss_weight"));
        let (init, bias_init) = (take("init"), take("bias_init"));
        let mut wrong = |setting: &Setting, key: &str, message: String| {
            problems.add(&setting.origin, format!("{}.{key}", component.path), message);
        };
        let own = match name {
            None => index.to_string(),
            Some(setting) => match &setting.value {
                Value::Text(name) if !name.is_empty() && name != INPUT => name.clone(),
                other => {
                    let message = format!("expected a name in quotes, other than \"{INPUT}\", found {other}");
                    wrong(&setting, "name", message);
                    index.to_string()
                }
            },
        };
        let name = format!("{}{own}", scope.prefix);
        if let Some(value) = self.names.get(&name).filter(|value| **value > 0) {
            let other = &self.graph.nodes[value - 1].path;
            let message = format!("\"{own}\" is what {other} is called as well");
            problems.add(&component.origin, format!("{}.name", component.path), message);
        }
        let inputs = match inputs {
            None => vec![before],
            Some(setting) => self.inputs(&setting, scope).unwrap_or_else(|message| {
                problems.add(&setting.origin, format!("{}.inputs", component.path), message);
                vec![before]
            }),
        };
        let share = share.and_then(|setting| match &setting.value {
            Value::Text(name) => Some((format!("{}{name}", scope.prefix), setting)),
            other => {
                let message = format!("expected the name of a layer in quotes, found {other}");
                problems.add(&setting.origin, format!("{}.share", component.path), message);
                None
            }
        });
        let loss_weight = loss_weight.and_then(|setting| match setting.value {
            Value::Float(weight) if weight > 0.0 && weight.is_finite() => Some(weight),
            Value::Int(weight) if weight > 0 => Some(weight as f64),
            other => {
                let message = format!("expected a number above 0, found {other}");
                problems.add(&setting.origin, format!("{}.loss_weight", component.path), message);
                None
            }
        });
        let mut start = Start::default();
        if let Some(setting) = init
            && let Err(message) = start.read_weights(&setting.value)
        {
            problems.add(&setting.origin, format!("{}.init", component.path), message);
        }
        if let Some(setting) = bias_init
            && let Err(message) = start.read_vectors(&setting.value)
        {
            problems.add(&setting.origin, format!("{}.bias_init", component.path), message);
        }
        Common { name, inputs, share, loss_weight, start }
    }

    /// The values that a layer names: one name, or a list.
    fn inputs(&self, setting: &Setting, scope: &Scope) -> Result<Vec<usize>, String> {
        let names: Vec<&Value> = match &setting.value {
            Value::List(items) => items.iter().collect(),
            one => vec![one],
        };
        if names.is_empty() || names.len() > MAX_INPUTS {
            return Err(format!("expected 1 to {MAX_INPUTS} names of layers, found {}", names.len()));
        }
        let find = |value: &Value| {
            let Value::Text(name) = value else {
                return Err(format!("expected names of layers in quotes, found {value}"));
            };
            let input = (0..scope.inputs.len()).find(|i| *name == input_name(*i));
            if let Some(input) = input {
                return Ok(scope.inputs[input]);
            }
            self.names.get(&format!("{}{name}", scope.prefix)).copied().ok_or_else(|| {
                let known = self.names.keys().filter_map(|known| known.strip_prefix(&scope.prefix));
                let hint = nearest(name, known).map(|near| format!("; did you mean \"{near}\"?"));
                let hint = hint.unwrap_or_default();
                format!("no layer before this one is called \"{name}\"{hint} (a layer reads layers before it, or \"{INPUT}\")")
            })
        };
        names.into_iter().map(find).collect()
    }

    /// The last layer is what the model says; everything else has to be read by somebody.
    fn finish(&mut self, last: usize, spec: &ModelSpec, problems: &mut Problems) {
        if last == 0 {
            return;
        }
        self.read[last] = true;
        match self.graph.outputs.iter().position(|output| *output == last) {
            Some(place) => {
                self.graph.outputs.swap(0, place);
                self.weights.swap(0, place);
            }
            None => {
                self.graph.outputs.insert(0, last);
                self.weights.insert(0, 1.0);
            }
        }
        for (i, node) in self.graph.nodes.iter().enumerate().filter(|(i, _)| !self.read[i + 1]) {
            let name = self.names.iter().find(|(_, value)| **value == i + 1).map_or("", |(name, _)| name);
            let message = format!(
                "nothing reads the output of \"{name}\", {}: name it in another layer's inputs, or give it a \
                 loss_weight to make it an output of its own",
                node.path
            );
            problems.add(&spec.model.origin, spec.model.path.clone(), message);
        }
    }
}

/// Where names are looked up: inside of a model that is a part of another they have its name in front.
struct Scope {
    prefix: String,
    /// What [`input_name`] calls the values that the model reads.
    inputs: Vec<usize>,
    depth: usize,
}

/// What the inputs of a model are called inside: "input", "input2", "input3"...
fn input_name(index: usize) -> String {
    if index == 0 { INPUT.to_string() } else { format!("{INPUT}{}", index + 1) }
}

/// Whether a layer names `input` as one that it reads.
fn names(layers: &[Component], input: &str) -> bool {
    let is = |value: &Value| matches!(value, Value::Text(name) if name == input);
    layers.iter().filter_map(|layer| layer.params.0.get("inputs")).any(|setting| match &setting.value {
        Value::List(items) => items.iter().any(is),
        one => is(one),
    })
}

/// The layers that `spec` lists or that its model's name stands for, each with a path.
fn components(registry: &Registry, spec: &ModelSpec, problems: &mut Problems) -> Vec<Component> {
    let mut components = if spec.layers.is_empty() {
        registry.list_layers(&spec.model, problems).unwrap_or_default()
    } else {
        spec.layers.clone()
    };
    place(&mut components, &spec.model);
    if components.is_empty() && problems.is_empty() {
        problems.add(&spec.model.origin, spec.model.path.clone(), "the model has no layers");
    }
    if components.len() > MAX_LAYERS {
        let message = format!("{} layers, more than {MAX_LAYERS}", components.len());
        problems.add(&spec.model.origin, spec.model.path.clone(), message);
        components.truncate(MAX_LAYERS);
    }
    components
}

/// Gives layers that a model's name stands for a place for messages.
fn place(components: &mut [Component], model: &Component) {
    let own = components.iter_mut().enumerate().filter(|(_, component)| component.path.is_empty());
    for (i, component) in own {
        component.path = format!("{}.layers[{i}]", model.path);
        component.origin = model.origin.clone();
    }
}
