"""Inference of ResNet-50 and MobileNet-v2 by ONNX Runtime and by PyTorch: one JSON document a measurement.

usage: onnx_infer.py [--models resnet50,mobilenet_v2] [--batches 1,32] [--threads 2] [--seconds 5] [--keep FOLDER]

Random weights and images of 3 x 224 x 224. ONNX Runtime gets the model as PyTorch exports it, with all its graph
optimizations; PyTorch runs in inference mode, in both layouts of memory. `difference` is the largest one between both
sides' logits, relative to the largest logit. --keep FOLDER leaves the .onnx files there.
"""

import argparse
import contextlib
import json
import logging
import pathlib
import statistics
import tempfile
import time
import warnings

import onnxruntime
import torch
from torch_models import MODELS

WARM_UP, LEAST = 2, 5
SIDE = 224
LAYOUTS = {"nchw": torch.contiguous_format, "nhwc": torch.channels_last}


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
    model, path = random_model(name), folder / f"{name}.onnx"
    export(model, path)
    runtime = session(path, given.threads)
    for batch in batches:
        images = torch.randn(batch, 3, SIDE, SIDE)
        with torch.inference_mode():
            theirs = runtime.run(None, {"x": images.numpy()})[0]
            logits = model(images)
            difference = ((logits - torch.from_numpy(theirs)).abs().max() / logits.abs().max()).item()
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
