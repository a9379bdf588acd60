//! Transposed convolution: every input pixel adds its filters to the output,
//! `y[h s + i d - p, w s + j d - p, k] += W[c, k, i, j] · x[h, w, c]`, plus `b[k]`; s stride, d dilation, p padding. With
//! groups, k runs over the filters of c's group.
//!
//! x (H, W, C), W [C, K / groups, kh, kw], b [K], y (H', W', K) with `H' = (H - 1) s - 2 p + d (kh - 1) + output_padding + 1`.
//!
//! It is the gradient of a convolution from y to x with the same weights: forward runs that convolution backward,
//! `dx` is the convolution of dy, `dW` the convolution's with x and dy exchanged, `db = Σ dy`.

use super::conv2d::{Conv, MAX_FILTER};
use super::window::Window;
use crate::arena::{ALIGN, Shared};
use crate::kernels::Bounds;
use crate::kernels::conv::{
    self, BackwardData, BackwardDataArgs, BackwardWeights, BackwardWeightsArgs, Begin, Choice, ForwardArgs,
};
use crate::kernels::rows::{add_row, sum_rows};
use crate::layer::{Backward, Forward, Init, Layer, Misfit, Needs, ParameterSpec, Wide};
use crate::registry::ParamDoc;
use crate::shape::{Image, Shape};
use crate::team::Team;
use ringspin_job::ParamReader;

/// One line for the documentation.
pub(crate) const DOC: &str = "transposed convolution over images (PyTorch ConvTranspose2d)";
/// Parameters.
pub(crate) const PARAMS: &[ParamDoc] = &[
    ParamDoc::new("out_channels", "required", "filters"),
    ParamDoc::new("kernel_size", "required", "rows and columns of a filter: one number or two"),
    ParamDoc::new("in_channels", "from the input", "channels of the input, checked when given"),
    ParamDoc::new("stride", "1", "distance in the output between neighbours of the input"),
    ParamDoc::new("padding", "0", "rows and columns that are left out around the output"),
    ParamDoc::new(
        "output_padding",
        "0",
        "rows and columns added behind the output, fewer than stride or dilation",
    ),
    ParamDoc::new("groups", "1", "parts that channels and filters are divided into"),
    ParamDoc::new("bias", "true", "whether a learned number is added to each filter's output"),
    ParamDoc::new("dilation", "1", "distance between the numbers of a filter"),
];

pub(crate) fn build(reader: &mut ParamReader<'_>, input: &Shape) -> Result<Box<dyn Layer>, Misfit> {
    let filters = reader.count("out_channels", 1, None);
    let kernel = reader.pair("kernel_size", 1, None);
    let expected = reader.has("in_channels").then(|| reader.count("in_channels", 1, None));
    let stride = reader.pair("stride", 1, Some([1, 1]));
    let padding = reader.pair("padding", 0, Some([0, 0]));
    let extra = reader.pair("output_padding", 0, Some([0, 0]));
    let groups = reader.count("groups", 1, Some(1));
    let bias = reader.flag("bias", true);
    let dilation = reader.pair("dilation", 1, Some([1, 1]));
    check_extra(reader, extra, stride, dilation);
    let Some(image) = input.as_image() else {
        return Err(Misfit(format!(
            "conv_transpose2d needs images (H × W × C), the layer before gives {input}"
        )));
    };
    let window = Window { kernel, stride, padding, dilation, ceil: false };
    let sizes = Transposed { layer: "conv_transpose2d", window, extra, filters, groups };
    let conv = sizes.conv(input, image, expected)?;
    let shape = Shape::image(conv.input.h, conv.input.w, filters)?;
    let weight = vec![image.c, filters / groups, kernel[0], kernel[1]];
    Ok(Box::new(ConvTranspose::new(conv, bias, shape, weight)))
}

/// `output_padding` only chooses between the sizes that a convolution makes the same.
pub(super) fn check_extra(
    reader: &mut ParamReader<'_>,
    extra: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
) {
    if (0..2).any(|axis| extra[axis] >= stride[axis].max(dilation[axis])) {
        reader.problem("output_padding", format!("has to be less than stride or dilation, found {extra:?}"));
    }
}

/// What a transposed convolution was asked for.
pub(super) struct Transposed {
    pub(super) layer: &'static str,
    pub(super) window: Window,
    pub(super) extra: [usize; 2],
    pub(super) filters: usize,
    pub(super) groups: usize,
}

impl Transposed {
    /// The convolution that it is the gradient of: from its outputs to its inputs. `expected` channels are those
    /// of `image`, when given.
    pub(super) fn conv(&self, input: &Shape, image: Image, expected: Option<usize>) -> Result<Conv, Misfit> {
        let Transposed { filters, groups, .. } = *self;
        if let Some(expected) = expected.filter(|expected| *expected != image.c) {
            return Err(Misfit(format!("in_channels = {expected}, but the layer before gives {input}")));
        }
        if !image.c.is_multiple_of(groups) || !filters.is_multiple_of(groups) {
            let message = format!("{} input channels and {filters} filters can not both be divided", image.c);
            return Err(Misfit(format!("{message} into {groups} groups")));
        }
        let [kh, kw] = self.window.kernel;
        let weights = kh.checked_mul(kw).and_then(|size| size.checked_mul(filters / groups));
        if weights.is_none_or(|weights| weights > MAX_FILTER) {
            let message = format!("the filters of a channel, {kh} × {kw} × {}", filters / groups);
            return Err(Misfit(format!("{message}, have more than {MAX_FILTER} weights")));
        }
        let output = Image { h: self.size(0, image.h)?, w: self.size(1, image.w)?, c: filters };
        Ok(Conv { window: self.window, input: output, output: image, groups, bias: false })
    }

