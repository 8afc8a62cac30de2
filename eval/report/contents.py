"""What every form of the report shows, gathered once."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.comparison import Comparison, Score, Section, Standing, Study, headlines
from eval.published import Published, published_rows
from eval.report.gallery import Example, draw_examples
from eval.report.plots import draw_categories, draw_gains, shown_categories


@dataclass(frozen=True)
class Report:
    """A study with its plots and pictures, which are already in `output`.

    `examples` are by benchmark and candidate, `category_plots` by benchmark; `gains` is None
    where there is one arm alone.
    """

    output: Path
    title: str
    study: Study
    gains: Path | None
    category_plots: Mapping[str, Path]
    examples: Mapping[tuple[str, str], list[Example]]

    @property
    def arms(self) -> tuple[str, ...]:
        return self.study.baseline, *self.study.candidates


@dataclass(frozen=True)
class Reading:
    """One metric by the official reading of the answers and by the careful one, for each arm."""

    title: str
    official: tuple[Score, ...]
    careful: tuple[Score, ...] | None


@dataclass(frozen=True)
class Beside:
    """Our scores and published ones on the same metrics. The metrics' titles head the columns."""

    titles: tuple[str, ...]
    ours: tuple[tuple[str, tuple[Score | None, ...]], ...]
    published: tuple[tuple[Published, tuple[float | None, ...]], ...]


@dataclass(frozen=True)
class Origin:
    """One entry of a result's provenance and the benchmarks and seeds (from 1) that share it."""

    key: str
    text: str
    benchmarks: tuple[str, ...]
    seeds: tuple[int, ...]


def gather(study: Study, output: Path, title: str) -> Report:
    """Draw plots, draw examples; writes them."""
    output.mkdir(parents=True, exist_ok=True)
    gains = output / "gains.png" if study.candidates else None
    if gains is not None:
        draw_gains(study, gains)
    plots: dict[str, Path] = {}
    for section in study.sections:
        if section.categories:
            plots[section.benchmark.name] = output / f"{section.benchmark.name}-categories.png"
            draw_categories(section, plots[section.benchmark.name])
    examples = {
        (section.benchmark.name, comparison.candidate): draw_examples(section, comparison, output)
        for section in study.sections
        for comparison in section.comparisons
    }
    return Report(output, title, study, gains, plots, examples)


def readings(section: Section) -> list[Reading]:
    """Metrics that a benchmark gives in both readings, and its shares of unreadable answers.

    By name: "x/careful_f1" is the careful reading of "x/f1", and "unreadable" ends a share.
    """
    tables = [{s.metric: s for s in standing.scores} for standing in section.standings]
    found: list[Reading] = []
    for score in section.standings[0].scores:
        part, slash, last = score.metric.rpartition("/")
        careful = f"{part}{slash}careful_{last}"
        if careful in tables[0] or last == "unreadable":
            found.append(
                Reading(
                    title=score.title,
                    official=tuple(table[score.metric] for table in tables),
                    careful=tuple(t[careful] for t in tables) if careful in tables[0] else None,
                )
            )
    whole = [reading for reading in found if not reading.official[0].of_part]
    return whole or found


def beside(section: Section) -> Beside | None:
    """None where nothing is published on the benchmark."""
    rows = published_rows(section.benchmark.name)
    if not rows:
        return None
    known = {score.metric: score for score in section.standings[0].scores}
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    quoted = [s.metric for s in headlines(section.benchmark, section.standings[0].scores)]
    names.sort(key=lambda name: name not in quoted)
    return Beside(
        titles=tuple(known[name].title if name in known else name for name in names),
        ours=tuple((s.arm, tuple(_score(s, name) for name in names)) for s in section.standings),
        published=tuple((row, tuple(row.values.get(name) for name in names)) for row in rows),
    )


def _score(standing: Standing, name: str) -> Score | None:
    return next((score for score in standing.scores if score.metric == name), None)


def origins(study: Study, arm: str) -> list[Origin]:
    """Where an arm's numbers come from; equal entries of several benchmarks are told once."""
    places: dict[tuple[str, str], list[tuple[str, int]]] = {}
    for section in study.sections:
        for standing in section.standings:
            if standing.arm == arm:
                for seed, provenance in enumerate(standing.provenance, start=1):
                    for key, entry in provenance.items():
                        place = (section.benchmark.title, seed)
                        places.setdefault((key, _plain(entry)), []).append(place)
    return [
        Origin(
            key=key,
            text=text,
            benchmarks=tuple(dict.fromkeys(title for title, _ in where)),
            seeds=tuple(sorted({seed for _, seed in where})),
        )
        for (key, text), where in sorted(places.items(), key=lambda item: item[0][0])
    ]


def _plain(entry: object) -> str:
    """An entry on one line; hashes by their first twelve digits, all are in report.json."""
    if isinstance(entry, Mapping):
        text = ", ".join(f"{key} {_plain(part)}" for key, part in entry.items() if part is not None)
    else:
        text = entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{28,52}\b", r"\1", " ".join(text.split()))


def flipped(
    report: Report, section: Section, comparison: Comparison, gained: bool
) -> Sequence[Example]:
    """The examples of one direction."""
    examples = report.examples[section.benchmark.name, comparison.candidate]
    return [example for example in examples if example.gained == gained]


def plotted(section: Section) -> str:
    """Caption of the plot by category."""
    shown, there = len(shown_categories(section)), len(section.categories)
    told = "Share of right answers by category; the number of units in brackets."
    if shown == there:
        return told
    return f"{told} The {shown} largest of {there}; all are in report.json."
