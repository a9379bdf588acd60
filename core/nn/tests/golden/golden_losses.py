"""What PyTorch computes for the losses, part of make_golden.py.

Files hold the loss of a batch, the gradient of its outputs and the targets; outputs are made anew by both sides
from the integer hash `noise`, which make_golden.py hands in, and then by one of `outputs`.
"""
import json, math
import numpy as np, torch, torch.nn.functional as F
from safetensors.numpy import save_file


def loss_cases(noise, spaced):
    """How outputs are made, and for each loss: what computes it with its targets, its outputs, its cases."""
    # Outputs by name. For functions with kinks the numbers keep a distance of 0.02 from them.
    outputs = {
        "wide": lambda count: np.float32(4) * noise(1, count),
        "spaced": lambda count: spaced(1, count),
        "narrower": lambda count: spaced(1, count) * np.float32(.93),
        "unit": lambda count: np.float32(.5) + np.float32(.3) * noise(1, count),
    }

    def classes(count, positions, ignored=None):
        """Classes from 0, some of them replaced by `ignored`."""
        t = ((noise(3, positions).astype(np.float64) + 1) / 2 * count).astype(np.int64)
        if ignored is not None:
            t[noise(4, positions) > .3] = ignored
        return torch.from_numpy(t)

    def plain(count):
        return torch.from_numpy(noise(3, count)).double()

    def signs(count):
        return torch.from_numpy(np.where(noise(3, count) > 0, 1., -1.))

    def steps(count):
        """Numbers 0.05 apart, as many times as needed: 0.025 away from those of `spaced`."""
        return torch.from_numpy((np.round(noise(3, count).astype(np.float64) * 20) / 20).astype(np.float32)).double()

    def over_classes(kind):
        """A loss over the last dimension, which is the second in PyTorch."""
        def run(y, params):
            options = dict(params)
            if "weight" in options:
                options["weight"] = torch.tensor(options["weight"]).double()
            t = classes(y.shape[-1], math.prod(y.shape[:-1]), params.get("ignore_index"))
            return kind(y.reshape(-1, y.shape[-1]), t, **options), t
        return run

    def of_values(kind, targets):
        def run(y, params):
            t = targets(y.numel()).reshape(y.shape)
            return kind(y, t, **params), t
        return run

    def binary(kind):
        """Targets 0, 1 and, once in a while, something between."""
        def run(y, params):
            options = {k: torch.tensor(v).double() for k, v in params.items()}
            t = noise(3, y.numel())
            t = np.where(t > .8, np.float32(.25), (t > 0).astype(np.float32)).reshape(y.shape)
            t = torch.from_numpy(t).double()
            return kind(y, t, **options), t
        return run

    def kl_div(y, params):
        p = torch.softmax(torch.from_numpy(noise(3, y.numel())).double().reshape(y.shape), -1)
        if not params.get("log_target"):
            p[..., 0] = 0
        t = (p.log() if params.get("log_target") else p).float().double()
        return F.kl_div(y, t, **params), t

    def hinge(y, params):
        t = signs(y.numel()).reshape(y.shape)
        return F.margin_ranking_loss(y, torch.zeros_like(y), t, **({"margin": 1.} | params)), t

    def cosine_embedding(y, params):
        half, t = y.shape[-1] // 2, signs(y.shape[0])
        return F.cosine_embedding_loss(y[:, :half], y[:, half:], t, **params), t

    def margin_ranking(y, params):
        half = y.shape[-1] // 2
        t = signs(y.numel() // 2).reshape(-1, half)
        return F.margin_ranking_loss(y[:, :half], y[:, half:], t, **params), t

    FLAT = [(1, [2], {}), (5, [10], {}), (3, [33], {})]
    WEIGHTS = [.5, 2., 0., 1.25, 3.]
    cases = {
        "cross_entropy": (over_classes(F.cross_entropy), "wide", FLAT + [
            (7, [5], {"weight": WEIGHTS}), (7, [5], {"label_smoothing": .1}),
            (9, [5], {"label_smoothing": .3, "weight": WEIGHTS}), (9, [5], {"ignore_index": 2}),
            (4, [6, 5], {}), (4, [6, 5], {"ignore_index": -100}),
            (3, [2, 3, 5], {"ignore_index": -100, "label_smoothing": .2, "weight": WEIGHTS})]),
        "nll": (over_classes(F.nll_loss), "wide", FLAT + [
            (7, [5], {"weight": WEIGHTS}), (4, [6, 5], {"ignore_index": -100}),
            (4, [6, 5], {"ignore_index": 1, "weight": WEIGHTS})]),
        "mse": (of_values(F.mse_loss, plain), "wide", FLAT + [(2, [3, 4], {})]),
        "l1": (of_values(F.l1_loss, steps), "spaced", FLAT),
        "smooth_l1": (of_values(F.smooth_l1_loss, steps), "spaced", FLAT + [
            (4, [7], {"beta": .2}), (4, [7], {"beta": 0.})]),
        "huber": (of_values(F.huber_loss, steps), "spaced", FLAT + [(4, [7], {"delta": .3}), (4, [7], {"delta": 2.5})]),
        "bce": (binary(F.binary_cross_entropy), "unit", [
            (1, [1], {}), (6, [1], {}), (5, [3], {}), (5, [3], {"weight": [.5, 0., 2.]})]),
        "bce_with_logits": (binary(F.binary_cross_entropy_with_logits), "wide", [
            (1, [1], {}), (6, [1], {}), (5, [3], {}), (5, [3], {"weight": [.5, 0., 2.]}),
            (5, [3], {"pos_weight": [3., .2, 1.]}),
            (2, [35], {})]),
        "kl_div": (kl_div, "wide", FLAT + [
            (5, [10], {"reduction": "batchmean"}), (5, [10], {"log_target": True}),
            (3, [33], {"reduction": "batchmean", "log_target": True})]),
        "hinge": (hinge, "spaced", FLAT + [(9, [1], {"margin": .5})]),
        "hinge_embedding": (of_values(F.hinge_embedding_loss, signs), "spaced", FLAT + [(9, [1], {"margin": .5})]),
        "multi_margin": (over_classes(F.multi_margin_loss), "narrower", FLAT + [
            (9, [5], {"p": 2}), (9, [5], {"weight": WEIGHTS}), (9, [5], {"p": 2, "margin": .5, "weight": WEIGHTS})]),
        "cosine_embedding": (cosine_embedding, "wide", [
            (1, [2], {}), (6, [8], {}), (9, [20], {"margin": .3}), (9, [4], {"margin": -.5})]),
        "margin_ranking": (margin_ranking, "spaced", [(1, [2], {}), (6, [2], {}), (4, [14], {"margin": .525})]),
    }
    return outputs, cases


def losses(out, noise, spaced):
    outputs, losses = loss_cases(noise, spaced)
    for name, (loss, kind, cases) in losses.items():
        arrays, described = {}, []
        for i, (records, shape, params) in enumerate(cases):
            y = outputs[kind](records * math.prod(shape)).reshape(records, *shape)
            y = torch.from_numpy(y).double().requires_grad_()
            value, targets = loss(y, params)
            value.backward()
            arrays[f"{i}.loss"] = value.detach().numpy().reshape(1)
            arrays[f"{i}.dy"] = y.grad.numpy().astype(np.float32)
            arrays[f"{i}.t"] = targets.numpy().astype(np.float32).reshape(-1)
            described.append({"records": records, "shape": shape, "params": params, "inputs": kind})
        save_file(arrays, out / f"{name}.safetensors", metadata={"cases": json.dumps(described)})
