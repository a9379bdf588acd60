"""What PyTorch computes for the layers of sequences; called by make_golden.py, which has the conventions.

A case is (records, shapes of the inputs, names of what makes them, parameters). What makes an input decides whether it
has a gradient: ids, lengths and masks have none.
"""
import json, math
import numpy as np, torch, torch.nn as nn
from safetensors.numpy import save_file
from make_golden import OUT, ids, linear, noise, spaced


def flags(seed, count):
    """0 and 1: for masks."""
    return (noise(seed, count) > np.float32(0.2)).astype(np.float32)


MAKERS = {"noise": noise, "spaced": spaced, "ids": ids, "flags": flags}


def case(build, records, shapes, inputs, params):
    """y, and the gradients of inputs and parameters. `build` gives a module and how it is called."""
    makers = [inputs[min(k, len(inputs) - 1)] for k in range(len(shapes))]
    seeds = [1, *range(41, 41 + len(shapes) - 1)]
    xs = [torch.from_numpy(MAKERS[make](seed, records * math.prod(s)).reshape(records, *s)).double()
          for make, seed, s in zip(makers, seeds, shapes)]
    learned = [make in ("noise", "spaced") for make in makers]
    for x, learns in zip(xs, learned):
        x.requires_grad_(learns)
    module, call = build(shapes, params)
    module = module.double()
    for i, (_, p) in enumerate(module.named_parameters()):
        p.data = torch.from_numpy(noise(10 + i, p.numel()).reshape(p.shape)).double()
    y = call(*xs).contiguous()
    y.backward(torch.from_numpy(noise(2, y.numel()).reshape(y.shape)).double())
    out = {"y": y}
    out |= {f"dx{k or ''}": x.grad for k, (x, learns) in enumerate(zip(xs, learned)) if learns}
    out |= {"d" + name: p.grad for name, p in module.named_parameters()}
    return {k: np.ascontiguousarray(v.detach().numpy().astype(np.float32)) for k, v in out.items()}


def write(name, build, cases, layer=None):
    """Writes the cases of a layer; `layer` is its name where the file has another."""
    arrays, described = {}, []
    for i, (records, shapes, inputs, params) in enumerate(cases):
        arrays |= {f"{i}.{k}": v for k, v in case(build, records, shapes, inputs, params).items()}
        described.append({"layer": layer or name, "records": records, "shapes": shapes, "params": params, "inputs": inputs})
    save_file(arrays, OUT / f"{name}.safetensors", metadata={"cases": json.dumps(described)})


def alone(make):
    """A module that is called on the input."""
    def build(shapes, p):
        module = make(shapes[0], p)
        return module, module
    return build


def called_on_ids(make):
    def build(shapes, p):
        module = make(p)
        return module, lambda x: module(x.long())
    return build


def layer_norm(shape, p):
    p = dict(p)
    return nn.LayerNorm(p.pop("normalized_shape", shape[-1]), **p)


def tables():
    write("embedding", called_on_ids(lambda p: nn.Embedding(**p)), [
        (2, [[5]], ["ids"], {"num_embeddings": 7, "embedding_dim": 3}),
        (1, [[1]], ["ids"], {"num_embeddings": 9, "embedding_dim": 1})])
    # Differences do not give the gradient of the padding, which is 0 by decree.
    write("embedding_padded", called_on_ids(lambda p: nn.Embedding(**p)), [
        (3, [[40]], ["ids"], {"num_embeddings": 20, "embedding_dim": 17, "padding_idx": 2}),
        (2, [[4]], ["ids"], {"num_embeddings": 7, "embedding_dim": 5, "padding_idx": -2})], "embedding")
    write("embedding_bag", called_on_ids(lambda p: nn.EmbeddingBag(**p)), [
        (2, [[5]], ["ids"], {"num_embeddings": 7, "embedding_dim": 3}),
        (4, [[3]], ["ids"], {"num_embeddings": 7, "embedding_dim": 17, "padding_idx": 2}),
        (3, [[30]], ["ids"], {"num_embeddings": 8, "embedding_dim": 4, "padding_idx": -4, "mode": "sum"}),
        (9, [[1]], ["ids"], {"num_embeddings": 7, "embedding_dim": 1, "padding_idx": 3})])


