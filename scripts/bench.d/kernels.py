"""single convolution passes and matrix products beside PyTorch's (oneDNN, MKL), with their share of the FMA peak"""

import json

from harness.programs import documents
from harness.rows import Row, at_least

TIMES_ONEDNN = 1.0
THREADS = 2


def measure(bench):
    """Best of rounds in which the sides take turns."""
    rounds, milliseconds = (1, 60) if bench.quick else (3, 250)
    passes = bench.example("ringspin-nn", "conv_passes")
    only = ["--only", bench.only] if bench.only else []
    window = ["--milliseconds", milliseconds]
    ours, theirs = {}, {}
    for _ in range(rounds):
        cases = documents([passes, "--threads", THREADS, *window, *only])
        keep_best(ours, cases)
        keep_best(theirs, bench.peer("torch_conv.py", "--cases", json.dumps(cases), *window))
    for key, case in ours.items():
        yield row_of(case, theirs[key])


def keep_best(best, documents_of_a_round):
    for document in documents_of_a_round:
        key = document["name"], document["pass"]
        if key not in best or document["gflops"] > best[key]["gflops"]:
            best[key] = document


def row_of(case, peer):
    share = 100 * case["gflops"] / case["peak_gflops"]
    note = (
        f"{case['milliseconds']:.3f} ms, {share:.0f} % of the FMA peak of the same moment, "
        f"{case['peak_gflops']:.0f} GFLOP/s ({case['isa']}, {case['threads']} threads)"
    )
    # Products of matrices are its BLAS's: MKL.
    of = "oneDNN of PyTorch {}, channels last" if "kernel" in case else "matrix product of PyTorch {}"
    against = of.format(peer["torch"])
    row = Row(f"{case['name']} {case['pass']}", "GFLOP/s", case["gflops"], peer["gflops"], against, note=note)
    return at_least(TIMES_ONEDNN, row)
