"""Inference of ResNet-50 and MobileNet-v2 by ONNX Runtime and by PyTorch: one JSON document a measurement.

usage: onnx_infer.py [--models resnet50,mobilenet_v2] [--batches 1,32] [--threads 2] [--seconds 5] [--keep FOLDER]
                     [--weights FILE --images FILE --answers FILE]

Images of 3 x 224 x 224. ONNX Runtime gets the model as PyTorch exports it, with all its graph optimizations; PyTorch
runs in inference mode, in both layouts of memory. Weights are random, and `difference` is the largest one between the
logits of both, relative to the largest logit. With --weights (safetensors) they are Ringspin's, --images has records of
a byte and 224 x 224 x 3 floats, --answers what `ringspin predict` said of them, and `difference` is that of ONNX
Runtime's logits from these. --keep FOLDER leaves the .onnx files there.
"""

import argparse
import contextlib
import csv
import json
import logging
import pathlib
import statistics
import tempfile
import time
import warnings

import numpy as np
import onnxruntime
import torch
from torch_models import MODELS

WARM_UP, LEAST = 2, 5
SIDE = 224
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


def trained_model(name, path):
    """With weights of a safetensors file."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    entries = json.loads(data[8:start])
    entries.pop("__metadata__", None)
    weights = {}
    for key, entry in entries.items():
        begin, end = (start + offset for offset in entry["data_offsets"])
        weights[key] = torch.from_numpy(np.frombuffer(data[begin:end], np.float32).copy()).reshape(entry["shape"])
    model = MODELS[name]().eval()
    missing, surplus = model.load_state_dict(weights, strict=False)
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing or surplus:
        raise SystemExit(f"onnx_infer.py: {path} is not {name}: {missing} are missing, {surplus} too many")
    return model


def difference_from(answers, images, runtime):
    """Of ONNX Runtime's logits from those in a file of `ringspin predict`."""
    records = np.fromfile(images, [("label", "u1"), ("pixels", "<f4", (SIDE, SIDE, 3))])
    theirs = runtime.run(None, {"x": np.ascontiguousarray(records["pixels"].transpose(0, 3, 1, 2))})[0]
    with open(answers, encoding="ascii", newline="") as file:
        rows = [[float(row[f"output_{i}"]) for i in range(theirs.shape[1])] for row in csv.DictReader(file)]
    return float(np.abs(np.array(rows) - theirs).max() / np.abs(theirs).max())


def random_model(name):
    """In inference; statistics of normalization as training leaves them, so that nothing can be left out."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for norm in (module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.normal_(norm.running_mean, std=0.1)
        torch.nn.init.uniform_(norm.running_var, 0.5, 1.5)
    return model


def export(model, path):
    """The model for any batch, weights in the same file."""
    image = torch.randn(2, 3, SIDE, SIDE)
    shapes = {"x": {0: torch.export.Dim("batch", min=1)}}
    # It warns of torchvision's operations, which these models do not have.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(None):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, (image,), path, input_names=["x"], output_names=["y"], dynamic_shapes=shapes, dynamo=True,
            external_data=False, verbose=False,
        )  # fmt: skip


def session(path, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    # Between runs PyTorch has its turn.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def timed(run, seconds):
    """Seconds of each run."""
    for _ in range(WARM_UP):
        run()
    end, times = time.perf_counter() + seconds, []
    while time.perf_counter() < end or len(times) < LEAST:
        begun = time.perf_counter()
        run()
        times.append(time.perf_counter() - begun)
    return times


def report(times, batch, **what):
    best, median = min(times), statistics.median(times)
    figures = {"runs": len(times), "best_ms": best * 1e3, "median_ms": median * 1e3}
    rates = {"best_records_per_second": batch / best, "median_records_per_second": batch / median}
    print(json.dumps({**what, "batch": batch, **figures, **rates}), flush=True)


def measure(name, batches, given, folder):
    model = trained_model(name, given.weights) if given.weights else random_model(name)
    path = folder / f"{name}.onnx"
    export(model, path)
    runtime = session(path, given.threads)
    from_ours = difference_from(given.answers, given.images, runtime) if given.answers else None
    for batch in batches:
        images = torch.randn(batch, 3, SIDE, SIDE)
        with torch.inference_mode():
            theirs = runtime.run(None, {"x": images.numpy()})[0]
            logits = model(images)
            difference = from_ours or ((logits - torch.from_numpy(theirs)).abs().max() / logits.abs().max()).item()
            what = {"model": name, "threads": given.threads, "difference": difference}
            feed = {"x": images.numpy()}
            times = timed(lambda feed=feed: runtime.run(None, feed), given.seconds)
            report(times, batch, by="onnxruntime", version=onnxruntime.__version__, layout="nchw", **what)
            for layout, order in LAYOUTS.items():
                model.to(memory_format=order)
                ordered = images.contiguous(memory_format=order)
                times = timed(lambda ordered=ordered: model(ordered), given.seconds)
                report(times, batch, by="torch", version=torch.__version__, layout=layout, **what)
            model.to(memory_format=torch.contiguous_format)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--models", type=lambda text: text.split(","), default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--batches", type=lambda text: [int(batch) for batch in text.split(",")], default=[1, 32])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--keep", type=pathlib.Path)
    for name in ("--weights", "--images", "--answers"):
        parser.add_argument(name, type=pathlib.Path)
    given = parser.parse_args()
    for name in given.models:
        if name not in MODELS:
            parser.error(f"no model {name!r}")
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory(prefix="ringspin-onnx-") as scratch:
        folder = given.keep or pathlib.Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for name in given.models:
            measure(name, given.batches, given, folder)


if __name__ == "__main__":
    main()