def rows():
    """Layers of the last dimension."""
    write("linear_rows", alone(linear), [
        (2, [[5, 17]], ["noise"], {"out_features": 9}), (1, [[1, 3]], ["noise"], {"out_features": 2}),
        (3, [[4, 1]], ["noise"], {"out_features": 1, "bias": False}),
        (2, [[7, 130]], ["noise"], {"out_features": 67})], "linear")
    write("layer_norm", alone(layer_norm), [
        (3, [[10]], ["noise"], {}), (2, [[5, 37]], ["noise"], {"eps": 1e-3}), (1, [[1, 2]], ["noise"], {"bias": False}),
        (2, [[3, 1]], ["noise"], {}), (2, [[4, 6]], ["noise"], {"normalized_shape": [4, 6]}),
        (2, [[3, 4, 16]], ["noise"], {"elementwise_affine": False, "normalized_shape": 16})])


def recurrent(kind):
    """Every record by itself, as long as it is: what pack_padded_sequence does, and 0 for records without a step."""
    def build(shapes, p):
        p = dict(p)
        last = p.pop("output", "all") == "last"
        module = kind(shapes[0][-1], p.pop("hidden_size"), batch_first=True, **p)
        columns = module.hidden_size * (2 if module.bidirectional else 1)

        def one(x):
            y, state = module(x)
            h = state[0] if isinstance(state, tuple) else state
            return h[-2 if module.bidirectional else -1:, 0].reshape(1, -1) if last else y

        def call(x, lengths=None):
            steps, rows = x.shape[1], []
            for i in range(len(x)):
                length = steps if lengths is None else int(lengths[i, 0])
                y = one(x[i:i + 1, :length]) if length else torch.zeros(1, *([columns] if last else [0, columns]))
                rows.append(y if last else torch.cat([y, torch.zeros(1, steps - length, columns)], 1))
            return torch.cat(rows)
        return module, call
    return build


def recurrents():
    for name, kind, more in [("lstm", nn.LSTM, {}), ("gru", nn.GRU, {}), ("rnn", nn.RNN, {"nonlinearity": "relu"})]:
        x = ["noise"]
        write(name, recurrent(kind), [
            (1, [[1, 1]], x, {"hidden_size": 1}), (3, [[5, 4]], x, {"hidden_size": 3}),
            (2, [[4, 17]], x, {"hidden_size": 20, "bias": False}),
            (2, [[3, 2]], x, {"hidden_size": 5, "bidirectional": True, "output": "last"}),
            (2, [[4, 3]], x, {"hidden_size": 3, "num_layers": 3, "bidirectional": True}),
            (18, [[2, 3]], x, {"hidden_size": 2, "num_layers": 2, "output": "last"})])
        x = ["noise", "ids"]
        write(name + "_lengths", recurrent(kind), [
            (9, [[6, 3], [1]], x, {"hidden_size": 4, "num_layers": 2, "bidirectional": True, **more}),
            (7, [[7, 2], [1]], x, {"hidden_size": 3, "bidirectional": True, "output": "last"}),
            (2, [[6, 1], [1]], x, {"hidden_size": 1, "output": "last"})], name)


def attention(shapes, p):
    """Queries that see no key get nothing, as from scaled_dot_product_attention."""
    p = dict(p)
    causal = p.pop("causal", False)
    module = nn.MultiheadAttention(shapes[0][-1], p["num_heads"], bias=p.get("bias", True), batch_first=True)

    def call(*xs):
        q, k, v = xs[:3] if len(xs) > 2 else [xs[0]] * 3
        mask = xs[-1] != 0 if len(xs) % 2 == 0 else None
        w, b, heads = module.in_proj_weight, module.in_proj_bias, p["num_heads"]
        parts = zip([q, k, v], w.chunk(3), b.chunk(3) if b is not None else [None] * 3)
        q, k, v = [nn.functional.linear(*part).unflatten(-1, (heads, -1)).transpose(1, 2) for part in parts]
        keep = torch.ones(q.shape[2], k.shape[2], dtype=bool)
        keep = (keep.tril() if causal else keep).expand(len(q), 1, -1, -1)
        if mask is not None:
            keep = keep & ~mask[:, None, None, :]
        o = nn.functional.scaled_dot_product_attention(q, k, v, keep)
        y = nn.functional.linear(o.transpose(1, 2).flatten(2), module.out_proj.weight, module.out_proj.bias)
        if keep.any(-1).all():
            length, width = keep.shape[-2:]
            given = module(*(xs[:3] if len(xs) > 2 else [xs[0]] * 3), key_padding_mask=mask, need_weights=False,
                           attn_mask=~torch.ones(length, width, dtype=bool).tril() if causal else None)[0]
            assert torch.allclose(given, y), "what the module itself gives"
        return y
    return module, call


