"""A result: units with counts, the metrics from them, and how they were got. Kept as json."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from eval.benchmark import Metrics, Unit
from eval.bootstrap import Interval, cluster_sums, percentile_interval, resampled_metrics

FORMAT = 3  # one more whenever units are made or counted otherwise than before


@dataclass(frozen=True)
class Result:
    """The score of one model on one benchmark.

    `provenance` holds what must be equal for two results to be comparable ("data": file -> hash,
    "parser", "decoding", "prompts") and what says where it came from (model and tower hashes,
    versions, commit). `data_root` is the benchmark's folder as the user named it.
    """

    benchmark: str
    units: tuple[Unit, ...]
    provenance: dict[str, object]
    data_root: str


def count_names(units: Sequence[Unit]) -> list[str]:
    """Names of all counts, in order of first appearance."""
    return list(dict.fromkeys(name for unit in units for name in unit.counts))


def count_matrix(units: Sequence[Unit], names: Sequence[str]) -> np.ndarray:
    """Counts as [U, C]; a count that a unit does not have is zero."""
    return np.array([[unit.counts.get(name, 0.0) for name in names] for unit in units], dtype=float)


def point_metrics(benchmark: Metrics, units: Sequence[Unit]) -> dict[str, float]:
    """The benchmark's metrics on all units."""
    names = count_names(units)
    sums = count_matrix(units, names).sum(axis=0, keepdims=True)
    values = benchmark.metrics({name: sums[:, c] for c, name in enumerate(names)})
    return {name: float(value[0]) for name, value in values.items()}


def intervals(benchmark: Metrics, units: Sequence[Unit]) -> dict[str, Interval]:
    """The metrics' 95 % intervals over the choice of pictures; NaN where there are none."""
    names = count_names(units)
    counts_KC = cluster_sums(count_matrix(units, names), [unit.cluster for unit in units])
    [drawn] = resampled_metrics(benchmark, names, counts_KC[None, None])
    return {name: percentile_interval(values_R) for name, values_R in drawn.items()}


def write_result(
    benchmark: Metrics, result: Result, sure: Mapping[str, Interval], path: Path
) -> None:
    """Write atomically, with the `intervals`: an interrupted run leaves no half result."""
    metrics = point_metrics(benchmark, result.units)
    body = {
        "format": FORMAT,
        "benchmark": result.benchmark,
        "metrics": {k: None if np.isnan(v) else v for k, v in metrics.items()},
        "intervals": {k: None if np.isnan(v.low) else [v.low, v.high] for k, v in sure.items()},
        "provenance": result.provenance,
        "data_root": result.data_root,
        "units": [asdict(unit) for unit in result.units],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".json.part")
    draft.write_text(json.dumps(body, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def read_result(path: Path) -> Result:
    """Read a file written by write_result.

    Raises:
        ValueError: the file is not a result, or of another format version.
    """
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        if body["format"] != FORMAT:
            raise ValueError(
                f"{path}: result format {body['format']}, this version reads {FORMAT}; "
                "score the answers again with eval/run.py --answers."
            )
        units = tuple(Unit(**{**row, "images": tuple(row["images"])}) for row in body["units"])
        return Result(body["benchmark"], units, body["provenance"], body["data_root"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: not a result of eval/run.py ({type(error).__name__}: {error}); "
            "remove the file or score again."
        ) from error
