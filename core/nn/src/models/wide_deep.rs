//! Wide & Deep (Cheng et al. 2016): a record is columns of whole numbers. The first ones are embedded and go through a
//! multi-layer perceptron, the deep side; on the wide side every value of every column has one number of its own, and
//! these are added to the deep side's output. The output is a logit, for `bce_with_logits`.
//!
//! Embeddings start normal with deviation 0.01, the wide numbers at 0. The published recipe trains the wide side with
//! Ftrl and the deep one with Adagrad: optimizer groups that match `wide.*` do that.

use super::net::{Name, Net};
use crate::layers::embedding::{SPARSE, read_sparse};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader};

/// One line for the documentation.
pub(crate) const DOC: &str = "Wide & Deep over columns of whole numbers";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("columns", "required", "how many values each column has, such as [943, 1682, 7]"),
    ParamDoc::new("deep", "all", "how many of the first columns go to the deep side too"),
    ParamDoc::new("width", "16", "numbers of an embedding"),
    ParamDoc::new("hidden", "[100, 50, 25]", "sizes of the perceptron's hidden layers"),
    SPARSE,
];

/// More columns than one sum takes in.
const MAX_COLUMNS: usize = 31;

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let columns = reader.counts("columns", 1, None);
    let deep = reader.count("deep", 1, Some(columns.len().max(1)));
    let width = reader.count("width", 1, Some(16));
    let hidden = reader.counts("hidden", 1, Some(vec![100, 50, 25]));
    let sparse = read_sparse(reader);
    if columns.len() > MAX_COLUMNS {
        reader.problem("columns", format!("{} columns, at most {MAX_COLUMNS} are possible", columns.len()));
        return Vec::new();
    }
    if deep > columns.len() {
        reader.problem("deep", format!("{deep} of {} columns", columns.len()));
        return Vec::new();
    }
    let mut net = Net::default();
    let places: Vec<Name> = (0..columns.len()).map(|i| net.column(&format!("column{i}"), i)).collect();
    let mut embedded = Vec::new();
    for (i, (place, rows)) in places.iter().zip(&columns).take(deep).enumerate() {
        embedded.push(net.embedding(&format!("deep.{i}"), place, [*rows, width], ("normal:0.01", sparse)));
    }
    let mut sum = Vec::new();
    for (i, (place, rows)) in places.iter().zip(&columns).enumerate() {
        sum.push(net.embedding(&format!("wide.{i}"), place, [*rows, 1], ("zeros", sparse)));
    }
    let mut x = net.join("embedded", "concat", &embedded);
    for (i, size) in hidden.into_iter().enumerate() {
        x = net.linear(&format!("mlp.{i}"), &x, size);
        x = net.relu(&x);
    }
    sum.insert(0, net.linear("final", &x, 1));
    net.join("sum", "add", &sum);
    net.layers()
}
