"""Training steps of PyTorch on made-up data: one JSON document for each layout of memory that was tried.

usage: torch_train.py --model NAME [--batch N] [--threads 2] [--seconds 10] [--layout best] [--dropout P] [--tuned]
       torch_train.py --list

  --batch      records a step (default: what `--list` says)
  --seconds    how long to train in each layout, after the first steps
  --layout     nchw, nhwc (channels_last) or best, which tries both, each in a process of its own; only for images
  --dropout    replaces every share of dropout of the model
  --tuned      memory is kept by malloc between steps (no trimming, no mmap): what glibc lets a user tune

A step is zero_grad, forward, loss, backward and the optimizer's step; batches take turns. `peak_mib` is the highest
resident memory of the process (VmHWM), PyTorch itself included.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional
from torch_models import MODELS, parameter_count

WARM_UP_STEPS, LEAST_STEPS = 2, 3
# Different rows of embeddings from step to step, as with real data.
BATCHES = 4
AUXILIARY_WEIGHT = 0.3
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}
TUNED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_TOP_PAD_": str(64 << 20)}


@dataclasses.dataclass
class Workload:
    """A model, its data and its optimizers as a benchmark has them."""

    batch: int
    # Makes the model.
    build: Callable
    # batch -> inputs, targets.
    data: Callable
    # Model -> optimizers.
    optimizers: Callable
    loss: Callable = functional.cross_entropy
    # Whether the input is an image, with layouts to choose from.
    image: bool = False


def images(channels, side, classes):
    return lambda batch: ((torch.randn(batch, channels, side, side),), torch.arange(batch) % classes)


def tokens(vocabulary, steps, classes):
    # No padding: from 1.
    return lambda batch: ((torch.randint(1, vocabulary, (batch, steps)),), torch.arange(batch) % classes)


def ratings(batch):
    ids = torch.randint(0, 138_493, (batch,)), torch.randint(0, 26_744, (batch,))
    return ids, (torch.arange(batch) % 5 == 0).float()


def sgd(model):
    return [torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)]


def adam(model):
    return [torch.optim.Adam(model.parameters(), lr=1e-3)]


def sparse_adam(model):
    """SparseAdam for embeddings, Adam for the rest."""
    tables = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    chosen = {id(table) for table in tables}
    rest = [parameter for parameter in model.parameters() if id(parameter) not in chosen]
    return [torch.optim.SparseAdam(tables, lr=1e-3), torch.optim.Adam(rest, lr=1e-3)]


def vision(name, batch, channels=3, side=224, classes=1000):
    return Workload(batch, MODELS[name], images(channels, side, classes), sgd, image=True)


def recommender(sparse, optimizers):
    binary = functional.binary_cross_entropy_with_logits
    return Workload(2048, lambda: MODELS["neumf"](sparse=sparse), ratings, optimizers, binary)


WORKLOADS = {
    "lenet5": vision("lenet5", 128, channels=1, side=28, classes=10),
    "inception_v1": vision("inception_v1", 16),
    "googlenet": vision("googlenet", 16),
    "inception_v3": vision("inception_v3", 8, side=299),
    "resnet18": vision("resnet18", 16),
    "resnet50": vision("resnet50", 16),
    "vgg16": vision("vgg16", 8),
    "mobilenet_v1": vision("mobilenet_v1", 16),
    "mobilenet_v2": vision("mobilenet_v2", 16),
    "resnet20": vision("resnet20", 128, side=32, classes=10),
    "neumf": recommender(True, sparse_adam),
    "neumf_dense": recommender(False, adam),
    "text_cnn": Workload(128, MODELS["text_cnn"], tokens(20_000, 200, 2), adam),
    "lstm": Workload(128, MODELS["lstm_text"], tokens(20_000, 200, 2), adam),
    "gru": Workload(128, MODELS["gru_text"], tokens(20_000, 200, 2), adam),
    "transformer": Workload(32, lambda: MODELS["transformer_text"](masked=False), tokens(20_000, 128, 2), adam),
}


class Training:
    """A workload under way."""

    def __init__(self, workload, batch, layout, dropout):
        torch.manual_seed(0)
        self.model = workload.build().train().to(memory_format=layout)
        if dropout is not None:
            replace_dropout(self.model, dropout)
        self.loss, self.optimizers = workload.loss, workload.optimizers(self.model)
        self.batches = [workload.data(batch) for _ in range(BATCHES)]
        if workload.image:
            self.batches = [((x.contiguous(memory_format=layout),), targets) for (x,), targets in self.batches]
        self.done = 0

    def step(self):
        """One step; returns its seconds."""
        inputs, targets = self.batches[self.done % BATCHES]
        self.done += 1
        begun = time.perf_counter()
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        outputs = self.model(*inputs)
        if isinstance(outputs, tuple):
            first, *heads = (self.loss(output, targets) for output in outputs)
            loss = first + AUXILIARY_WEIGHT * sum(heads)
        else:
            loss = self.loss(outputs, targets)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
        return time.perf_counter() - begun


def replace_dropout(model, share):
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share
        elif isinstance(module, nn.MultiheadAttention):
            module.dropout = share


def peak_mib():
    """Highest resident memory of this process."""
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024


def measure(given, layout):
    torch.set_num_threads(given.threads)
    # Numbers too small for the CPU's fast path would cost a recurrent network most of its time.
    torch.set_flush_denormal(True)
    workload = WORKLOADS[given.model]
    batch = given.batch or workload.batch
    training = Training(workload, batch, LAYOUTS[layout], given.dropout)
    for _ in range(WARM_UP_STEPS):
        training.step()
    end, times = time.perf_counter() + given.seconds, []
    while time.perf_counter() < end or len(times) < LEAST_STEPS:
        times.append(training.step())
    best, median = min(times), statistics.median(times)
    document = {"model": given.model, "parameters": parameter_count(training.model), "batch": batch}
    document |= {"threads": given.threads, "layout": layout if workload.image else "rows", "tuned": given.tuned}
    document |= {"torch": torch.__version__, "steps": len(times), "best_ms": best * 1e3, "median_ms": median * 1e3}
    document |= {"best_records_per_second": batch / best, "median_records_per_second": batch / median}
    print(json.dumps({**document, "peak_mib": peak_mib()}), flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--model", choices=WORKLOADS)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--layout", choices=("best", *LAYOUTS), default="best")
    parser.add_argument("--dropout", type=float)
    parser.add_argument("--tuned", action="store_true")
    given = parser.parse_args()
    if given.list:
        print("".join(f"{name:<14} batch {workload.batch}\n" for name, workload in WORKLOADS.items()), end="")
        return 0
    if not given.model:
        parser.error("--model NAME is needed; --list has the names")
    untuned = given.tuned and any(os.environ.get(name) != value for name, value in TUNED.items())
    if not WORKLOADS[given.model].image:
        layouts = ["nchw"]
    else:
        layouts = list(LAYOUTS) if given.layout == "best" else [given.layout]
    if len(layouts) == 1 and not untuned:
        measure(given, layouts[0])
        return 0
    # A process each, so that one's memory is not in the other's figure, and malloc reads its settings.
    environment = {**os.environ, **(TUNED if given.tuned else {})}
    again = [sys.executable, __file__, *sys.argv[1:], "--layout"]
    return max(subprocess.run([*again, layout], env=environment, check=False).returncode for layout in layouts)


if __name__ == "__main__":
    sys.exit(main())
