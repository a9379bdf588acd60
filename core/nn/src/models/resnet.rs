//! Residual networks (He et al. 2015): ResNet-18 of basic blocks and ResNet-50 of bottlenecks for 224 × 224 × 3, and
//! CIFAR's ResNet-20 for 32 × 32 × 3.
//!
//! Parameters are called as torchvision's, whose bottleneck has its stride in the 3 × 3 convolution (in the paper, and
//! in BigDL, it is in the first 1 × 1). Where a block changes the shape, its shortcut is a 1 × 1 convolution; in
//! ResNet-20 (shortcut A) it is every second pixel, with zeros as the new channels.

use super::net::{Filters, Name, Net, filters};
use crate::registry::ParamDoc;
use ringspin_job::{Component, ParamReader, Value};

/// One line for the documentation.
pub(crate) const DOC_18: &str = "ResNet-18 (torchvision resnet18), for 224 × 224 × 3";
/// One line for the documentation.
pub(crate) const DOC_50: &str = "ResNet-50 (torchvision resnet50), for 224 × 224 × 3";
/// One line for the documentation.
pub(crate) const DOC_20: &str = "CIFAR's ResNet-20 with shortcuts without parameters, for 32 × 32 × 3";
/// Parameters of ResNet-18 and ResNet-50.
pub(crate) const PARAMS: &[ParamDoc] = &[ParamDoc::new("classes", "1000", "outputs")];
/// Parameters of ResNet-20.
pub(crate) const PARAMS_20: &[ParamDoc] = &[ParamDoc::new("classes", "10", "outputs")];

/// Added to variances.
const EPS: f64 = 1e-5;

/// A block of a stage.
struct Block {
    name: String,
    /// Channels before.
    before: usize,
    /// Channels of the 3 × 3 convolutions.
    inner: usize,
    stride: usize,
}

pub(crate) fn build_18(reader: &mut ParamReader<'_>) -> Vec<Component> {
    imagenet(reader, [2, 2, 2, 2], 1)
}

pub(crate) fn build_50(reader: &mut ParamReader<'_>) -> Vec<Component> {
    imagenet(reader, [3, 4, 6, 3], 4)
}

/// `widens`: how many times the channels of a block's 3 × 3 convolutions leave it; 1 for basic blocks.
fn imagenet(reader: &mut ParamReader<'_>, counts: [usize; 4], widens: usize) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(1000));
    let mut net = Net::default();
    let x = net.conv("conv1", "input", Filters { stride: 2, ..filters(64, 7) });
    let x = net.norm("bn1", &x, EPS);
    let x = net.relu(&x);
    let mut x = net.max_pool(&x, 3, 2, &[("padding", 1usize.into())]);
    let mut before = 64;
    for (stage, count) in counts.into_iter().enumerate() {
        let inner = 64 << stage;
        for index in 0..count {
            let stride = if index == 0 && stage > 0 { 2 } else { 1 };
            let block = Block { name: format!("layer{}.{index}", stage + 1), before, inner, stride };
            x = if widens == 1 {
                basic(&mut net, &block, &x, projection)
            } else {
                bottleneck(&mut net, &block, &x)
            };
            before = inner * widens;
        }
    }
    let x = net.mean(&x);
    net.linear("fc", &x, classes);
    net.layers()
}

pub(crate) fn build_20(reader: &mut ParamReader<'_>) -> Vec<Component> {
    let classes = reader.count("classes", 2, Some(10));
    let mut net = Net::default();
    let x = net.conv("conv1", "input", filters(16, 3));
    let x = net.norm("bn1", &x, EPS);
    let mut x = net.relu(&x);
    let mut before = 16;
    for stage in 0..3 {
        for index in 0..3 {
            let (inner, stride) = (16 << stage, if index == 0 && stage > 0 { 2 } else { 1 });
            let block = Block { name: format!("layer{}.{index}", stage + 1), before, inner, stride };
            x = basic(&mut net, &block, &x, padding);
            before = inner;
        }
    }
    let x = net.mean(&x);
    net.linear("fc", &x, classes);
    net.layers()
}

type Shortcut = fn(&mut Net, &Block, &str, usize) -> Name;

fn basic(net: &mut Net, block: &Block, x: &str, shortcut: Shortcut) -> Name {
    let Block { name, inner, stride, .. } = block;
    let y = net.conv(&format!("{name}.conv1"), x, Filters { stride: *stride, ..filters(*inner, 3) });
    let y = net.norm(&format!("{name}.bn1"), &y, EPS);
    let y = net.relu(&y);
    let y = net.conv(&format!("{name}.conv2"), &y, filters(*inner, 3));
    let y = net.norm(&format!("{name}.bn2"), &y, EPS);
    let short = shortcut(net, block, x, *inner);
    let sum = net.named(&format!("{name}.sum"), "add", &[&y, &short], &[]);
    net.relu(&sum)
}

fn bottleneck(net: &mut Net, block: &Block, x: &str) -> Name {
    let Block { name, inner, stride, .. } = block;
    let y = net.conv(&format!("{name}.conv1"), x, filters(*inner, 1));
    let y = net.norm(&format!("{name}.bn1"), &y, EPS);
    let y = net.relu(&y);
    let y = net.conv(&format!("{name}.conv2"), &y, Filters { stride: *stride, ..filters(*inner, 3) });
    let y = net.norm(&format!("{name}.bn2"), &y, EPS);
    let y = net.relu(&y);
    let y = net.conv(&format!("{name}.conv3"), &y, filters(4 * inner, 1));
    let y = net.norm(&format!("{name}.bn3"), &y, EPS);
    let short = projection(net, block, x, 4 * inner);
    let sum = net.named(&format!("{name}.sum"), "add", &[&y, &short], &[]);
    net.relu(&sum)
}

/// Shortcut B: a convolution where the shape changes.
fn projection(net: &mut Net, block: &Block, x: &str, channels: usize) -> Name {
    if block.stride == 1 && block.before == channels {
        return x.into();
    }
    let name = &block.name;
    let short = Filters { stride: block.stride, ..filters(channels, 1) };
    let short = net.conv(&format!("{name}.downsample.0"), x, short);
    net.norm(&format!("{name}.downsample.1"), &short, EPS)
}

/// Shortcut A: every second pixel, and zeros behind the channels.
fn padding(net: &mut Net, block: &Block, x: &str, channels: usize) -> Name {
    if block.before == channels {
        return x.into();
    }
    let every = [("kernel_size", 1usize.into()), ("stride", block.stride.into())];
    let short = net.after(x, "avg_pool2d", &every);
    let more = Value::List(vec![0usize.into(), (channels - block.before).into()]);
    net.after(&short, "pad", &[("dim", Value::Int(-1)), ("padding", more)])
}
