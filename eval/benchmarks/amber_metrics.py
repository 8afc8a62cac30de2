"""AMBER's numbers from summed counts, rounded where and as inference.py rounds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eval.benchmark import COMPLETE, Counts, Kind, ratio

DIMENSIONS = {
    "existence": ("existence",),
    "attribute": ("state", "number", "action"),
    "relation": ("relation",),
}
DIMENSION_OF = {kind: dimension for dimension, kinds in DIMENSIONS.items() for kind in kinds}
OFFICIAL = ("accuracy", "precision", "recall", "f1")
# metrics.txt starts every counter there, so that nothing is divided by zero.
START = 0.001

KINDS = {
    "amber_score": Kind("AMBER score"),
    "chair": Kind("invented nouns (CHAIR)", "lower"),
    "cover": Kind("things named (Cover)"),
    "hal": Kind("captions with an invented noun (Hal)", "lower"),
    "cog": Kind("imaginable things named (Cog)", "lower"),
    "nouns": Kind("nouns per caption", "neither", share=False),
    "accuracy": Kind("accuracy"),
    "precision": Kind("precision of No"),
    "recall": Kind("recall of No"),
    "f1": Kind("F1 of No"),
    "inexact": Kind("answers other than Yes and No", "lower"),
    "unreadable": Kind("unreadable", "lower"),
    "careful_accuracy": Kind("accuracy, careful reading"),
    "careful_f1": Kind("F1 of No, careful reading"),
}


def _one_decimal(percent_R: np.ndarray) -> np.ndarray:
    """Python's round: numpy's takes 83.45, which is a little more in binary, down to 83.4."""
    return np.array([round(value, 1) for value in percent_R.tolist()])


def _percent(part_R: np.ndarray, whole_R: np.ndarray, counters: int = 1) -> np.ndarray:
    return _one_decimal(part_R / (whole_R + counters * START) * 100)


def amber_metrics(sums: Counts) -> dict[str, np.ndarray]:
    """Captions, all questions, and the dimensions that are answered; shares, each of [R].

    All questions have a figure only where every dimension is answered, the AMBER score only
    where everything is: one over some of it would pass for AMBER's.
    """
    zero = np.zeros_like(next(iter(sums.values())))
    kinds_answered = {kind for kind in DIMENSION_OF if f"{kind}/n" in sums}
    metrics = {name: np.full_like(zero, np.nan) for name in ("amber_score", "chair", "f1")}
    if "captions" in sums:
        metrics |= caption_metrics(sums)
    if len(kinds_answered) == len(DIMENSION_OF):
        metrics |= answer_metrics(sums, tuple(DIMENSION_OF), zero)
    units = sum((sums.get(f"{kind}/n", zero) for kind in DIMENSION_OF), sums.get("captions", zero))
    score = (1 - metrics["chair"] + metrics["f1"]) / 2
    metrics["amber_score"] = np.where(sums.get(COMPLETE, zero) == units, score, np.nan)
    for dimension, kinds in DIMENSIONS.items():
        if kinds_answered.issuperset(kinds):
            found = answer_metrics(sums, kinds, zero)
            metrics |= {f"{dimension}/{name}": value for name, value in found.items()}
            for kind in kinds if len(kinds) > 1 else ():
                found = answer_metrics(sums, (kind,), zero)
                metrics |= {f"{kind}/{name}": found[name] for name in OFFICIAL}
    return metrics


def caption_metrics(sums: Counts) -> dict[str, np.ndarray]:
    """CHAIR, Cover, Hal and Cog."""
    captions, nouns = sums["captions"], sums["nouns"]
    return {
        "chair": _percent(sums["invented"], nouns) / 100,
        "cover": _percent(sums["covered"], sums["truth"]) / 100,
        # Rounded after it is taken from 100.
        "hal": _one_decimal(100 - sums["clean"] / (captions + START) * 100) / 100,
        "cog": _percent(sums["imagined"], sums["hallu"]) / 100,
        "nouns": ratio(nouns, captions),
    }


def answer_metrics(sums: Counts, kinds: Sequence[str], zero: np.ndarray) -> dict[str, np.ndarray]:
    """Answers to questions of these kinds; the positive class is No.

    The script takes F1 from precision and recall as they are printed. Existence alone has 0.001
    where the others have 0.0001 in F1's denominator.
    """

    def count(name: str) -> np.ndarray:
        return np.sum([sums.get(f"{kind}/{name}", zero) for kind in kinds], axis=0)

    n, gold_no, right_no = count("n"), count("gold_no"), count("right_no")
    # Attributes are the sum of three counters; all questions have one of their own.
    counters = 3 if tuple(kinds) == DIMENSIONS["attribute"] else 1
    p = _percent(right_no, count("said_no"), counters) / 100
    r = _percent(right_no, gold_no, counters) / 100
    start = 0.001 if tuple(kinds) == DIMENSIONS["existence"] else 0.0001
    return {
        "accuracy": _percent(count("right"), n, counters) / 100,
        "precision": p,
        "recall": r,
        "f1": _one_decimal(2 * p * r / (p + r + start) * 100) / 100,
        "inexact": ratio(count("inexact"), n),
        "unreadable": ratio(count("unreadable"), n),
        "careful_accuracy": ratio(count("careful_right"), n),
        # An unreadable answer to a no-question is a miss: the recall's whole is all of them.
        "careful_f1": ratio(2 * count("careful_right_no"), count("careful_said_no") + gold_no),
    }
