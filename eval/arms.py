"""Reading arms, and whether their results may be compared."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path, PurePosixPath

from eval.benchmark import COMPLETE, Unit
from eval.comparison import Mismatch, judge_unknown
from eval.judging import RULE
from eval.provenance import sameness
from eval.registry import BENCHMARKS
from eval.result import Result, read_result

MUST_AGREE = ("parser", "decoding", "prompt", "judge", "judge_prompts")
DATA = ("data", "pictures", "prompts")
COMMON = "pair the common units with --allow-different-data"


@dataclass(frozen=True)
class Arm:
    """A name, and a directory of results for each training seed."""

    name: str
    directories: tuple[Path, ...]


@dataclass(frozen=True)
class Results:
    """An arm's results by benchmark, one per seed in order.

    `partial` are benchmarks that only some of the seeds have.
    """

    arm: str
    by_benchmark: Mapping[str, tuple[Result, ...]]
    partial: tuple[str, ...]


def read_arm(arm: Arm) -> Results:
    """All results of an arm.

    Raises:
        FileNotFoundError: a directory without any.
    """
    found = [read_results(directory) for directory in arm.directories]
    whole = [name for name in BENCHMARKS if all(name in results for results in found)]
    some = [name for name in BENCHMARKS if any(name in results for results in found)]
    return Results(
        arm=arm.name,
        by_benchmark={name: tuple(results[name] for results in found) for name in whole},
        partial=tuple(name for name in some if name not in whole),
    )


def read_results(directory: Path) -> dict[str, Result]:
    """All results in a directory, by benchmark.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = {name: directory / f"{name}.json" for name in BENCHMARKS}
    results = {name: read_result(path) for name, path in paths.items() if path.is_file()}
    if not results:
        raise FileNotFoundError(
            f"{directory}: holds no result (<benchmark>.json); make one with eval/run.py."
        )
    return results


def align(
    arms: Mapping[str, Sequence[Result]], allow_different_data: bool
) -> tuple[dict[str, list[Result]], Mismatch | None]:
    """The arms' results with the same units in the same order, and what did not agree.

    Raises:
        ValueError: they were not got alike, or (unless allowed) not on the same data.
    """
    first, *others = [result for results in arms.values() for result in results]
    # Each with each: what the first does not know of itself, others may know and differ in.
    for one, other in combinations((first, *others), 2):
        _refuse(one, other, MUST_AGREE, "score both alike")
    if not allow_different_data:
        for one, other in combinations((first, *others), 2):
            _refuse(one, other, DATA, f"score both alike, or {COMMON}")
            _refuse_other_questions(one, other)
        return {name: list(results) for name, results in arms.items()}, None
    differ = {key for key in DATA for other in others if _disagree(first, other, key)}
    if any(set(_ids(first)) != set(_ids(other)) for other in others):
        differ.add("questions")
    return _common(arms, tuple(sorted(differ)))


def _ids(result: Result) -> list[str]:
    return [unit.id for unit in result.units]


def _disagree(one: Result, other: Result, key: str) -> bool:
    """A result of answers that were made elsewhere does not know how they were made."""
    mine, theirs = _entry(one, key), _entry(other, key)
    if key == "judge" and judge_unknown(one.provenance) != judge_unknown(other.provenance):
        return {"name": RULE} in (mine, theirs)  # it may be any judge, but is no rule
    return mine is not None and theirs is not None and mine != theirs


def _entry(result: Result, key: str) -> object:
    """A part of the provenance; of a judge what tells it from others, wherever it ran."""
    entry = result.provenance.get(key)
    return sameness(entry) if key == "judge" and isinstance(entry, dict) else entry


def _refuse(one: Result, other: Result, keys: Sequence[str], way_out: str) -> None:
    for key in keys:
        if _disagree(one, other, key):
            raise ValueError(
                f"{one.benchmark}: the results differ in their {key} ({_told(one, other, key)}), "
                f"so a difference would say nothing; {way_out}."
            )


