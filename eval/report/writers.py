"""A comparison as a page, as Markdown and as json, with its plots and pictures beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from eval.bootstrap import RESAMPLES
from eval.comparison import Comparison
from eval.report import wording
from eval.report.gallery import Example, draw_examples, png_data
from eval.report.plots import draw_categories, draw_gains


@dataclass(frozen=True)
class Report:
    """What every form of the report shows; plots and pictures are already in `output`."""

    output: Path
    title: str
    names: tuple[str, str]
    comparisons: Sequence[Comparison]
    examples: Mapping[str, list[Example]]
    category_plots: Mapping[str, Path]

    @property
    def gains(self) -> Path:
        return self.output / "gains.png"


def write_report(
    comparisons: Sequence[Comparison], output: Path, title: str, names: tuple[str, str]
) -> Report:
    """Write report.html, report.md, report.json, gains.png, category plots and pictures."""
    output.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Path] = {}
    for comparison in comparisons:
        if comparison.categories:
            path = output / f"{comparison.benchmark.name}-categories.png"
            draw_categories(comparison, path, names)
            plots[comparison.benchmark.name] = path
    examples = {c.benchmark.name: draw_examples(c, output) for c in comparisons}
    report = Report(output, title, names, comparisons, examples, plots)
    draw_gains(comparisons, report.gains)
    (output / "report.html").write_text(page(report), encoding="utf-8")
    (output / "report.md").write_text(markdown(report), encoding="utf-8")
    text = json.dumps(body(report), ensure_ascii=False, indent=1, allow_nan=False)
    (output / "report.json").write_text(text + "\n", encoding="utf-8")
    return report


def page(report: Report) -> str:
    """One html file that needs no other: plots and pictures are inside it. Answers are escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    plots = {
        c.benchmark.name: png_data(report.category_plots[c.benchmark.name])
        if c.benchmark.name in report.category_plots
        else None
        for c in report.comparisons
    }
    return environment.get_template("page.html.jinja").render(
        title=report.title,
        names=report.names,
        comparisons=report.comparisons,
        seeds=report.comparisons[0].seeds,
        resamples=RESAMPLES,
        gains=png_data(report.gains),
        category_plots=plots,
        examples_of=report.examples,
        verdicts=wording.VERDICTS,
        value=wording.value,
        interval=wording.interval,
        sentence=wording.sentence,
        flips=wording.flips,
        spread=wording.spread,
    )


def markdown(report: Report) -> str:
    """The report for a repository: tables, plots and pictures by relative path."""
    before, after = report.names
    lines = [f"# {report.title}", "", f"{after} against {before}; shares in percent.", ""]
    lines += _table_head(report.names, seeds=1)
    for comparison in report.comparisons:
        lines += [_table_row(f"{comparison.benchmark.title} ", d, 1) for d in comparison.headlines]
    lines += ["", "![differences with intervals](gains.png)", ""]
    for comparison in report.comparisons:
        lines += _section(report, comparison)
    return "\n".join(lines).rstrip() + "\n"


def _table_head(names: tuple[str, str], seeds: int) -> list[str]:
    columns = ["metric", *names, "difference", "95 % interval", *(["each seed"] * (seeds > 1))]
    rule = ["---", *(["---:"] * (len(columns) - 1))]
    return [f"| {' | '.join(columns)} |", f"| {' | '.join(rule)} |"]


def _table_row(prefix: str, d: wording.Difference, seeds: int) -> str:
    change = wording.value(d.difference, d.share, signed=True)
    cells = [
        prefix + d.title + (" (lower is better)" if d.better == "lower" else ""),
        wording.value(d.baseline, d.share),
        wording.value(d.candidate, d.share),
        change if d.verdict == "unclear" else f"**{change}**",
        wording.interval(d),
        *([wording.spread(d)] * (seeds > 1)),
    ]
    return f"| {' | '.join(cells)} |"


def _section(report: Report, comparison: Comparison) -> list[str]:
    name = comparison.benchmark.name
    lines = [f"## {comparison.benchmark.title}", "", wording.sentence(comparison), ""]
    if comparison.signs is not None:
        lines += [wording.flips(comparison), ""]
    lines += _table_head(report.names, comparison.seeds)
    lines += [_table_row("", d, comparison.seeds) for d in comparison.differences]
    lines.append("")
    if name in report.category_plots:
        lines += [f"![right answers by category]({report.category_plots[name].name})", ""]
    for gained, title in ((True, "Wrong before, right now"), (False, "Right before, wrong now")):
        examples = [e for e in report.examples[name] if e.gained == gained]
        if examples:
            lines += [f"### {title}", ""]
            lines += [line for e in examples for line in _example(report, e)]
    return lines


def _example(report: Report, example: Example) -> list[str]:
    pictures = " ".join(
        f"![]({path.relative_to(report.output).as_posix()})" for path in example.pictures
    )
    return [
        *([pictures, ""] if pictures else []),
        f"- **{_inline(example.question)}** truth: {_inline(example.label)}",
        f"- {report.names[0]}: {_inline(example.before)}{_reading(example.before_reading)}",
        f"- {report.names[1]}: {_inline(example.after)}{_reading(example.after_reading)}",
        "",
    ]


def _reading(reading: str) -> str:
    return f" (read as {_inline(reading)})" if reading else ""


def _inline(text: str) -> str:
    """An answer on one line, with what Markdown or html would act on made harmless."""
    line = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        line = line.replace(sign, f"\\{sign}")
    return line or "(empty)"


def body(report: Report) -> dict[str, object]:
    """Every number of the report; undefined ones are null."""
    return {
        "title": report.title,
        "baseline": report.names[0],
        "candidate": report.names[1],
        "resamples": RESAMPLES,
        "benchmarks": {c.benchmark.name: _numbers(c) for c in report.comparisons},
    }


def _numbers(comparison: Comparison) -> dict[str, object]:
    return {
        "sentence": wording.sentence(comparison),
        "units": comparison.units,
        "distinct_units": comparison.clusters,
        "seeds": comparison.seeds,
        "metrics": [
            {key: _null_for_nan(v) for key, v in asdict(d).items()}
            | {"seed_deviation": _null_for_nan(d.seed_deviation), "verdict": d.verdict}
            for d in comparison.differences
        ],
        "mcnemar": None if comparison.signs is None else asdict(comparison.signs),
        "gained": [[flip.seed, flip.before.id] for flip in comparison.gained],
        "lost": [[flip.seed, flip.before.id] for flip in comparison.lost],
        "categories": [asdict(share) for share in comparison.categories],
    }


def _null_for_nan(value: object) -> object:
    if isinstance(value, tuple):
        return [_null_for_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
