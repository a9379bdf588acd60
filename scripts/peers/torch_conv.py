#!/usr/bin/env python3
"""Times single passes of convolutions and products through PyTorch, which computes them with oneDNN.

usage: torch_conv.py --cases JSON [--milliseconds 200]

CASES is a list of what the example conv_passes printed; one JSON document with name, pass and gflops each. Images are
channels last. PyTorch allocates its results inside the timing; malloc keeps memory, so that no page is faulted in twice.
"""

import argparse
import ctypes
import json
import time

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
libc = ctypes.CDLL(None)
libc.mallopt(M_MMAP_MAX, 0)
libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)

import torch  # noqa: E402


def image(*shape):
    return torch.rand(shape).sub_(0.5).contiguous(memory_format=torch.channels_last)


def convolution(case):
    """A function that runs the pass once, and its operations."""
    h, w, channels = case["input"]
    x = image(case["images"], channels, h, w)
    weight = image(case["outputs"], channels // case["groups"], case["kernel"], case["kernel"])
    stride, padding, groups = [case["stride"]] * 2, [case["padding"]] * 2, case["groups"]
    y = torch.conv2d(x, weight, None, stride, padding, 1, groups)
    flops = 2 * y.numel() * weight[0].numel()
    if case["pass"] == "forward":
        return lambda: torch.conv2d(x, weight, None, stride, padding, 1, groups), flops
    mask = [case["pass"] == "backward-data", case["pass"] == "backward-weights", False]
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(y, x, weight, None, stride, padding, [1, 1], False, [0, 0], groups, mask), flops


def product(case):
    if case["pass"] == "gradient":
        a, b = torch.rand(case["rows"], case["columns"]).T, torch.rand(case["rows"], case["inner"])
    else:
        a, b = torch.rand(case["rows"], case["inner"]), torch.rand(case["columns"], case["inner"]).T
    c = torch.empty(a.shape[0], b.shape[1])
    return lambda: torch.mm(a, b, out=c), 2 * case["rows"] * case["columns"] * case["inner"]


def best(run, seconds):
    run()
    begin, best_of, runs = time.perf_counter(), float("inf"), 0
    while time.perf_counter() - begin < seconds or runs < 5:
        start = time.perf_counter()
        run()
        best_of = min(best_of, time.perf_counter() - start)
        runs += 1
    return best_of


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=json.loads, required=True)
    parser.add_argument("--milliseconds", type=float, default=200)
    given = parser.parse_args()
    with torch.no_grad():
        for case in given.cases:
            torch.set_num_threads(case["threads"])
            run, flops = (convolution if "kernel" in case else product)(case)
            gflops = flops / best(run, given.milliseconds / 1e3) / 1e9
            print(json.dumps({"name": case["name"], "pass": case["pass"], "gflops": gflops, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
