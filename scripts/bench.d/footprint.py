"""memory of ApplicationMaster and workers, size of the executable and what it needs"""

import pathlib
import re
import time

from harness.cluster import WORKERS, cluster
from harness.programs import CannotMeasure, run
from harness.rows import Row, at_most, below

MIB = 1 << 20
EXECUTABLE_LIMIT_MIB, AM_LIMIT_MIB, WORKER_LIMIT_MIB = 40, 32, 64
GLIBC = re.compile(r"(linux-vdso|ld-linux\S*|lib(c|m|dl|rt|pthread|resolv|util))\.so")
SAMPLE_SECONDS = 0.2
# Small, so that what a worker keeps for reading is known and is not most of what it has.
CACHE_MIB, WINDOW_MIB, PREFETCH, BATCH = 1, 1, 4, 128
# Numbers that the outputs of LeNet-5's layers have for one record, its input among them.
LENET_NUMBERS = 784 + 2 * 6 * 24 * 24 + 2 * 6 * 12 * 12 + 12 * 8 * 8 + 2 * 12 * 4 * 4 + 2 * 100 + 10


def measure(bench):
    """The executable, then the processes of a job on a cluster."""
    ringspin = bench.ringspin()
    size = ringspin.stat().st_size / MIB
    yield below(Row("release executable", "MiB", size, EXECUTABLE_LIMIT_MIB, "the limit"))
    yield needs(ringspin)
    yield from processes(bench, ringspin)


def needs(ringspin):
    """Shared libraries that are not glibc's."""
    needed = [line.split()[0] for line in run(["ldd", ringspin]).stdout.splitlines() if line.strip()]
    foreign = [name for name in needed if not GLIBC.match(pathlib.PurePath(name).name)]
    note = ", ".join(foreign) if foreign else f"only glibc: {', '.join(needed)}"
    return at_most(Row("shared libraries besides glibc", "", len(foreign), 0, note=note))


def processes(bench, ringspin):
    """Highest resident memory while the MNIST job trains."""
    settings = [f"input.cache={CACHE_MIB} MiB", f"input.shuffle_window={WINDOW_MIB} MiB"]
    settings += [f"input.prefetch={PREFETCH}", f"batch_size={BATCH}"]
    flags = [word for setting in settings for word in ("-D", setting)]
    with cluster() as hadoop:
        job = hadoop.job(ringspin, "--epochs", 2 if bench.quick else 4, *flags)
        masters, workers = {}, {}
        while job.process.poll() is None:
            for pid, words in hadoop.processes():
                sample(pid, words, masters, workers)
            time.sleep(SAMPLE_SECONDS)
        job.finish()
        parameters = hadoop.manifest()["weights_bytes"]
    yield below(Row("ApplicationMaster, resident", "MiB", highest(masters), AM_LIMIT_MIB, "the limit"))
    sizes = explained(parameters)
    # Pages of other sizes than these are the worker's own.
    above = highest(workers) - sum(sizes.values())
    said = ", ".join(f"{what} {mib:.1f}" for what, mib in sizes.items())
    note = f"resident {highest(workers):.1f} MiB, the larger of {len(workers)} workers, less {said}"
    yield below(Row("worker, above what the job's sizes explain", "MiB", above, WORKER_LIMIT_MIB, "the limit", note=note))


def explained(weights_bytes):
    """MiB of a worker that follow from the job."""
    records = BATCH / WORKERS
    return {
        "parameters, gradients and momentum": 3 * weights_bytes / MIB,
        "activations and their gradients": 2 * 4 * LENET_NUMBERS * records / MIB,
        "prefetch": PREFETCH * records * 784 * 4 / MIB,
        "input.cache": CACHE_MIB,
        "input.shuffle_window": WINDOW_MIB,
    }


def sample(pid, words, masters, workers):
    """Notes the resident memory of a process, if it is one of ours."""
    if pathlib.PurePath(words[0]).name != "ringspin" or len(words) < 2:
        return
    role = {"am": masters, "container": workers}.get(words[1])
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except OSError:
        return
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    if role is not None and resident:
        role[pid] = max(role.get(pid, 0), int(resident[1]) / 1024)


def highest(sampled):
    if not sampled:
        raise CannotMeasure("no process of the job was seen on the nodes")
    return max(sampled.values())
