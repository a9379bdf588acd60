"""A Hadoop of the benchmark's own, with MNIST in its HDFS, and jobs on it."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import time

from .programs import REPO, RUN_SECONDS, CannotMeasure, environment, run, say

DEFAULT_VERSION = "3.4.2"
INPUT, OUTPUT = "/bench/mnist", "/bench/model"
# Below the user's home, which is what a relative path means to Hadoop's shell.
CACHE = ".ringspin/cache"
WORKERS = 2
JOB = "conf/lenet-mnist.toml"


@contextlib.contextmanager
def cluster(version=DEFAULT_VERSION):
    """A running cluster of two nodes; it goes with the block, or with this process however that ends."""
    hadoop = Cluster(f"bench-{os.getpid()}", version)
    try:
        say(f"starting Hadoop {version}")
        hadoop.command("up", "--version", version, "--owner-pid", os.getpid())
        run(["scripts/fetch-mnist"])
        hadoop.command("fs", "-mkdir", "-p", str(pathlib.PurePosixPath(INPUT).parent))
        hadoop.command("fs", "-put", REPO / "data/mnist", INPUT)
        yield hadoop
    finally:
        subprocess.run(hadoop.words("down"), cwd=REPO, stderr=subprocess.DEVNULL, check=False)


class Cluster:
    """`scripts/hadoop` under one name."""

    def __init__(self, name, version):
        self.name, self.version = name, version

    def words(self, *arguments):
        return [str(word) for word in (REPO / "scripts/hadoop", "--name", self.name, *arguments)]

    def command(self, *arguments):
        """What a command of scripts/hadoop printed."""
        return run(self.words(*arguments)).stdout

    def job(self, ringspin, *arguments):
        """Submits the MNIST job from the host `edge`; a Job under way."""
        train = [ringspin, "train", "--master", "yarn", "--conf", JOB, "--input", f"hdfs://{INPUT}"]
        train += ["--output", f"hdfs://{OUTPUT}", "--overwrite", "--workers", WORKERS, "--format", "json", *arguments]
        # The shell says when the client's process begins, apart from how long it takes to enter the host.
        return Job(self.words("on", "edge", "bash", "-c", 'date +%s.%N >&2; exec "$@"', "-", *train))

    def forget_executable(self):
        """Makes the next submission upload it."""
        self.command("fs", "-rm", "-r", "-f", "-skipTrash", CACHE)

    def manifest(self):
        """Of the model trained last."""
        return json.loads(self.command("fs", "-cat", f"{OUTPUT}/manifest.json"))

    def processes(self):
        """Machine-wide PID and words of all processes in containers."""
        for host in ("node1", "node2"):
            listed = subprocess.run(self.words("ps", host), capture_output=True, text=True, check=False).stdout
            for line in listed.splitlines():
                pid, *words = line.split()
                yield int(pid), words


class Job:
    """`ringspin train` under way."""

    def __init__(self, words):
        self.process = subprocess.Popen(
            words, cwd=REPO, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )
        self.deadline = time.monotonic() + RUN_SECONDS

    def finish(self):
        """Waits for the end. Raises when the job has failed."""
        lines = []
        try:
            for text in self.process.stderr:
                lines.append((time.time(), text.strip()))
            result = self.process.stdout.read()
            status = self.process.wait(max(0, self.deadline - time.monotonic()))
        finally:
            if self.process.poll() is None:
                self.process.terminate()
                self.process.wait()
        if status != 0:
            raise CannotMeasure(f"the job ended with status {status}: {lines[-1][1] if lines else 'no message'}")
        return Finished(lines, json.loads(result))


class Finished:
    """What a finished job's client has said."""

    def __init__(self, lines, result):
        self.lines, self.result = lines, result

    def start(self):
        """Seconds from the beginning of the client's process to each mark, in order."""
        begun = float(self.lines[0][1])
        marks = {}
        for at, text in self.lines:
            if submitted := re.match(r"Submitted application \S+ in (\d+) ms", text):
                marks["client ready"] = at - int(submitted[1]) / 1e3 - begun
            if text.startswith("Start: ") and "client ready" in marks:
                for what, seconds in re.findall(r"([^,:]+) ([\d.]+) s(?:,|$)", text.removeprefix("Start: ")):
                    marks[what.strip()] = marks["client ready"] + float(seconds)
        if "first step" not in marks:
            raise CannotMeasure("the client printed no line `Start: ..., first step ... s`")
        return marks
