"""What the named models answer in PyTorch, from weights that both sides make by name."""
import json, math, pathlib, sys
import numpy as np, torch

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[4] / "scripts/peers"))
import torch_models  # noqa: E402

CLASSES, RECORDS = 10, 2
# Shape of a record, channels last; smaller than published where the model takes any size.
IMAGES = {
    "vgg16": (64, 64, 3), "vgg19": (32, 48, 3), "resnet18": (64, 96, 3), "resnet50": (64, 64, 3), "resnet20": (32, 32, 3),
    "inception_v1": (224, 224, 3), "googlenet": (96, 64, 3), "inception_v3": (299, 299, 3), "mobilenet_v1": (64, 64, 3),
    "mobilenet_v2": (64, 96, 3), "lenet5": (28, 28, 1),
}


# Models of words and ids: what a record is, and what the model is built with on both sides.
IDS = {
    "neumf": ([50, 30], {"users": 50, "items": 30, "mf": 8, "layers": [16, 8, 4]}),
    "wide_deep": ([9, 7, 5, 11], {"columns": [9, 7, 5, 11], "deep": 3, "width": 4, "hidden": [8, 6]}),
    "text_cnn": ([40] * 12, {"vocabulary": 40, "width": 8, "channels": 6, "classes": 3}),
    "lstm_text": ([40] * 12, {"vocabulary": 40, "width": 8, "hidden": 10, "classes": 3}),
    "gru_text": ([40] * 12, {"vocabulary": 40, "width": 8, "hidden": 10, "classes": 3}),
    "transformer_text": ([12] * 9, {"vocabulary": 12, "steps": 9, "width": 8, "layers": 2, "heads": 2, "inner": 16, "classes": 3}),
    "word_lm": ([25] * 7, {"vocabulary": 25, "width": 8, "hidden": 8, "layers": 2}),
}


# What a parameter is called in Ringspin, where a job's model can have none called "layers".
CALLED = {("neumf", "layers"): "mlp", ("transformer_text", "layers"): "num_layers", ("word_lm", "layers"): "num_layers"}


def weights(model, noise):
    """Numbers for every parameter and statistic: seeded by the place of its name among all names."""
    named = sorted([*model.named_parameters(), *((n, b) for n, b in model.named_buffers() if b.dim())])
    for i, (name, array) in enumerate(named):
        numbers = torch.from_numpy(noise(1000 + i, array.numel())).reshape(array.shape)
        if array.dim() > 1:
            numbers = numbers * math.sqrt(6 / (array.numel() / array.shape[0]))
        elif name.endswith(("running_var", "weight")):
            numbers = 1 + numbers / 4
        else:
            numbers = numbers / 4
        with torch.no_grad():
            array.copy_(numbers)


# Ten training steps: what the model is built with, shape of a record or limits of its numbers, records, rate.
STEPS = {
    "resnet20": {"params": {"classes": 10}, "shape": (32, 32, 3), "records": 8, "rate": 0.001},
    "inception_v1": {"params": {"classes": 10}, "shape": (224, 224, 3), "records": 2, "rate": 0.001, "shrink": 0.7},
    "neumf": {"params": IDS["neumf"][1], "limits": IDS["neumf"][0], "shrink": 0.5, "records": 24, "rate": 0.1},
    "lstm_text": {"params": IDS["lstm_text"][1], "limits": IDS["lstm_text"][0], "shrink": 0.5, "records": 9, "rate": 0.1},
    "transformer_text": {
        "params": IDS["transformer_text"][1], "limits": IDS["transformer_text"][0], "records": 9, "rate": 0.05,
        "shrink": 0.5,
    },
}  # fmt: skip


def inputs_of(noise, seed, case):
    """Images, or numbers below the limits."""
    if "shape" in case:
        images = noise(seed, case["records"] * math.prod(case["shape"])).reshape(-1, *case["shape"])
        return torch.from_numpy(images).permute(0, 3, 1, 2).double()
    numbers = (noise(seed, case["records"] * len(case["limits"])).astype(np.float64) + 1) / 2
    return torch.from_numpy(np.floor(numbers.reshape(case["records"], -1) * case["limits"]).astype(np.int64))


def loss_of(name, model, x, targets):
    functional = torch.nn.functional
    if name == "neumf":
        return functional.binary_cross_entropy_with_logits(model(*x.T), targets.double())
    y = model(x)
    if name == "inception_v1":
        main, second, first = (functional.cross_entropy(one, targets) for one in y)
        return main + 0.3 * (second + first)
    return functional.cross_entropy(y, targets)


def steps(out, noise):
    """Losses of ten steps of SGD with momentum 0.9, in float64 and without dropout."""
    document = {}
    for name, case in STEPS.items():
        model = torch_models.MODELS[name](**case["params"]).double().train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
        weights(model, noise)
        # Without batch norm, smaller weights.
        with torch.no_grad():
            for array in model.parameters():
                array.mul_(np.float32(case.get("shrink", 1)).item())
        optimizer, losses = torch.optim.SGD(model.parameters(), lr=case["rate"], momentum=0.9), []
        classes = case["params"].get("classes", 2)
        for step in range(10):
            x = inputs_of(noise, 200 + step, case)
            drawn = (noise(300 + step, case["records"]).astype(np.float64) + 1) / 2 * classes
            optimizer.zero_grad()
            loss = loss_of(name, model, x, torch.from_numpy(drawn.astype(np.int64)))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        params = {CALLED.get((name, key), key): value for key, value in case["params"].items()}
        document[name] = case | {"params": params, "classes": classes, "losses": losses}
    (out / "models_steps.json").write_text(json.dumps(document, indent=1) + "\n")


def models(out, noise):
    answers = {}
    for name, shape in IMAGES.items():
        model = torch_models.MODELS[name](classes=CLASSES).eval()
        weights(model, noise)
        x = torch.from_numpy(noise(1, RECORDS * math.prod(shape))).reshape(RECORDS, *shape).permute(0, 3, 1, 2)
        with torch.no_grad():
            y = model.double()(x.double())
        answers[name] = {"shape": shape, "outputs": y.reshape(-1).tolist()}
    for name, (limits, params) in IDS.items():
        model = torch_models.MODELS[name](**params).eval()
        weights(model, noise)
        numbers = (noise(1, RECORDS * len(limits)).astype(np.float64) + 1) / 2
        x = torch.from_numpy(np.floor(numbers.reshape(RECORDS, -1) * limits).astype(np.int64))
        with torch.no_grad():
            y = model.double()(*x.T) if name == "neumf" else model.double()(x)
        params = {CALLED.get((name, key), key): value for key, value in params.items()}
        answers[name] = {"limits": limits, "params": params, "outputs": y.reshape(-1).tolist()}
    published = {name: count for name, count in torch_models.PARAMETERS.items()}
    document = {"classes": CLASSES, "records": RECORDS, "answers": answers, "parameters": published}
    (out / "models.json").write_text(json.dumps(document, indent=1) + "\n")
