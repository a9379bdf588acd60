"""what the jobs of conf/ learn on real data, beside PyTorch with the same settings, files and seeds"""

import dataclasses
import json
import pathlib
import statistics
import tempfile
import time

from harness.programs import REPO, CannotMeasure, run
from harness.rows import Row, at_least, at_most, unmeasured


@dataclasses.dataclass(frozen=True)
class Lesson:
    """`job` of conf/, `peer` of scripts/peers/learning.json, and how many `seeds` both sides train with."""

    job: str
    peer: str
    metrics: tuple
    seeds: int


@dataclasses.dataclass(frozen=True)
class Metric:
    """`ours` in the result of `ringspin train`, `theirs` in the peer's, and the bound that every seed has to keep."""

    ours: str
    theirs: str
    bound: float
    lower: bool = False


def accuracy(bound):
    return (Metric("accuracy", "accuracy", bound),)


RANKING = (Metric("hr@10", "hr10", 0.60), Metric("ndcg@10", "ndcg10", 0.33))
LESSONS = (
    Lesson("lenet-mnist", "lenet5", accuracy(0.99), 3),
    Lesson("mlp-mnist", "mlp", accuracy(0.975), 3),
    Lesson("autoencoder-mnist", "autoencoder", (Metric("mse", "mse", 0.02, lower=True),), 3),
    Lesson("neumf-movielens", "neumf", RANKING, 3),
    Lesson("wide-deep-movielens", "wide_deep", (Metric("roc_auc", "auc", 0.76),), 3),
    Lesson("text-cnn-spam", "text_cnn", accuracy(0.97), 3),
    Lesson("lstm-spam", "lstm", accuracy(0.95), 3),
    Lesson("gru-spam", "gru", accuracy(0.95), 3),
    Lesson("transformer-spam", "transformer", accuracy(0.96), 3),
    Lesson("word-lm-brown", "word_lm", (Metric("perplexity", "perplexity", 400, lower=True),), 1),
)
PREPARED = {"neumf": "movielens-100k", "wide-deep": "movielens-100k", "spam-words": "spam-assassin", "brown-words": "brown"}


def measure(bench):
    """Prepares the data, trains every job with each seed on both sides; one seed, and ours alone, when --quick."""
    prepare()
    for lesson in (lesson for lesson in LESSONS if bench.wants(lesson.job)):
        seeds = range(1, 1 + (1 if bench.quick else lesson.seeds))
        try:
            mine = [train(bench.ringspin(), lesson.job, seed) for seed in seeds]
            given = lesson.peer, "--seeds", ",".join(map(str, seeds))
            theirs = [] if bench.quick else bench.peer("torch_learning.py", *given)
            for metric in lesson.metrics:
                yield row(lesson, metric, mine, theirs)
        except CannotMeasure as error:
            yield unmeasured(lesson.job, error)


def prepare():
    run(["scripts/fetch-mnist"])
    for name, source in PREPARED.items():
        if not (REPO / "data" / name / "about.json").exists():
            run(["scripts/fetch-data", source])
            run(["scripts/prepare-data", name])


def train(ringspin, job, seed):
    """What `ringspin train` printed, and its `seconds`."""
    with tempfile.TemporaryDirectory(prefix="ringspin-bench-") as folder:
        command = [ringspin, "train", "--conf", f"conf/{job}.toml", "--output", pathlib.Path(folder) / "model"]
        begun = time.monotonic()
        result = json.loads(run([*command, "-D", f"seed={seed}", "--format", "json"]).stdout)
        return {**result, "seconds": time.monotonic() - begun}


def row(lesson, metric, mine, theirs):
    """The mean over seeds beside PyTorch's; what counts against the bound is the worst seed."""
    if metric.ours not in mine[0]:
        raise CannotMeasure(f"the result of {lesson.job} has no {metric.ours}: {', '.join(mine[0])}")
    values = [result[metric.ours] for result in mine]
    worst = max(values) if metric.lower else min(values)
    note = f"seeds {', '.join(f'{value:.4f}' for value in values)} in {mean_seconds(mine):.0f} s each"
    if theirs:
        figures = [document[metric.theirs] for document in theirs]
        each = ", ".join(f"{figure:.4f}" for figure in figures)
        note += (
            f"; mean {statistics.mean(values):.4f}, PyTorch {theirs[0]['torch']} {statistics.mean(figures):.4f} "
            f"({each} in {mean_seconds(theirs):.0f} s each)"
        )
    of = "seed" if len(values) == 1 else f"worst of {len(values)} seeds"
    made = Row(f"{lesson.job}, {metric.ours}, {of}", "", worst, metric.bound, f"the bound, conf/{lesson.job}.toml", note=note)
    return at_most(made) if metric.lower else at_least(1, made)


def mean_seconds(results):
    return statistics.mean(result["seconds"] for result in results)
