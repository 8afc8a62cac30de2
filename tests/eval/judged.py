"""Scoring files of answers and verdicts, as eval/run.py does."""

from __future__ import annotations

import json
from pathlib import Path

from eval.benchmark import JudgedBenchmark
from eval.judging import Judging
from eval.result import Result, point_metrics
from eval.scoring import score_answers


def write(path: Path, content: object) -> Path:
    """Text and bytes as they are, a tuple of rows as json lines, anything else as json."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, str):
        path.write_text(content, encoding="utf-8")
    elif isinstance(content, tuple):
        path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
    return path


def scored(
    benchmark: JudgedBenchmark, root: Path, answers: object, verdicts: object | None
) -> Result:
    """The result of what is written to files beside the root."""
    path = write(root.parent / "answers.jsonl", answers)
    judged = None if verdicts is None else write(root.parent / "verdicts.jsonl", verdicts)
    ((_, result),) = score_answers(path, [(benchmark, root)], Judging(judged, None, 16), None)
    return result


def metrics(
    benchmark: JudgedBenchmark, root: Path, answers: object, verdicts: object
) -> dict[str, float]:
    return point_metrics(benchmark, scored(benchmark, root, answers, verdicts).units)
