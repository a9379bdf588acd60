//! What can be asked for by name: layers, losses, optimizers, schedules, models and metrics.
//!
//! A [`Registry`] is a value: [`Registry::standard`] knows everything of this crate, and a program around the
//! library adds its own layers and models, under names that job files then use like any other.

mod standard;
#[cfg(test)]
mod tests;

use crate::batch::TargetKind;
use crate::layer::{Layer, Misfit};
use crate::losses::Loss;
use crate::metrics::{Metric, NamedMetric, Scored};
use crate::optimizers::{Optimizer, Optimizers};
use crate::schedules::Schedule;
use crate::schedules::sequence::{self, Sequence, Start};
use crate::schedules::warmup::{self, Warmup};
use crate::shape::Shape;
use ringspin_job::{Component, ModelSpec, ParamReader, Problems, Setting};

/// A parameter of a component, as documented and as accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParamDoc {
    /// Name.
    pub name: &'static str,
    /// Value that stands when it is not given, as it would be typed; `required` when it must be given.
    pub default: &'static str,
    /// What it means, in one line.
    pub doc: &'static str,
}

impl ParamDoc {
    /// A documented parameter.
    pub const fn new(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        ParamDoc { name, default, doc }
    }
}

/// Parameters that every layer has.
pub const LAYER_PARAMS: &[ParamDoc] = &[
    ParamDoc::new("name", "its index", "what its parameters are called after, and other layers call it"),
    ParamDoc::new("inputs", "the layer before", "what it reads: names of layers before it, or \"input\""),
    ParamDoc::new("share", "nothing", "name of a layer before it whose parameters it uses too"),
    ParamDoc::new(
        "loss_weight",
        "nothing",
        "makes it an output: the loss is measured here too, times this number",
    ),
];

