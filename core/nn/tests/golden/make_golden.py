"""Writes what PyTorch computes, for the tests of this crate: make_golden.py [FOLDER]

Needs torch, numpy and safetensors. Inputs, weights and output gradients are not stored: both sides make them
from a seed with the same integer hash (`noise` here, `golden::noise` in Rust). Layers and losses are computed in
float64, so that the files hold the true values. Records are channels last, as the engine has them.
"""
import json, math, pathlib, sys
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from safetensors.numpy import save_file
import golden_layers, golden_losses, golden_models, golden_optimizers

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)


def noise(seed, count):
    """Numbers in [-1, 1) from a hash of (seed, index)."""
    h = (np.arange(count, dtype=np.uint64) * 2654435761 + (seed + 1) * 40503) % 2**32
    h ^= h >> 15
    h = h * 2246822519 % 2**32
    h ^= h >> 13
    h = h * 3266489917 % 2**32
    h ^= h >> 16
    return (h.astype(np.float64) / 2**31 - 1).astype(np.float32)


def ids(seed, count):
    """Whole numbers from 0 to 6: rows of a table."""
    return np.floor((noise(seed, count) + 1) / 2 * 7).astype(np.float32)


def spaced(seed, count):
    """Numbers in random order, 0.05 apart and none near 0: for functions with kinks."""
    ranks = np.empty(count, dtype=np.int64)
    ranks[np.argsort(noise(seed, count), kind="stable")] = np.arange(count)
    return ((ranks - count // 2).astype(np.float64) * 0.05 + 0.025).astype(np.float32)


def image_to_torch(a):
    return a.permute(0, 3, 1, 2) if a.dim() == 4 else a


def image_from_torch(a):
    return a.permute(0, 2, 3, 1) if a.dim() == 4 else a


def layer_case(build, records, shape, params, make):
    """One layer on one input: y, dx and the gradients of all parameters."""
    x = torch.from_numpy(make(1, records * math.prod(shape)).reshape(records, *shape)).double().requires_grad_()
    module = build(shape, params).double()
    for i, (_, p) in enumerate(module.named_parameters()):
        p.data = torch.from_numpy(noise(10 + i, p.numel()).reshape(p.shape)).double()
    y = image_from_torch(module(image_to_torch(x))).contiguous()
    statistics = {name: b.clone() for name, b in module.named_buffers() if b.dim()}
    dy = torch.from_numpy(noise(2, y.numel()).reshape(y.shape)).double()
    y.backward(dy)
    out = {"y": y, "dx": x.grad}
    out |= {"d" + name: p.grad for name, p in module.named_parameters()}
    out |= statistics
    if statistics:
        # With the statistics as they were at the start.
        for name, b in module.named_buffers():
            b.fill_(float("var" in name))
        out["evaluated"] = image_from_torch(module.eval()(image_to_torch(x)))
    return {k: np.ascontiguousarray(v.detach().numpy().astype(np.float32)) for k, v in out.items()}


def write_layer(name, build, cases, make=noise):
    arrays, described = {}, []
    for i, (records, shape, params) in enumerate(cases):
        arrays |= {f"{i}.{k}": v for k, v in layer_case(build, records, shape, params, make).items()}
        described.append({"records": records, "shape": shape, "params": params, "inputs": make.__name__})
    save_file(arrays, OUT / f"{name}.safetensors", metadata={"cases": json.dumps(described)})


def join_case(function, records, shapes, make):
    """A layer of several inputs, channels last throughout: y, and the gradient of each input."""
    seeds = [1, *range(41, 41 + len(shapes) - 1)]
    xs = [torch.from_numpy(make(seed, records * math.prod(s)).reshape(records, *s)).double().requires_grad_()
          for seed, s in zip(seeds, shapes)]
    y = function(*xs)
    y.backward(torch.from_numpy(noise(2, y.numel()).reshape(y.shape)).double())
    out = {"y": y, "dx": xs[0].grad} | {f"dx{k}": x.grad for k, x in enumerate(xs) if k}
    return {k: np.ascontiguousarray(v.detach().numpy().astype(np.float32)) for k, v in out.items()}


def write_join(name, function, cases, make=noise):
    """Layers that join inputs; `function` gets the parameters and the inputs."""
    arrays, described = {}, []
    for i, (records, shapes, params) in enumerate(cases):
        made = join_case(lambda *xs: function(params, *xs), records, shapes, make)
        arrays |= {f"{i}.{k}": v for k, v in made.items()}
        described.append({"records": records, "shapes": shapes, "params": params, "inputs": make.__name__})
    save_file(arrays, OUT / f"{name}.safetensors", metadata={"cases": json.dumps(described)})


def linear(shape, p):
    return nn.Linear(shape[-1], p["out_features"], bias=p.get("bias", True))


def conv2d(shape, p):
    q = {k: tuple(v) if isinstance(v, list) else v for k, v in p.items()}
    return nn.Conv2d(shape[-1], q.pop("out_channels"), q.pop("kernel_size"), **q)


def batch_norm(shape, p):
    return (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(shape[-1], **p)


class Equal(nn.Module):
    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return (x == self.value).to(x.dtype) + 0 * x


def pool(kind):
    return lambda shape, p: kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in p.items()})


def layers():
    write_layer("linear", linear, [
        (1, [3], {"out_features": 2}), (5, [17], {"out_features": 9}), (4, [33], {"out_features": 1, "bias": False}),
        (1, [1], {"out_features": 1}), (3, [130], {"out_features": 67}), (8, [20], {"out_features": 40})])
    write_layer("conv2d", conv2d, [
        (2, [8, 9, 1], {"out_channels": 6, "kernel_size": 5}),
        (1, [7, 6, 6], {"out_channels": 12, "kernel_size": [3, 2], "padding": [1, 0]}),
        (3, [5, 8, 2], {"out_channels": 3, "kernel_size": [2, 3], "stride": [2, 3], "padding": [1, 2]}),
        (2, [11, 10, 3], {"out_channels": 5, "kernel_size": 3, "dilation": [2, 3], "bias": False}),
        (2, [9, 9, 2], {"out_channels": 4, "kernel_size": 2, "stride": 4}),
        (2, [6, 7, 6], {"out_channels": 9, "kernel_size": 3, "groups": 3, "padding": 1}),
        (2, [6, 5, 5], {"out_channels": 5, "kernel_size": 3, "groups": 5, "stride": 2, "padding": 1}),
        (1, [9, 8, 2], {"out_channels": 3, "kernel_size": [3, 2], "stride": [3, 2], "dilation": 2, "padding": [2, 1]}),
        (1, [1, 1, 1], {"out_channels": 1, "kernel_size": 1}),
        (2, [2, 19, 1], {"out_channels": 7, "kernel_size": [1, 4], "padding": [0, 3]}),
        (2, [5, 6, 16], {"out_channels": 5, "kernel_size": 3, "padding": 1}),
        (1, [7, 5, 17], {"out_channels": 3, "kernel_size": [2, 3], "stride": 2, "padding": [1, 1], "dilation": [2, 1]}),
        (2, [4, 4, 32], {"out_channels": 6, "kernel_size": 2, "groups": 2}),
        (2, [4, 5, 20], {"out_channels": 8, "kernel_size": 1, "bias": False}),
        (2, [5, 6, 16], {"out_channels": 20, "kernel_size": 3, "padding": 1}),
        (3, [9, 8, 3], {"out_channels": 17, "kernel_size": [5, 4], "stride": 2, "padding": [2, 1]}),
        (1, [7, 5, 17], {"out_channels": 33, "kernel_size": [2, 3], "stride": [1, 2], "padding": 1, "dilation": [2, 1]}),
        (2, [4, 4, 32], {"out_channels": 32, "kernel_size": 2, "groups": 2}),
        (2, [4, 5, 20], {"out_channels": 40, "kernel_size": 1, "bias": False}),
        (2, [5, 5, 18], {"out_channels": 16, "kernel_size": 1, "stride": 2}),
        (2, [9, 9, 2], {"out_channels": 16, "kernel_size": 2, "stride": 4}),
        (5, [1, 1, 19], {"out_channels": 16, "kernel_size": 3, "padding": 1})])
    spans = [
        (2, [6, 7, 3], {"kernel_size": 2}), (1, [7, 5, 1], {"kernel_size": [3, 2], "stride": [2, 1]}),
        (2, [8, 8, 2], {"kernel_size": 2, "stride": 2}), (2, [9, 40, 2], {"kernel_size": 2}),
        (2, [5, 6, 2], {"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}),
        (1, [6, 6, 17], {"kernel_size": 3, "stride": 3, "padding": [1, 0]}),
        (1, [9, 9, 1], {"kernel_size": 2, "stride": 4}), (1, [1, 1, 2], {"kernel_size": 1})]
    write_layer("max_pool2d", pool(nn.MaxPool2d),
                spans + [(2, [9, 8, 3], {"kernel_size": [3, 2], "dilation": [2, 3], "stride": 2})], spaced)
    write_layer("avg_pool2d", pool(nn.AvgPool2d),
                spans + [(2, [7, 6, 2], {"kernel_size": 3, "padding": 1, "ceil_mode": True, "count_include_pad": False}),
                         (1, [6, 6, 2], {"kernel_size": 4, "stride": 3, "padding": 2, "divisor_override": 5})])
    shapes = [(1, [1], {}), (3, [17], {}), (2, [3, 5, 4], {})]
    write_layer("relu", lambda s, p: nn.ReLU(), shapes, spaced)
    write_layer("tanh", lambda s, p: nn.Tanh(), shapes)
    write_layer("sigmoid", lambda s, p: nn.Sigmoid(), shapes)
    write_layer("batch_norm2d", batch_norm, [
        (5, [3], {}), (2, [5, 4, 17], {}), (3, [2, 7, 64], {"eps": 1e-3, "momentum": .3}), (4, [33], {"affine": False}),
        (2, [3, 3, 5], {"track_running_stats": False}), (2, [1, 1, 1], {}), (3, [9, 8, 130], {})])
    write_layer("equal", lambda s, p: Equal(p.get("value", 0)), [(2, [7], {}), (1, [3, 4], {"value": 3})], ids)
    joined = [(1, [[3]] * 2, {}), (2, [[3, 5, 4]] * 3, {}), (3, [[17]], {}), (2, [[1, 1, 9]] * 2, {})]
    write_join("add", lambda p, *xs: sum(xs), joined)
    write_join("multiply", lambda p, *xs: math.prod(xs), joined)
    write_join("concat", lambda p, *xs: torch.cat(xs, p["dim"] + 1 if p.get("dim", -1) >= 0 else p.get("dim", -1)), [
        (2, [[3], [5]], {}), (3, [[2, 3, 4], [2, 3, 1], [2, 3, 17]], {}), (2, [[2, 3, 4], [1, 3, 4]], {"dim": 0}),
        (1, [[2, 3, 4], [2, 2, 4]], {"dim": -2}), (2, [[1]], {})])
    golden_layers.layers(write_layer, write_join, noise, spaced)




def lenet():
    """Ten training steps of LeNet-5 from given weights and batches, and parameters sampled at the end."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Tanh(), nn.Conv2d(6, 12, 5), nn.MaxPool2d(2),
                          nn.Flatten(), nn.Linear(192, 100), nn.Tanh(), nn.Linear(100, 10))
    for i, p in enumerate(model.parameters()):
        bound = 1 / math.sqrt(p[0].numel() if p.dim() > 1 else 100)
        p.data = torch.from_numpy(noise(10 + i, p.numel()) * np.float32(bound)).reshape(p.shape)
    optimizer, steps, records, losses = torch.optim.SGD(model.parameters(), lr=.1, momentum=.9), 10, 24, []
    for step in range(steps):
        x = torch.from_numpy(noise(200 + step, records * 784)).reshape(records, 1, 28, 28)
        y = torch.from_numpy(((noise(300 + step, records).astype(np.float64) + 1) * 5).astype(np.int64))
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    last = {n: p.detach().reshape(-1)[::p.numel() // 5 + 1].tolist() for n, p in model.named_parameters()}
    (OUT / "lenet_steps.json").write_text(json.dumps({"records": records, "losses": losses, "last": last}, indent=1) + "\n")


class Branches(nn.Module):
    """A graph: residual sum, shared weights, branches that join, an output for training alone."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(8)
        self.a, self.bn_a = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b, self.bn_b = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 6, 3, padding=1)
        self.twice = nn.Linear(10 * 16, 10 * 16)
        self.aux, self.head = nn.Linear(8 * 64, 10), nn.Linear(10 * 16, 10)

    def forward(self, x):
        x = F.relu(self.bn0(self.stem(x)))
        y = self.bn_b(self.b(F.relu(self.bn_a(self.a(x)))))
        x = F.relu(x + y)
        aux = self.aux(x.flatten(1))
        x = F.max_pool2d(torch.cat([F.relu(self.left(x)), self.right(x)], 1), 2).flatten(1)
        x = torch.tanh(self.twice(torch.tanh(self.twice(x))))
        return self.head(x), aux


def branches():
    """Ten training steps of a graph, and all its parameters and statistics sampled at the end."""
    model = Branches()
    for i, p in enumerate(model.parameters()):
        p.data = torch.from_numpy(noise(10 + i, p.numel()) * np.float32(.2)).reshape(p.shape)
    optimizer, records, losses = torch.optim.SGD(model.parameters(), lr=.05, momentum=.9), 12, []
    for step in range(10):
        x = torch.from_numpy(noise(200 + step, records * 192)).reshape(records, 8, 8, 3).permute(0, 3, 1, 2)
        y = torch.from_numpy(((noise(300 + step, records).astype(np.float64) + 1) * 5).astype(np.int64))
        optimizer.zero_grad()
        head, aux = model(x)
        loss = F.cross_entropy(head, y) + .3 * F.cross_entropy(aux, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    last = {n: p.detach().reshape(-1)[::p.numel() // 5 + 1].tolist()
            for n, p in [*model.named_parameters(), *model.named_buffers()] if p.dim()}
    steps = {"records": records, "losses": losses, "last": last}
    (OUT / "branches_steps.json").write_text(json.dumps(steps, indent=1) + "\n")


if __name__ == "__main__":
    import golden_sequences

    layers(), golden_losses.losses(OUT, noise, spaced), lenet(), branches()
    golden_optimizers.optimizers(OUT, noise), golden_optimizers.updater(OUT, noise), golden_optimizers.schedules(OUT)
    golden_models.models(OUT, noise), golden_models.steps(OUT, noise)
    golden_sequences.write_all()
