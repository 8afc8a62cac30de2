"""The report for a repository: tables, plots and pictures by relative path."""

from __future__ import annotations

from collections.abc import Sequence

from eval.comparison import Comparison, Difference, Score, Section, headlines
from eval.report import cautions, wording
from eval.report.contents import Report, beside, flipped, origins, plotted, readings
from eval.report.gallery import Example

Lines = list[str]
PUBLISHED = "published (not measured here), on the official files"


def markdown(report: Report) -> str:
    """The whole file. Answers are made harmless."""
    study = report.study
    lines = [f"# {report.title}", "", f"{_subject(report)}; shares in percent.", ""]
    for section in study.sections:
        for told in cautions.warnings(section):
            lines += [f"> **Warning.** {section.benchmark.title}: {told}", ""]
    lines += _overview(report)
    lines += ["", *(f"Left out: {told}." for told in study.left_out), ""]
    if report.gains is not None:
        lines += [f"![differences with intervals]({report.gains.name})", ""]
    lines += [wording.method(study), ""]
    for section in study.sections:
        lines += _section(report, section)
    lines += ["## Where the numbers come from", ""]
    for arm in report.arms:
        lines += [f"### {arm}", "", *_origins(report, arm), ""]
    return "\n".join(lines).rstrip() + "\n"


def _subject(report: Report) -> str:
    study = report.study
    seeds = f", {study.seeds} seeds each" if study.seeds > 1 else ""
    if not study.candidates:
        return f"{study.baseline} alone{seeds}"
    return f"{', '.join(study.candidates)} against {study.baseline}{seeds}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int = 1) -> Lines:
    """A Markdown table; the first `texts` columns are texts, the rest numbers."""
    rule = ["---"] * texts + ["---:"] * (len(columns) - texts)
    return [f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows)]


def _overview(report: Report) -> Lines:
    """One table: every headline metric, a row for each arm."""
    rows: list[list[str]] = []
    for section in report.study.sections:
        by_candidate = {c.candidate: c for c in section.comparisons}
        for score in headlines(section.benchmark, section.standings[0].scores):
            name = f"{section.benchmark.title} {wording.titled(score)}"
            for standing in section.standings:
                own = next(s for s in standing.scores if s.metric == score.metric)
                cells = [
                    name,
                    standing.arm,
                    wording.value(own.value, own.share),
                    wording.interval(own),
                ]
                change = _change(by_candidate.get(standing.arm), own.metric)
                rows.append(cells + change if report.study.candidates else cells)
    columns = ["metric", "arm", "value", "95 % interval"]
    if report.study.candidates:
        columns += ["difference", "95 % interval", "p", "p, Holm"]
    return table(columns, rows, texts=2)


def _change(comparison: Comparison | None, metric: str) -> list[str]:
    if comparison is None:
        return ["", "", "", ""]
    d = next(d for d in comparison.differences if d.metric == metric)
    return [_signed(d), wording.interval(d), *_tests(d)]


def _signed(d: Difference) -> str:
    """Bold where it is clear of zero, and stays so."""
    change = wording.value(d.difference, d.share, signed=True)
    return change if wording.outcome(d) in ("unclear", "uncorrected") else f"**{change}**"


def _tests(d: Difference) -> list[str]:
    if d.test is None:
        return ["", ""]
    return [f"{wording.digits(d.test.p)} ({d.test.name})", wording.digits(d.test.corrected)]


