//! MobileNet-v1 (Howard et al. 2017): depthwise and pointwise convolutions in turn; MobileNet-v2 (Sandler et al. 2018):
//! inverted residual blocks, whose parameters are called as torchvision's `mobilenet_v2`. For 224 × 224 × 3.

use super::net::{Filters, Name, Net, filters};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader};

/// One line for the documentation.
pub(crate) const DOC_V1: &str = "MobileNet-v1, for 224 × 224 × 3";
/// One line for the documentation.
pub(crate) const DOC_V2: &str = "MobileNet-v2 (torchvision mobilenet_v2), for 224 × 224 × 3";
/// Parameters of v1.
pub(crate) const PARAMS_V1: &[ParamDoc] = &[ParamDoc::new("classes", "1000", "outputs")];
/// Parameters of v2.
pub(crate) const PARAMS_V2: &[ParamDoc] = &[
    ParamDoc::new("classes", "1000", "outputs"),
    ParamDoc::new("dropout", "0.2", "share dropped before the last layer in training"),
];

/// Added to variances.
const EPS: f64 = 1e-5;

/// Channels and stride of v1's blocks.
const V1: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];
/// Expansion, channels, blocks and stride of the first, of v2's stages.
const V2: [[usize; 4]; 7] = [
    [1, 16, 1, 1],
    [6, 24, 2, 2],
    [6, 32, 3, 2],
    [6, 64, 4, 2],
    [6, 96, 3, 1],
    [6, 160, 3, 2],
    [6, 320, 1, 1],
];

/// One filter of 3 × 3 for each channel.
fn depthwise(channels: usize, stride: usize) -> Filters {
    Filters { stride, groups: channels, ..filters(channels, 3) }
}

/// Convolution, batch norm and an activation; `names` of the first two.
fn conv(net: &mut Net, [conv, norm]: [&str; 2], x: &str, how: Filters, activation: Option<&str>) -> Name {
    let y = net.conv(conv, x, how);
    let y = net.norm(norm, &y, EPS);
    match activation {
        Some(kind) => net.after(&y, kind, &[]),
        None => y,
    }
}

pub(crate) fn build_v1(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(1000));
    let mut net = Net::default();
    let first = Filters { stride: 2, ..filters(32, 3) };
    let relu = Some("relu");
    let mut x = conv(&mut net, ["features.0.0", "features.0.1"], "input", first, relu);
    let mut before = 32;
    for (i, (channels, stride)) in (1..).zip(V1) {
        let name = |place: usize| format!("features.{i}.{place}");
        x = conv(&mut net, [&name(0), &name(1)], &x, depthwise(before, stride), relu);
        x = conv(&mut net, [&name(3), &name(4)], &x, filters(channels, 1), relu);
        before = channels;
    }
    let x = net.mean(&x);
    net.linear("classifier", &x, classes);
    net.layers()
}

pub(crate) fn build_v2(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(1000));
    let dropout = reader.number("dropout", 0.0..=1.0, Some(0.2));
    let mut net = Net::default();
    let (first, relu6) = (Filters { stride: 2, ..filters(32, 3) }, Some("relu6"));
    let mut x = conv(&mut net, ["features.0.0", "features.0.1"], "input", first, relu6);
    let (mut before, mut place) = (32, 1);
    for [expand, channels, count, stride] in V2 {
        for index in 0..count {
            let stride = if index == 0 { stride } else { 1 };
            let (mut y, mut part) = (x.clone(), 0);
            let inner = before * expand;
            let name = |part: usize, end: &str| format!("features.{place}.conv.{part}{end}");
            if expand > 1 {
                y = conv(&mut net, [&name(part, ".0"), &name(part, ".1")], &y, filters(inner, 1), relu6);
                part += 1;
            }
            y = conv(&mut net, [&name(part, ".0"), &name(part, ".1")], &y, depthwise(inner, stride), relu6);
            y = conv(&mut net, [&name(part + 1, ""), &name(part + 2, "")], &y, filters(channels, 1), None);
            x = if stride == 1 && before == channels {
                net.named(&format!("features.{place}.sum"), "add", &[&y, &x], &[])
            } else {
                y
            };
            (before, place) = (channels, place + 1);
        }
    }
    let names = [format!("features.{place}.0"), format!("features.{place}.1")];
    let x = conv(&mut net, [&names[0], &names[1]], &x, filters(1280, 1), relu6);
    let x = net.mean(&x);
    let x = net.dropout(&x, dropout);
    net.linear("classifier.1", &x, classes);
    net.layers()
}