def _told(one: Result, other: Result, key: str) -> str:
    """In what two entries differ, short enough to read; hashes by their first digits."""
    mine, theirs = one.provenance[key], other.provenance[key]
    if not isinstance(mine, dict) or not isinstance(theirs, dict):
        return f"{str(mine)[:80]!r} and {str(theirs)[:80]!r}"
    return ", ".join(
        f"{name}: {str(mine.get(name))[:40]} and {str(theirs.get(name))[:40]}"
        for name in dict.fromkeys([*mine, *theirs])
        if mine.get(name) != theirs.get(name)
    )


def _refuse_other_questions(one: Result, other: Result) -> None:
    mine, theirs = _ids(one), _ids(other)
    if mine == theirs:
        return
    common = len(set(mine) & set(theirs))
    how = f"{common} of {len(mine)} and of {len(theirs)} units are in both"
    if common == len(mine) == len(theirs):
        how = "the same questions in another order"
    raise ValueError(
        f"{one.benchmark}: the results do not answer the same questions in the same order ({how}); "
        f"score the answers to the same questions of both, or {COMMON}."
    )


def _asks(unit: Unit) -> tuple[str, tuple[str, ...]]:
    """What a unit is about; folders of pictures are named differently on different machines."""
    return unit.question, tuple(PurePosixPath(name).name for name in unit.images)


def _common(
    arms: Mapping[str, Sequence[Result]], differ: tuple[str, ...]
) -> tuple[dict[str, list[Result]], Mismatch | None]:
    first, *others = [result for results in arms.values() for result in results]
    tables = [_by_id(result) for result in (first, *others)]
    shared = [i for i in tables[0] if all(i in table for table in tables)]
    same = [i for i in shared if len({_asks(table[i]) for table in tables}) == 1]
    torn = _torn(tables, set(same))
    kept = [i for i in same if i not in torn]
    if not kept:
        raise ValueError(
            f"{first.benchmark}: the results have no question in common, or no group of questions "
            "that each of them has whole; score the answers to the same questions."
        )
    whole = all(len(table) == len(kept) for table in tables)
    aligned = {
        name: [replace(r, units=_taken(_by_id(r), kept, whole)) for r in results]
        for name, results in arms.items()
    }
    if not differ and len(kept) == len(shared):
        return aligned, None
    mismatch = Mismatch(
        differ=differ,
        kept=len(kept),
        dropped={n: max(len(r.units) for r in rs) - len(shared) for n, rs in arms.items()},
        changed=len(shared) - len(same),
        torn=len(torn),
        relabelled=sum(len({table[i].label for table in tables}) > 1 for i in kept),
    )
    return aligned, mismatch


def _taken(table: Mapping[str, Unit], kept: Sequence[str], whole: bool) -> tuple[Unit, ...]:
    """The units in order; unless these are all there are, they do not count as such."""
    units = [table[i] for i in kept]
    if not whole:
        units = [
            replace(unit, counts={k: n for k, n in unit.counts.items() if k != COMPLETE})
            for unit in units
        ]
    return tuple(units)


def _torn(tables: Sequence[Mapping[str, Unit]], same: set[str]) -> set[str]:
    """Those of the units that a result counted jointly with others which not all results have."""
    clusters = [_clusters(table) for table in tables]
    torn: set[str] = set()
    for i in same:
        if any(table[i].joint for table in tables):
            groups = {of[table[i].cluster] for of, table in zip(clusters, tables, strict=True)}
            if len(groups) > 1 or not same.issuperset(*groups):
                torn.add(i)
    return torn


def _clusters(table: Mapping[str, Unit]) -> dict[str, frozenset[str]]:
    """The ids of each cluster's units."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for unit in table.values():
        found[unit.cluster].add(unit.id)
    return {cluster: frozenset(ids) for cluster, ids in found.items()}


def _by_id(result: Result) -> dict[str, Unit]:
    table = {unit.id: unit for unit in result.units}
    if len(table) < len(result.units):
        raise ValueError(
            f"{result.benchmark}: {len(result.units) - len(table)} units share their id with "
            "another, so they cannot be paired by id; score again."
        )
    return table
