//! Inception-v1 (Szegedy et al. 2014, "Going deeper with convolutions"), for 224 × 224 × 3, with its two auxiliary
//! heads, whose losses count 0.3 in training.
//!
//! `inception_v1` is the published form and BigDL's `Inception_v1`: local response norm, biases, 5 × 5 kernels.
//! `googlenet` is torchvision's: batch norm, 3 × 3 instead of 5 × 5, a last pool of 2 × 2, adaptive pools in the
//! heads. Parameters of both are called as torchvision's.

use super::net::{Filters, Name, Net, filters};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC: &str =
    "Inception-v1 with local response norm and two auxiliary heads, for 224 × 224 × 3";
/// One line for the documentation.
pub(crate) const DOC_NORM: &str =
    "Inception-v1 with batch norm (torchvision googlenet) and two auxiliary heads";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("classes", "1000", "outputs"),
    ParamDoc::new("aux_weight", "0.3", "what the losses of the auxiliary heads count; 0: no such heads"),
    ParamDoc::new("dropout", "0.4, of googlenet 0.2", "share dropped before the last layer in training"),
    ParamDoc::new("aux_dropout", "0.7", "the same in the auxiliary heads"),
];

/// Channels of an inception block: of the 1 × 1 branch, before and of the 3 × 3, before and of the 5 × 5, and of
/// the branch with a pool.
type Sizes = [usize; 6];

pub(crate) fn build(reader: &mut ParamReader<'_>) -> Vec<Component> {
    network(reader, false)
}

pub(crate) fn build_norm(reader: &mut ParamReader<'_>) -> Vec<Component> {
    network(reader, true)
}

/// The network under construction, with or without batch norm.
struct Inception {
    net: Net,
    norm: bool,
    aux_dropout: f64,
}

impl Inception {
    /// Convolution, batch norm when there is one, ReLU.
    fn conv(&mut self, name: &str, x: &str, how: Filters) -> Name {
        let bias = !self.norm;
        let mut y = self.net.conv(&format!("{name}.conv"), x, Filters { bias, ..how });
        if self.norm {
            y = self.net.norm(&format!("{name}.bn"), &y, 1e-3);
        }
        self.net.relu(&y)
    }

    fn pool(&mut self, x: &str, size: usize) -> Name {
        self.net.max_pool(x, size, 2, &[("ceil_mode", true.into())])
    }

    fn response_norm(&mut self, x: &str) -> Name {
        if self.norm {
            x.into()
        } else {
            self.net.after(x, "local_response_norm", &[("size", 5usize.into())])
        }
    }

    fn block(&mut self, name: &str, x: &str, sizes: Sizes) -> Name {
        let [one, before3, three, before5, five, pooled] = sizes;
        let a = self.conv(&format!("{name}.branch1"), x, filters(one, 1));
        let b = self.conv(&format!("{name}.branch2.0"), x, filters(before3, 1));
        let b = self.conv(&format!("{name}.branch2.1"), &b, filters(three, 3));
        let c = self.conv(&format!("{name}.branch3.0"), x, filters(before5, 1));
        let c = self.conv(&format!("{name}.branch3.1"), &c, filters(five, if self.norm { 3 } else { 5 }));
        let d = self.net.max_pool(x, 3, 1, &[("padding", 1usize.into())]);
        let d = self.conv(&format!("{name}.branch4.1"), &d, filters(pooled, 1));
        self.net.named(&format!("{name}.concat"), "concat", &[&a, &b, &c, &d], &[])
    }

    fn head(&mut self, name: &str, x: &str, (classes, weight): (usize, f64)) {
        let pool = if self.norm {
            self.net.after(x, "adaptive_avg_pool2d", &[("output_size", 4usize.into())])
        } else {
            self.net.after(x, "avg_pool2d", &[("kernel_size", 5usize.into()), ("stride", 3usize.into())])
        };
        let y = self.conv(&format!("{name}.conv"), &pool, filters(128, 1));
        let y = self.net.after(&y, "flatten", &[]);
        let y = self.net.linear(&format!("{name}.fc1"), &y, 1024);
        let y = self.net.relu(&y);
        let y = self.net.dropout(&y, self.aux_dropout);
        let params = [("out_features", classes.into()), ("loss_weight", Value::Float(weight))];
        self.net.named(&format!("{name}.fc2"), "linear", &[&y], &params);
    }
}

fn network(reader: &mut ParamReader<'_>, norm: bool) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(1000));
    let weight = reader.number("aux_weight", 0.0..=f64::MAX, Some(0.3));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(if norm { 0.2 } else { 0.4 }));
    let aux_dropout = reader.number("aux_dropout", 0.0..=1.0, Some(0.7));
    let mut made = Inception { net: Net::default(), norm, aux_dropout };
    let x = made.conv("conv1", "input", Filters { stride: 2, ..filters(64, 7) });
    let x = made.pool(&x, 3);
    let x = made.response_norm(&x);
    let x = made.conv("conv2", &x, filters(64, 1));
    let x = made.conv("conv3", &x, filters(192, 3));
    let x = made.response_norm(&x);
    let x = made.pool(&x, 3);
    let x = made.block("inception3a", &x, [64, 96, 128, 16, 32, 32]);
    let x = made.block("inception3b", &x, [128, 128, 192, 32, 96, 64]);
    let x = made.pool(&x, 3);
    let x = made.block("inception4a", &x, [192, 96, 208, 16, 48, 64]);
    if weight > 0.0 {
        made.head("aux1", &x, (classes, weight));
    }
    let x = made.block("inception4b", &x, [160, 112, 224, 24, 64, 64]);
    let x = made.block("inception4c", &x, [128, 128, 256, 24, 64, 64]);
    let x = made.block("inception4d", &x, [112, 144, 288, 32, 64, 64]);
    if weight > 0.0 {
        made.head("aux2", &x, (classes, weight));
    }
    let x = made.block("inception4e", &x, [256, 160, 320, 32, 128, 128]);
    let x = made.pool(&x, if norm { 2 } else { 3 });
    let x = made.block("inception5a", &x, [256, 160, 320, 32, 128, 128]);
    let x = made.block("inception5b", &x, [384, 192, 384, 48, 128, 128]);
    let x = made.net.mean(&x);
    let x = made.net.dropout(&x, dropout);
    made.net.linear("fc", &x, classes);
    made.net.layers()
}
