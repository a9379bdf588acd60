"""What PyTorch learns on the prepared data with the settings of learning.json: one JSON document for each seed.

usage: torch_learning.py NAME ... [--seeds 1,2] [--threads 2] [--epochs N] [--data FOLDER]

  NAME         an entry of learning.json beside this file; the jobs in conf/ have the same settings
  --data       folder with mnist (scripts/fetch-mnist) and what scripts/prepare-data makes (default: data)

Every document has the metrics of the test records after each epoch (`history`) and after the last: `accuracy`; `mse`;
`hr10` and `ndcg10`, of the first line of each hundred among all of them, equal scores ranked above it; `auc`;
`perplexity`, which is e to the mean loss of a word.
"""

import argparse
import json
import math
import os
import pathlib
import sys
import time

# Other work may share the cores: waiting threads sleep. To be said before PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional  # noqa: E402
from torch_models import MODELS, parameter_count  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081
TEST_BATCH = 1000
BEST = 10


# --- Data: (inputs, targets) of training and test -------------------------------------------------------------------


def mnist(folder, prefix):
    """Images 0..1 and labels."""
    images = np.fromfile(folder / "mnist" / f"{prefix}-images-idx3-ubyte", np.uint8)[16:].reshape(-1, 1, 28, 28)
    labels = np.fromfile(folder / "mnist" / f"{prefix}-labels-idx1-ubyte", np.uint8)[8:]
    return torch.from_numpy(images).float() / 255, torch.from_numpy(labels.astype(np.int64))


def digits(folder):
    parts = mnist(folder, "train"), mnist(folder, "t10k")
    return [((images - MNIST_MEAN) / MNIST_STD, labels) for images, labels in parts]


def pictures(folder):
    """The target of an image is the image."""
    return [(images, images.flatten(1)) for images, _ in (mnist(folder, "train"), mnist(folder, "t10k"))]


def rows(name):
    """CSV of integers, the label last."""

    def read(folder):
        parts = []
        for part in ("train", "test"):
            values = np.loadtxt(folder / name / f"{part}.csv", np.int64, delimiter=",", skiprows=1)
            parts.append((torch.from_numpy(values[:, :-1]), torch.from_numpy(values[:, -1]).float()))
        return parts

    return read


def mails(folder):
    parts, words = [], about(folder, "spam-words")["words"]
    for part in ("train", "test"):
        records = np.fromfile(folder / "spam-words" / f"{part}.bin", [("label", "u1"), ("words", "<f4", words)])
        parts.append([torch.from_numpy(records[field].astype(np.int64)) for field in ("words", "label")])
    return parts


def windows(folder):
    parts, window = [], about(folder, "brown-words")["window"]
    for part in ("train", "test"):
        table = np.loadtxt(folder / "brown-words" / f"{part}.csv", np.int64, delimiter=",", skiprows=1)
        records = table.reshape(-1, 2, window)
        parts.append((torch.from_numpy(records[:, 0]), torch.from_numpy(records[:, 1])))
    return parts


def about(folder, name):
    return json.loads((folder / name / "about.json").read_text(encoding="ascii"))


# --- Losses and metrics: outputs, targets -> a number or some ------------------------------------------------------


def words_loss(logits, targets):
    return functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def accuracy(logits, labels):
    return {"accuracy": (logits.argmax(1) == labels).float().mean().item()}


def mse(outputs, targets):
    return {"mse": functional.mse_loss(outputs, targets).item()}


def ranking(logits, labels):
    """Hit rate and NDCG of groups with one right line, the first."""
    group = int(len(labels) / labels.sum().item())
    scores = logits.view(-1, group)
    ranks = (scores[:, 1:] >= scores[:, :1]).sum(1)
    hit = ranks < BEST
    gain = torch.where(hit, 1 / torch.log2(ranks + 2.0), 0.0)
    return {"hr10": hit.float().mean().item(), "ndcg10": gain.mean().item()}


def auc(logits, labels):
    """Share of pairs in right order; a tie counts one half."""
    scores, which = logits.double().unique(return_inverse=True)
    right = torch.bincount(which[labels == 1], minlength=len(scores)).double()
    wrong = torch.bincount(which[labels == 0], minlength=len(scores)).double()
    below = wrong.cumsum(0) - wrong
    return {"auc": ((right * (below + wrong / 2)).sum() / (right.sum() * wrong.sum())).item()}


