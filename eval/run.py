"""Score a model, a tower, or a file of answers.

    python eval/run.py --model <dir> --benchmark pope mmvp --data-root <dir> --output <dir>
    torchrun --nproc_per_node 8 eval/run.py --model ...
    python eval/run.py --model <name> --endpoint http://host:8000/v1 --benchmark pope ...
    python eval/run.py --tower <dir> --benchmark mmvp_vlm --data-root <dir> --output <dir>
    python eval/run.py --answers <file> --benchmark pope --data-root <pope folder>

--data-root is the folder of the benchmark; with several benchmarks, the folder that holds one
folder for each (pope/, mmvp/, chair/, mmvp_vlm/, edits/, captions/, …).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler

from eval.asking import Decoding, Judge, Subject
from eval.benchmark import JudgedBenchmark, LanguageBenchmark, Metrics, TowerBenchmark
from eval.bootstrap import Interval
from eval.judging import Judging
from eval.metric_table import metric_table
from eval.parts import processes
from eval.registry import BENCHMARKS, find_benchmark
from eval.result import Result, intervals, point_metrics, write_result
from eval.scoring import score_answers, score_models, score_towers

logger = logging.getLogger("eval")

# The metrics that count answers, or verdicts, which cannot be read; more than so many are told.
UNREAD = ("unreadable", "unclear")
MANY = 0.1


@dataclass(frozen=True)
class RunArguments:
    """The command line; exactly one of model, tower and answers is set."""

    benchmark: list[str]
    data_root: Path
    output: Path | None
    model: str | None
    endpoint: str | None
    tower: str | None
    answers: Path | None
    verdicts: Path | None
    judge: str | None
    judge_endpoint: str | None
    max_new_tokens: int | None
    batch_size: int


def parse_arguments(argv: Sequence[str] | None = None) -> RunArguments:
    """Read the command line; argparse stops with a message on any error."""
    parser = argparse.ArgumentParser(
        prog="python eval/run.py",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    subject = parser.add_mutually_exclusive_group(required=True)
    subject.add_argument("--model", help="directory, hub id, or name at --endpoint, of a model")
    subject.add_argument("--tower", help="directory or open_clip name of a tower")
    subject.add_argument("--answers", type=Path, help="answers made before; no model is loaded")
    parser.add_argument(
        "--benchmark", nargs="+", required=True, metavar="NAME", help=", ".join(BENCHMARKS)
    )
    parser.add_argument("--data-root", type=Path, required=True, help="folder of the benchmark(s)")
    parser.add_argument("--output", type=Path, help="where answers and results are written")
    parser.add_argument("--max-new-tokens", type=int, help="instead of the benchmark's own limit")
    judging = parser.add_mutually_exclusive_group()
    judging.add_argument("--verdicts", type=Path, help="a judge's replies to the answers")
    judging.add_argument("--judge", help="language model that judges, named as --model is")
    for name in ("--endpoint", "--judge-endpoint"):
        parser.add_argument(
            name, metavar="URL", help="OpenAI-compatible server, http://…/v1; key: $OPENAI_API_KEY"
        )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=128,
        help="most questions asked at once; halved where memory does not hold them",
    )
    arguments = RunArguments(**vars(parser.parse_args(argv)))
    contradiction = _contradiction(arguments)
    if contradiction is not None:
        parser.error(contradiction)
    return arguments


def _contradiction(given: RunArguments) -> str | None:
    """What is wrong with arguments that are right one by one."""
    rules = (
        (
            given.answers is None and given.output is None,
            "--output is needed with --model and --tower",
        ),
        (
            (given.answers or given.verdicts) and len(given.benchmark) > 1,
            "--answers and --verdicts belong to one benchmark; give one --benchmark",
        ),
        (
            given.judge is not None and given.output is None,
            "--output is needed with --judge: its verdicts are kept there",
        ),
        (
            given.tower is not None and (given.judge or given.verdicts),
            "--judge and --verdicts are for answers; a tower gives none",
        ),
        (given.endpoint and not given.model, "--endpoint goes with --model"),
        (given.judge_endpoint and not given.judge, "--judge-endpoint goes with --judge"),
        (
            min(given.batch_size, 1 if given.max_new_tokens is None else given.max_new_tokens) < 1,
            "--batch-size and --max-new-tokens must be at least 1",
        ),
    )
    return next((message for broken, message in rules if broken), None)


def choose_benchmarks(arguments: RunArguments) -> list[LanguageBenchmark | TowerBenchmark]:
    """The named benchmarks.

    Raises:
        ValueError: an unknown name, or a tower benchmark for a model and the reverse.
    """
    chosen: list[LanguageBenchmark | TowerBenchmark] = []
    for name in dict.fromkeys(arguments.benchmark):
        benchmark = find_benchmark(name)
        if isinstance(benchmark, TowerBenchmark) != (arguments.tower is not None):
            wanted = "--tower" if isinstance(benchmark, TowerBenchmark) else "--model or --answers"
            raise ValueError(f"benchmark {name!r} is run with {wanted}.")
        chosen.append(benchmark)
    judged = any(isinstance(benchmark, JudgedBenchmark) for benchmark in chosen)
    if (arguments.judge or arguments.verdicts) and not judged:
        raise ValueError(
            f"{', '.join(arguments.benchmark)}: scored by a rule; leave --judge and --verdicts out."
        )
    return chosen


def benchmark_root(data_root: Path, folder: str, alone: bool) -> Path:
    """The benchmark's own folder: the one of its name inside the data root, or the root itself.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if (data_root / folder).is_dir():
        return data_root / folder
    if alone and data_root.exists():
        return data_root
    missing = data_root if alone else data_root / folder
    raise FileNotFoundError(f"{missing}: no such folder; check --data-root.")


