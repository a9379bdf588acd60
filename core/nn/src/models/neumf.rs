//! Neural matrix factorization (He et al. 2017): the product of two embeddings beside a multi-layer perceptron over
//! two others, and one output from both. With the sizes of MLPerf's ml-20m it is 31,832,577 parameters.
//!
//! A record is two whole numbers, user and item; the output is a logit, for `bce_with_logits`. Parameters are called
//! as MLPerf's reference calls them. Embeddings start normal with deviation 0.01, linear layers as Glorot and Bengio
//! (2010), biases at 0.

use super::net::Net;
use crate::layers::embedding::{SPARSE, read_sparse};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC: &str =
    "neural matrix factorization of users and items (MLPerf NCF); records of two numbers";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("users", "138493", "users: the first number of a record is below"),
    ParamDoc::new("items", "26744", "items: the second number of a record is below"),
    ParamDoc::new("mf", "64", "numbers of an embedding that is multiplied"),
    ParamDoc::new(
        "mlp",
        "[256, 256, 128, 64]",
        "sizes of the perceptron; the first is of both embeddings together",
    ),
    SPARSE,
];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let users = reader.count("users", 1, Some(138_493));
    let items = reader.count("items", 1, Some(26_744));
    let mf = reader.count("mf", 1, Some(64));
    let sizes = reader.counts("mlp", 1, Some(vec![256, 256, 128, 64]));
    let sparse = read_sparse(reader);
    let [both, sizes @ ..] = &sizes[..] else {
        reader.problem("mlp", "a perceptron has at least one size");
        return Vec::new();
    };
    if !both.is_multiple_of(2) {
        reader.problem("mlp", format!("the first size, {both}, is of two embeddings: it must be even"));
    }
    let mut net = Net::default();
    let user = net.column("user", 0);
    let item = net.column("item", 1);
    let mut embed = |name: &str, column: &str, rows: usize, width: usize| {
        net.embedding(name, column, [rows, width], ("normal:0.01", sparse))
    };
    let product = [embed("mf_user_embed", &user, users, mf), embed("mf_item_embed", &item, items, mf)];
    let deep =
        [embed("mlp_user_embed", &user, users, both / 2), embed("mlp_item_embed", &item, items, both / 2)];
    let product = net.named("mf", "multiply", &[&product[0], &product[1]], &[]);
    let mut x = net.named("deep", "concat", &[&deep[0], &deep[1]], &[]);
    let glorot = |size: usize| {
        [
            ("out_features", size.into()),
            ("init", Value::from("xavier_uniform")),
            ("bias_init", Value::from("zeros")),
        ]
    };
    for (i, size) in sizes.iter().enumerate() {
        x = net.named(&format!("mlp.{i}"), "linear", &[&x], &glorot(*size));
        x = net.relu(&x);
    }
    let x = net.named("both", "concat", &[&product, &x], &[]);
    net.named("final", "linear", &[&x], &glorot(1));
    net.layers()
}
