"""Published rows: what papers report, beside which ours are read, never subtracted from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True)
class Published:
    """One model's row on one benchmark.

    `values` are as printed, by the metric's name in eval/registry.py: shares in percent.
    `certainty` says where the numbers were read, `protocol` in what the measurement may differ
    from ours.
    """

    model: str
    benchmark: str
    values: Mapping[str, float]
    source: str
    certainty: str
    protocol: str


@cache
def read_published(path: Path = FILE) -> tuple[Published, ...]:
    """All rows of the file, in its order.

    Raises:
        ValueError: a row that lacks a field or has another; names its number.
    """
    rows: list[Published] = []
    for number, row in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1):
        try:
            rows.append(Published(**row))
        except TypeError as error:
            raise ValueError(f"{path}, row {number}: {error}.") from error
    return tuple(rows)


def published_rows(benchmark: str) -> list[Published]:
    """The rows of one benchmark."""
    return [row for row in read_published() if row.benchmark == benchmark]
