"""Compares torch_models.py with torchvision: names and shapes of parameters, results in training and inference.

usage: torch_models_check.py [MODEL ...]

Needs torchvision (`pip install --no-deps torchvision pillow` beside PyTorch), which nothing else here does. Prints a
line a model; exit status 1 when one differs.
"""

import sys

import torch
import torchvision
from torch_models import MODELS

RECORDS = 2
# Both sides in float64; what is left is the order of sums.
TOLERANCE = 1e-9
# Models and the side of their images; torchvision has both heads and its own start values only when asked.
SIDES = {
    "vgg16": 224, "vgg19": 224, "resnet18": 224, "resnet50": 224, "googlenet": 224, "inception_v3": 299,
    "mobilenet_v2": 224,
}  # fmt: skip
ASKED = {name: {"aux_logits": True, "init_weights": False} for name in ("googlenet", "inception_v3")}


def compare(name, side):
    """The largest relative difference of any output, in inference and in training with the same dropout."""
    torch.manual_seed(1)
    theirs = torchvision.models.get_model(name, weights=None, **ASKED.get(name, {})).double()
    ours = MODELS[name]().double()
    for norm in (module for module in theirs.modules() if isinstance(module, torch.nn.BatchNorm2d)):
        torch.nn.init.uniform_(norm.weight, 0.5, 1.5)
        torch.nn.init.normal_(norm.bias, std=0.1)
    # Strict: the same names and shapes, buffers too.
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(RECORDS, 3, side, side, dtype=torch.float64)
    worst = 0.0
    for training in (True, False):
        results = []
        for model in (ours, theirs):
            torch.manual_seed(2)
            with torch.no_grad():
                found = model.train(training)(images)
            results.append(found if isinstance(found, tuple) else (found,))
        for mine, other in zip(*results, strict=True):
            worst = max(worst, ((mine - other).abs().max() / other.abs().max()).item())
    return worst


def main():
    differs = False
    for name in sys.argv[1:] or SIDES:
        worst = compare(name, SIDES[name])
        differs |= not worst <= TOLERANCE
        print(f"{name:<14} torchvision {torchvision.__version__}: largest relative difference {worst:.1e}", flush=True)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())