/// Builds a layer from its parameters for the shapes of its inputs; other layers of the registry may be inside.
pub type BuildLayer =
    dyn Fn(&Registry, &mut ParamReader<'_>, &[Shape]) -> Result<Box<dyn Layer>, Misfit> + Send + Sync;
/// Builds a loss from its parameters for the model's output shape.
pub type BuildLoss = dyn Fn(&mut ParamReader<'_>, &Shape) -> Result<Box<dyn Loss>, Misfit> + Send + Sync;
/// Builds an optimizer from its parameters.
pub type BuildOptimizer = dyn Fn(&mut ParamReader<'_>) -> Box<dyn Optimizer> + Send + Sync;
/// Builds a schedule from its parameters.
pub type BuildSchedule = dyn Fn(&mut ParamReader<'_>) -> Box<dyn Schedule> + Send + Sync;
/// Lists the layers of a model from its parameters.
pub type BuildModel = dyn Fn(&mut ParamReader<'_>) -> Vec<Component> + Send + Sync;

/// Builds a metric from its parameters for what it measures.
pub type BuildMetric =
    dyn Fn(&mut ParamReader<'_>, &Scored<'_>) -> Result<Box<dyn Metric>, Misfit> + Send + Sync;

/// Something that can be asked for by name.
pub struct Entry<B: ?Sized> {
    name: String,
    doc: String,
    params: Vec<ParamDoc>,
    input: Vec<usize>,
    build: Box<B>,
}

impl<B: ?Sized> Entry<B> {
    /// Documents the component: one line, and its parameters.
    pub fn describe(&mut self, doc: &str, params: &[ParamDoc]) -> &mut Self {
        self.doc = doc.into();
        self.params.extend_from_slice(params);
        self
    }

    /// Says which records a model was published for: their shape, channels last.
    pub fn made_for(&mut self, input: &[usize]) -> &mut Self {
        self.input = input.to_vec();
        self
    }

    /// Name in job files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in one line.
    pub fn doc(&self) -> &str {
        &self.doc
    }

    /// Its parameters.
    pub fn params(&self) -> &[ParamDoc] {
        &self.params
    }

    /// The shape of the records that a model was published for, channels last; empty where it takes any.
    pub fn input(&self) -> &[usize] {
        &self.input
    }
}

/// Everything of one kind, in order of registration.
pub struct Table<B: ?Sized> {
    what: &'static str,
    entries: Vec<Entry<B>>,
}

impl<B: ?Sized> Table<B> {
    fn new(what: &'static str) -> Self {
        Table { what, entries: Vec::new() }
    }

    /// Adds an entry; one of the same name is replaced.
    fn add(&mut self, name: &str, build: Box<B>) -> &mut Entry<B> {
        self.entries.retain(|entry| entry.name != name);
        self.entries.push(Entry {
            name: name.into(),
            doc: String::new(),
            params: Vec::new(),
            input: Vec::new(),
            build,
        });
        self.entries.last_mut().expect("an entry was just added")
    }

    /// Entries in order of registration.
    pub fn entries(&self) -> &[Entry<B>] {
        &self.entries
    }

    fn find(&self, component: &Component, problems: &mut Problems) -> Option<&B> {
        let entry = self.entries.iter().find(|entry| entry.name == component.name);
        if entry.is_none() {
            let known: Vec<&str> = self.entries.iter().map(Entry::name).collect();
            component.unknown(self.what, &known, problems);
        }
        entry.map(|entry| &*entry.build)
    }
}

/// What can be asked for by name.
pub struct Registry {
    layers: Table<BuildLayer>,
    losses: Table<BuildLoss>,
    optimizers: Table<BuildOptimizer>,
    schedules: Table<BuildSchedule>,
    models: Table<BuildModel>,
    metrics: Table<BuildMetric>,
}

impl Registry {
    /// A registry that knows nothing.
    pub fn empty() -> Registry {
        Registry {
            layers: Table::new("layer"),
            losses: Table::new("loss"),
            optimizers: Table::new("optimizer"),
            schedules: Table::new("schedule"),
            models: Table::new("model"),
            metrics: Table::new("metric"),
        }
    }

    /// Registers a layer. `build` reads its parameters and says when it does not fit its input.
    pub fn layer(
        &mut self,
        name: &str,
        build: impl Fn(&mut ParamReader<'_>, &Shape) -> Result<Box<dyn Layer>, Misfit> + Send + Sync + 'static,
    ) -> &mut Entry<BuildLayer> {
        self.join(name, move |reader, inputs| {
            let built = build(reader, &inputs[0]);
            match inputs {
                [_] => built,
                more => Err(Misfit(format!("reads one input, {} are given", more.len()))),
            }
        })
    }

    /// Registers a layer that joins several inputs; `build` gets the shape of each, at least one.
    pub fn join(
        &mut self,
        name: &str,
        build: impl Fn(&mut ParamReader<'_>, &[Shape]) -> Result<Box<dyn Layer>, Misfit> + Send + Sync + 'static,
    ) -> &mut Entry<BuildLayer> {
        self.wrapper(name, move |_, reader, inputs| build(reader, inputs))
    }

    /// Registers a layer that has others inside, which `build` finds in the registry.
    pub fn wrapper(
        &mut self,
        name: &str,
        build: impl Fn(&Registry, &mut ParamReader<'_>, &[Shape]) -> Result<Box<dyn Layer>, Misfit>
        + Send
        + Sync
        + 'static,
    ) -> &mut Entry<BuildLayer> {
        let entry = self.layers.add(name, Box::new(build));
        entry.params.extend_from_slice(LAYER_PARAMS);
        entry
    }

    /// Registers a loss.
    pub fn loss(
        &mut self,
        name: &str,
        build: impl Fn(&mut ParamReader<'_>, &Shape) -> Result<Box<dyn Loss>, Misfit> + Send + Sync + 'static,
    ) -> &mut Entry<BuildLoss> {
        self.losses.add(name, Box::new(build))
    }

    /// Registers an optimizer.
    pub fn optimizer(
        &mut self,
        name: &str,
        build: impl Fn(&mut ParamReader<'_>) -> Box<dyn Optimizer> + Send + Sync + 'static,
    ) -> &mut Entry<BuildOptimizer> {
        self.optimizers.add(name, Box::new(build))
    }

    /// Registers a schedule; warm-up is put in front of it when asked for.
    pub fn schedule(
        &mut self,
        name: &str,
        build: impl Fn(&mut ParamReader<'_>) -> Box<dyn Schedule> + Send + Sync + 'static,
    ) -> &mut Entry<BuildSchedule> {
        let entry = self.schedules.add(name, Box::new(build));
        entry.params.extend_from_slice(warmup::PARAMS);
        entry
    }

    /// Registers a model: a function from its parameters to its layers.
    pub fn model(
        &mut self,
        name: &str,
        build: impl Fn(&mut ParamReader<'_>) -> Vec<Component> + Send + Sync + 'static,
    ) -> &mut Entry<BuildModel> {
        self.models.add(name, Box::new(build))
    }

    /// Registers a metric.
    pub fn metric(
        &mut self,
        name: &str,
        build: impl Fn(&mut ParamReader<'_>, &Scored<'_>) -> Result<Box<dyn Metric>, Misfit>
        + Send
        + Sync
        + 'static,
    ) -> &mut Entry<BuildMetric> {
        self.metrics.add(name, Box::new(build))
    }

    /// All layers.
    pub fn layers(&self) -> &Table<BuildLayer> {
        &self.layers
    }

    /// All losses.
    pub fn losses(&self) -> &Table<BuildLoss> {
        &self.losses
    }

    /// All optimizers.
    pub fn optimizers(&self) -> &Table<BuildOptimizer> {
        &self.optimizers
    }

    /// All schedules.
    pub fn schedules(&self) -> &Table<BuildSchedule> {
        &self.schedules
    }

    /// All models.
    pub fn models(&self) -> &Table<BuildModel> {
        &self.models
    }

    /// All metrics.
    pub fn metrics(&self) -> &Table<BuildMetric> {
        &self.metrics
    }

    /// Builds one layer; mistakes in parameters go to `problems`. `None` when the name is unknown.
    pub(crate) fn build_layer(
        &self,
        component: &Component,
        inputs: &[Shape],
        problems: &mut Problems,
    ) -> Option<Result<Box<dyn Layer>, Misfit>> {
        let build = self.layers.find(component, problems)?;
        let mut reader = component.reader(problems);
        let built = build(self, &mut reader, inputs);
        reader.finish();
        Some(built)
    }

    /// Builds the loss of a model that gives `output`.
    pub(crate) fn build_loss(
        &self,
        component: &Component,
        output: &Shape,
        problems: &mut Problems,
    ) -> Option<Result<Box<dyn Loss>, Misfit>> {
        let build = self.losses.find(component, problems)?;
        let mut reader = component.reader(problems);
        let built = build(&mut reader, output);
        reader.finish();
        Some(built)
    }

    /// Whether a layer of this name is really a model, to stand inside of another.
    pub(crate) fn is_model(&self, name: &str) -> bool {
        let layer = self.layers.entries.iter().any(|entry| entry.name == name);
        !layer && self.models.entries.iter().any(|entry| entry.name == name)
    }

    /// Lists the layers of a named model.
    pub(crate) fn list_layers(&self, model: &Component, problems: &mut Problems) -> Option<Vec<Component>> {
        let build = self.models.find(model, problems)?;
        let mut reader = model.reader(problems);
        let layers = build(&mut reader);
        reader.finish();
        Some(layers)
    }

    /// What is wrong with a model and a loss whatever the input: unknown names, and parameters that they do not take.
    pub fn check(&self, model: &ModelSpec, loss: &Component) -> Problems {
        let mut problems = Problems::new();
        // Whether shapes fit is not asked: any will do.
        let any = Shape::image(32, 32, 4).expect("a small image");
        if model.layers.is_empty() {
            self.list_layers(&model.model, &mut problems);
        }
        for layer in &model.layers {
            let mut layer = layer.clone();
            layer.params.0.retain(|name, _| LAYER_PARAMS.iter().all(|param| param.name != name));
            if self.is_model(&layer.name) {
                self.list_layers(&layer, &mut problems);
            } else {
                self.build_layer(&layer, std::slice::from_ref(&any), &mut problems);
            }
        }
        self.build_loss(loss, &any, &mut problems);
        problems
    }

    /// Builds one metric. A number at the end of its name, as in `top5` or `hr@10`, is its parameter `k`.
    fn build_metric(
        &self,
        component: &Component,
        scored: &Scored<'_>,
        problems: &mut Problems,
    ) -> Option<Result<Box<dyn Metric>, Misfit>> {
        let mut component = component.clone();
        if self.metrics.entries().iter().all(|entry| entry.name != component.name) {
            let name = component.name.trim_end_matches(|c: char| c.is_ascii_digit());
            if let Ok(k) = component.name[name.len()..].parse::<usize>() {
                component.name = name.trim_end_matches('@').into();
                let setting = Setting { value: k.into(), origin: component.origin.clone() };
                component.params.0.insert("k".into(), setting);
            }
        }
        let build = self.metrics.find(&component, problems)?;
        let mut reader = component.reader(problems);
        let built = build(&mut reader, scored);
        reader.finish();
        Some(built)
    }

    /// Builds the metrics of a job.
    ///
    /// # Errors
    /// Unknown names, bad parameters, metrics that do not fit outputs or targets, and the same name twice.
    pub fn build_metrics(
        &self,
        components: &[Component],
        scored: &Scored<'_>,
    ) -> Result<Vec<NamedMetric>, Problems> {
        let (mut problems, mut metrics) = (Problems::new(), Vec::<NamedMetric>::new());
        for component in components {
            let name = component.name.clone();
            if metrics.iter().any(|metric| metric.name == name) {
                problems.add(
                    &component.origin,
                    component.path.clone(),
                    format!("\"{name}\" is listed twice"),
                );
            }
            match self.build_metric(component, scored, &mut problems) {
                Some(Ok(metric)) => metrics.push(NamedMetric { name, metric }),
                Some(Err(Misfit(message))) => {
                    problems.add(&component.origin, component.path.clone(), message);
                }
                None => {}
            }
        }
        problems.or(metrics)
    }

    /// What is wrong with metrics whatever the model: unknown names, and parameters that they do not take.
    pub fn check_metrics(&self, components: &[Component]) -> Problems {
        let mut problems = Problems::new();
        // Whether a metric fits is not asked: any outputs and targets will do.
        let output = Shape::flat(2).expect("two outputs");
        let targets = TargetKind::Classes { count: 2, positions: 1, ignored: None };
        for component in components {
            self.build_metric(component, &Scored { output: &output, targets }, &mut problems);
        }
        problems
    }

    /// Builds the optimizers of a job: its own, and those of its groups.
    ///
    /// # Errors
    /// All mistakes in names and parameters.
    pub fn build_optimizers(&self, component: &Component) -> Result<Optimizers, Problems> {
        let build = |component: &Component, problems: &mut Problems| {
            let build = self.optimizers.find(component, problems)?;
            let mut reader = component.reader(problems);
            let optimizer = build(&mut reader);
            reader.finish();
            Some(optimizer)
        };
        let mut problems = Problems::new();
        match Optimizers::read(component, &build, &mut problems) {
            Some(optimizers) => problems.or(optimizers),
            None => Err(problems),
        }
    }

    /// Builds a schedule, with the warm-up that its parameters ask for and the schedules that take over from it.
    ///
    /// # Errors
    /// All mistakes in names and parameters.
    pub fn build_schedule(&self, component: &Component) -> Result<Box<dyn Schedule>, Problems> {
        let mut problems = Problems::new();
        let (first, listed) = component.split_list(sequence::LIST, "name", &mut problems);
        let first = self.build_single_schedule(&first, &mut problems);
        let mut then = Vec::new();
        for mut component in listed {
            let start = Start::take(&mut component, &mut problems);
            then.extend(
                self.build_single_schedule(&component, &mut problems).map(|schedule| (start, schedule)),
            );
        }
        match first {
            Some(first) if then.is_empty() => problems.or(first),
            Some(first) => problems.or(Box::new(Sequence { first, then })),
            None => Err(problems),
        }
    }

    fn build_single_schedule(
        &self,
        component: &Component,
        problems: &mut Problems,
    ) -> Option<Box<dyn Schedule>> {
        let build = self.schedules.find(component, problems)?;
        let mut reader = component.reader(problems);
        let schedule = build(&mut reader);
        let warmup = Warmup::read(&mut reader);
        reader.finish();
        Some(warmup.before(schedule))
    }
}