def run(
    arguments: RunArguments,
) -> Iterator[tuple[Metrics, Result, Mapping[str, Interval]]]:
    """Score everything that was asked for; each result is written, then given with its intervals.

    Of several processes (eval.parts) all ask, model and judge alike, and the first has results.
    """
    chosen = choose_benchmarks(arguments)
    roots = [benchmark_root(arguments.data_root, b.folder, len(chosen) == 1) for b in chosen]
    towers = [(b, r) for b, r in zip(chosen, roots, strict=True) if isinstance(b, TowerBenchmark)]
    others = [
        (b, r) for b, r in zip(chosen, roots, strict=True) if isinstance(b, LanguageBenchmark)
    ]
    judge = Judge(arguments.judge, arguments.judge_endpoint) if arguments.judge else None
    judging = Judging(arguments.verdicts, judge, arguments.batch_size)
    if arguments.tower is not None:
        scored = score_towers(arguments.tower, towers)
    elif arguments.answers is not None:
        scored = score_answers(arguments.answers, others, judging, arguments.output)
    else:
        assert arguments.model is not None
        assert arguments.output is not None
        subject = Subject(arguments.model, arguments.endpoint)
        decoding = Decoding(arguments.max_new_tokens, arguments.batch_size)
        scored = score_models(subject, others, arguments.output, decoding, judging)
    for benchmark, result in scored:
        if not processes().is_main_process:
            continue
        sure = intervals(benchmark, result.units)
        if arguments.output is not None:
            write_result(benchmark, result, sure, arguments.output / f"{benchmark.name}.json")
        _warn_of_unread(benchmark, result)
        yield benchmark, result, sure


def _warn_of_unread(benchmark: Metrics, result: Result) -> None:
    """A model that babbles gets a score too: by POPE's rule, that of saying yes to everything."""
    for name, share in point_metrics(benchmark, result.units).items():
        if name.rpartition("/")[2] in UNREAD and share > MANY:
            logger.warning("%s: %.0f %% of the answers say nothing that can be read (%s)",
                           benchmark.title, 100 * share, name)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print the tables; 1 and one message for an error that the user can mend.

    A model that fails while it answers is a RuntimeError and keeps its traceback.
    """
    logging.basicConfig(format="%(message)s", handlers=[RichHandler(show_path=False)])
    logging.getLogger("eval").setLevel(logging.INFO)
    console = Console()
    try:
        for benchmark, result, sure in run(parse_arguments(argv)):
            console.print(metric_table(benchmark, result, sure))
    except (OSError, ValueError) as error:
        Console(stderr=True).print(
            "error:", str(error), style="red", highlight=False, markup=False, soft_wrap=True
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
