"""The models that are measured beside their peers, and how each side runs a step of them."""

import dataclasses

from .programs import documents

THREADS = 2


@dataclasses.dataclass(frozen=True)
class Model:
    """`name`: ours; `peer`: that of scripts/peers/torch_train.py; `times`: the bar; `settings`, `peer_settings`: flags;
    `other`: a form of the peer's that is printed beside, without a bar."""

    name: str
    peer: str
    batch: int
    times: float
    bigdl_times: float | None = None
    settings: tuple = ()
    other: str | None = None
    peer_settings: tuple = ()
    variant: str = ""

    @property
    def title(self):
        """What a row is about."""
        return f"{self.name}{self.variant}, batch {self.batch}"


ADAM = ("-D", "optimizer.name=adam", "-D", "optimizer.lr=0.001")
MOMENTUM = ("-D", "optimizer.name=sgd", "-D", "optimizer.lr=0.001", "-D", "optimizer.momentum=0.9")
# Only touched rows and their moments change, as with PyTorch's SparseAdam.
LAZY = ("-D", "model.sparse=lazy")
BINARY = ("-D", "loss.name=bce_with_logits")
UNMASKED = (*ADAM, "-D", "model.masked=false")
MODELS = (
    Model("lenet5", "lenet5", 128, 3, 15, settings=MOMENTUM),
    Model("inception_v1", "inception_v1", 16, 1, 1.3, settings=MOMENTUM),
    Model("resnet50", "resnet50", 16, 1.3, settings=MOMENTUM),
    Model("vgg16", "vgg16", 8, 2.2, settings=MOMENTUM),
    Model("neumf", "neumf", 2048, 3, settings=ADAM + BINARY + LAZY, other="neumf_dense"),
    Model("lstm_text", "lstm", 128, 2, settings=ADAM),
    Model("transformer_text", "transformer", 32, 1.3, settings=UNMASKED),
    Model(
        "transformer_text", "transformer", 32, 1.3, settings=(*UNMASKED, "-D", "model.dropout=0.0"),
        peer_settings=("--dropout", 0), variant=" without dropout",
    ),
)  # fmt: skip

# What keeps PyTorch, its oneDNN and its MKL from AVX-512.
TORCH_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def ours(bench, model, seconds, *flags, environment=None):
    """What `ringspin model profile` says of training steps."""
    command = [bench.ringspin(), "model", "profile", model.name, "--batch", model.batch, "--threads", THREADS]
    command += ["--seconds", seconds, *model.settings, *flags, "--format", "json"]
    return documents(command, environment)[0]


def torch(bench, model, seconds, environment=None):
    """What PyTorch says, one document a layout of memory."""
    flags = ("--batch", model.batch, "--threads", THREADS, "--seconds", seconds, *model.peer_settings)
    return bench.peer("torch_train.py", "--model", model.peer, *flags, environment=environment)


def where(profile, most=6):
    """Where the time of a step goes: shares of the kinds of layers, then of single layers, the largest first."""
    kinds, layers = {}, {}
    for layer in profile["layers"]:
        spent = layer["forwardMs"] + layer["backwardMs"] + layer["weightsMs"]
        kinds[layer["type"]] = kinds.get(layer["type"], 0) + spent
        layers[layer["layer"]] = spent
    kinds |= {"loss": profile["lossMs"], "update": profile["updateMs"]}
    step = profile["meanMs"]
    kinds["rest"] = max(0, step - sum(kinds.values()))
    return f"{shares(kinds, step, most)}; most in {shares(layers, step, most)}"


def shares(spent, step, most):
    largest = sorted(spent.items(), key=lambda item: -item[1])[:most]
    return ", ".join(f"{what} {100 * ms / step:.0f} %" for what, ms in largest if ms > 0.005 * step)
