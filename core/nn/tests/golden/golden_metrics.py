"""Writes metrics.json, what scikit-learn and plain numpy say of metrics: golden_metrics.py [FOLDER]

Needs numpy and scikit-learn. Outputs are made anew by both sides from the integer hash `noise` of make_golden.py;
some are rounded, so that there are ties. Targets are in the file.
"""
import json, pathlib, sys
import numpy as np
from sklearn import metrics as skl

OUT = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
SETS = []


def noise(seed, count):
    """Numbers in [-1, 1) from a hash of (seed, index), as in make_golden.py."""
    h = (np.arange(count, dtype=np.uint64) * 2654435761 + (seed + 1) * 40503) % 2**32
    h ^= h >> 15
    h = h * 2246822519 % 2**32
    h ^= h >> 13
    h = h * 3266489917 % 2**32
    h ^= h >> 16
    return (h.astype(np.float64) / 2**31 - 1).astype(np.float32)


def outputs(records, outputs, ties):
    y = np.float32(4) * noise(1, records * outputs)
    return (np.round(y * 2) / 2 if ties else y).astype(np.float64).reshape(records, outputs)


def classes(records, count):
    return ((noise(3, records).astype(np.float64) + 1) / 2 * count).astype(np.int64)


def row(name, params, kind, y, t, ties, value):
    """One value of a data set; `kind`: classes, binary (0 or 1) or values."""
    data = {"kind": kind, "records": y.shape[0], "outputs": y.shape[1], "ties": ties,
            "targets": np.asarray(t).reshape(-1).tolist()}
    if not SETS or SETS[-1]["data"] != data:
        SETS.append({"data": data, "metrics": []})
    SETS[-1]["metrics"].append({"name": name, "params": params, "value": float(value)})


def of_classes():
    for records, count, ties in [(40, 2, False), (60, 5, False), (200, 5, True), (90, 12, False)]:
        y, t = outputs(records, count, ties), classes(records, count)
        prob = np.exp(y - y.max(1, keepdims=True))
        prob /= prob.sum(1, keepdims=True)
        predicted = y.argmax(1)
        # Of equal outputs the first counts as larger, as numpy's stable sort has it.
        ranks = np.array([list(np.argsort(-v, kind="stable")).index(c) for v, c in zip(y, t)])
        for k in [1, 3]:
            row("top", {"k": k}, "classes", y, t, ties, (ranks < k).mean())
        row("accuracy", {}, "classes", y, t, ties, skl.accuracy_score(t, predicted))
        row("perplexity", {}, "classes", y, t, ties, np.exp(skl.log_loss(t, prob, labels=range(count))))
        for average in ["macro", "micro", "weighted"] + ["binary"] * (count == 2):
            for name, score in [("precision", skl.precision_score), ("recall", skl.recall_score), ("f1", skl.f1_score)]:
                row(name, {"average": average}, "classes", y, t, ties,
                    score(t, predicted, average=average, zero_division=0))
        for positive in [0, 1]:
            odds = np.log(prob[:, positive]) - np.log(np.delete(prob, positive, 1).sum(1))
            # The scores are 32-bit numbers, and equal where those are.
            odds = odds.astype(np.float32)
            if not ties:
                yes, p = t == positive, {"positive": positive}
                row("roc_auc", p, "classes", y, t, ties, skl.roc_auc_score(yes, odds))
                row("pr_auc", p, "classes", y, t, ties, skl.average_precision_score(yes, odds))


def of_binary():
    for records, ties in [(30, False), (300, True)]:
        y, t = outputs(records, 1, ties), (noise(3, records) > .2).astype(np.int64)
        predicted = y[:, 0] > .5
        row("roc_auc", {}, "binary", y, t, ties, skl.roc_auc_score(t, y[:, 0]))
        row("pr_auc", {}, "binary", y, t, ties, skl.average_precision_score(t, y[:, 0]))
        row("accuracy", {}, "binary", y, t, ties, skl.accuracy_score(t, predicted))
        row("precision", {}, "binary", y, t, ties, skl.precision_score(t, predicted))
        row("recall", {"threshold": -1.2}, "binary", y, t, ties, skl.recall_score(t, y[:, 0] > -1.2))
        row("f1", {}, "binary", y, t, ties, skl.f1_score(t, predicted))
    # Several answers a record.
    y, t = outputs(50, 4, False), (noise(3, 200) > 0).astype(np.int64).reshape(50, 4)
    for average in ["macro", "micro", "weighted"]:
        row("f1", {"average": average}, "binary", y, t, False, skl.f1_score(t, y > .5, average=average))
    # Groups of one chosen item and others, as in leave-one-out evaluation of recommendations.
    for groups, size, ties in [(40, 20, False), (40, 20, True), (7, 100, False)]:
        y = outputs(groups * size, 1, ties)
        chosen = ((noise(5, groups).astype(np.float64) + 1) / 2 * size).astype(np.int64)
        t = np.zeros((groups, size), dtype=np.int64)
        t[np.arange(groups), chosen] = 1
        scores = y.reshape(groups, size)
        # A group's item stands behind all that score as much.
        ranks = (scores >= scores[np.arange(groups), chosen][:, None]).sum(1) - 1
        for k in [1, 10]:
            row("hr", {"k": k, "group": size}, "binary", y, t, ties, (ranks < k).mean())
            gains = np.where(ranks < k, 1 / np.log2(ranks + 2), 0)
            row("ndcg", {"k": k, "group": size}, "binary", y, t, ties, gains.mean())
        if not ties:
            row("ndcg", {"k": 5, "group": size}, "binary", y, t, ties, skl.ndcg_score(t, scores, k=5))


def of_values():
    for records, count, offset in [(2, 1, 0), (50, 1, 0), (20, 3, 0), (100, 2, 1000)]:
        y = outputs(records, count, False)
        t = (noise(3, records * count).reshape(records, count) + np.float32(offset)).astype(np.float64)
        row("mae", {}, "values", y, t, False, skl.mean_absolute_error(t, y))
        row("mse", {}, "values", y, t, False, skl.mean_squared_error(t, y))
        row("r2", {}, "values", y, t, False, skl.r2_score(t, y))


if __name__ == "__main__":
    of_classes(), of_binary(), of_values()
    (OUT / "metrics.json").write_text("[\n" + ",\n".join(json.dumps(s, separators=(",", ":")) for s in SETS) + "\n]\n")
