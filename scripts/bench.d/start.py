"""from `ringspin train` to the first committed step on YARN, with a breakdown, beside Hadoop's distributed shell"""

import pathlib
import statistics
import tempfile
import time

from harness.cluster import DEFAULT_VERSION, WORKERS, cluster
from harness.programs import CannotMeasure
from harness.rows import Row, at_most, unmeasured

ASYNCHRONOUS_VERSION = "3.5.0"
CACHED_LIMIT_S, UPLOAD_LIMIT_S, ASYNCHRONOUS_LIMIT_S = 3, 5, 2


def measure(bench):
    """Medians on two Hadoops, one after the other."""
    rounds = 3 if bench.quick else 5
    ringspin = bench.ringspin()
    with cluster() as hadoop:
        # The first submission meets a cluster that has never seen a job: it warms up and counts for nothing.
        start(hadoop, ringspin)
        uploaded, cached, shells = [], [], []
        for _ in range(rounds):
            hadoop.forget_executable()
            uploaded.append(start(hadoop, ringspin))
            cached.append(start(hadoop, ringspin))
            shells.append(distributed_shell(hadoop))
        yield row(f"Hadoop {DEFAULT_VERSION}, executable cached", cached, CACHED_LIMIT_S)
        yield row(f"Hadoop {DEFAULT_VERSION}, executable uploaded", uploaded, UPLOAD_LIMIT_S)
        yield from beside(cached, shells)
    try:
        with cluster(ASYNCHRONOUS_VERSION) as hadoop:
            start(hadoop, ringspin)
            cached = [start(hadoop, ringspin) for _ in range(rounds)]
            yield row(f"Hadoop {ASYNCHRONOUS_VERSION}, executable cached", cached, ASYNCHRONOUS_LIMIT_S)
    except CannotMeasure as error:
        yield unmeasured(f"Hadoop {ASYNCHRONOUS_VERSION}", error)


def start(hadoop, ringspin):
    """Seconds to each mark of one job."""
    return hadoop.job(ringspin, "--epochs", 1).finish().start()


def row(what, starts, limit):
    firsts = [marks["first step"] for marks in starts]
    medians = {mark: statistics.median(marks[mark] for marks in starts) for mark in starts[0]}
    breakdown = ", ".join(f"{mark} {seconds:.2f}" for mark, seconds in sorted(medians.items(), key=lambda one: one[1]))
    note = f"medians of {len(starts)}, {WORKERS} workers: {breakdown}; {min(firsts):.2f} to {max(firsts):.2f} s"
    return at_most(Row(what, "s", statistics.median(firsts), limit, "the limit", note=note))


def distributed_shell(hadoop):
    """Seconds of a whole run, and from the client's beginning to its container's first command."""
    with tempfile.TemporaryDirectory(prefix="ringspin-bench-") as folder:
        touched = pathlib.Path(folder) / "touched"
        # The container's user may be another.
        touched.parent.chmod(0o777)
        begun = time.time()
        hadoop.command("dshell", "--shell_command", "touch", "--shell_args", touched, "--num_containers", 1)
        whole = time.time() - begun
        if not touched.exists():
            raise CannotMeasure("the distributed shell's container ran nothing")
        return touched.stat().st_mtime - begun, whole


def beside(cached, shells):
    """The distributed shell's figures, for orientation."""
    first = statistics.median(marks["first worker"] for marks in cached)
    step = statistics.median(marks["first step"] for marks in cached)
    container, whole = (statistics.median(times) for times in zip(*shells, strict=True))
    yield Row("to the first worker's connection", "s", first, container, "distributed shell, to its container's command")
    yield Row("to the first step", "s", step, whole, "distributed shell, a whole run")
