"""Training steps of LeNet-5 in PyTorch on made-up data: one JSON document a measurement.

usage: torch_lenet.py [--batch 128] [--threads 2] [--seconds 3]           one process, both memory layouts
       torch_lenet.py --ddp 2 [--batch 64] [--seconds 3]                  data parallel over gloo, one thread a rank

The batch is one process's. A step is forward, cross entropy, backward and SGD with momentum.
"""

import argparse
import json
import os
import socket
import statistics
import time

import torch
from torch import nn
from torch_models import lenet5

WARM_UP_STEPS = 5
# Between two looks at the clock that all ranks must agree about.
STEPS_A_TURN = 50


class Training:
    """A model, a batch and an optimizer."""

    def __init__(self, batch, layout, wrap=lambda model: model):
        torch.manual_seed(0)
        self.model = wrap(lenet5().to(memory_format=layout).train())
        self.inputs = torch.randn(batch, 1, 28, 28).contiguous(memory_format=layout)
        self.targets = torch.arange(batch) % 10
        self.loss = nn.CrossEntropyLoss()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)

    def step(self):
        """One step; returns its seconds."""
        begun = time.perf_counter()
        self.optimizer.zero_grad()
        self.loss(self.model(self.inputs), self.targets).backward()
        self.optimizer.step()
        return time.perf_counter() - begun

    def steps(self, count):
        return [self.step() for _ in range(count)]


def report(seconds, records, **what):
    best, median = min(seconds), statistics.median(seconds)
    figures = {"best_ms": best * 1e3, "median_ms": median * 1e3}
    rates = {"best_records_per_second": records / best, "median_records_per_second": records / median}
    print(json.dumps({**what, "torch": torch.__version__, "steps": len(seconds), **figures, **rates}), flush=True)


def one_process(batch, threads, seconds):
    torch.set_num_threads(threads)
    for name, layout in (("nchw", torch.contiguous_format), ("nhwc", torch.channels_last)):
        training = Training(batch, layout)
        training.steps(WARM_UP_STEPS)
        end, times = time.perf_counter() + seconds / 2, []
        while time.perf_counter() < end:
            times.append(training.step())
        report(times, batch, layout=name, threads=threads, batch=batch)


def one_rank(rank, world, port, batch, seconds):
    torch.set_num_threads(1)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world)
    training = Training(batch, torch.contiguous_format, nn.parallel.DistributedDataParallel)
    training.steps(WARM_UP_STEPS)
    times, going = [], torch.ones(1)
    end = time.perf_counter() + seconds
    while going.item():
        times += training.steps(STEPS_A_TURN)
        # Rank 0 says when it is over, or the others would wait for it in a step.
        going.fill_(float(time.perf_counter() < end))
        torch.distributed.broadcast(going, 0)
    if rank == 0:
        report(times, batch * world, world=world, batch=batch)
    torch.distributed.destroy_process_group()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--ddp", type=int)
    given = parser.parse_args()
    if given.ddp:
        ranks = (given.ddp, free_port(), given.batch, given.seconds)
        torch.multiprocessing.spawn(one_rank, ranks, nprocs=given.ddp)
    else:
        one_process(given.batch, given.threads, given.seconds)


if __name__ == "__main__":
    main()
