"""steps of models that are mostly matrix products: our kernels beside builds with OpenBLAS and with MKL"""

import os

from harness.programs import REPO, documents, run
from harness.rows import Row

THREADS = 2
# What a build is called, its feature and the variables it is built and run with.
BUILDS = (
    ("MKL", "mkl", {"MKLROOT": str(REPO / ".work/mkl")}),
    ("OpenBLAS", "openblas", {}),
    ("OpenBLAS for Haswell", "openblas", {"OPENBLAS_CORETYPE": "Haswell"}),
)


def measure(bench):
    """Best of rounds in which all builds take turns; forward and backward, without the optimizer."""
    if not os.environ.get("MKLROOT"):
        run(["scripts/fetch-mkl"])
    rounds, seconds = (1, 1) if bench.quick else (3, 2)
    flags = ["--threads", THREADS, "--seconds", seconds]
    own = bench.example("ringspin-nn", "blas_steps")
    builds = []
    for name, feature, environment in BUILDS:
        environment = environment | {key: os.environ[key] for key in environment if key == "MKLROOT" and key in os.environ}
        builds.append((name, bench.example("ringspin-nn", "blas_steps", feature, environment), environment))
    ours, theirs = {}, {}
    for _ in range(rounds):
        keep_best(ours, documents([own, *flags]))
        for name, program, environment in builds:
            keep_best(theirs.setdefault(name, {}), documents([program, *flags], environment))
    for model, found in ours.items():
        for name, of in theirs.items():
            rates = found["best_records_per_second"], of[model]["best_records_per_second"]
            note = f"best steps {found['best_ms']:.1f} and {of[model]['best_ms']:.1f} ms, batch {found['batch']}"
            yield Row(f"{model}, forward and backward", "records/s", *rates, f"the same with {name}", note=note)


def keep_best(best, found):
    for document in found:
        model = document["model"]
        if model not in best or document["best_ms"] < best[model]["best_ms"]:
            best[model] = document
