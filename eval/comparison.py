"""What a comparison of two arms on one benchmark holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Literal

from eval.benchmark import Metrics, Unit
from eval.bootstrap import SignTest

Verdict = Literal["gain", "loss", "difference", "unclear"]


@dataclass(frozen=True)
class Difference:
    """One metric in both arms, pooled over the seeds; `per_seed` are the seeds' own differences."""

    metric: str
    title: str
    better: Literal["higher", "lower", "neither"]
    share: bool
    headline: bool
    baseline: float
    candidate: float
    difference: float
    low: float
    high: float
    per_seed: tuple[float, ...]

    @property
    def seed_deviation(self) -> float:
        """Standard deviation of the seeds' differences; NaN for one seed."""
        return stdev(self.per_seed) if len(self.per_seed) > 1 else math.nan

    @property
    def verdict(self) -> Verdict:
        """Which way the difference goes, if its interval is clear of zero."""
        if not (self.low > 0 or self.high < 0):
            return "unclear"
        if self.better == "neither":
            return "difference"
        return "gain" if (self.difference > 0) == (self.better == "higher") else "loss"


@dataclass(frozen=True)
class Flip:
    """A unit that one arm has right and the other wrong, in one seed (from 0)."""

    seed: int
    before: Unit
    after: Unit


@dataclass(frozen=True)
class CategoryShare:
    """Share of right units of one category in both arms."""

    name: str
    units: int
    baseline: float
    candidate: float


@dataclass(frozen=True)
class Comparison:
    """Everything that the report says about one benchmark."""

    benchmark: Metrics
    of_tower: bool
    units: int
    clusters: int
    seeds: int
    differences: tuple[Difference, ...]
    signs: SignTest | None
    gained: tuple[Flip, ...]
    lost: tuple[Flip, ...]
    categories: tuple[CategoryShare, ...]
    data_root: Path

    @property
    def headlines(self) -> list[Difference]:
        """The metrics to quote, the first one first."""
        by_name = {difference.metric: difference for difference in self.differences}
        return [by_name[name] for name in self.benchmark.headlines]

    @property
    def main_differences(self) -> list[Difference]:
        """Headlines and metrics over everything."""
        return [d for d in self.differences if d.headline or "/" not in d.metric]

    @property
    def detail_differences(self) -> list[Difference]:
        """Metrics of a part: a split, a category."""
        return [d for d in self.differences if not d.headline and "/" in d.metric]
