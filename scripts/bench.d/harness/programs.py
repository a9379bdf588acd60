"""Programs: what is measured, built when it is missing, and run without the variables that bend figures."""

import json
import os
import pathlib
import subprocess
import sys

REPO = pathlib.Path(__file__).resolve().parents[3]
# They pin OpenBLAS to kernels of another CPU; no side may profit or suffer from that.
BENDING = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Longer than any single run: a program that hangs must not hang the benchmark.
RUN_SECONDS = 1800


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


def target_folder():
    return pathlib.Path(os.environ.get("CARGO_TARGET_DIR", REPO / "target"))


def last_change():
    """When a source file changed last."""
    sources = [path for folder in ("am", "cli", "container", "core") for path in (REPO / folder).rglob("src/**/*.rs")]
    return max((path.stat().st_mtime for path in sources), default=0)


def environment():
    return {name: value for name, value in os.environ.items() if name not in BENDING}


def run(command, seconds=RUN_SECONDS):
    """Runs a command to its end; stdout and stderr as text. Raises when it fails."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(
            command, cwd=REPO, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=seconds, check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise CannotMeasure(f"`{' '.join(command)}` did not end within {seconds} s") from error
    except OSError as error:
        raise CannotMeasure(f"`{command[0]}` does not run: {error}") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise CannotMeasure(f"`{' '.join(command)}` ended with status {done.returncode}: {last}")
    return done


def documents(command):
    """The JSON documents a command prints, one a line."""
    text = run(command).stdout
    try:
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    except json.JSONDecodeError as error:
        raise CannotMeasure(f"{command[0]} printed no JSON: {error}") from error


def say(text):
    """A word on what goes on, apart from the results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
