"""Programs: what is measured, built when it is missing, and run without the variables that bend figures."""

import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import threading

REPO = pathlib.Path(__file__).resolve().parents[3]
# They pin OpenBLAS to kernels of another CPU; no side may profit or suffer from that.
BENDING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Longer than any single run: a program that hangs must not hang the benchmark.
RUN_SECONDS = 1800
# Between two looks at a program's memory.
LOOK_SECONDS = 0.05


class CannotMeasure(Exception):
    """Why a figure is missing."""


class Bench:
    """What a benchmark gets: options, executables, the peers' Python."""

    def __init__(self, peers, quick, build):
        self.peers, self.quick, self.build = peers.resolve(), quick, build
        self._ready = set()

    def ringspin(self):
        """The release executable."""
        return self._program("ringspin", "ringspin", [])

    def example(self, package, name):
        """An example of a crate, in release."""
        return self._program(f"examples/{name}", package, ["--example", name])

    def _program(self, place, package, target):
        path = target_folder() / "release" / place
        if place not in self._ready and (self.build or not path.exists()):
            say(f"building {path.name}")
            built = subprocess.run(["cargo", "build", "--release", "-p", package, *target], cwd=REPO, check=False)
            if built.returncode != 0 or not path.exists():
                raise CannotMeasure(f"{path.name} does not build")
        elif place not in self._ready and path.stat().st_mtime < last_change():
            say(f"{path.name} is older than some source file; --build brings it up to date")
        self._ready.add(place)
        return path

    def python(self):
        """The peers' Python, with PyTorch."""
        python = self.peers / "torch/bin/python"
        if not python.exists():
            raise CannotMeasure(f"no peers in {self.peers}: scripts/bench setup {self.peers}")
        return python

    def peer(self, script, *arguments):
        """The JSON documents that one of scripts/peers prints."""
        return documents([self.python(), REPO / "scripts/peers" / script, *arguments])

    def bigdl(self, model, *arguments):
        """The JSON documents that BigDL's training of a model gives."""
        if not (self.peers / "bigdl").is_dir():
            raise CannotMeasure(f"no BigDL in {self.peers}: scripts/bench setup {self.peers}")
        script = REPO / "scripts/peers/bigdl.py"
        return documents([sys.executable, script, model, "--peers", self.peers, *arguments])


def target_folder():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))


def last_change():
    """When a source file changed last."""
    sources = [path for folder in ("am", "cli", "container", "core") for path in (REPO / folder).rglob("src/**/*.rs")]
    return max((path.stat().st_mtime for path in sources), default=0)


def environment():
    return {name: value for name, value in os.environ.items() if name not in BENDING}


@dataclasses.dataclass
class Done:
    """A program that has ended well. `peak_mib`: its highest resident memory, its children not counted."""

    stdout: str
    stderr: str
    peak_mib: float | None


def run(command, seconds=RUN_SECONDS, peak=False):
    """Runs a command to its end; stdout and stderr as text, memory when `peak`. Raises when it fails."""
    command = [str(word) for word in command]
    try:
        process = subprocess.Popen(
            command, cwd=REPO, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    except OSError as error:
        raise CannotMeasure(f"`{command[0]}` does not run: {error}") from error
    with process:
        memory = HighWater(process.pid) if peak else None
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise CannotMeasure(f"`{' '.join(command)}` did not end within {seconds} s") from error
        finally:
            # Whatever ended the wait, an interrupt too: the program does not stay.
            process.kill()
            highest = memory.stop() if memory else None
    if process.returncode != 0:
        last = (stderr.strip() or stdout.strip() or "no message").splitlines()[-1]
        raise CannotMeasure(f"`{' '.join(command)}` ended with status {process.returncode}: {last}")
    return Done(stdout, stderr, highest)


class HighWater:
    """Watches the highest resident memory of a process. The kernel keeps it, and forgets it when the process ends."""

    def __init__(self, pid):
        self._status = pathlib.Path(f"/proc/{pid}/status")
        self._kib, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        while not self._over.is_set():
            try:
                found = re.search(r"^VmHWM:\s+(\d+) kB", self._status.read_text(encoding="utf-8"), re.MULTILINE)
            except OSError:
                return
            # An ended process that nobody has waited for yet has no memory.
            self._kib = max(self._kib, int(found[1])) if found else self._kib
            self._over.wait(LOOK_SECONDS)

    def stop(self):
        """MiB."""
        self._over.set()
        self._thread.join()
        return self._kib / 1024


def documents(command, peak=False):
    """The JSON documents a command prints, one a line; with `peak_mib` of the command in each when `peak`."""
    done = run(command, peak=peak)
    try:
        found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    except json.JSONDecodeError as error:
        raise CannotMeasure(f"{command[0]} printed no JSON: {error}") from error
    return [{**document, "peak_mib": done.peak_mib} for document in found] if peak else found


def say(text):
    """A word on what goes on, apart from the results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
