//! What can be asked for by name: layers, losses, optimizers, schedules, models and metrics.
//!
//! A [`Registry`] is a value: [`Registry::standard`] knows everything of this crate, and a program around the
//! library adds its own layers and models, under names that job files then use like any other.

use crate::batch::TargetKind;
use crate::layer::{Layer, Misfit};
use crate::losses::{self, Loss};
use crate::metrics::{self, Metric, NamedMetric, Scored};
use crate::optimizers::{self, Optimizer, Optimizers};
use crate::schedules::sequence::{self, Sequence, Start};
use crate::schedules::warmup::{self, Warmup};
use crate::schedules::{self, Schedule};
use crate::shape::Shape;
use crate::{layers, models};
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

    /// Everything this crate has.
    #[rustfmt::skip]
    pub fn standard() -> Registry {
        let mut r = Registry::empty();
        r.layer("linear", layers::linear::build).describe(layers::linear::DOC, layers::linear::PARAMS);
        r.layer("conv2d", layers::conv2d::build).describe(layers::conv2d::DOC, layers::conv2d::PARAMS);
        r.layer("conv1d", layers::conv1d::build).describe(layers::conv1d::DOC, layers::conv1d::PARAMS);
        r.layer("conv_transpose2d", layers::conv_transpose2d::build).describe(layers::conv_transpose2d::DOC, layers::conv_transpose2d::PARAMS);
        r.layer("conv_transpose1d", layers::conv_transpose1d::build).describe(layers::conv_transpose1d::DOC, layers::conv_transpose1d::PARAMS);
        r.layer("batch_norm1d", layers::batch_norm::build).describe(layers::batch_norm::DOC, layers::batch_norm::PARAMS);
        r.layer("batch_norm2d", layers::batch_norm::build).describe(layers::batch_norm::DOC, layers::batch_norm::PARAMS);
        r.layer("max_pool2d", layers::max_pool2d::build).describe(layers::max_pool2d::DOC, layers::max_pool2d::PARAMS);
        r.layer("avg_pool2d", layers::avg_pool2d::build).describe(layers::avg_pool2d::DOC, layers::avg_pool2d::PARAMS);
        r.layer("max_pool1d", layers::max_pool1d::build).describe(layers::max_pool1d::DOC, layers::max_pool1d::PARAMS);
        r.layer("avg_pool1d", layers::avg_pool1d::build).describe(layers::avg_pool1d::DOC, layers::avg_pool1d::PARAMS);
        r.layer("adaptive_avg_pool2d", layers::adaptive_avg_pool2d::build).describe(layers::adaptive_avg_pool2d::DOC, layers::adaptive_avg_pool2d::PARAMS);
        r.layer("adaptive_max_pool2d", layers::adaptive_max_pool2d::build).describe(layers::adaptive_max_pool2d::DOC, layers::adaptive_max_pool2d::PARAMS);
        r.layer("global_avg_pool2d", layers::global_avg_pool2d::build).describe(layers::global_avg_pool2d::DOC, &[]);
        r.layer("global_max_pool2d", layers::global_max_pool2d::build).describe(layers::global_max_pool2d::DOC, &[]);
        r.layer("global_avg_pool1d", layers::global_avg_pool1d::build).describe(layers::global_avg_pool1d::DOC, &[]);
        r.layer("global_max_pool1d", layers::global_max_pool1d::build).describe(layers::global_max_pool1d::DOC, &[]);
        r.layer("group_norm", layers::group_norm::build).describe(layers::group_norm::DOC, layers::group_norm::PARAMS);
        r.layer("local_response_norm", layers::local_response_norm::build).describe(layers::local_response_norm::DOC, layers::local_response_norm::PARAMS);
        r.layer("within_channel_lrn", layers::within_channel_lrn::build).describe(layers::within_channel_lrn::DOC, layers::within_channel_lrn::PARAMS);
        r.layer("equal", layers::equal::build).describe(layers::equal::DOC, layers::equal::PARAMS);
        r.join("add", layers::add::build).describe(layers::add::DOC, &[]);
        r.join("multiply", layers::multiply::build).describe(layers::multiply::DOC, &[]);
        r.join("subtract", layers::subtract::build).describe(layers::subtract::DOC, &[]);
        r.join("divide", layers::divide::build).describe(layers::divide::DOC, &[]);
        r.join("maximum", layers::maximum::build).describe(layers::maximum::DOC, &[]);
        r.join("minimum", layers::minimum::build).describe(layers::minimum::DOC, &[]);
        r.join("concat", layers::concat::build).describe(layers::concat::DOC, layers::concat::PARAMS);
        r.layer("relu", layers::relu::build).describe(layers::relu::DOC, &[]);
        r.layer("tanh", layers::tanh::build).describe(layers::tanh::DOC, &[]);
        r.layer("sigmoid", layers::sigmoid::build).describe(layers::sigmoid::DOC, &[]);
        r.layer("relu6", layers::relu6::build).describe(layers::relu6::DOC, &[]);
        r.layer("leaky_relu", layers::leaky_relu::build).describe(layers::leaky_relu::DOC, layers::leaky_relu::PARAMS);
        r.layer("prelu", layers::prelu::build).describe(layers::prelu::DOC, layers::prelu::PARAMS);
        r.layer("elu", layers::elu::build).describe(layers::elu::DOC, layers::elu::PARAMS);
        r.layer("gelu", layers::gelu::build).describe(layers::gelu::DOC, layers::gelu::PARAMS);
        r.layer("silu", layers::silu::build).describe(layers::silu::DOC, &[]);
        r.layer("hard_sigmoid", layers::hard_sigmoid::build).describe(layers::hard_sigmoid::DOC, &[]);
        r.layer("hard_swish", layers::hard_swish::build).describe(layers::hard_swish::DOC, &[]);
        r.layer("softplus", layers::softplus::build).describe(layers::softplus::DOC, layers::softplus::PARAMS);
        r.layer("softmax", layers::softmax::build).describe(layers::softmax::DOC, layers::softmax::PARAMS);
        r.layer("dropout", layers::dropout::build).describe(layers::dropout::DOC, layers::dropout::PARAMS);
        r.layer("dropout2d", layers::dropout2d::build).describe(layers::dropout2d::DOC, layers::dropout2d::PARAMS);
        r.layer("flatten", layers::flatten::build).describe(layers::flatten::DOC, &[]);
        r.layer("reshape", layers::reshape::build).describe(layers::reshape::DOC, layers::reshape::PARAMS);
        r.layer("transpose", layers::transpose::build).describe(layers::transpose::DOC, layers::transpose::PARAMS);
        r.layer("slice", layers::slice::build).describe(layers::slice::DOC, layers::slice::PARAMS);
        r.layer("pad", layers::pad::build).describe(layers::pad::DOC, layers::pad::PARAMS);
        r.layer("reduce", layers::reduce::build).describe(layers::reduce::DOC, layers::reduce::PARAMS);
        r.layer("scale", layers::scale::build).describe(layers::scale::DOC, layers::scale::PARAMS);
        r.layer("identity", layers::identity::build).describe(layers::identity::DOC, &[]);
        r.layer("log_softmax", layers::log_softmax::build).describe(layers::log_softmax::DOC, &[]);
        r.layer("layer_norm", layers::layer_norm::build).describe(layers::layer_norm::DOC, layers::layer_norm::PARAMS);
        r.layer("embedding", layers::embedding::build).describe(layers::embedding::DOC, layers::embedding::PARAMS);
        r.layer("embedding_bag", layers::embedding_bag::build).describe(layers::embedding_bag::DOC, layers::embedding_bag::PARAMS);
        r.join("lstm", layers::lstm::build).describe(layers::lstm::DOC, layers::lstm::PARAMS);
        r.join("gru", layers::gru::build).describe(layers::gru::DOC, layers::gru::PARAMS);
        r.join("rnn", layers::rnn::build).describe(layers::rnn::DOC, layers::rnn::PARAMS);
        r.join("multi_head_attention", layers::attention::build).describe(layers::attention::DOC, layers::attention::PARAMS);
        r.layer("positional_encoding", layers::positional_encoding::build).describe(layers::positional_encoding::DOC, layers::positional_encoding::PARAMS);
        r.join("pool_sequence", layers::pool_sequence::build).describe(layers::pool_sequence::DOC, layers::pool_sequence::PARAMS);
        r.wrapper("time_distributed", layers::time_distributed::build).describe(layers::time_distributed::DOC, layers::time_distributed::PARAMS);
        r.loss("cross_entropy", losses::cross_entropy::build).describe(losses::cross_entropy::DOC, losses::cross_entropy::PARAMS);
        r.loss("nll", losses::nll::build).describe(losses::nll::DOC, losses::nll::PARAMS);
        r.loss("mse", losses::mse::build).describe(losses::mse::DOC, losses::mse::PARAMS);
        r.loss("l1", losses::l1::build).describe(losses::l1::DOC, losses::l1::PARAMS);
        r.loss("smooth_l1", losses::smooth_l1::build).describe(losses::smooth_l1::DOC, losses::smooth_l1::PARAMS);
        r.loss("huber", losses::huber::build).describe(losses::huber::DOC, losses::huber::PARAMS);
        r.loss("bce", losses::bce::build).describe(losses::bce::DOC, losses::bce::PARAMS);
        r.loss("bce_with_logits", losses::bce_with_logits::build).describe(losses::bce_with_logits::DOC, losses::bce_with_logits::PARAMS);
        r.loss("kl_div", losses::kl_div::build).describe(losses::kl_div::DOC, losses::kl_div::PARAMS);
        r.loss("hinge", losses::hinge::build).describe(losses::hinge::DOC, losses::hinge::PARAMS);
        r.loss("hinge_embedding", losses::hinge_embedding::build).describe(losses::hinge_embedding::DOC, losses::hinge_embedding::PARAMS);
        r.loss("multi_margin", losses::multi_margin::build).describe(losses::multi_margin::DOC, losses::multi_margin::PARAMS);
        r.loss("cosine_embedding", losses::cosine_embedding::build).describe(losses::cosine_embedding::DOC, losses::cosine_embedding::PARAMS);
        r.loss("margin_ranking", losses::margin_ranking::build).describe(losses::margin_ranking::DOC, losses::margin_ranking::PARAMS);
        r.optimizer("sgd", optimizers::sgd::build).describe(optimizers::sgd::DOC, optimizers::sgd::PARAMS);
        r.optimizer("adam", optimizers::adam::build).describe(optimizers::adam::DOC, optimizers::adam::PARAMS);
        r.optimizer("adamw", optimizers::adamw::build).describe(optimizers::adamw::DOC, optimizers::adamw::PARAMS);
        r.optimizer("adamax", optimizers::adamax::build).describe(optimizers::adamax::DOC, optimizers::adamax::PARAMS);
        r.optimizer("adagrad", optimizers::adagrad::build).describe(optimizers::adagrad::DOC, optimizers::adagrad::PARAMS);
        r.optimizer("adadelta", optimizers::adadelta::build).describe(optimizers::adadelta::DOC, optimizers::adadelta::PARAMS);
        r.optimizer("rmsprop", optimizers::rmsprop::build).describe(optimizers::rmsprop::DOC, optimizers::rmsprop::PARAMS);
        r.optimizer("ftrl", optimizers::ftrl::build).describe(optimizers::ftrl::DOC, optimizers::ftrl::PARAMS);
        r.optimizer("lars", optimizers::lars::build).describe(optimizers::lars::DOC, optimizers::lars::PARAMS);
        r.optimizer("lamb", optimizers::lamb::build).describe(optimizers::lamb::DOC, optimizers::lamb::PARAMS);
        r.schedule("constant", schedules::constant::build).describe(schedules::constant::DOC, schedules::constant::PARAMS);
        r.schedule("step", schedules::step::build).describe(schedules::step::DOC, schedules::step::PARAMS);
        r.schedule("multi_step", schedules::multi_step::build).describe(schedules::multi_step::DOC, schedules::multi_step::PARAMS);
        r.schedule("exponential", schedules::exponential::build).describe(schedules::exponential::DOC, schedules::exponential::PARAMS);
        r.schedule("natural_exponential", schedules::natural_exponential::build).describe(schedules::natural_exponential::DOC, schedules::natural_exponential::PARAMS);
        r.schedule("polynomial", schedules::polynomial::build).describe(schedules::polynomial::DOC, schedules::polynomial::PARAMS);
        r.schedule("cosine", schedules::cosine::build).describe(schedules::cosine::DOC, schedules::cosine::PARAMS);
        r.schedule("cosine_restarts", schedules::cosine_restarts::build).describe(schedules::cosine_restarts::DOC, schedules::cosine_restarts::PARAMS);
        r.schedule("one_cycle", schedules::one_cycle::build).describe(schedules::one_cycle::DOC, schedules::one_cycle::PARAMS);
        r.schedule("plateau", schedules::plateau::build).describe(schedules::plateau::DOC, schedules::plateau::PARAMS);
        r.model("lenet5", models::lenet5::build).describe(models::lenet5::DOC, models::lenet5::PARAMS).made_for(&[28, 28, 1]);
        r.model("autoencoder", models::autoencoder::build).describe(models::autoencoder::DOC, models::autoencoder::PARAMS).made_for(&[28, 28, 1]);
        r.model("vgg16", models::vgg::build_16).describe(models::vgg::DOC_16, models::vgg::PARAMS).made_for(&[224, 224, 3]);
        r.model("vgg19", models::vgg::build_19).describe(models::vgg::DOC_19, models::vgg::PARAMS).made_for(&[224, 224, 3]);
        r.model("resnet18", models::resnet::build_18).describe(models::resnet::DOC_18, models::resnet::PARAMS).made_for(&[224, 224, 3]);
        r.model("resnet50", models::resnet::build_50).describe(models::resnet::DOC_50, models::resnet::PARAMS).made_for(&[224, 224, 3]);
        r.model("resnet20", models::resnet::build_20).describe(models::resnet::DOC_20, models::resnet::PARAMS_20).made_for(&[32, 32, 3]);
        r.model("inception_v1", models::inception_v1::build).describe(models::inception_v1::DOC, models::inception_v1::PARAMS).made_for(&[224, 224, 3]);
        r.model("googlenet", models::inception_v1::build_norm).describe(models::inception_v1::DOC_NORM, models::inception_v1::PARAMS).made_for(&[224, 224, 3]);
        r.model("inception_v3", models::inception_v3::build).describe(models::inception_v3::DOC, models::inception_v3::PARAMS).made_for(&[299, 299, 3]);
        r.model("mobilenet_v1", models::mobilenet::build_v1).describe(models::mobilenet::DOC_V1, models::mobilenet::PARAMS_V1).made_for(&[224, 224, 3]);
        r.model("mobilenet_v2", models::mobilenet::build_v2).describe(models::mobilenet::DOC_V2, models::mobilenet::PARAMS_V2).made_for(&[224, 224, 3]);
        r.model("neumf", models::neumf::build).describe(models::neumf::DOC, models::neumf::PARAMS).made_for(&[2]);
        r.model("wide_deep", models::wide_deep::build).describe(models::wide_deep::DOC, models::wide_deep::PARAMS);
        r.model("text_cnn", models::text::build_cnn).describe(models::text::DOC_CNN, models::text::PARAMS_CNN).made_for(&[200]);
        r.model("lstm_text", models::text::build_lstm).describe(models::text::DOC_LSTM, models::text::PARAMS_RECURRENT).made_for(&[200]);
        r.model("gru_text", models::text::build_gru).describe(models::text::DOC_GRU, models::text::PARAMS_RECURRENT).made_for(&[200]);
        r.model("transformer_text", models::text::build_transformer).describe(models::text::DOC_TRANSFORMER, models::text::PARAMS_TRANSFORMER).made_for(&[128]);
        r.model("word_lm", models::text::build_lm).describe(models::text::DOC_LM, models::text::PARAMS_LM).made_for(&[35]);
        r.model("transformer_encoder_layer", models::transformer_encoder_layer::build).describe(models::transformer_encoder_layer::DOC, models::transformer_encoder_layer::PARAMS);
        r.model("transformer_encoder", models::transformer_encoder::build).describe(models::transformer_encoder::DOC, models::transformer_encoder::PARAMS);
        r.model("mlp", models::mlp::build).describe(models::mlp::DOC, models::mlp::PARAMS);
        r.metric("top", metrics::top::build).describe(metrics::top::DOC, metrics::top::PARAMS);
        r.metric("accuracy", metrics::accuracy::build).describe(metrics::accuracy::DOC, metrics::accuracy::PARAMS);
        r.metric("precision", metrics::precision::build).describe(metrics::precision::DOC, metrics::precision::PARAMS);
        r.metric("recall", metrics::recall::build).describe(metrics::recall::DOC, metrics::recall::PARAMS);
        r.metric("f1", metrics::f1::build).describe(metrics::f1::DOC, metrics::f1::PARAMS);
        r.metric("mae", metrics::mae::build).describe(metrics::mae::DOC, metrics::mae::PARAMS);
        r.metric("mse", metrics::mse::build).describe(metrics::mse::DOC, metrics::mse::PARAMS);
        r.metric("r2", metrics::r2::build).describe(metrics::r2::DOC, metrics::r2::PARAMS);
        r.metric("roc_auc", metrics::roc_auc::build).describe(metrics::roc_auc::DOC, metrics::roc_auc::PARAMS);
        r.metric("pr_auc", metrics::pr_auc::build).describe(metrics::pr_auc::DOC, metrics::pr_auc::PARAMS);
        r.metric("hr", metrics::hr::build).describe(metrics::hr::DOC, metrics::hr::PARAMS);
        r.metric("ndcg", metrics::ndcg::build).describe(metrics::ndcg::DOC, metrics::ndcg::PARAMS);
        r.metric("perplexity", metrics::perplexity::build).describe(metrics::perplexity::DOC, metrics::perplexity::PARAMS);
        r
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

#[cfg(test)]
mod tests {
    use super::*;
    use ringspin_job::{LESS_IS_BETTER, Value};

    /// The parameters a component asks for: a name that nothing resembles makes the reader list them.
    fn accepted(problems: &Problems) -> Vec<String> {
        let text = problems.to_string();
        let list = text.lines().find_map(|line| line.split_once("no such parameter; accepted: "));
        let mut names: Vec<String> =
            list.map(|(_, names)| names.split(", ").map(Into::into).collect()).unwrap_or_default();
        names.sort();
        names.dedup();
        names
    }

    fn documented(params: &[ParamDoc], but: &[ParamDoc]) -> Vec<String> {
        assert!(params.iter().all(|param| !param.doc.is_empty() && !param.default.is_empty()));
        let mut names: Vec<String> =
            params.iter().filter(|param| !but.contains(param)).map(|param| param.name.into()).collect();
        names.sort();
        names
    }

    #[test]
    fn documentation_lists_what_is_accepted() {
        let registry = Registry::standard();
        let nonsense = |name: &str| Component::new("x", name).with("qqqqqqqqqqqqqqqqqqqqqqqq", Value::Int(1));
        let image = Shape::image(32, 32, 4).unwrap();
        for entry in registry.layers().entries() {
            let mut problems = Problems::new();
            assert!(
                registry
                    .build_layer(&nonsense(entry.name()), std::slice::from_ref(&image), &mut problems)
                    .is_some()
            );
            assert_eq!(accepted(&problems), documented(entry.params(), LAYER_PARAMS), "{}", entry.name());
            assert!(!entry.doc().is_empty());
        }
        for entry in registry.losses().entries() {
            let mut problems = Problems::new();
            assert!(registry.build_loss(&nonsense(entry.name()), &image, &mut problems).is_some());
            assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
        }
        for entry in registry.optimizers().entries() {
            let problems = registry.build_optimizers(&nonsense(entry.name())).err().unwrap();
            assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
        }
        for entry in registry.schedules().entries() {
            let problems = registry.build_schedule(&nonsense(entry.name())).err().unwrap();
            assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
        }
        for less in LESS_IS_BETTER.into_iter().filter(|less| *less != "loss") {
            assert!(registry.metrics().entries().iter().any(|entry| entry.name() == less), "{less}");
        }
        for entry in registry.metrics().entries() {
            let problems = registry.check_metrics(&[nonsense(entry.name())]);
            assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
        }
        for entry in registry.models().entries() {
            let mut problems = Problems::new();
            assert!(registry.list_layers(&nonsense(entry.name()), &mut problems).is_some());
            assert_eq!(accepted(&problems), documented(entry.params(), &[]), "{}", entry.name());
        }
    }

    #[test]
    fn unknown_names_are_reported_with_the_nearest() {
        let registry = Registry::standard();
        let text = registry.build_optimizers(&Component::new("optimizer", "agd")).err().unwrap().to_string();
        assert!(text.contains("unknown optimizer \"agd\"; did you mean \"sgd\"?"), "{text}");
        let text = registry.build_schedule(&Component::new("schedule", "stp")).err().unwrap().to_string();
        assert!(text.contains("did you mean \"step\"?"), "{text}");
    }

    #[test]
    fn a_later_registration_replaces_an_earlier_one() {
        let mut registry = Registry::standard();
        registry.model("lenet5", |_| vec![Component::new("", "relu")]);
        let mut problems = Problems::new();
        let layers = registry.list_layers(&Component::new("model", "lenet5"), &mut problems).unwrap();
        assert_eq!((layers.len(), problems.is_empty()), (1, true));
    }
}
