"""Fetch the official files of benchmarks into the folders that evaluation reads.

    python scripts/fetch_benchmarks.py --list [NAME ...] [--data-root DIR]
    python scripts/fetch_benchmarks.py pope mmvp --data-root DIR [--images]
    python scripts/fetch_benchmarks.py --verify [NAME ...] --data-root DIR [--images]

Large archives of pictures are fetched with --images only. What was stopped goes on where it
stopped; what is there is not fetched again. Hashes that nobody published are written to
DIR/sources.lock at the first download and compared from then on. Each licence is its authors':
read it (--list) before you use the data. Evaluation itself fetches nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from scripts.benchmark_fetcher import Fetcher
from scripts.benchmark_records import State, key_of, read_records, verify
from scripts.benchmark_sources import (
    Benchmark,
    FilePart,
    HandPart,
    HubPart,
    LinkPart,
    ZipPart,
    read_sources,
    size_of,
    source_of,
)

COLOURS = {State.OK: "green", State.MISSING: "red", State.WRONG: "red", State.UNKNOWN: "yellow"}


def main(argv: Sequence[str] | None = None) -> int:
    """1 if something failed or, with --verify, is wrong."""
    arguments = parse_arguments(argv)
    sources = read_sources()
    names = arguments.names or list(sources)
    unknown = [name for name in names if name not in sources]
    if unknown:
        return failed([f"{unknown[0]!r} is none of {', '.join(sources)}."])
    chosen = [sources[name] for name in names]
    try:
        if arguments.list:
            Console().print(overview(chosen, arguments.data_root))
            if arguments.names:
                tell_parts(chosen)
            return 0
        root: Path = arguments.data_root
        if not arguments.verify:
            return fetched(names, sources, root, arguments.images)
        if not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder; check --data-root.")
        return verified(chosen if arguments.names else begun(chosen, root), root, arguments.images)
    except (OSError, ValueError) as error:
        return failed([str(error)])


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks; see --list")
    parser.add_argument("--data-root", type=Path, help="holds one folder for each benchmark")
    parser.add_argument("--images", action="store_true", help="large archives of pictures too")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--list", action="store_true", help="what there is; with names, all of it")
    action.add_argument("--verify", action="store_true", help="compare what is there; no network")
    arguments = parser.parse_args(argv)
    if not arguments.list and arguments.data_root is None:
        parser.error("--data-root is needed")
    if not (arguments.list or arguments.verify or arguments.names):
        parser.error("name the benchmarks to fetch, or give --list")
    return arguments


def fetched(names: Sequence[str], sources: dict[str, Benchmark], root: Path, images: bool) -> int:
    """Fetch; all that failed is told at the end."""
    root.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(root / ".fetching", timeout=0):
            fetcher = Fetcher(root, sources, images)
            return failed([text for name in names for text in fetcher.fetch(name)])
    except Timeout:
        return failed([f"{root}: another run is fetching into it; wait for its end."])


def begun(benchmarks: Sequence[Benchmark], root: Path) -> list[Benchmark]:
    """Those of which something lies under root, or once did; the others are told."""
    records = read_records(root)
    here = [
        benchmark
        for benchmark in benchmarks
        if any(
            part.found(root / benchmark.folder) or key_of(benchmark, part) in records
            for part in benchmark.parts
        )
    ]
    others = ", ".join(benchmark.name for benchmark in benchmarks if benchmark not in here)
    if others:
        Console().print(f"Not fetched, not verified: {others}.", markup=False, soft_wrap=True)
    return here


def verified(chosen: Sequence[Benchmark], root: Path, images: bool) -> int:
    """One table of all parts; 1 if one is missing or not what it should be."""
    records = read_records(root)
    table = folding("benchmark", "file", "state", "detail")
    wrong = 0
    for benchmark in chosen:
        for part in benchmark.parts:
            record = records.get(key_of(benchmark, part))
            verdict = verify(part, root / benchmark.folder, record, images)
            wrong += verdict.wrong
            state = f"[{COLOURS.get(verdict.state, 'default')}]{verdict.state}[/]"
            table.add_row(benchmark.name, escape(part.path), state, escape(verdict.detail))
    Console().print(table)
    return failed([f"{wrong} parts are missing or wrong; fetch them again."] if wrong else [])


def overview(chosen: Sequence[Benchmark], root: Path | None) -> Table:
    """One row per benchmark; its status by names of files, hashes are --verify's."""
    table = folding("name", "what, licence, size, source", "status")
    for benchmark in chosen:
        told = (benchmark.what, benchmark.licence, sizes(benchmark), benchmark.home)
        table.add_row(
            benchmark.name,
            escape("\n".join(told)),
            "" if root is None else status(benchmark, root / benchmark.folder),
        )
    return table


def sizes(benchmark: Benchmark) -> str:
    """Of what is always fetched, and of what --images adds; shared files are named, not counted."""
    told = []
    for parts, before in (
        ([part for part in benchmark.parts if not part.images], ""),
        ([part for part in benchmark.parts if part.images], "--images: "),
    ):
        shared = {f"as {part.needs}" for part in parts if isinstance(part, LinkPart)}
        size = " and ".join(filter(None, [size_of(parts), *shared]))
        told += [before + size] if size else []
    return ", ".join(told)


def folding(*columns: str) -> Table:
    """A table that shows addresses and hashes whole, on several lines."""
    table = Table(show_lines=True)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def status(benchmark: Benchmark, folder: Path) -> str:
    missing = [part for part in benchmark.parts if len(part.found(folder)) < part.count]
    if not missing:
        return "[green]all there[/]"
    if len(missing) == len(benchmark.parts):
        return "not fetched"
    if all(part.images for part in missing):
        hand = any(isinstance(part, HandPart) for part in missing)
        return f"[yellow]pictures missing: {'by hand' if hand else '--images'}[/]"
    return f"[red]missing: {escape(', '.join(part.path for part in missing))}[/]"


def tell_parts(chosen: Sequence[Benchmark]) -> None:
    """Where each file comes from, where evaluation looks for it, and what is known of it.

    An address stands on one line, whatever the terminal's width, to be copied.
    """
    console = Console()
    for benchmark in chosen:
        for part in benchmark.parts:
            count = f" ({part.count} files)" if part.count > 1 else ""
            told = {
                "from": part.hand if isinstance(part, HandPart) else source_of(part),
                "size": size_of([part]),
                "format": part.format,
            }
            if isinstance(part, FilePart | ZipPart | HubPart):
                told["sha256"] = part.sha256 or "not known: recorded at the first download"
            if part.images:
                told["fetched"] = "with --images"
            console.print(f"\n[bold]{escape(key_of(benchmark, part) + count)}[/]", soft_wrap=True)
            for name, text in told.items():
                if text:
                    console.print(f"  {name:8}{text}", markup=False, soft_wrap=True)


def failed(failures: Sequence[str]) -> int:
    """Say what failed; the exit status."""
    for text in failures:
        Console(stderr=True).print(f"error: {text}", style="red", markup=False, soft_wrap=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
