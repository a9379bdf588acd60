//! Text: records are the numbers of words. Classifiers with convolutions (Kim 2014), an LSTM or a GRU, whose outputs are
//! logits, and a language model, whose outputs are the logits of the next word at every step.
//!
//! Embeddings start normal, as PyTorch's; those of the language model, and its decoder, uniform in -0.1..0.1, as in
//! PyTorch's example of a word language model.

use super::net::Net;
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC_CNN: &str = "text classifier with convolutions over 3, 4 and 5 words (Kim 2014)";
/// One line for the documentation.
pub(crate) const DOC_LSTM: &str = "text classifier that reads with an LSTM";
/// One line for the documentation.
pub(crate) const DOC_GRU: &str = "text classifier that reads with a GRU";
/// One line for the documentation.
pub(crate) const DOC_TRANSFORMER: &str = "text classifier with learned positions and a Transformer encoder";
/// One line for the documentation.
pub(crate) const DOC_LM: &str =
    "language model of words: layers of LSTM that say the next word at every step";

/// Parameters of the classifier with convolutions.
pub(crate) const PARAMS_CNN: &[ParamDoc] = &[
    ParamDoc::new("vocabulary", "20000", "words: the numbers of a record are below"),
    ParamDoc::new("width", "128", "numbers of a word's embedding"),
    ParamDoc::new("sizes", "[3, 4, 5]", "words that each kind of filter looks at"),
    ParamDoc::new("channels", "100", "filters of each kind"),
    ParamDoc::new("classes", "2", "outputs"),
    ParamDoc::new("dropout", "0.5", "share dropped before the last layer in training"),
];
/// Parameters of the recurrent classifiers.
pub(crate) const PARAMS_RECURRENT: &[ParamDoc] = &[
    ParamDoc::new("vocabulary", "20000", "words: the numbers of a record are below"),
    ParamDoc::new("width", "128", "numbers of a word's embedding"),
    ParamDoc::new("hidden", "128", "numbers of a state"),
    ParamDoc::new("classes", "2", "outputs"),
];
/// Parameters of the Transformer.
pub(crate) const PARAMS_TRANSFORMER: &[ParamDoc] = &[
    ParamDoc::new("vocabulary", "20000", "words: the numbers of a record are below"),
    ParamDoc::new("steps", "128", "words of a record"),
    ParamDoc::new("width", "256", "numbers of a word's embedding"),
    ParamDoc::new("num_layers", "4", "encoder layers"),
    ParamDoc::new("heads", "8", "heads of each layer's attention"),
    ParamDoc::new("inner", "1024", "numbers between each layer's two linear layers"),
    ParamDoc::new("classes", "2", "outputs"),
    ParamDoc::new("dropout", "0.1", "share dropped in the encoder in training"),
    ParamDoc::new("masked", "true", "whether the word 0 is padding, which nobody looks at"),
];
/// Parameters of the language model.
pub(crate) const PARAMS_LM: &[ParamDoc] = &[
    ParamDoc::new("vocabulary", "10000", "words: the numbers of a record are below"),
    ParamDoc::new("width", "200", "numbers of a word's embedding"),
    ParamDoc::new("hidden", "200", "numbers of a state"),
    ParamDoc::new("num_layers", "2", "layers of LSTM on top of each other"),
    ParamDoc::new("dropout", "0.2", "share dropped between layers in training"),
];

pub(crate) fn build_cnn(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let vocabulary = reader.count("vocabulary", 1, Some(20_000));
    let width = reader.count("width", 1, Some(128));
    let sizes = reader.counts("sizes", 1, Some(vec![3, 4, 5]));
    let channels = reader.count("channels", 1, Some(100));
    let classes = reader.count("classes", 2, Some(2));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.5));
    let mut net = Net::default();
    let x = words(&mut net, "embedding", [vocabulary, width], &[]);
    let mut highest = Vec::new();
    for (i, size) in sizes.into_iter().enumerate() {
        let params = [("out_channels", channels.into()), ("kernel_size", size.into())];
        let y = net.named(&format!("convs.{i}"), "conv1d", &[&x], &params);
        let y = net.relu(&y);
        highest.push(net.after(&y, "reduce", &[("op", Value::from("max")), ("dim", 0usize.into())]));
    }
    let x = net.join("highest", "concat", &highest);
    let x = net.dropout(&x, dropout);
    net.linear("fc", &x, classes);
    net.layers()
}

