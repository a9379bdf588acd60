"""all-reduce between processes on loopback, beside gloo and raw TCP"""

import statistics

from harness.programs import documents
from harness.rows import Row, at_least, below

WORLDS = (2, 4)
LARGE_KIB = (1024, 4096, 16384, 65536)
SMALL_KIB = (4, 8)
SMALL_WORLD = 4
SMALL_LIMIT_US = 100
TIMES_GLOO = 1.5
OF_RAW_TCP = 0.9


def measure(bench):
    """Bus bandwidth of large vectors, time of small ones; medians over rounds in which the sides take turns."""
    rounds, budget_mib = (2, 128) if bench.quick else (5, 256)
    ring = bench.example("ringspin-ring", "ring_bench")
    bench.python()
    for world in WORLDS:
        kibs = LARGE_KIB if world != SMALL_WORLD else SMALL_KIB + LARGE_KIB
        flags = ["--world", world, "--sizes", ",".join(map(str, kibs)), "--budget", budget_mib]
        ours, gloo = [], []
        for _ in range(rounds):
            ours.append(by_size(documents([ring, *flags, "--json"])))
            gloo.append(by_size(bench.peer("gloo_allreduce.py", *flags)))
        for kib in kibs:
            yield from rows_of(world, kib, ours, gloo)


def by_size(documents):
    return {document["bytes"] >> 10: document for document in documents}


def rows_of(world, kib, ours, gloo):
    def median(side, key):
        return statistics.median(one[kib][key] for one in side)

    if kib in SMALL_KIB:
        note = f"gloo: {median(gloo, 'median_us'):.0f} us"
        what = f"{kib} KiB, {world} ranks, median"
        yield below(Row(what, "us", median(ours, "median_us"), SMALL_LIMIT_US, "the limit", note=note))
        return
    what = f"{kib >> 10} MiB, {world} ranks, bus bandwidth"
    bus = median(ours, "bus_gbps")
    yield at_least(TIMES_GLOO, Row(what, "GB/s", bus, median(gloo, "bus_gbps"), "gloo"))
    if world == 2:
        # Ring and raw TCP take turns within ring_bench, so the ratio is taken there, round by round.
        raw, share = median(ours, "raw_gbps"), median(ours, "of_raw")
        row = Row(what, "GB/s", share * raw, raw, "raw TCP", note="median of the rounds' ratios times median of raw TCP")
        yield at_least(OF_RAW_TCP, row)
