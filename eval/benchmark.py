"""What a benchmark is: questions in, units of counts out, metrics as a function of summed counts.

A *unit* is one row of a result: a question (POPE), a pair (MMVP) or a caption (CHAIR). What is
resampled for an interval are pictures, each with all its units. Every metric is a function of the
sums of the units' counts, so that it can be computed again on any resample, for thousands of
resamples at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor

Counts: TypeAlias = Mapping[str, np.ndarray]
"""Name of a count -> its sums, shape [R] (one per resample)."""

COMPLETE = "complete"
"""A count of one that each unit has where everything is answered; a comparison over some of the
units takes it from them. A metric that only the whole benchmark has is defined where as many are
counted as there are units, which holds on any resample or on none."""


@dataclass(frozen=True)
class Question:
    """One thing to ask a model. `image` is relative to the benchmark's folder."""

    id: str
    prompt: str
    image: str | None
    label: str
    category: str


@dataclass(frozen=True)
class Unit:
    """One row of a result. `images` are relative to the benchmark's folder (see eval/pictures).

    Units of one `cluster` are resampled together: those about one picture (POPE asks 18 questions
    about each), or about pictures that belong together (MMVP's pairs, HallusionBench's sets). Where
    `joint`, a unit's counts speak of other units of its cluster too, as on pairs of questions that
    are both right, and are worth nothing without those. `reading` says what the rule made of the
    answer; a tower's choices need none ("").
    """

    id: str
    cluster: str
    counts: dict[str, float]
    right: bool | None
    category: str
    question: str
    answer: str
    reading: str
    label: str
    images: tuple[str, ...]
    joint: bool = False


@dataclass(frozen=True)
class Kind:
    """How to read a metric: its title, which direction is good, and whether it is a share."""

    title: str
    better: Literal["higher", "lower", "neither"] = "higher"
    share: bool = True


class Metrics(Protocol):
    """The part of a benchmark that the comparison needs."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    @property
    def headlines(self) -> tuple[str, ...]:
        """The metrics to quote first; all of them appear in the comparison's plot."""
        ...

    @property
    def kinds(self) -> Mapping[str, Kind]:
        """Reading of a metric by the last part of its name (after the '/')."""
        ...

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        """Every metric from summed counts, each of shape [R]; NaN where it is undefined."""
        ...


class Described(Metrics, Protocol):
    """What every benchmark says about itself."""

    @property
    def folder(self) -> str:
        """Name of its folder where one data root holds several benchmarks."""
        ...

    @property
    def parser(self) -> str:
        """Version of the rule that reads answers; a result carries it."""
        ...

    def files(self, root: Path) -> list[Path]:
        """The data files that decide the score; their hashes go into the result."""
        ...


Answers: TypeAlias = Sequence[tuple[str, str]]
"""Pairs of question id and answer, in the order of the file they were read from."""


@runtime_checkable
class LanguageBenchmark(Described, Protocol):
    """A benchmark of a multimodal language model."""

    @property
    def max_new_tokens(self) -> int: ...

    def load(self, root: Path) -> list[Question]: ...

    def part(self, question: Question) -> str:
        """A file of answers covers each part wholly, or leaves it out."""
        ...

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """Answers in every form that they are released in (eval/rows.py, eval/answers.py).

        Raises:
            ValueError: a file of another kind, or a row that says it asked something else than
                the question whose id it has.
        """
        ...

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """Units of the questions that are answered."""
        ...


@runtime_checkable
class JudgedBenchmark(LanguageBenchmark, Protocol):
    """A benchmark whose official score needs a judge: a language model that reads answers.

    A verdict is what the judge replied, word for word; reading it is the benchmark's.
    """

    @property
    def judge_max_new_tokens(self) -> int: ...

    @property
    def judge_required(self) -> bool:
        """False where `score` reads the answers by a rule as well."""
        ...

    def needs_verdict(self, question: Question, answer: str) -> bool:
        """False where the rule reads this answer without a judge."""
        ...

    def judge_questions(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Question]:
        """What to ask the judge about the answers that need a verdict; ids are the questions'.

        Raises:
            FileNotFoundError: the file of the judge's official prompt is not there.
        """
        ...

    def read_verdicts(self, path: Path, questions: Sequence[Question]) -> Answers:
        """Verdicts as they are released; none where the file holds answers alone."""
        ...

    def score_verdicts(
        self,
        root: Path,
        questions: Sequence[Question],
        answers: Mapping[str, str],
        verdicts: Mapping[str, str],
    ) -> list[Unit]:
        """Units of the questions that are answered, by the judge's verdicts."""
        ...


class EmbeddingTower(Protocol):
    """What a benchmark needs of a tower (vision_tower.towers.Tower has it)."""

    @property
    def logit_scale(self) -> Tensor: ...

    @property
    def preprocess(self) -> Callable[[Image.Image], Tensor]: ...

    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]: ...

    def encode_image(self, pixel_values_BCHW: Tensor, normalize: bool = False) -> Tensor: ...

    def encode_text(self, token_BL: Tensor, normalize: bool = False) -> Tensor: ...


@runtime_checkable
class TowerBenchmark(Described, Protocol):
    """A benchmark of the bare tower."""

    def measure(self, tower: EmbeddingTower, root: Path) -> list[Unit]: ...


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """part / whole, NaN where the whole is zero. Both [R]."""
    undefined = np.full(np.shape(part), np.nan)
    return np.divide(part, whole, out=undefined, where=np.asarray(whole) != 0)


def kind_of(benchmark: Metrics, metric: str) -> Kind:
    """The reading of one metric, e.g. of "random/f1"."""
    return benchmark.kinds[metric.rsplit("/", 1)[-1]]
