"""One result as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from rich.table import Table

from eval.benchmark import Metrics, kind_of
from eval.bootstrap import Interval
from eval.result import Result, point_metrics


def metric_table(benchmark: Metrics, result: Result, sure: Mapping[str, Interval]) -> Table:
    """All metrics of one result with their intervals, shares in percent; headlines in bold."""
    extent = result.provenance.get("answered", f"{len(result.units)} units")
    decoding = result.provenance.get("decoding")
    # Scores of captions hang on it; of answers from a file it is not known.
    limit = f" · at most {decoding['max_new_tokens']} tokens" if isinstance(decoding, dict) else ""
    judge = result.provenance.get("judge")
    judged = f" · judge: {judge['name']}" if isinstance(judge, dict) else ""
    table = Table(title=f"{benchmark.title} · {extent}{limit}{judged}", title_justify="left")
    table.add_column("metric")
    table.add_column("value", justify="right")
    table.add_column("95 % interval", justify="right")
    for name, value in point_metrics(benchmark, result.units).items():
        kind = kind_of(benchmark, name)
        part = name.rpartition("/")[0]
        low, high = (_told(end, kind.share) for end in (sure[name].low, sure[name].high))
        table.add_row(
            f"{part}: {kind.title}" if part else kind.title,
            _told(value, kind.share) + " %" * (kind.share and not np.isnan(value)),
            "n/a" if np.isnan(sure[name].low) else f"{low} … {high}",
            style="bold" if name in benchmark.headlines else None,
        )
    return table


def _told(value: float, share: bool) -> str:
    """Shares in percent. A count has no decimals to show, MME's points have two."""
    if np.isnan(value):
        return "n/a"
    return f"{100 * value:.2f}" if share else f"{value:.2f}".removesuffix(".00")
