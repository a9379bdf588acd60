"""Cases of plain layers for make_golden.py, which hands in its own `write_layer`, `write_join`, `noise`
and `spaced`.

Sequences are (T, F) here and (F, T) in PyTorch's convolutions and pools over time: the classes below turn them.
"""
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F


def over_time(kind):
    """A PyTorch layer of records (F, T) as one of records (T, F)."""
    class OverTime(kind):
        def forward(self, x):
            return super().forward(x.transpose(1, 2)).transpose(1, 2)
    return OverTime


class Function(nn.Module):
    """A function of channels-last records; images come in as PyTorch has them."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        image = x.dim() == 4
        y = self.function(x.permute(0, 2, 3, 1) if image else x)
        return y.permute(0, 3, 1, 2) if y.dim() == 4 else y


def function(of):
    return lambda shape, p: Function(lambda x: of(p, x))


def channels_last(module):
    """A PyTorch layer whose channels are its second dimension, on sequences whose channels are last."""
    class Turned(module):
        def forward(self, x):
            return super().forward(x.transpose(1, 2)).transpose(1, 2) if x.dim() == 3 else super().forward(x)
    return Turned


def tuples(p):
    return {k: tuple(v) if isinstance(v, list) else v for k, v in p.items()}


def conv(kind):
    def build(shape, p):
        q = tuples(p)
        return kind(shape[-1], q.pop("out_channels"), q.pop("kernel_size"), **q)
    return build


def past_batch(dim):
    """A dimension of a record as one of a batch."""
    return dim + 1 if dim >= 0 else dim


def activations(write_layer, spaced):
    wide = [(1, [1], {}), (3, [17], {}), (2, [3, 5, 4], {}), (1, [19, 16], {})]
    # More than 240 numbers, so that some are above 6.
    bent = [(1, [1], {}), (3, [17], {}), (1, [3, 5, 20], {}), (2, [150], {})]
    write_layer("relu6", lambda s, p: nn.ReLU6(), bent, spaced)
    write_layer("hard_sigmoid", lambda s, p: nn.Hardsigmoid(), bent, spaced)
    write_layer("hard_swish", lambda s, p: nn.Hardswish(), bent, spaced)
    write_layer("leaky_relu", lambda s, p: nn.LeakyReLU(**p), wide + [(2, [7, 2], {"negative_slope": .3})], spaced)
    write_layer("prelu", lambda s, p: channels_last(nn.PReLU)(**p),
                wide + [(2, [3, 5, 4], {"num_parameters": 4}), (3, [7, 17], {"num_parameters": 17, "init": .1}),
                        (4, [33], {"num_parameters": 33})], spaced)
    write_layer("elu", lambda s, p: nn.ELU(**p), bent + [(2, [7, 2], {"alpha": .4})], spaced)
    write_layer("gelu", lambda s, p: nn.GELU(**p), bent + [(2, [150], {"approximate": "tanh"})], spaced)
    write_layer("silu", lambda s, p: nn.SiLU(), bent, spaced)
    write_layer("softplus", lambda s, p: nn.Softplus(**p),
                bent + [(2, [7, 2], {"beta": 3}), (1, [3, 5, 20], {"beta": .5, "threshold": 2})], spaced)
    write_layer("softmax", function(lambda p, x: F.softmax(x, past_batch(p.get("dim", -1)))), [
        (3, [10], {}), (1, [1], {}), (2, [3, 5, 4], {}), (2, [3, 5, 4], {"dim": 0}), (1, [3, 5, 17], {"dim": -2}),
        (2, [7, 19], {"dim": 0}), (2, [6, 37], {"dim": 1})])
    write_layer("log_softmax", function(lambda p, x: F.log_softmax(x, -1)), [
        (3, [10], {}), (1, [2], {}), (2, [37], {}), (2, [1], {}), (2, [5, 7], {}), (1, [3, 4, 17], {})])


def pools(write_layer, spaced):
    spans = [
        (2, [7, 3], {"kernel_size": 2}), (1, [5, 1], {"kernel_size": 3, "stride": 1}),
        (2, [9, 17], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        (3, [9, 2], {"kernel_size": 2, "stride": 4}), (1, [1, 2], {"kernel_size": 1})]
    write_layer("max_pool1d", lambda s, p: over_time(nn.MaxPool1d)(**p),
                spans + [(2, [11, 5], {"kernel_size": 3, "dilation": 2})], spaced)
    write_layer("avg_pool1d", lambda s, p: over_time(nn.AvgPool1d)(**p),
                spans + [(2, [8, 3], {"kernel_size": 4, "padding": 2, "count_include_pad": False})])
    sizes = [
        (2, [7, 5, 3], {"output_size": 3}), (1, [8, 9, 17], {"output_size": [3, 2]}), (2, [3, 2, 2], {"output_size": [5, 4]}),
        (3, [6, 6, 4], {"output_size": 1}), (1, [1, 1, 1], {"output_size": 1}), (2, [7, 7, 2], {"output_size": [7, 1]})]
    write_layer("adaptive_avg_pool2d", lambda s, p: nn.AdaptiveAvgPool2d(**tuples(p)), sizes)
    write_layer("adaptive_max_pool2d", lambda s, p: nn.AdaptiveMaxPool2d(**tuples(p)), sizes, spaced)
    images = [(2, [3, 5, 4], {}), (1, [7, 2, 17], {}), (1, [1, 1, 1], {}), (3, [1, 9, 1], {})]
    sequences = [(2, [5, 4], {}), (1, [7, 17], {}), (1, [1, 1], {}), (3, [9, 1], {})]
    write_layer("global_avg_pool2d", lambda s, p: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), images)
    write_layer("global_max_pool2d", lambda s, p: nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), images, spaced)
    write_layer("global_avg_pool1d", function(lambda p, x: x.mean(1)), sequences)
    write_layer("global_max_pool1d", function(lambda p, x: x.max(1).values), sequences, spaced)


def convolutions(write_layer):
    write_layer("conv1d", conv(over_time(nn.Conv1d)), [
        (2, [9, 1], {"out_channels": 6, "kernel_size": 5}), (1, [7, 6], {"out_channels": 12, "kernel_size": 2, "padding": 1}),
        (3, [8, 2], {"out_channels": 3, "kernel_size": 3, "stride": 2, "padding": 2}),
        (2, [11, 3], {"out_channels": 5, "kernel_size": 3, "dilation": 3, "bias": False}),
        (2, [9, 2], {"out_channels": 4, "kernel_size": 2, "stride": 4}),
        (2, [7, 6], {"out_channels": 9, "kernel_size": 3, "groups": 3, "padding": 1}),
        (1, [6, 5], {"out_channels": 5, "kernel_size": 3, "groups": 5}), (1, [1, 1], {"out_channels": 1, "kernel_size": 1}),
        (2, [19, 33], {"out_channels": 17, "kernel_size": 4, "padding": 3})])
    write_layer("conv_transpose2d", conv(nn.ConvTranspose2d), [
        (2, [4, 5, 3], {"out_channels": 6, "kernel_size": 3}),
        (1, [3, 4, 6], {"out_channels": 4, "kernel_size": [3, 2], "stride": [2, 3], "padding": [1, 0], "output_padding": [1, 2]}),
        (3, [5, 3, 2], {"out_channels": 3, "kernel_size": 2, "stride": 4}),
        (2, [4, 3, 3], {"out_channels": 5, "kernel_size": 3, "dilation": [2, 3], "bias": False}),
        (2, [3, 4, 6], {"out_channels": 9, "kernel_size": 3, "groups": 3, "padding": 1}),
        (1, [5, 5, 4], {"out_channels": 4, "kernel_size": 4, "stride": 2, "padding": 1, "groups": 4}),
        (1, [3, 3, 2], {"out_channels": 3, "kernel_size": 2, "dilation": 3, "output_padding": 2}),
        (1, [1, 1, 1], {"out_channels": 1, "kernel_size": 1}),
        (2, [3, 2, 17], {"out_channels": 18, "kernel_size": [1, 3], "padding": [0, 1]})])
    write_layer("conv_transpose1d", conv(over_time(nn.ConvTranspose1d)), [
        (2, [5, 3], {"out_channels": 6, "kernel_size": 3}),
        (1, [4, 6], {"out_channels": 4, "kernel_size": 2, "stride": 3, "output_padding": 2}),
        (2, [4, 3], {"out_channels": 5, "kernel_size": 3, "dilation": 3, "padding": 2, "bias": False}),
        (2, [7, 6], {"out_channels": 9, "kernel_size": 3, "groups": 3, "stride": 2}),
        (1, [1, 1], {"out_channels": 1, "kernel_size": 1})])


def within_channel(p, x):
    size, x = p.get("size", 5), x.permute(0, 3, 1, 2)
    mean = F.avg_pool2d(x * x, size, 1, size // 2)
    return (x / (1 + p.get("alpha", 1.) * mean) ** p.get("beta", .75)).permute(0, 2, 3, 1)


def norms(write_layer):
    write_layer("group_norm", lambda s, p: channels_last(nn.GroupNorm)(num_channels=s[-1], **p), [
        (2, [3, 5, 4], {"num_groups": 2}), (1, [7, 6], {"num_groups": 1}), (3, [12], {"num_groups": 3}),
        (2, [5, 4, 5], {"num_groups": 5, "eps": 1e-3}), (2, [4, 3, 34], {"num_groups": 2}),
        (1, [3, 3, 6], {"num_groups": 3, "affine": False}), (2, [9, 17], {"num_groups": 17})])
    write_layer("local_response_norm", lambda s, p: channels_last(nn.LocalResponseNorm)(**p), [
        (2, [3, 4, 7], {"size": 5, "alpha": 1.}), (1, [2, 3, 64], {"size": 5, "alpha": 1.}), (1, [5, 3, 1], {"size": 3}),
        (2, [2, 2, 19], {"size": 4, "alpha": .5, "beta": .6, "k": 2.}), (3, [5, 6], {"size": 2, "alpha": 2., "beta": 1.}),
        (1, [1, 2, 3], {"size": 9, "alpha": 3., "beta": .5}), (2, [3, 2, 18], {"size": 1, "alpha": 1., "beta": 1.25}),
        (2, [3, 3, 33], {"size": 5})])
    write_layer("within_channel_lrn", function(within_channel), [
        (2, [5, 6, 3], {}), (1, [2, 3, 2], {"size": 7}), (2, [4, 7, 17], {"size": 3, "alpha": 2., "beta": .5}),
        (1, [1, 1, 1], {"size": 1})])


def padded(p, x):
    if "dim" in p:
        dim = past_batch(p["dim"]) % x.dim()
        return F.pad(x, [0, 0] * (x.dim() - 1 - dim) + p["padding"], value=p.get("value", 0.))
    return F.pad(x, ([0, 0] if x.dim() > 2 else []) + p["padding"], value=p.get("value", 0.))


def reduced(p, x):
    keep = p.get("keepdim", False) or x.dim() == 2
    y = getattr(torch, p["op"])(x, past_batch(p.get("dim", -1)), keepdim=keep)
    return y if torch.is_tensor(y) else y.values


def cut(p, x):
    dim, start = past_batch(p.get("dim", -1)) % x.dim(), p.get("start", 0)
    return x[(slice(None),) * dim + (slice(start, p.get("end")),)]


def shapes(write_layer, spaced):
    write_layer("flatten", lambda s, p: nn.Flatten(), [
        (2, [3, 4, 5], {}), (1, [2, 2, 1], {}), (2, [7], {}), (2, [3, 4], {})])
    write_layer("identity", lambda s, p: nn.Identity(), [(2, [3, 4, 5], {}), (1, [1], {}), (2, [3, 4], {})])
    write_layer("reshape", function(lambda p, x: x.reshape(x.shape[0], *p["shape"])), [
        (2, [12], {"shape": [3, 4]}), (1, [3, 4], {"shape": [-1]}), (2, [2, 3, 4], {"shape": [6, -1]}),
        (2, [24], {"shape": [2, -1, 3]}), (1, [1], {"shape": [1, 1, 1]})])
    write_layer("transpose", function(lambda p, x: x.transpose(past_batch(p.get("dim0", -2)), past_batch(p.get("dim1", -1)))), [
        (2, [3, 4], {}), (2, [3, 4, 5], {}), (1, [3, 4, 5], {"dim0": 0, "dim1": -1}), (2, [3, 4, 17], {"dim0": 1, "dim1": 0}),
        (2, [3, 4, 5], {"dim0": 1, "dim1": 1}), (1, [1, 7], {})])
    write_layer("slice", function(cut), [
        (2, [9], {"start": 2}), (1, [3, 5, 4], {"dim": 0, "start": 1, "end": 2}), (2, [3, 5, 4], {"dim": 1, "end": -1}),
        (3, [4, 7], {"start": -3, "end": 6}), (1, [1], {})])
    write_layer("pad", function(padded), [
        (2, [3, 5, 4], {"padding": [1, 2, 3, 0]}), (1, [3, 2, 3], {"padding": [2, 1], "value": .5}),
        (2, [3, 5], {"padding": [1, 2]}), (2, [7], {"padding": [0, 3], "value": -1.}), (2, [3, 2, 4], {"padding": [1, 3], "dim": -1}),
        (1, [3, 2, 4], {"padding": [2, 1], "dim": 0}), (2, [4, 3], {"padding": [0, 2], "dim": 1}), (1, [2, 3, 1], {"padding": [0, 0, 0, 0]})])
    write_layer("reduce", function(reduced), [
        (2, [9], {"op": "sum"}), (2, [3, 5, 4], {"op": "mean"}), (1, [3, 5, 4], {"op": "max", "dim": 0}),
        (2, [3, 5, 17], {"op": "min", "dim": 1, "keepdim": True}), (3, [4, 7], {"op": "mean", "dim": 0}),
        (2, [4, 7], {"op": "max", "dim": -1}), (1, [1], {"op": "min"}), (2, [3, 5, 4], {"op": "sum", "dim": -3, "keepdim": True})],
        spaced)
    write_layer("scale", function(lambda p, x: p.get("factor", 1.) * x + p.get("offset", 0.)), [
        (2, [9], {"factor": 2.5}), (2, [3, 5, 4], {"offset": -.5}), (1, [1], {}), (2, [4, 7], {"factor": -.5, "offset": 3})])


def joins(write_join, noise, spaced):
    def far(seed, count):
        """Numbers of both signs from 1 to 2: what can be divided by."""
        return noise(seed, count) + np.copysign(np.float32(1), noise(seed, count))
    pairs = [(1, [[3]] * 2, {}), (2, [[3, 5, 4]] * 2, {}), (3, [[17]] * 2, {}), (2, [[4, 9]] * 2, {})]
    write_join("subtract", lambda p, a, b: a - b, pairs)
    several = pairs + [(2, [[3, 5, 4]] * 3, {}), (1, [[17]], {})]
    write_join("maximum", lambda p, *xs: torch.stack(xs).amax(0), several, spaced)
    write_join("minimum", lambda p, *xs: torch.stack(xs).amin(0), several, spaced)
    write_join("divide", lambda p, a, b: a / b, pairs, far)


def layers(write_layer, write_join, noise, spaced):
    activations(write_layer, spaced)
    pools(write_layer, spaced)
    convolutions(write_layer)
    norms(write_layer)
    shapes(write_layer, spaced)
    joins(write_join, noise, spaced)
