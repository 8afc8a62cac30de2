"""Compare models (or towers) that were scored on the same benchmarks.

    python eval/compare.py --baseline <results> --candidate <results> --output report/
    python eval/compare.py --baseline b1 b2 b3 --candidate c1 c2 c3 --output report/
    python eval/compare.py --baseline b --candidate c --candidate d --output report/ \\
        --candidate-name CLIP-IN --candidate-name DIVA
    python eval/compare.py --baseline <results> --output report/

A results directory holds what eval/run.py wrote (pope.json, mmvp.json, …). Several directories
of one arm are seeds: the first belongs to the first of the other arms. Each --candidate is an arm
of its own; without one, the baseline's scores stand alone beside published ones. Written are
report.html (one file, opens from disk), report.md, report.json, gains.png and the plots by
category.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from eval.arms import Arm
from eval.comparison import Difference, Section, Study, headlines
from eval.pairing import compare_arms
from eval.report import cautions, wording
from eval.report.writers import write_report

logger = logging.getLogger("eval.compare")
STYLES = {
    "gain": "green",
    "loss": "red",
    "difference": "blue",
    "uncorrected": "dim",
    "unclear": "dim",
}


@dataclass(frozen=True)
class CompareArguments:
    """The command line; as many candidate names as candidates."""

    baseline: list[Path]
    candidate: list[list[Path]]
    output: Path
    title: str
    baseline_name: str
    candidate_name: list[str]
    allow_different_data: bool

    @property
    def arms(self) -> tuple[Arm, list[Arm]]:
        """The baseline and the candidates."""
        named = zip(self.candidate_name, self.candidate, strict=True)
        candidates = [Arm(name, tuple(paths)) for name, paths in named]
        return Arm(self.baseline_name, tuple(self.baseline)), candidates


def parse_arguments(argv: Sequence[str] | None = None) -> CompareArguments:
    """Read the command line; argparse stops with a message on any error."""
    parser = argparse.ArgumentParser(
        prog="python eval/compare.py",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--baseline", type=Path, nargs="+", required=True, help="one per seed")
    parser.add_argument(
        "--candidate",
        type=Path,
        nargs="+",
        action="append",
        default=[],
        help="one per seed; again for each further candidate",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the report")
    parser.add_argument("--title", default="What changed", help="heading of the report")
    parser.add_argument("--baseline-name", default="baseline", help="what to call it")
    parser.add_argument(
        "--candidate-name",
        action="append",
        default=[],
        help="what to call it; one for each --candidate, in order",
    )
    parser.add_argument(
        "--allow-different-data",
        action="store_true",
        help="compare results whose data or pictures differ, over their common questions;\n"
        "the report says so",
    )
    arguments = parser.parse_args(argv)
    given, named = len(arguments.candidate), len(arguments.candidate_name)
    if named not in (0, given):
        parser.error(f"{given} --candidate and {named} --candidate-name: give as many of each")
    if not named:
        numbered = [f"candidate {number}" for number in range(1, given + 1)]
        arguments.candidate_name = numbered if given > 1 else ["candidate"] * given
    return CompareArguments(**vars(arguments))


def headline_table(study: Study) -> Table:
    """Every headline metric, a row for each arm below it, 95 % intervals in brackets."""
    table = Table()
    table.add_column("metric and arm")
    numbers = ["value", "difference", "p, Holm"] if study.candidates else ["value"]
    for column in numbers:
        table.add_column(column, justify="right", no_wrap=True)
    for section in study.sections:
        _add_rows(table, section)
    return table


def _add_rows(table: Table, section: Section) -> None:
    for score in headlines(section.benchmark, section.standings[0].scores):
        table.add_row(f"[bold]{section.benchmark.title} {wording.titled(score)}[/]")
        for standing in section.standings:
            own = next(s for s in standing.scores if s.metric == score.metric)
            cells = [f"{wording.value(own.value, own.share)} ({wording.interval(own)})"]
            for comparison in section.comparisons:
                if comparison.candidate == standing.arm:
                    cells += _change(comparison.differences, score.metric)
            table.add_row(Padding(escape(standing.arm), (0, 0, 0, 2)), *cells)
        table.add_section()


def _change(differences: Sequence[Difference], metric: str) -> list[str]:
    d = next(d for d in differences if d.metric == metric)
    change = wording.value(d.difference, d.share, signed=True)
    told = f"[{STYLES[wording.outcome(d)]}]{change}[/] ({wording.interval(d)})"
    return [told, "" if d.test is None else wording.digits(d.test.corrected)]


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write, print; 1 and one message for an error that the user can mend."""
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(show_path=False)])
    logging.getLogger("eval").setLevel(logging.INFO)
    console = Console()
    arguments = parse_arguments(argv)
    baseline, candidates = arguments.arms
    try:
        with console.status("resampling"):
            study = compare_arms(baseline, candidates, arguments.allow_different_data)
        with console.status("writing the report"):
            write_report(study, arguments.output, arguments.title)
    except (OSError, ValueError) as error:
        Console(stderr=True).print(
            "error:", str(error), style="red", highlight=False, markup=False, soft_wrap=True
        )
        return 1
    console.print(headline_table(study))
    _tell(study, console)
    console.print(f"report: {arguments.output / 'report.html'}", markup=False)
    return 0


def _tell(study: Study, console: Console) -> None:
    """A sentence for each comparison, and what is to be known of them."""
    for section in study.sections:
        for comparison in section.comparisons:
            whose = f"{comparison.candidate}: " if len(study.candidates) > 1 else ""
            told = wording.sentence(section, comparison)
            console.print(f"{whose}{told}", highlight=False, markup=False)
        for told in cautions.warnings(section):
            logger.warning("%s: %s", section.benchmark.title, told)
    for told in study.left_out:
        logger.warning("left out: %s", told)


if __name__ == "__main__":
    sys.exit(main())
