"""one worker process of two threads beside two of one thread, in local mode: seconds of an epoch"""

import pathlib
import random
import tempfile
import time

from harness.programs import REPO, run
from harness.rows import Row

THREADS = 2
# Seconds of `epochs[1]` epochs less those of `epochs[0]`: how the job starts and ends is in both.
LENET_EPOCHS, RESNET_EPOCHS = (1, 4), (1, 3)
LENET_RECORDS, RESNET_RECORDS = 60_000, 4096
CIFAR_RECORD = 3 * 32 * 32


def measure(bench):
    """LeNet-5 on MNIST, and ResNet-20 on as many made-up images as take some seconds; without validation."""
    run(["scripts/fetch-mnist"])
    with tempfile.TemporaryDirectory(prefix="ringspin-bench-") as scratch:
        folder = pathlib.Path(scratch)
        yield from rows(bench, "lenet-mnist", (REPO / "data/mnist", LENET_RECORDS, LENET_EPOCHS), folder)
        images = folder / "images"
        images.mkdir()
        draws = random.Random(1)
        records = (bytes([draws.randrange(10)]) + draws.randbytes(CIFAR_RECORD) for _ in range(RESNET_RECORDS))
        (images / "data_batch_1.bin").write_bytes(b"".join(records))
        yield from rows(bench, "resnet20-cifar10", (images, RESNET_RECORDS, RESNET_EPOCHS), folder)


def rows(bench, job, data, folder):
    """The least of rounds in which both take turns, and what `local[*]` chooses by itself."""
    rounds = 1 if bench.quick else 3
    sides = {"default": [], "1": [], "2": []}
    for _ in range(rounds):
        for workers, seconds in sides.items():
            seconds.append(epoch(bench.ringspin(), job, data, (folder, workers)))
    _, records, _ = data
    default, whole, halves = (min(seconds) for seconds in sides.values())
    rates = records / halves, records / whole
    note = f"an epoch in {halves:.2f} and {whole:.2f} s; local[{THREADS}] by itself {default:.2f} s"
    against = f"one worker of {THREADS} threads"
    yield Row(f"{job}, {THREADS} workers of one thread", "records/s", *rates, against, note=note)


def epoch(ringspin, job, data, place):
    """Seconds of an epoch."""
    (path, _, epochs), (folder, workers) = data, place
    flags = [] if workers == "default" else ["--workers", workers]
    command = [ringspin, "train", "--conf", without_validation(job, folder), "--input", path, "--master", f"local[{THREADS}]"]
    command += ["--output", folder / "model", "--overwrite", *flags]
    times = []
    for count in epochs:
        begun = time.monotonic()
        run([*command, "--epochs", count])
        times.append(time.monotonic() - begun)
    return (times[1] - times[0]) / (epochs[1] - epochs[0])


def without_validation(job, folder):
    """The job's file without the section that only measures."""
    sections = (REPO / f"conf/{job}.toml").read_text(encoding="utf-8").split("\n[")
    path = folder / f"{job}.toml"
    path.write_text("\n[".join(part for part in sections if not part.startswith("validation")), encoding="utf-8")
    return path
