"""What a comparison of arms holds: one baseline, any number of candidates, several benchmarks.

An arm is what is compared: one model, trained once or with several seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Literal, TypeVar

from eval.benchmark import Metrics, Unit
from eval.bootstrap import LEVEL, SignTest
from eval.judging import UNKNOWN

Verdict = Literal["gain", "loss", "difference", "unclear"]


@dataclass(frozen=True)
class Quantity:
    """A metric and how to read it."""

    metric: str
    title: str
    better: Literal["higher", "lower", "neither"]
    share: bool
    headline: bool

    @property
    def of_part(self) -> bool:
        """True for a metric of a split or a category."""
        return "/" in self.metric


SomeQuantity = TypeVar("SomeQuantity", bound=Quantity)


def headlines(benchmark: Metrics, quantities: Sequence[SomeQuantity]) -> list[SomeQuantity]:
    """The metrics to quote, the first one first; those that these answers do not give are left."""
    by_name = {quantity.metric: quantity for quantity in quantities}
    return [by_name[name] for name in benchmark.headlines if name in by_name]


def main_part(quantities: Sequence[SomeQuantity]) -> list[SomeQuantity]:
    """Headlines and metrics over everything."""
    return [quantity for quantity in quantities if quantity.headline or not quantity.of_part]


def detail(quantities: Sequence[SomeQuantity]) -> list[SomeQuantity]:
    """The rest: metrics of a split or a category."""
    return [quantity for quantity in quantities if quantity.of_part and not quantity.headline]


@dataclass(frozen=True)
class Score(Quantity):
    """One metric of one arm by itself, pooled over its seeds, with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class SignificanceTest:
    """A test of "no difference", and what is left of it among `family` tests (Holm)."""

    name: Literal["McNemar", "sign test", "bootstrap"]
    p: float
    corrected: float
    family: int


@dataclass(frozen=True)
class Difference(Quantity):
    """One metric in two arms, pooled over the seeds; `per_seed` are the seeds' own differences.

    Only headlines are tested.
    """

    baseline: float
    candidate: float
    difference: float
    low: float
    high: float
    per_seed: tuple[float, ...]
    test: SignificanceTest | None

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

    @property
    def holds(self) -> bool:
        """False where the interval is clear of zero and the corrected test is not."""
        return self.verdict == "unclear" or self.test is None or self.test.corrected < LEVEL


@dataclass(frozen=True)
class Flip:
    """A unit that one arm has right and the other wrong, in one seed (from 0)."""

    seed: int
    before: Unit
    after: Unit


@dataclass(frozen=True)
class Comparison:
    """One candidate against the baseline on one benchmark."""

    candidate: str
    differences: tuple[Difference, ...]
    signs: SignTest | None
    gained: tuple[Flip, ...]
    lost: tuple[Flip, ...]


def judge_unknown(provenance: Mapping[str, object]) -> bool:
    """Whether a judge gave the verdicts, and nothing says which."""
    judge = provenance.get("judge")
    return isinstance(judge, Mapping) and judge.get("name") == UNKNOWN


@dataclass(frozen=True)
class Standing:
    """One arm on one benchmark by itself; `provenance` is one of each seed."""

    arm: str
    scores: tuple[Score, ...]
    provenance: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class Category:
    """Share of right units of one category, in each arm of the section."""

    name: str
    units: int
    shares: tuple[float, ...]


@dataclass(frozen=True)
class Mismatch:
    """Results of different data were compared because the user said so.

    `differ` names what was not equal. Of each arm, `dropped` counts the units that another arm
    does not have. Dropped as well were `changed` units, which share an id but ask something else,
    and `torn` ones, whose counts speak of units that were dropped. `relabelled` ones have another
    truth and were kept.
    """

    differ: tuple[str, ...]
    kept: int
    dropped: Mapping[str, int]
    changed: int
    torn: int
    relabelled: int


@dataclass(frozen=True)
class Section:
    """Everything that the report says about one benchmark; the baseline stands first."""

    benchmark: Metrics
    of_tower: bool
    units: int
    clusters: int
    seeds: int
    standings: tuple[Standing, ...]
    comparisons: tuple[Comparison, ...]
    categories: tuple[Category, ...]
    mismatch: Mismatch | None
    data_root: Path


@dataclass(frozen=True)
class Study:
    """All of it. `left_out` says which results there are that could not be compared."""

    baseline: str
    candidates: tuple[str, ...]
    sections: tuple[Section, ...]
    left_out: tuple[str, ...]

    @property
    def seeds(self) -> int:
        return self.sections[0].seeds

    @property
    def family(self) -> int:
        """Number of tests that are corrected together."""
        tests = [d.test for s in self.sections for c in s.comparisons for d in c.differences]
        return sum(test is not None for test in tests)
