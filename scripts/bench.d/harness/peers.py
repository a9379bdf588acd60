"""The peers: what they are and how they are installed."""

import subprocess
import sys
import venv

from .programs import REPO, say

DEFAULT = REPO / ".work/peers"
# PyTorch brings gloo. Only its CPU side is used.
PACKAGES = ("torch", "numpy")


def install(folder):
    """A virtual environment with PyTorch below `folder`; cheap when it is there. Returns the exit status."""
    python = folder / "torch/bin/python"
    if works(python):
        say(f"the peers are in {folder} already")
        return 0
    say(f"installing {', '.join(PACKAGES)} into {folder}/torch")
    venv.create(folder / "torch", with_pip=True)
    pip = subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], stdout=sys.stderr, check=False)
    if pip.returncode != 0 or not works(python):
        say("the peers could not be installed")
        return 2
    say(f"the peers are in {folder}")
    return 0


def works(python):
    return python.exists() and subprocess.run([python, "-c", "import torch, numpy"], check=False).returncode == 0
