"""Every number of the report, for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict

from eval.bootstrap import RESAMPLES
from eval.comparison import Comparison, Difference, Section
from eval.published import published_rows
from eval.report import cautions, wording
from eval.report.contents import Report


def body(report: Report) -> dict[str, object]:
    """As plain lists and dictionaries; undefined numbers are null."""
    study = report.study
    found = {
        "title": report.title,
        "baseline": study.baseline,
        "candidates": study.candidates,
        "seeds": study.seeds,
        "resamples": RESAMPLES,
        "tests": study.family,
        "method": wording.method(study),
        "warnings": [
            f"{section.benchmark.title}: {told}"
            for section in study.sections
            for told in cautions.warnings(section)
        ],
        "left_out": study.left_out,
        "benchmarks": {s.benchmark.name: _section(s) for s in study.sections},
    }
    return {key: _plain(entry) for key, entry in found.items()}


def _section(section: Section) -> dict[str, object]:
    arms = [standing.arm for standing in section.standings]
    return {
        "units": section.units,
        "groups": section.clusters,
        "seeds": section.seeds,
        "different_data": None if section.mismatch is None else asdict(section.mismatch),
        "arms": {
            s.arm: {"metrics": [asdict(score) for score in s.scores], "provenance": s.provenance}
            for s in section.standings
        },
        "comparisons": {c.candidate: _comparison(section, c) for c in section.comparisons},
        "categories": [
            {"name": c.name, "units": c.units, "shares": dict(zip(arms, c.shares, strict=True))}
            for c in section.categories
        ],
        "published": [asdict(row) for row in published_rows(section.benchmark.name)],
    }


def _comparison(section: Section, comparison: Comparison) -> dict[str, object]:
    return {
        "sentence": wording.sentence(section, comparison),
        "metrics": [_difference(d) for d in comparison.differences],
        "mcnemar": None if comparison.signs is None else asdict(comparison.signs),
        "gained": [[flip.seed, flip.before.id] for flip in comparison.gained],
        "lost": [[flip.seed, flip.before.id] for flip in comparison.lost],
    }


def _difference(d: Difference) -> dict[str, object]:
    return asdict(d) | {
        "seed_deviation": d.seed_deviation,
        "verdict": d.verdict,
        "outcome": wording.outcome(d),
    }


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
