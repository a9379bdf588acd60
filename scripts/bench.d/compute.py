"""training steps and inference beside PyTorch, BigDL and ONNX Runtime, and where the time goes"""

import dataclasses
import json
import math
import pathlib
import struct
import tempfile

from harness.models import MODELS, THREADS, TORCH_AVX2, ours, torch, where
from harness.programs import CannotMeasure, documents, run
from harness.rows import Row, at_least, at_most, unmeasured

INFERENCE = ("resnet50", "mobilenet_v2")
INFERENCE_BATCHES = (1, 32)
# Largest difference between both sides' outputs, relative to the largest output.
AGREEMENT = 1e-3
SIDE, IMAGES = 224, 4


def measure(bench):
    """Steps of every model, then inference, then steps with fewer instructions on both sides."""
    models = [model for model in MODELS if bench.wants(model.title)]
    for model in models:
        yield from guarded(model.title, steps(bench, model))
    for name in INFERENCE:
        if bench.wants(f"{name}, inference"):
            yield from guarded(name, inference(bench, name))
    if not bench.quick:
        for model in models:
            yield from guarded(model.title, without_avx512(bench, model))


def guarded(name, rows):
    """One model that can not be measured leaves the others."""
    try:
        yield from rows
    except CannotMeasure as error:
        yield unmeasured(name, error)


def best(documents_of_a_side, key):
    return max(documents_of_a_side, key=lambda document: document[key])


def steps(bench, model):
    """The best step of each side over rounds in which they take turns."""
    rounds, seconds = (1, 3) if bench.quick else (3, 6)
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(ours(bench, model, seconds))
        theirs += torch(bench, model, seconds)
    profile, peer = best(mine, "bestRecordsPerSecond"), best(theirs, "best_records_per_second")
    rate, against = profile["bestRecordsPerSecond"], f"PyTorch {peer['torch']}, {THREADS} threads, {layout(peer)}"
    yield at_least(
        model.times, Row(model.title, "records/s", rate, peer["best_records_per_second"], against, note=note(profile))
    )
    medians = [side[len(side) // 2] for side in (
        sorted(one["medianRecordsPerSecond"] for one in mine),
        sorted(one["median_records_per_second"] for one in theirs if one["layout"] == peer["layout"]),
    )]  # fmt: skip
    yield Row(f"{model.title}: medians", "records/s", *medians, against)
    if model.other:
        other = best(torch(bench, dataclasses.replace(model, peer=model.other), 3), "best_records_per_second")
        yield Row(model.title, "records/s", rate, other["best_records_per_second"], f"PyTorch {other['torch']}, {model.other}")
    if model.bigdl_times:
        bigdl = bench.bigdl(model.name, "--batch", model.batch, "--threads", THREADS)[0]
        against = f"BigDL {bigdl['bigdl']}, local[{THREADS}], {bigdl['engine']}"
        row = Row(model.title, "records/s", rate, bigdl["best_records_per_second"], against)
        yield at_least(model.bigdl_times, row)


def layout(peer):
    return {"nhwc": "channels last", "nchw": "channels first"}.get(peer["layout"], "its only layout")


def note(profile):
    return (
        f"FMA peak {profile['peakGflops']:.0f} GFLOP/s, {100 * profile['peakShare']:.0f} % of it (nominal operations); "
        f"best step {profile['bestMs']:.2f} ms: {where(profile)}"
    )


