"""The report's plots."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.comparison import Category, Difference, Section, Study, headlines
from eval.report.wording import outcome, value

INK, MUTED, RULE = "#1f2328", "#6e7781", "#d0d7de"
COLOURS = {"gain": "#2e7d5b", "loss": "#b4453c", "difference": "#2f6f9f", "unclear": "#8b949e"}
# The baseline is grey; the others are told apart by colour-blind readers too, and by shape.
ARMS = ("#8b949e", "#2f6f9f", "#d07a1f", "#3b9a7c", "#a05195", "#b4453c", "#7a6a00")
SHAPES = ("o", "o", "s", "D", "^", "v", "P")
MOST_CATEGORIES = 60
LABEL_WIDTH = 44  # characters of a category or a metric

Row = tuple[str, Difference | None]


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=MUTED, length=0, labelsize=9)
    axes.set_axisbelow(True)


def _short(label: str) -> str:
    return textwrap.shorten(label, LABEL_WIDTH, placeholder=" …")


def draw_gains(study: Study, path: Path) -> None:
    """Differences of the headline metrics with their intervals; a panel for each unit of measure.

    The bare tower changes by tens of points where the language model changes by a few, so each
    has a scale of its own; so has every benchmark whose headlines are no shares.
    """
    panels = [(title, rows) for title, rows in _panels(study) if rows]
    heights = [len(rows) + 1.4 for _, rows in panels]
    figure = Figure(figsize=(8, 0.34 * sum(heights) + 0.7), layout="constrained", dpi=160)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, rows) in zip(axes, panels, strict=True):
        _forest(axis, title, rows)
    axes[-1].set_xlabel(
        f"difference from {study.baseline}, with 95 % interval", color=MUTED, fontsize=9
    )
    figure.savefig(path, facecolor="white")


def _panels(study: Study) -> list[tuple[str, list[Row]]]:
    language: list[Row] = []
    tower: list[Row] = []
    panels = [
        ("Multimodal language model, points", language),
        ("Bare tower, points", tower),
    ]
    for section in study.sections:
        shares, others = _rows(section, share=True), _rows(section, share=False)
        (tower if section.of_tower else language).extend(shares)
        panels.append((f"{section.benchmark.title}, in its own units", others))
    return panels


def _rows(section: Section, share: bool) -> list[Row]:
    """A row for each headline; for several candidates a heading and a row for each of them."""
    rows: list[Row] = []
    quoted = [headlines(section.benchmark, c.differences) for c in section.comparisons]
    for same in zip(*quoted, strict=True):  # one metric in every candidate
        if same[0].share != share:
            continue
        note = "  ↓ is better" if same[0].better == "lower" else ""
        title = f"{_short(f'{section.benchmark.title}  {same[0].title}')}{note}"
        if len(same) == 1:
            rows.append((title, same[0]))
        else:
            names = [f"{_short(c.candidate)}  " for c in section.comparisons]
            rows += [(title, None), *zip(names, same, strict=True)]
    return rows


def _forest(axes: Axes, title: str, rows: Sequence[Row]) -> None:
    _plain(axes)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    for y, (_, difference) in enumerate(rows):
        if difference is not None:
            _mark(axes, y, difference)
    axes.set_yticks(range(len(rows)), [label for label, _ in rows], color=INK)
    for label, (_, difference) in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("normal" if difference is not None else "bold")
    axes.set_ylim(len(rows) - 0.4, -0.8)
    axes.margins(x=0.08)


def _mark(axes: Axes, y: int, difference: Difference) -> None:
    """Dot and interval; the dot is hollow where the correction leaves nothing clear."""
    colour, scale = COLOURS[difference.verdict], 100 if difference.share else 1
    low, high, point = (scale * x for x in (difference.low, difference.high, difference.difference))
    axes.plot([low, high], [y, y], color=colour, linewidth=3, solid_capstyle="round")
    hollow = outcome(difference) == "uncorrected"
    axes.plot(
        point, y, "o", markersize=7, color="white" if hollow else colour,
        markeredgecolor=colour if hollow else "white", markeredgewidth=1.6 if hollow else 1,
    )  # fmt: skip
    if len(difference.per_seed) > 1:
        seeds = [scale * change for change in difference.per_seed]
        axes.plot(seeds, [y + 0.28] * len(seeds), "|", color=colour, markersize=5)
    text = value(difference.difference, difference.share, signed=True)
    axes.annotate(
        text, (point, y), xytext=(0, 6), textcoords="offset points", ha="center",
        fontsize=8, color=INK,
    )  # fmt: skip


def shown_categories(section: Section) -> list[Category]:
    """All, or the largest where there are too many to plot; in the benchmark's order."""
    largest = sorted(section.categories, key=lambda category: -category.units)[:MOST_CATEGORIES]
    return [category for category in section.categories if category in largest]


def draw_categories(section: Section, path: Path) -> None:
    """Share of right units by category: a row each, a dot for each arm."""
    categories, arms = shown_categories(section), len(section.standings)
    height = (0.24 + 0.06 * arms) * len(categories) + 1.3
    figure = Figure(figsize=(8, height), layout="constrained", dpi=160)
    axes = figure.subplots()
    _plain(axes)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    rows = np.arange(len(categories))
    share_KA = 100 * np.array([category.shares for category in categories])
    axes.hlines(rows, share_KA.min(axis=1), share_KA.max(axis=1), color=RULE, linewidth=4, zorder=1)
    for a, standing in enumerate(section.standings):
        shift = 0.5 * (a - (arms - 1) / 2) / arms  # equal shares do not hide one another
        axes.plot(
            share_KA[:, a], rows + shift, SHAPES[a % len(SHAPES)], color=ARMS[a % len(ARMS)],
            markersize=7, markeredgecolor="white", label=standing.arm, linestyle="none",
        )  # fmt: skip
    axes.set_yticks(rows, [f"{_short(c.name)}  ({c.units})" for c in categories], color=INK)
    axes.set_ylim(len(categories) - 0.4, -0.6)
    axes.set_xlim(max(-2, share_KA.min() - 8), min(102, share_KA.max() + 8))
    axes.set_xlabel("right, %", color=MUTED, fontsize=9)
    figure.legend(frameon=False, loc="outside upper right", ncols=min(4, arms), fontsize=9)
    figure.savefig(path, facecolor="white")
