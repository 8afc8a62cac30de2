"""The report's plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eval.comparison import Comparison, Difference
from eval.report.wording import value

INK, MUTED, RULE = "#1f2328", "#6e7781", "#d0d7de"
BASELINE, CANDIDATE = "#9aa4b2", "#2f6f9f"
COLOURS = {"gain": "#2e7d5b", "loss": "#b4453c", "difference": "#2f6f9f", "unclear": "#8b949e"}


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=MUTED, length=0, labelsize=9)
    axes.set_axisbelow(True)


def draw_gains(comparisons: Sequence[Comparison], path: Path) -> None:
    """Write gains_figure."""
    gains_figure(comparisons).savefig(path, facecolor="white")


def gains_figure(comparisons: Sequence[Comparison]) -> Figure:
    """Differences of the headline metrics with their intervals, in points; towers apart.

    The bare tower changes by tens of points where the language model changes by a few, so each
    has a scale of its own, and so has each benchmark whose headlines are no shares.
    """
    headlines = [(c, d) for c in comparisons for d in c.headlines]
    groups = [
        ("Multimodal language model", [r for r in headlines if r[1].share and not r[0].of_tower]),
        ("Bare tower", [r for r in headlines if r[1].share and r[0].of_tower]),
        # MME's points run to 2000, a judge's marks to 10: no percent, and no scale in common.
        *((c.benchmark.title, [(c, d) for d in c.headlines if not d.share]) for c in comparisons),
    ]
    panels = [
        (title, [(c.benchmark.title, d) for c, d in members])
        for title, members in groups
        if members
    ]
    heights = [len(rows) + 1.2 for _, rows in panels]
    figure = Figure(figsize=(8, 0.42 * sum(heights) + 0.7), layout="constrained", dpi=160)
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, rows) in zip(axes, panels, strict=True):
        _forest(axis, title, rows)
    axes[-1].set_xlabel(
        "candidate minus baseline, points, with 95 % interval", color=MUTED, fontsize=9
    )
    return figure


def _forest(axes: Axes, title: str, rows: Sequence[tuple[str, Difference]]) -> None:
    _plain(axes)
    axes.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold")
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    for y, (_, difference) in enumerate(rows):
        colour = COLOURS[difference.verdict]
        scale = 100 if difference.share else 1
        low, high, point = (
            scale * x for x in (difference.low, difference.high, difference.difference)
        )
        axes.plot([low, high], [y, y], color=colour, linewidth=3, solid_capstyle="round")
        axes.plot(point, y, "o", color=colour, markersize=7, markeredgecolor="white")
        if len(difference.per_seed) > 1:
            seeds = [scale * change for change in difference.per_seed]
            axes.plot(seeds, [y + 0.24] * len(seeds), "|", color=colour, markersize=6)
        text = value(difference.difference, difference.share, signed=True)
        axes.annotate(
            text, (point, y), xytext=(0, 7), textcoords="offset points", ha="center",
            fontsize=9, color=INK,
        )  # fmt: skip
    labels = [
        f"{name}  {d.title}" + ("  (lower is better)" if d.better == "lower" else "")
        for name, d in rows
    ]
    axes.set_yticks(range(len(rows)), labels, color=INK)
    axes.set_ylim(len(rows) - 0.4, -0.8)
    axes.margins(x=0.08)


def draw_categories(comparison: Comparison, path: Path, names: tuple[str, str]) -> None:
    """Share of right units by category, both arms side by side; `names` label the arms."""
    shares = comparison.categories
    figure = Figure(figsize=(8, 0.5 * len(shares) + 1.1), layout="constrained", dpi=160)
    axes = figure.subplots()
    _plain(axes)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    thickness = 0.38
    arms = (
        (names[0], BASELINE, -thickness / 2, [share.baseline for share in shares]),
        (names[1], CANDIDATE, thickness / 2, [share.candidate for share in shares]),
    )
    for label, colour, shift, numbers in arms:
        places = [y + shift for y in range(len(shares))]
        bars = axes.barh(places, [100 * n for n in numbers], thickness, color=colour, label=label)
        axes.bar_label(bars, fmt="%.0f", padding=3, fontsize=8, color=MUTED)
    axes.set_yticks(range(len(shares)), [f"{s.name}  ({s.units})" for s in shares], color=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 108)
    axes.set_xlabel("right, %", color=MUTED, fontsize=9)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=9)
    figure.savefig(path, facecolor="white")
