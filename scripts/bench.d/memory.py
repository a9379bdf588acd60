"""peak resident memory of training steps, beside PyTorch"""

from harness.models import MODELS, ours, torch
from harness.programs import CannotMeasure
from harness.rows import Row, at_most, unmeasured

SHARE = 0.5


def measure(bench):
    """A few steps of every model on both sides."""
    for model in (model for model in MODELS if bench.wants(model.title)):
        try:
            mine = ours(bench, model, 1)["peakMemoryBytes"] / (1 << 20)
            theirs = min(document["peak_mib"] for document in torch(bench, model, 1))
        except CannotMeasure as error:
            yield unmeasured(model.title, error)
            continue
        note = f"{theirs:.0f} MiB, the better of PyTorch's layouts, itself included"
        yield at_most(Row(model.title, "MiB", mine, SHARE * theirs, f"{SHARE:g} of PyTorch's peak", note=note))