BINARY = functional.binary_cross_entropy_with_logits
CLASSES = functional.cross_entropy, accuracy
# Of each data set that learning.json names: reader, loss, metric.
DATA = {
    "mnist": (digits, *CLASSES),
    "mnist-pictures": (pictures, functional.mse_loss, mse),
    "neumf": (rows("neumf"), BINARY, ranking),
    "wide-deep": (rows("wide-deep"), BINARY, auc),
    "spam-words": (mails, *CLASSES),
    "brown-words": (windows, words_loss, None),
}


# --- Training -------------------------------------------------------------------------------------------------------


def build(settings, folder):
    """The model, with the sizes that its data has."""
    sizes, given = {}, dict(settings["model"])
    name, data = given.pop("name"), settings["data"]
    if data == "neumf":
        sizes = {key: about(folder, data)[key] for key in ("users", "items")}
    elif data == "wide-deep":
        told = about(folder, data)
        sizes = {"columns": list(told["columns"].values()), "deep": told["deep_columns"]}
    elif data in ("spam-words", "brown-words"):
        sizes = {"vocabulary": about(folder, data)["vocabulary"]}
    model = MODELS[name](**sizes, **given)
    if name != "neumf":
        return model, model
    return model, lambda pairs: model(pairs[:, 0], pairs[:, 1])


def optimizer_of(settings, model):
    given = dict(settings["optimizer"])
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[given.pop("name")]
    return kind(model.parameters(), **given)


def schedule_of(settings, optimizer, steps):
    """`constant`, or `linear_to_zero`: lr * (1 - step / steps), Ringspin's `polynomial` of power 1."""
    factor = {"constant": lambda step: 1.0, "linear_to_zero": lambda step: 1 - step / steps}[settings["schedule"]]
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def train(settings, parts, seed, folder):
    """Trains; the metrics after each epoch, parameters, seconds of training."""
    torch.manual_seed(seed)
    _, loss, metric = DATA[settings["data"]]
    model, forward = build(settings, folder)
    (inputs, targets), test = parts
    batch, epochs = settings["batch_size"], settings["epochs"]
    steps = epochs * math.ceil(len(inputs) / batch)
    optimizer = optimizer_of(settings, model)
    schedule = schedule_of(settings, optimizer, steps)
    history, seconds = [], 0.0
    for _ in range(epochs):
        begun = time.perf_counter()
        model.train()
        for chosen in torch.randperm(len(inputs)).split(batch):
            optimizer.zero_grad()
            loss(forward(inputs[chosen]), targets[chosen]).backward()
            optimizer.step()
            schedule.step()
        seconds += time.perf_counter() - begun
        history.append(measure(model, forward, test, loss, metric))
        print(f"torch_learning: epoch {len(history)}: {history[-1]}, {seconds:.0f} s", file=sys.stderr, flush=True)
    return history, parameter_count(model), seconds


def measure(model, forward, test, loss, metric):
    """Metrics of the test records."""
    model.eval()
    outputs, total = [], 0.0
    with torch.no_grad():
        for inputs, targets in zip(*(part.split(TEST_BATCH) for part in test), strict=True):
            found = forward(inputs)
            total += loss(found, targets).item() * len(inputs)
            if metric:
                outputs.append(found)
    mean = total / len(test[0])
    return {"loss": mean, **(metric(torch.cat(outputs), test[1]) if metric else {"perplexity": math.exp(mean)})}


def main():
    table = json.loads((HERE / "learning.json").read_text(encoding="ascii"))
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("names", nargs="+", choices=table, metavar="NAME")
    parser.add_argument("--seeds", type=lambda text: [int(seed) for seed in text.split(",")], default=[1])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--data", type=pathlib.Path, default=HERE.parents[1] / "data")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    # Numbers too small for the CPU's fast path would cost a recurrent network most of its time.
    torch.set_flush_denormal(True)
    for name in given.names:
        settings = table[name] | ({"epochs": given.epochs} if given.epochs else {})
        read, *_ = DATA[settings["data"]]
        parts = read(given.data)
        for seed in given.seeds:
            history, parameters, seconds = train(settings, parts, seed, given.data)
            document = {"name": name, "seed": seed, "settings": settings, "parameters": parameters}
            document |= {"torch": torch.__version__, "seconds": seconds, **history[-1], "history": history}
            print(json.dumps(document), flush=True)


if __name__ == "__main__":
    main()
