"""The models that are measured beside their peers, and how each side runs a step of them."""

import dataclasses

from .programs import documents

THREADS = 2


@dataclasses.dataclass(frozen=True)
class Model:
    """`name`: ours; `peer`: that of scripts/peers/torch_train.py; `times`: the bar; `settings`: our flags; `other`: a
    form of the peer's that is printed beside, without a bar."""

    name: str
    peer: str
    batch: int
    times: float
    bigdl_times: float | None = None
    settings: tuple = ()
    other: str | None = None


ADAM = ("-D", "optimizer.name=adam", "-D", "optimizer.lr=0.001")
MOMENTUM = ("-D", "optimizer.name=sgd", "-D", "optimizer.lr=0.001", "-D", "optimizer.momentum=0.9")
# Only touched rows and their moments change, as with PyTorch's SparseAdam.
LAZY = ("-D", "model.sparse=lazy")
BINARY = ("-D", "loss.name=bce_with_logits")
MODELS = (
    Model("lenet5", "lenet5", 128, 3, 15, settings=MOMENTUM),
    Model("inception_v1", "inception_v1", 16, 1, 1.3, settings=MOMENTUM),
    Model("resnet50", "resnet50", 16, 1.3, settings=MOMENTUM),
    Model("vgg16", "vgg16", 8, 2.2, settings=MOMENTUM),
    Model("neumf", "neumf", 2048, 3, settings=ADAM + BINARY + LAZY, other="neumf_dense"),
    Model("lstm_text", "lstm", 128, 2, settings=ADAM),
    Model("transformer_text", "transformer", 32, 1.3, settings=(*ADAM, "-D", "model.masked=false")),
)


def ours(bench, model, seconds, *flags):
    """What `ringspin model profile` says of training steps."""
    command = [bench.ringspin(), "model", "profile", model.name, "--batch", model.batch, "--threads", THREADS]
    return documents([*command, "--seconds", seconds, *model.settings, *flags, "--format", "json"])[0]


def torch(bench, model, seconds):
    """What PyTorch says, one document a layout of memory."""
    flags = ("--batch", model.batch, "--threads", THREADS, "--seconds", seconds)
    return bench.peer("torch_train.py", "--model", model.peer, *flags)


def where(profile, most=6):
    """Where the time of a step goes: shares of the kinds of layers, the largest first."""
    kinds = {}
    for layer in profile["layers"]:
        spent = layer["forwardMs"] + layer["backwardMs"] + layer["weightsMs"]
        kinds[layer["type"]] = kinds.get(layer["type"], 0) + spent
    kinds |= {"loss": profile["lossMs"], "update": profile["updateMs"]}
    step = profile["meanMs"]
    largest = sorted(kinds.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{kind} {100 * ms / step:.0f} %" for kind, ms in largest if ms > 0.005 * step)
