"""All-reduces of f32 by gloo between processes on loopback, as `ring_bench` times them: one JSON document a size.

usage: gloo_allreduce.py [--world 2] [--sizes KIB,...] [--budget MIB]

Bus bandwidth = 2(N-1)/N * bytes / median time.
"""

import argparse
import json
import os
import socket
import statistics
import time

import torch
from torch import distributed

WARM_UP = 3


def one_rank(rank, world, port, sizes_kib, budget_mib):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    distributed.init_process_group("gloo", rank=rank, world_size=world)
    for kib in sizes_kib:
        # As ring_bench: as often as the budget allows, 5 to 400 times.
        times = time_size(kib * 256, max(5, min(400, budget_mib * 1024 // kib)))
        median = statistics.median(times)
        bus = 2 * (world - 1) / world * kib * 1024 / median / 1e9
        if rank == 0:
            row = {"world": world, "bytes": kib * 1024, "median_us": median * 1e6, "bus_gbps": bus}
            print(json.dumps(row), flush=True)
    distributed.destroy_process_group()


def time_size(numbers, repetitions):
    """Seconds of each all-reduce of so many numbers."""
    vector, times = torch.ones(numbers), []
    for _ in range(WARM_UP):
        distributed.all_reduce(vector)
    distributed.barrier()
    for _ in range(repetitions):
        begun = time.perf_counter()
        distributed.all_reduce(vector)
        times.append(time.perf_counter() - begun)
        # Sums of sums overflow; infinities would cost the same here, denormals not.
        vector.fill_(1.0)
    return times


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--world", type=int, default=2)
    parser.add_argument("--sizes", type=lambda text: [int(kib) for kib in text.split(",")], default=[1024])
    parser.add_argument("--budget", type=int, default=512)
    given = parser.parse_args()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    torch.multiprocessing.spawn(one_rank, (given.world, port, given.sizes, given.budget), nprocs=given.world)


if __name__ == "__main__":
    main()
