"""The machine a figure comes from. Figures of different CPUs are never compared."""

import os

from .programs import CannotMeasure, documents

PEAK_THREADS = 2


def describe(bench):
    """CPU, cores, load and the measured FMA peak of two threads."""
    described = {**cpu(), "cores": len(os.sched_getaffinity(0)), "load_before": load(), "peak_threads": PEAK_THREADS}
    try:
        profile = [bench.ringspin(), "model", "profile", "lenet5", "--threads", PEAK_THREADS, "--seconds", "0.1"]
        [measured] = documents([*profile, "--format", "json"])
        described |= {"peak_gflops": measured["peakGflops"], "isa": measured["isa"]}
    except CannotMeasure as error:
        described |= {"peak_gflops": None, "isa": "", "problem": str(error)}
    return described


def cpu():
    """Model name, family and model number."""
    fields = {}
    with open("/proc/cpuinfo", encoding="utf-8") as info:
        for line in info:
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    return {"cpu": fields.get("model name", "?"), "family": fields.get("cpu family", "?"), "model": fields.get("model", "?")}


def load():
    """Mean number of running processes of the last minute."""
    return round(os.getloadavg()[0], 2)


def text(described):
    peak = described["peak_gflops"]
    measured = f"FMA peak {peak:.1f} GFLOP/s ({described['isa']})" if peak else f"FMA peak unknown: {described['problem']}"
    return (
        f"{described['cpu']}, family {described['family']} model {described['model']}, {described['cores']} cores, "
        f"load {described['load_before']}; {described['peak_threads']} threads: {measured}"
    )