    /// Rows or columns of the output.
    fn size(&self, axis: usize, size: usize) -> Result<usize, Misfit> {
        let Window { kernel, stride, padding, dilation, .. } = self.window;
        let padded = || {
            let reach = dilation[axis].checked_mul(kernel[axis] - 1)?;
            (size - 1).checked_mul(stride[axis])?.checked_add(reach)?.checked_add(self.extra[axis])
        };
        let size_of = |padded: usize| (padded + 1).checked_sub(padding[axis].checked_mul(2)?);
        padded().filter(|padded| *padded < MAX_SIDE).and_then(size_of).filter(|size| *size > 0).ok_or_else(|| {
            Misfit(format!(
                "{}: {size} pixels with a filter of {} (stride {}, dilation {}) leave none within a padding of {}, \
                 or more than {MAX_SIDE}",
                self.layer, kernel[axis], stride[axis], dilation[axis], padding[axis]
            ))
        })
    }
}

/// Rows or columns of an output: more is a typing mistake.
const MAX_SIDE: usize = 1 << 24;

/// The gradient of `conv`, as a layer of its own: x is what the convolution calls dy, y its dx.
pub(super) struct ConvTranspose {
    conv: Conv,
    data: BackwardData,
    forward: conv::Forward,
    gradient: BackwardWeights,
    bias: bool,
    shape: Shape,
    weight: Vec<usize>,
}

impl ConvTranspose {
    pub(super) fn new(conv: Conv, bias: bool, shape: Shape, weight: Vec<usize>) -> Self {
        // Seldom 3 × 3 with stride 1.
        let (size, choice) = (conv.size(), Choice { winograd: false, bf16: false });
        let (data, forward) = (BackwardData::plan(&size, choice), conv::Forward::plan(&size, choice));
        let gradient = BackwardWeights::plan(&size, choice);
        ConvTranspose { conv, data, forward, gradient, bias, shape, weight }
    }
}

impl Layer for ConvTranspose {
    fn output(&self) -> &Shape {
        &self.shape
    }

    fn parameters(&self) -> Vec<ParameterSpec> {
        // PyTorch's default: Kaiming uniform with a = √5, of the weights that an input channel has.
        let init = Init::Uniform { bound: 1.0 / (self.conv.filter() as f32).sqrt() };
        let weight = ParameterSpec::learned("weight", self.weight.clone(), init);
        let bias = ParameterSpec::learned("bias", vec![self.conv.input.c], init);
        if self.bias { vec![weight, bias] } else { vec![weight] }
    }

    fn flops(&self) -> u64 {
        self.conv.size().flops()
    }

    fn needs(&self) -> Needs {
        Needs { input: true, output: false }
    }

    fn forward(&self, _: Forward<'_>) {
        unreachable!("a transposed convolution takes all records at once");
    }

    fn backward(&self, _: Backward<'_>) {
        unreachable!("a transposed convolution takes all records at once");
    }

    fn wide(&self) -> Option<&dyn Wide> {
        Some(self)
    }
}

impl Wide for ConvTranspose {
    fn scratch(&self, records: usize, threads: usize) -> usize {
        let packed = |packed: usize, scratch: usize| packed.next_multiple_of(ALIGN) + scratch;
        let data = packed(self.data.packed(), self.data.scratch(records, threads));
        let forward = packed(self.forward.packed(), self.forward.scratch(records, threads));
        data.max(forward).max(self.gradient.scratch(records, threads))
    }

    fn forward(&self, team: &mut Team, pass: Forward<'_>) {
        let (weights, bias) = pass.params.split_at(self.conv.weights());
        let (packed, scratch) = pass.scratch.split_at_mut(self.data.packed().next_multiple_of(ALIGN));
        self.data.pack(team, pass.context.isa, weights, packed);
        let args = BackwardDataArgs {
            records: pass.records,
            dy: pass.x,
            weights: packed,
            dx: &mut *pass.y,
            add: false,
        };
        self.data.run(team, pass.context.isa, args, scratch);
        if self.bias {
            let (record, y) = (self.shape.elements(), Shared::new(pass.y));
            team.tasks(pass.records, &|i, _| {
                // SAFETY: every task has its own record.
                add_row(unsafe { y.write(i * record..(i + 1) * record) }, bias);
            });
        }
    }

    fn backward(&self, team: &mut Team, pass: Backward<'_>) {
        let (isa, records, dy) = (pass.context.isa, pass.records, &*pass.dy);
        let (dweights, dbias) = pass.dparams.unwrap_or_default().split_at_mut(self.conv.weights());
        if self.bias {
            if !pass.accumulate {
                dbias.fill(0.0);
            }
            sum_rows(isa, (dy, self.conv.input.c), dbias);
        }
        let args = BackwardWeightsArgs {
            records,
            x: dy,
            dy: pass.x,
            prologue: None,
            dweights,
            dbias: None,
            add: pass.accumulate,
        };
        self.gradient.run(team, isa, args, pass.scratch);
        if let Some(dx) = pass.dx {
            let (packed, scratch) = pass.scratch.split_at_mut(self.forward.packed().next_multiple_of(ALIGN));
            self.forward.pack(team, isa, &pass.params[..self.conv.weights()], packed);
            let args = ForwardArgs {
                records,
                x: dy,
                weights: packed,
                y: dx,
                begin: Begin::Zero,
                bounds: Bounds::NONE,
                prologue: None,
            };
            self.forward.run(team, isa, args, scratch);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::golden;

    #[test]
    fn agrees_with_pytorch() {
        golden::check_layer("conv_transpose2d", 5e-6);
    }

    #[test]
    fn gradient_agrees_with_differences() {
        golden::check_layer_gradient("conv_transpose2d", 2e-3);
    }
}
