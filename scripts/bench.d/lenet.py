"""LeNet-5: training steps beside PyTorch; accuracy on MNIST; the same bits for 1, 2 and 3 workers"""

import json
import pathlib
import tempfile

from harness.cluster import WORKERS as WORKERS_ON_YARN, cluster
from harness.models import MODELS, ours
from harness.programs import REPO, run
from harness.rows import Row, at_least

BATCH, THREADS = 128, 2
LENET = next(model for model in MODELS if model.name == "lenet5")
EPOCHS, ACCURACY_PERCENT = 12, 99.0
WORKERS = (1, 2, 3)
JOB = "conf/lenet-mnist.toml"


def measure(bench):
    """Steps always; learning unless --quick."""
    yield from steps(bench)
    if not bench.quick:
        run(["scripts/fetch-mnist"])
        with tempfile.TemporaryDirectory(prefix="ringspin-bench-") as folder:
            yield accuracy(bench.ringspin(), pathlib.Path(folder))
            yield same_bits(bench.ringspin(), pathlib.Path(folder))
        yield accuracy_on_yarn(bench.ringspin())


def steps(bench):
    """Best step of each over rounds in which the sides take turns."""
    rounds, seconds = (3, 1) if bench.quick else (6, 3)
    mine, torch, halves, wholes = [], [], [], []
    for _ in range(rounds):
        mine.append(ours(bench, LENET, seconds))
        torch += bench.peer("torch_lenet.py", "--batch", BATCH, "--threads", THREADS, "--seconds", 2 * seconds)
        halves += bench.peer("torch_lenet.py", "--ddp", 2, "--batch", BATCH // 2, "--seconds", seconds)
        wholes += bench.peer("torch_lenet.py", "--ddp", 2, "--batch", BATCH, "--seconds", seconds)
    profile, theirs = max(mine, key=lambda one: one["bestRecordsPerSecond"]), best(torch)
    rate = profile["bestRecordsPerSecond"]
    what = f"step, batch {BATCH}, {THREADS} threads"
    note = f"best steps {profile['bestMs']:.2f} and {theirs['best_ms']:.2f} ms; medians of the best rounds " + (
        f"{max(one['medianRecordsPerSecond'] for one in mine):,.0f} and "
        f"{max(one['median_records_per_second'] for one in torch):,.0f} records/s"
    )
    against = f"PyTorch {theirs['torch']}, one process, {THREADS} threads, {theirs['layout']}"
    yield at_least(LENET.times, Row(what, "records/s", rate, theirs["best_records_per_second"], against, note=note))
    for side, batch in ((halves, BATCH // 2), (wholes, BATCH)):
        against = f"PyTorch DDP over gloo, 2 processes of one thread, {batch} records each"
        yield Row(what, "records/s", rate, best(side)["best_records_per_second"], against)


def best(side):
    return max(side, key=lambda document: document["best_records_per_second"])


def train(ringspin, output, *arguments):
    """Trains on this machine; what `ringspin train` printed."""
    command = [ringspin, "train", "--conf", JOB, "--input", REPO / "data/mnist", "--output", output, "--format", "json"]
    return json.loads(run([*command, *arguments]).stdout)


def accuracy(ringspin, folder):
    result = train(ringspin, folder / "model", "--epochs", EPOCHS)
    row = Row(f"accuracy on MNIST, {EPOCHS} epochs", "%", 100 * result["accuracy"], ACCURACY_PERCENT, f"the bound, {JOB}")
    return at_least(1, row)


def accuracy_on_yarn(ringspin):
    with cluster() as hadoop:
        result = hadoop.job(ringspin, "--epochs", EPOCHS).finish().result
    what = f"accuracy on MNIST, {EPOCHS} epochs, {WORKERS_ON_YARN} workers on YARN"
    return at_least(1, Row(what, "%", 100 * result["accuracy"], ACCURACY_PERCENT, f"the bound, {JOB}"))


def same_bits(ringspin, folder):
    """How many numbers of workers gave the weights that one worker gave."""
    weights = []
    for workers in WORKERS:
        output = folder / f"workers-{workers}"
        settings = ["--epochs", 1, "--workers", workers, "-D", 'numerics="reproducible"']
        train(ringspin, output, *settings)
        weights.append((output / "weights.safetensors").read_bytes())
    same = sum(one == weights[0] for one in weights)
    note = f"weights.safetensors byte for byte after 1 epoch with {', '.join(map(str, WORKERS))} workers on this machine"
    return at_least(1, Row("same weights, numerics = reproducible", "runs", same, len(WORKERS), "all runs", note=note))