pub(crate) fn build_lstm(reader: &mut ParamReader<'_>) -> Vec<Component> {
    recurrent(reader, "lstm")
}

pub(crate) fn build_gru(reader: &mut ParamReader<'_>) -> Vec<Component> {
    recurrent(reader, "gru")
}

fn recurrent(reader: &mut ParamReader<'_>, kind: &str) -> Vec<Component> {
    let vocabulary = reader.count("vocabulary", 1, Some(20_000));
    let width = reader.count("width", 1, Some(128));
    let hidden = reader.count("hidden", 1, Some(128));
    let classes = reader.count("classes", 2, Some(2));
    let mut net = Net::default();
    let x = words(&mut net, "embedding", [vocabulary, width], &[]);
    let x = net.named(kind, kind, &[&x], &[("hidden_size", hidden.into()), ("output", Value::from("last"))]);
    net.linear("fc", &x, classes);
    net.layers()
}

pub(crate) fn build_transformer(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let vocabulary = reader.count("vocabulary", 1, Some(20_000));
    let steps = reader.count("steps", 1, Some(128));
    let width = reader.count("width", 1, Some(256));
    let encoder = [
        ("num_layers", reader.count("num_layers", 1, Some(4)).into()),
        ("d_model", width.into()),
        ("nhead", reader.count("heads", 1, Some(8)).into()),
        ("dim_feedforward", reader.count("inner", 1, Some(1024)).into()),
    ];
    let classes = reader.count("classes", 2, Some(2));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.1));
    let masked = reader.flag("masked", true);
    let mut net = Net::default();
    let start = ("init", Value::from("normal:0.02"));
    // A record of another length than `steps` is a mistake that the slice finds.
    let words_of = [("dim", 0usize.into()), ("start", 0usize.into()), ("end", steps.into())];
    let tokens = net.named("tokens", "slice", &["input"], &words_of);
    let sizes = [("num_embeddings", vocabulary.into()), ("embedding_dim", width.into()), start];
    let x = net.named("embedding", "embedding", &[&tokens], &sizes);
    let learned = [("kind", Value::from("learned")), ("std", Value::from(0.02))];
    let x = net.named("positions", "positional_encoding", &[&x], &learned);
    let common = [&encoder[..], &[("dropout", dropout.into()), ("padding_mask", masked.into())]].concat();
    let mode = [("mode", Value::from("mean")), ("masked", masked.into())];
    let x = if masked {
        let padding = net.after(&tokens, "equal", &[]);
        let x = net.named("encoder", "transformer_encoder", &[&x, &padding], &common);
        net.named("mean", "pool_sequence", &[&x, &padding], &mode)
    } else {
        let x = net.named("encoder", "transformer_encoder", &[&x], &common);
        net.named("mean", "pool_sequence", &[&x], &mode)
    };
    net.linear("fc", &x, classes);
    net.layers()
}

pub(crate) fn build_lm(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let vocabulary = reader.count("vocabulary", 2, Some(10_000));
    let width = reader.count("width", 1, Some(200));
    let hidden = reader.count("hidden", 1, Some(200));
    let layers = reader.count("num_layers", 1, Some(2));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.2));
    let mut net = Net::default();
    let uniform = ("init", Value::from("uniform:0.1"));
    let x = words(&mut net, "encoder", [vocabulary, width], std::slice::from_ref(&uniform));
    let x = net.dropout(&x, dropout);
    // Between layers: with one there is nothing to drop.
    let between = if layers > 1 { dropout } else { 0.0 };
    let params = [("hidden_size", hidden.into()), ("num_layers", layers.into()), ("dropout", between.into())];
    let x = net.named("rnn", "lstm", &[&x], &params);
    let x = net.dropout(&x, dropout);
    let params = [("out_features", vocabulary.into()), uniform, ("bias_init", Value::from("zeros"))];
    net.named("decoder", "linear", &[&x], &params);
    net.layers()
}

/// The embedding of every word of a record.
fn words(net: &mut Net, name: &str, [rows, width]: [usize; 2], params: &[(&str, Value)]) -> String {
    let sizes = [("num_embeddings", rows.into()), ("embedding_dim", width.into())];
    net.named(name, "embedding", &["input"], &[&sizes, params].concat())
}
