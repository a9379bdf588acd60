//! VGG-16 and VGG-19 (Simonyan and Zisserman 2014, configurations D and E): 3 × 3 convolutions with biases and ReLU
//! in five stages, each ended by a pool, then three linear layers with dropout. Parameters are called as
//! torchvision's. For 224 × 224 × 3; images of other sizes are pooled to 7 × 7 before the linear layers.

use super::net::{Filters, Net, filters};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader};

/// One line for the documentation.
pub(crate) const DOC_16: &str = "VGG-16 (torchvision vgg16), for 224 × 224 × 3";
/// One line for the documentation.
pub(crate) const DOC_19: &str = "VGG-19 (torchvision vgg19), for 224 × 224 × 3";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("classes", "1000", "outputs"),
    ParamDoc::new("dropout", "0.5", "share of hidden units dropped in training"),
];

pub(crate) fn build_16(reader: &mut ParamReader<'_>) -> Vec<Component> {
    build(reader, [2, 2, 3, 3, 3])
}

pub(crate) fn build_19(reader: &mut ParamReader<'_>) -> Vec<Component> {
    build(reader, [2, 2, 4, 4, 4])
}

fn build(reader: &mut ParamReader<'_>, stages: [usize; 5]) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(1000));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.5));
    let (mut net, mut x, mut place) = (Net::default(), "input".to_string(), 0);
    for (count, channels) in stages.into_iter().zip([64, 128, 256, 512, 512]) {
        for _ in 0..count {
            x = net.conv(&format!("features.{place}"), &x, Filters { bias: true, ..filters(channels, 3) });
            x = net.relu(&x);
            // torchvision's list counts the ReLU too.
            place += 2;
        }
        x = net.max_pool(&x, 2, 2, &[]);
        place += 1;
    }
    x = net.after(&x, "adaptive_avg_pool2d", &[("output_size", 7usize.into())]);
    x = net.after(&x, "flatten", &[]);
    for name in ["classifier.0", "classifier.3"] {
        x = net.linear(name, &x, 4096);
        x = net.relu(&x);
        x = net.dropout(&x, dropout);
    }
    net.linear("classifier.6", &x, classes);
    net.layers()
}
