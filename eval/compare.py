"""Compare two models (or towers) that were scored on the same benchmarks.

    python eval/compare.py --baseline <results> --candidate <results> --output report/
    python eval/compare.py --baseline b1 b2 b3 --candidate c1 c2 c3 --output report/

A results directory holds what eval/run.py wrote (pope.json, mmvp.json, …). Several directories
are seeds: the first of one arm belongs to the first of the other. Written are report.html (one
file, opens from disk), report.md, report.json, gains.png and the plots by category.
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
from rich.table import Table

from eval.comparison import Comparison
from eval.pairing import compare_directories
from eval.report import wording
from eval.report.writers import write_report


@dataclass(frozen=True)
class CompareArguments:
    """The command line."""

    baseline: list[Path]
    candidate: list[Path]
    output: Path
    title: str
    baseline_name: str
    candidate_name: str


def parse_arguments(argv: Sequence[str] | None = None) -> CompareArguments:
    """Read the command line; argparse stops with a message on any error."""
    parser = argparse.ArgumentParser(
        prog="python eval/compare.py",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--baseline", type=Path, nargs="+", required=True, help="one per seed")
    parser.add_argument("--candidate", type=Path, nargs="+", required=True, help="one per seed")
    parser.add_argument("--output", type=Path, required=True, help="folder of the report")
    parser.add_argument("--title", default="What changed", help="heading of the report")
    parser.add_argument("--baseline-name", default="baseline", help="what to call it")
    parser.add_argument("--candidate-name", default="candidate", help="what to call it")
    return CompareArguments(**vars(parser.parse_args(argv)))


def headline_table(comparisons: Sequence[Comparison], names: tuple[str, str]) -> Table:
    """The headline metrics of every benchmark."""
    table = Table()
    table.add_column("metric")
    for column in (*names, "difference", "95 % interval"):
        table.add_column(column, justify="right")
    colours = {"gain": "green", "loss": "red", "difference": "blue", "unclear": "dim"}
    for comparison in comparisons:
        for d in comparison.headlines:
            change = wording.value(d.difference, d.share, signed=True)
            table.add_row(
                f"{comparison.benchmark.title} {d.title}",
                wording.value(d.baseline, d.share),
                wording.value(d.candidate, d.share),
                f"[{colours[d.verdict]}]{change}[/]",
                wording.interval(d),
            )
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, write, print; 1 and one message for an error that the user can mend."""
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(show_path=False)])
    logging.getLogger("eval").setLevel(logging.INFO)
    console = Console()
    arguments = parse_arguments(argv)
    names = (arguments.baseline_name, arguments.candidate_name)
    try:
        with console.status("resampling"):
            comparisons = compare_directories(arguments.baseline, arguments.candidate)
        with console.status("writing the report"):
            write_report(comparisons, arguments.output, arguments.title, names)
    except (OSError, ValueError) as error:
        Console(stderr=True).print(
            "error:", str(error), style="red", highlight=False, markup=False, soft_wrap=True
        )
        return 1
    console.print(headline_table(comparisons, names))
    for comparison in comparisons:
        console.print(wording.sentence(comparison), highlight=False, markup=False)
    console.print(f"report: {arguments.output / 'report.html'}", markup=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