def _section(report: Report, section: Section) -> Lines:
    lines = [f"## {section.benchmark.title}", ""]
    for told in cautions.warnings(section):
        lines += [f"> **Warning.** {told}", ""]
    for comparison in section.comparisons:
        if len(report.study.candidates) > 1:
            lines += [f"### {comparison.candidate} against {report.study.baseline}", ""]
        lines += [wording.sentence(section, comparison), ""]
        if comparison.signs is not None:
            lines += [wording.flips(section, comparison), ""]
        lines += [*_differences(report.study.baseline, section, comparison), ""]
    if not section.comparisons:
        lines += [*_scores(section), ""]
    lines += [*_readings(section), *_published(section)]
    if section.benchmark.name in report.category_plots:
        path = report.category_plots[section.benchmark.name]
        lines += [f"![right answers by category]({path.name})", "", plotted(section), ""]
    for comparison in section.comparisons:
        for gained, title in (
            (True, "Wrong before, right now"),
            (False, "Right before, wrong now"),
        ):
            examples = flipped(report, section, comparison, gained)
            if examples:
                whose = f": {comparison.candidate}" if len(report.study.candidates) > 1 else ""
                lines += [f"### {title}{whose}", ""]
                names = (report.study.baseline, comparison.candidate)
                lines += [line for e in examples for line in _example(report, e, names)]
    return lines


def _differences(baseline: str, section: Section, comparison: Comparison) -> Lines:
    several = section.seeds > 1
    columns = ["metric", baseline, comparison.candidate, "difference", "95 % interval"]
    rows = [
        [
            wording.titled(d),
            wording.value(d.baseline, d.share),
            wording.value(d.candidate, d.share),
            _signed(d),
            wording.interval(d),
            *([wording.spread(d)] if several else []),
        ]
        for d in comparison.differences
    ]
    return table([*columns, *(["each seed"] if several else [])], rows)


def _scores(section: Section) -> Lines:
    [standing] = section.standings
    rows = [
        [wording.titled(score), wording.value(score.value, score.share), wording.interval(score)]
        for score in standing.scores
    ]
    return table(["metric", standing.arm, "95 % interval"], rows)


def _readings(section: Section) -> Lines:
    rows: list[list[str]] = []
    for reading in readings(section):
        cells = [reading.title]
        for a, official in enumerate(reading.official):
            careful = reading.careful[a] if reading.careful is not None else None
            cells.append(wording.value(official.value, official.share))
            cells.append("" if careful is None else wording.value(careful.value, careful.share))
        rows.append(cells)
    if not rows:
        return []
    columns = [f"{s.arm}, {how}" for s in section.standings for how in ("official", "careful")]
    return ["### Both readings of the answers", "", *table(["metric", *columns], rows), ""]


def _published(section: Section) -> Lines:
    both = beside(section)
    if both is None:
        return []
    rows = [
        ["measured here", arm, *(_cell(score) for score in scores), ""] for arm, scores in both.ours
    ]
    rows += [
        [f"_{PUBLISHED}_", row.model, *("" if v is None else wording.printed(v) for v in values),
         f"{row.source} ({row.certainty}); {row.protocol}"]
        for row, values in both.published
    ]  # fmt: skip
    columns = ["", "model", *both.titles, "source and protocol"]
    return [f"### Beside what is {PUBLISHED}", "", *table(columns, rows, texts=2), ""]


def _cell(score: Score | None) -> str:
    return (
        ""
        if score is None
        else f"{wording.value(score.value, score.share)} ({wording.interval(score)})"
    )


def _example(report: Report, example: Example, names: tuple[str, str]) -> Lines:
    pictures = " ".join(
        f"![]({path.relative_to(report.output).as_posix()})" for path in example.pictures
    )
    return [
        *([pictures, ""] if pictures else []),
        f"- **{_inline(example.question)}** truth: {_inline(example.label)}",
        f"- {names[0]}: {_inline(example.before)}{_reading(example.before_reading)}",
        f"- {names[1]}: {_inline(example.after)}{_reading(example.after_reading)}",
        "",
    ]


def _reading(reading: str) -> str:
    return f" (read as {_inline(reading)})" if reading else ""


def _origins(report: Report, arm: str) -> Lines:
    rows = [
        [o.key, _inline(o.text), ", ".join(o.benchmarks), ", ".join(map(str, o.seeds))]
        for o in origins(report.study, arm)
    ]
    return table(["what", "", "of", "seeds"], rows, texts=4)


def _inline(text: str) -> str:
    """An answer on one line, with what Markdown or html would act on made harmless."""
    line = " ".join(text.split())
    for sign in "\\`*_[]<>|":
        line = line.replace(sign, f"\\{sign}")
    return line or "(empty)"
