"""Published rows: about benchmarks and metrics that there are, in units that they have."""

from __future__ import annotations

from pathlib import Path

import pytest

from eval.benchmark import kind_of
from eval.published import Published, published_rows, read_published
from eval.registry import BENCHMARKS

ROWS = read_published()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.benchmark}, {row.model}")
def test_rows_are_about_metrics_that_there_are(row: Published) -> None:
    benchmark = BENCHMARKS[row.benchmark]
    assert row.values
    assert row.source
    assert row.certainty.startswith("read ")
    assert row.protocol
    for name, value in row.values.items():
        assert name in metric_names(row.benchmark)
        if kind_of(benchmark, name).share:
            assert 1 < value <= 100, "shares are printed in percent"


def metric_names(benchmark: str) -> set[str]:
    """Whole names, with the parts that published rows use."""
    kinds = set(BENCHMARKS[benchmark].kinds)
    parts = {"pope": ("random", "popular", "adversarial")}.get(benchmark, ())
    return kinds | {f"{part}/{kind}" for part in parts for kind in kinds}


def test_no_row_stands_twice() -> None:
    assert len({(row.benchmark, row.model) for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(
    ("benchmark", "model", "metric", "value"),
    [
        ("pope", "LLaVA-1.5-7B", "mean_f1", 85.9),
        ("mmvp", "LLaVA-1.5-7B", "pair_accuracy", 24.7),
        ("mmvp", "LLaVA-1.5-7B, tower DIVA", "pair_accuracy", 31.3),
        ("mmvp", "LLaVA-1.5-7B, tower CLIP-IN", "pair_accuracy", 28.0),
        ("mmvp_vlm", "CLIP-IN, ViT-L/14, 224 pixels", "mean_of_patterns", 30.4),
    ],
)
def test_rows_that_everybody_quotes(benchmark: str, model: str, metric: str, value: float) -> None:
    [row] = [row for row in published_rows(benchmark) if row.model == model]
    assert row.values[metric] == value


def test_the_mean_of_the_splits_is_the_published_mean() -> None:
    [row] = [row for row in published_rows("pope") if row.model == "LLaVA-1.5-7B"]
    splits = [row.values[f"{split}/f1"] for split in ("random", "popular", "adversarial")]
    assert sum(splits) / 3 == pytest.approx(row.values["mean_f1"], abs=0.05)


def test_a_row_that_lacks_a_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.yaml"
    path.write_text("- {model: a, benchmark: pope, values: {f1: 1}}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"rows.yaml, row 1: .*source"):
        read_published(path)
