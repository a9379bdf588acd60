"""training steps and inference beside PyTorch, BigDL and ONNX Runtime, and where the time goes"""

import dataclasses

from harness.models import MODELS, THREADS, ours, torch, where
from harness.programs import CannotMeasure, documents
from harness.rows import Row, at_least, unmeasured

INFERENCE = ("resnet50", "mobilenet_v2")
INFERENCE_BATCHES = (1, 32)


def measure(bench):
    """Steps of every model, then inference, then the same with fewer instructions."""
    for model in MODELS:
        yield from guarded(model.name, steps(bench, model))
    for name in INFERENCE:
        for batch in INFERENCE_BATCHES:
            yield from guarded(name, inference(bench, name, batch))
    if not bench.quick:
        for model in MODELS:
            yield from guarded(model.name, without_avx512(bench, model))


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
    rounds, seconds = (1, 3) if bench.quick else (3, 10)
    mine, theirs = [], []
    for _ in range(rounds):
        mine.append(ours(bench, model, seconds))
        theirs += torch(bench, model, seconds)
    profile, peer = best(mine, "bestRecordsPerSecond"), best(theirs, "best_records_per_second")
    what = f"{model.name}, batch {model.batch}"
    rate = profile["bestRecordsPerSecond"]
    against = f"PyTorch {peer['torch']}, {THREADS} threads, {peer.get('layout', 'its layout')}"
    yield at_least(model.times, Row(what, "records/s", rate, peer["best_records_per_second"], against, note=note(profile)))
    medians = [side[len(side) // 2] for side in (
        sorted(one["medianRecordsPerSecond"] for one in mine),
        sorted(one["median_records_per_second"] for one in theirs),
    )]  # fmt: skip
    yield Row(f"{what}: medians", "records/s", *medians, against)
    if model.other:
        other = best(torch(bench, dataclasses.replace(model, peer=model.other), 3), "best_records_per_second")
        yield Row(what, "records/s", rate, other["best_records_per_second"], f"PyTorch {other['torch']}, {model.other}")
    if model.bigdl_times:
        bigdl = bench.bigdl(model.name, "--batch", model.batch, "--threads", THREADS)[0]
        row = Row(what, "records/s", rate, bigdl["best_records_per_second"], f"BigDL 2.4, local[{THREADS}], {bigdl['engine']}")
        yield at_least(model.bigdl_times, row)


def note(profile):
    return (
        f"FMA peak {profile['peakGflops']:.0f} GFLOP/s, {100 * profile['peakShare']:.0f} % of it (nominal operations); "
        f"best step {profile['bestMs']:.2f} ms: {where(profile)}"
    )


def inference(bench, name, batch):
    seconds = 2 if bench.quick else 5
    flags = ["--batch", batch, "--threads", THREADS, "--seconds", seconds]
    command = [bench.ringspin(), "model", "profile", name, "--inference", *flags, "--format", "json"]
    mine = [documents(command)[0]]
    peers = bench.peer("onnx_infer.py", "--models", name, "--batches", batch, "--threads", THREADS, "--seconds", seconds)
    mine.append(documents(command)[0])
    profile = best(mine, "bestRecordsPerSecond")
    for runtime, bar in (("onnxruntime", 1), ("torch", None)):
        side = [one for one in peers if one["runtime"] == runtime]
        if not side:
            raise CannotMeasure(f"onnx_infer.py measured no {runtime}")
        theirs = best(side, "best_records_per_second")
        what = f"{name}, inference, batch {batch}"
        row = Row(what, "records/s", profile["bestRecordsPerSecond"], theirs["best_records_per_second"], runtime)
        yield at_least(bar, row) if bar else row


def without_avx512(bench, model):
    """The same with AVX2 alone, beside itself with everything: how much hangs on AVX-512."""
    narrow, wide = ours(bench, model, 3, "--isa", "avx2"), ours(bench, model, 3)
    rates = (narrow["bestRecordsPerSecond"], wide["bestRecordsPerSecond"])
    peak = f"FMA peak {narrow['peakGflops']:.0f} GFLOP/s with AVX2"
    yield Row(f"{model.name} with AVX2", "records/s", *rates, "itself with every instruction", note=peak)
