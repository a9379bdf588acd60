"""what the jobs of conf/ learn on real data, beside PyTorch with the same settings on the same files"""

import dataclasses
import json
import pathlib
import tempfile

from harness.programs import REPO, CannotMeasure, run
from harness.rows import Row, at_least, at_most, unmeasured


@dataclasses.dataclass(frozen=True)
class Lesson:
    """`job` of conf/, `peer` of scripts/peers/learning.json, `metric` in our result and in the peer's, and the bound."""

    job: str
    peer: str
    metric: str
    peer_metric: str
    bound: float
    lower: bool = False


LESSONS = (
    Lesson("lenet-mnist", "lenet5", "accuracy", "accuracy", 0.99),
    Lesson("mlp-mnist", "mlp", "accuracy", "accuracy", 0.975),
    Lesson("autoencoder-mnist", "autoencoder", "mse", "mse", 0.02, lower=True),
    Lesson("neumf-movielens", "neumf", "hr@10", "hr10", 0.60),
    Lesson("neumf-movielens", "neumf", "ndcg@10", "ndcg10", 0.33),
    Lesson("wide-deep-movielens", "wide_deep", "roc_auc", "auc", 0.76),
    Lesson("text-cnn-spam", "text_cnn", "accuracy", "accuracy", 0.97),
    Lesson("lstm-spam", "lstm", "accuracy", "accuracy", 0.95),
    Lesson("gru-spam", "gru", "accuracy", "accuracy", 0.95),
    Lesson("transformer-spam", "transformer", "accuracy", "accuracy", 0.96),
    Lesson("word-lm-brown", "word_lm", "perplexity", "perplexity", 400, lower=True),
)
PREPARED = {"neumf": "movielens-100k", "wide-deep": "movielens-100k", "spam-words": "spam-assassin", "brown-words": "brown"}


def measure(bench):
    """Prepares the data, trains every job once, and compares with its bound; PyTorch's figures unless --quick."""
    prepare()
    mine, theirs = {}, {}
    for lesson in LESSONS:
        try:
            if lesson.job not in mine:
                mine[lesson.job] = train(bench.ringspin(), lesson.job)
            if lesson.peer not in theirs and not bench.quick:
                theirs[lesson.peer] = bench.peer("torch_learning.py", lesson.peer)[0]
            yield row(lesson, mine[lesson.job], theirs.get(lesson.peer))
        except CannotMeasure as error:
            yield unmeasured(lesson.job, error)


def prepare():
    run(["scripts/fetch-mnist"])
    for name, source in PREPARED.items():
        if not (REPO / "data" / name / "about.json").exists():
            run(["scripts/fetch-data", source])
            run(["scripts/prepare-data", name])


def train(ringspin, job):
    """What `ringspin train` printed."""
    with tempfile.TemporaryDirectory(prefix="ringspin-bench-") as folder:
        output = pathlib.Path(folder) / "model"
        return json.loads(run([ringspin, "train", "--conf", f"conf/{job}.toml", "--output", output, "--format", "json"]).stdout)


def row(lesson, result, peer):
    if lesson.metric not in result:
        raise CannotMeasure(f"the result of {lesson.job} has no {lesson.metric}: {', '.join(result)}")
    value, note = result[lesson.metric], ""
    if peer:
        note = f"PyTorch {peer['torch']}: {peer[lesson.peer_metric]:.4f} with seed {peer['seed']} in {peer['seconds']:.0f} s"
    made = Row(f"{lesson.job}, {lesson.metric}", "", value, lesson.bound, f"the bound, conf/{lesson.job}.toml", note=note)
    return at_most(made) if lesson.lower else at_least(1, made)