def inference(bench, name):
    """Both sides with the same weights: that they answer the same, then how fast."""
    seconds = 2 if bench.quick else 5
    with tempfile.TemporaryDirectory(prefix="ringspin-bench-") as folder:
        weights, images, answers = same_weights(bench.ringspin(), name, pathlib.Path(folder))
        given = ("--weights", weights, "--images", images, "--answers", answers)
        flags = ("--models", name, "--batches", ",".join(map(str, INFERENCE_BATCHES)), "--threads", THREADS)
        before = [profile(bench, name, batch, seconds) for batch in INFERENCE_BATCHES]
        peers = bench.peer("onnx_infer.py", *flags, "--seconds", seconds, *given)
        after = [profile(bench, name, batch, seconds) for batch in INFERENCE_BATCHES]
    by = {runtime: [one for one in peers if one["by"] == runtime] for runtime in ("onnxruntime", "torch")}
    difference = max(one["difference"] for one in peers)
    yield at_most(Row(f"{name}, inference: difference", "", difference, AGREEMENT, "ONNX Runtime, of the largest output"))
    for batch, *mine in zip(INFERENCE_BATCHES, before, after, strict=True):
        found = best(mine, "bestRecordsPerSecond")
        for runtime, bar in (("onnxruntime", 1), ("torch", None)):
            peer = best([one for one in by[runtime] if one["batch"] == batch], "best_records_per_second")
            rates = found["bestRecordsPerSecond"], peer["best_records_per_second"]
            against = f"{runtime} {peer['version']}, {THREADS} threads, {layout(peer)}"
            row = Row(f"{name}, inference, batch {batch}", "records/s", *rates, against, note=note(found) if bar else "")
            yield at_least(bar, row) if bar else row


def profile(bench, name, batch, seconds):
    flags = ["--batch", batch, "--threads", THREADS, "--seconds", seconds, "--format", "json"]
    return documents([bench.ringspin(), "model", "profile", name, "--inference", *flags])[0]


def same_weights(ringspin, name, folder):
    """Weights of a step of training on made-up images, the images, and what `ringspin predict` answers to them."""
    images, model, answers = folder / "data/images.bin", folder / "model", folder / "answers"
    images.parent.mkdir()
    pixels = (math.sin(0.37 * i) + math.sin(0.0091 * i) for i in range(SIDE * SIDE * 3))
    picture = struct.pack(f"<{SIDE * SIDE * 3}f", *pixels)
    # Each turned a little further.
    turned = (picture[4 * 301 * i :] + picture[: 4 * 301 * i] for i in range(IMAGES))
    images.write_bytes(b"".join(bytes([i]) + one for i, one in enumerate(turned)))
    settings = {
        "model.name": name, "epochs": 1, "batch_size": IMAGES, "lanes": 1, "input.format": "raw",
        "input.raw.label_bytes": 1, "input.raw.dtype": "f32", "input.raw.shape": [SIDE, SIDE, 3], "optimizer.lr": 0.01,
    }  # fmt: skip
    defined = [word for key, value in settings.items() for word in ("-D", f"{key}={json.dumps(value)}")]
    run([ringspin, "train", "--input", images.parent, "--output", model, *defined])
    run([ringspin, "predict", "--model", model, "--input", images.parent, "--output", answers])
    return model / "weights.safetensors", images, answers / "part-00000.csv"


def without_avx512(bench, model):
    """Steps with AVX2 alone on both sides, and OpenBLAS told to be Haswell's, for which builds without it do not care."""
    environment, seconds = {"OPENBLAS_CORETYPE": "Haswell"}, 3
    narrow = ours(bench, model, seconds, "--isa", "avx2", environment=environment)
    theirs = torch(bench, model, seconds, environment=environment | TORCH_AVX2)
    wide = ours(bench, model, seconds)
    peer, rate = best(theirs, "best_records_per_second"), narrow["bestRecordsPerSecond"]
    against = f"PyTorch {peer['torch']} without AVX-512, {THREADS} threads, {layout(peer)}"
    said = f"FMA peak {narrow['peakGflops']:.0f} GFLOP/s, {100 * narrow['peakShare']:.0f} % of it; with {wide['isa']} "
    said += f"{wide['bestRecordsPerSecond']:,.1f} records/s, {wide['bestRecordsPerSecond'] / rate:.2f} times as many"
    yield Row(f"{model.title}, {narrow['isa']}", "records/s", rate, peer["best_records_per_second"], against, note=said)