def attentions():
    x, masked = ["noise"], ["noise", "flags"]
    write("multi_head_attention", attention, [
        (1, [[1, 1]], x, {"num_heads": 1}), (2, [[5, 6]], x, {"num_heads": 2}),
        (3, [[7, 17]], x, {"num_heads": 1, "bias": False}), (2, [[4, 8]], x, {"num_heads": 4, "causal": True}),
        (3, [[5, 4], [5]], masked, {"num_heads": 2}), (3, [[6, 4], [6]], masked, {"num_heads": 2, "causal": True}),
        (2, [[3, 6], [5, 6], [5, 6]], x, {"num_heads": 3}), (5, [[1, 1], [1]], masked, {"num_heads": 1}),
        (4, [[2, 4], [3, 4], [3, 4], [3]], ["noise"] * 3 + ["flags"], {"num_heads": 2})])


class Positions(nn.Module):
    def __init__(self, steps, features, kind="sinusoidal", std=1):
        super().__init__()
        if kind == "learned":
            self.weight = nn.Parameter(torch.zeros(steps, features))
        else:
            t, i = torch.arange(steps)[:, None].double(), torch.arange(features).double()
            angle = t / 10000 ** ((i - i % 2) / features)
            self.register_buffer("weight", torch.where(i % 2 == 0, angle.sin(), angle.cos()))

    def forward(self, x):
        return x + self.weight


def pooled(shapes, p):
    def one(x):
        if len(x) == 0:
            return torch.zeros(shapes[0][1])
        return {"last": x[-1], "first": x[0], "mean": x.mean(0), "max": x.amax(0)}[p.get("mode", "last")]

    def call(x, lengths=None):
        return torch.stack([one(r if lengths is None else r[:int(lengths[i, 0])]) for i, r in enumerate(x)])
    return nn.Module(), call


