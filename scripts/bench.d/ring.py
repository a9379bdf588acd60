"""all-reduce between processes of one host, beside gloo and raw TCP on loopback"""

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
        ours, over_tcp, gloo = [], [], []
        for _ in range(rounds):
            ours.append(by_size(documents([ring, *flags, "--json"])))
            over_tcp.append(by_size(documents([ring, *flags, "--tcp", "--json"])))
            gloo.append(by_size(bench.peer("gloo_allreduce.py", *flags)))
        for kib in kibs:
            yield from rows_of(world, kib, (ours, over_tcp), gloo)


def by_size(documents):
    return {document["bytes"] >> 10: document for document in documents}


def rows_of(world, kib, sides, gloo):
    ours, over_tcp = sides

    def median(side, key):
        return statistics.median(one[kib][key] for one in side)

    if kib in SMALL_KIB:
        note = f"over TCP alone: {median(over_tcp, 'median_us'):.0f} us; gloo: {median(gloo, 'median_us'):.0f} us"
        what = f"{kib} KiB, {world} ranks, median"
        yield below(Row(what, "us", median(ours, "median_us"), SMALL_LIMIT_US, "the limit", note=note))
        return
    what = f"{kib >> 10} MiB, {world} ranks, bus bandwidth"
    bus = median(ours, "bus_gbps")
    yield at_least(TIMES_GLOO, Row(what, "GB/s", bus, median(gloo, "bus_gbps"), "gloo"))
    between_hosts = f"{what}, over TCP alone as between hosts"
    yield Row(between_hosts, "GB/s", median(over_tcp, "bus_gbps"), median(gloo, "bus_gbps"), "gloo")
    if world == 2:
        yield at_least(OF_RAW_TCP, beside_raw(what, ours, kib))
        yield beside_raw(between_hosts, over_tcp, kib)


def beside_raw(what, side, kib):
    """Ring and raw TCP take turns within ring_bench, so the ratio is taken there, round by round."""
    raw = statistics.median(one[kib]["raw_gbps"] for one in side)
    share = statistics.median(one[kib]["of_raw"] for one in side)
    return Row(what, "GB/s", share * raw, raw, "raw TCP", note="median of the rounds' ratios times median of raw TCP")
