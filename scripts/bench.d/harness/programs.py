"""Programs: what is measured, built when it is missing, and run without the variables that bend figures."""

import dataclasses
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

    def __init__(self, peers, quick, build, only=""):
        self.peers, self.quick, self.build, self.only = peers.resolve(), quick, build, only
        self._ready = set()

    def wants(self, title):
        """Whether a row of this title was asked for."""
        return self.only in title

    def ringspin(self):
        """The release executable."""
        return self._program("ringspin", "ringspin", [])

    def example(self, package, name, feature="", more=None):
        """An example of a crate, in release; with a feature of the crate and more variables in a folder of its own."""
        folder = target_folder() / feature
        flags = ["--example", name, *(["--features", feature, "--target-dir", folder] if feature else [])]
        return self._program(f"examples/{name}", package, flags, folder, more)

    def _program(self, place, package, flags, folder=None, more=None):
        path = (folder or target_folder()) / "release" / place
        if path not in self._ready and (self.build or not path.exists()):
            say(f"building {path.name}")
            command = ["cargo", "build", "--release", "-p", package, *flags]
            built = subprocess.run(command, cwd=REPO, env={**os.environ, **(more or {})}, check=False)
            if built.returncode != 0 or not path.exists():
                raise CannotMeasure(f"{path.name} does not build")
        elif path not in self._ready and path.stat().st_mtime < last_change():
            say(f"{path.name} is older than some source file; --build brings it up to date")
        self._ready.add(path)
        return path

    def python(self):
        """The peers' Python, with PyTorch."""
        python = self.peers / "torch/bin/python"
        if not python.exists():
            raise CannotMeasure(f"no peers in {self.peers}: scripts/bench setup {self.peers}")
        return python

    def peer(self, script, *arguments, environment=None):
        """The JSON documents that one of scripts/peers prints."""
        return documents([self.python(), REPO / "scripts/peers" / script, *arguments], environment)

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


def environment(more=None):
    return {name: value for name, value in os.environ.items() if name not in BENDING} | (more or {})


@dataclasses.dataclass
class Done:
    """A program that has ended well."""

    stdout: str
    stderr: str


def run(command, more=None, seconds=RUN_SECONDS):
    """Runs a command to its end, with `more` variables; stdout and stderr as text. Raises when it fails."""
    command = [str(word) for word in command]
    try:
        process = subprocess.Popen(
            command, cwd=REPO, env=environment(more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    except OSError as error:
        raise CannotMeasure(f"`{command[0]}` does not run: {error}") from error
    with process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise CannotMeasure(f"`{' '.join(command)}` did not end within {seconds} s") from error
        finally:
            # Whatever ended the wait, an interrupt too: the program does not stay.
            process.kill()
    if process.returncode != 0:
        last = (stderr.strip() or stdout.strip() or "no message").splitlines()[-1]
        raise CannotMeasure(f"`{' '.join(command)}` ended with status {process.returncode}: {last}")
    return Done(stdout, stderr)


def documents(command, more=None):
    """The JSON documents a command prints, one a line."""
    done = run(command, more)
    try:
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    except json.JSONDecodeError as error:
        raise CannotMeasure(f"{command[0]} printed no JSON: {error}") from error


def say(text):
    """A word on what goes on, apart from the results."""
    print(f"bench: {text}", file=sys.stderr, flush=True)