def distributed(shapes, p):
    p, (steps, *rest) = dict(p["layer"]), shapes[0]
    kind = p.pop("type")
    if kind == "conv2d":
        module = nn.Conv2d(rest[-1], p.pop("out_channels"), p.pop("kernel_size"), **p)
        inner = lambda x: module(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    else:
        module = linear(rest, p) if kind == "linear" else nn.Tanh()
        inner = module
    return module, lambda x: inner(x.flatten(0, 1)).unflatten(0, (-1, steps))


def steps():
    x = ["noise"]
    write("positional_encoding", alone(lambda s, p: Positions(*s, **p)), [
        (2, [[5, 6]], x, {}), (1, [[1, 1]], x, {}), (3, [[130, 3]], x, {}), (2, [[4, 17]], x, {"kind": "learned"})])
    shapes = [(2, [[5, 3]]), (1, [[1, 1]])]
    modes = ["last", "first", "mean", "max"]
    write("pool_sequence", pooled, [(n, s, ["spaced"], {"mode": m}) for m in modes for n, s in shapes] +
          [(5, [[6, 3], [1]], ["spaced", "ids"], {"mode": m}) for m in modes])
    write("time_distributed", distributed, [
        (2, [[3, 5]], x, {"layer": {"type": "linear", "out_features": 4}}),
        (1, [[1, 1]], x, {"layer": {"type": "tanh"}}),
        (2, [[2, 110]], x, {"layer": {"type": "linear", "out_features": 80}}),
        (2, [[2, 5, 6, 2]], x, {"layer": {"type": "conv2d", "out_channels": 3, "kernel_size": 3}}),
        (2, [[3, 4, 5, 16]], x, {"layer": {"type": "conv2d", "out_channels": 2, "kernel_size": 2, "padding": 1}})])


def model_case(module, call, records, shape):
    """Outputs, and the gradients of the mean squared error."""
    x = torch.from_numpy(noise(1, records * math.prod(shape)).reshape(records, *shape)).double()
    module = module.double()
    for i, (_, p) in enumerate(module.named_parameters()):
        p.data = torch.from_numpy(noise(10 + i, p.numel()).reshape(p.shape)).double()
    y = call(x)
    nn.functional.mse_loss(y, torch.from_numpy(noise(3, y.numel()).reshape(y.shape)).double()).backward()
    out = {"y": y} | {"d" + name: p.grad for name, p in module.named_parameters()}
    return {k: np.ascontiguousarray(v.detach().numpy().astype(np.float32)) for k, v in out.items()}


def write_model(name, build, cases):
    arrays, described = {}, []
    for i, (records, shape, params) in enumerate(cases):
        module, call = build(params)
        arrays |= {f"{i}.{k}": v for k, v in model_case(module, call, records, shape).items()}
        names = [name for name, _ in module.named_parameters()]
        described.append({"records": records, "shape": shape, "params": params, "parameters": names})
    save_file(arrays, OUT / f"{name}.safetensors", metadata={"cases": json.dumps(described)})


def encoder(p):
    p = dict(p)
    causal, layers, norm = p.pop("causal", False), p.pop("num_layers", None), p.pop("norm", False)
    module, eps = nn.TransformerEncoderLayer(batch_first=True, **p), p.get("layer_norm_eps", 1e-5)
    if layers:
        last = nn.LayerNorm(p["d_model"], eps=eps, bias=p.get("bias", True)) if norm else None
        module = nn.TransformerEncoder(module, layers, norm=last, enable_nested_tensor=False)
    mask = lambda x: ~torch.ones(x.shape[1], x.shape[1], dtype=bool).tril() if causal else None
    return module, lambda x: module(x, mask(x))


def transformers():
    small = {"d_model": 8, "nhead": 2, "dim_feedforward": 12, "dropout": 0.}
    write_model("transformer_encoder_layer", encoder, [
        (2, [5, 8], small), (3, [4, 8], small | {"norm_first": True, "bias": False, "layer_norm_eps": 1e-3}),
        (1, [1, 4], small | {"d_model": 4, "nhead": 1}), (2, [6, 8], small | {"causal": True, "norm_first": True})])
    write_model("transformer_encoder", encoder, [
        (2, [5, 8], small | {"num_layers": 2, "norm": True}), (2, [3, 8], small | {"num_layers": 3, "causal": True})])


def embedding_updates():
    """A table after each of some updates, by optimizers that get its gradient as rows, or whole."""
    O, results = torch.optim, {}
    for name, make, sparse in [
            ("sparse_adam", lambda w: O.SparseAdam(w, lr=.05, eps=1e-14), True), ("adam", lambda w: O.Adam(w, lr=.05), False),
            ("sgd", lambda w: O.SGD(w, lr=.5), True), ("momentum", lambda w: O.SGD(w, lr=.5, momentum=.9), False)]:
        table = nn.Embedding(9, 3, sparse=sparse, dtype=torch.float64)
        table.weight.data = torch.from_numpy(noise(10, 27).reshape(9, 3)).double()
        optimizer, results[name] = make(list(table.parameters())), []
        for step in range(5):
            x = torch.from_numpy(ids(20 + step, 6).reshape(3, 2)).long()
            optimizer.zero_grad()
            targets = torch.from_numpy(noise(30 + step, 18).reshape(3, 2, 3)).double()
            nn.functional.mse_loss(table(x), targets).backward()
            optimizer.step()
            results[name].append(table.weight.detach().flatten().tolist())
    (OUT / "embedding_updates.json").write_text(json.dumps(results) + "\n")


def write_all():
    embedding_updates()
    tables(), rows(), recurrents(), attentions(), steps(), transformers()
