"""Comparing arms on the same benchmarks: what changed, how sure it is, which answers flipped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from eval.arms import Arm, Results, align, read_arm
from eval.benchmark import TowerBenchmark
from eval.bootstrap import holm
from eval.comparison import Difference, Section, Standing, Study
from eval.differences import categories, comparison, measure, scores
from eval.registry import BENCHMARKS
from eval.result import Result


def compare_arms(
    baseline: Arm, candidates: Sequence[Arm], allow_different_data: bool = False
) -> Study:
    """Compare each candidate with the baseline on the benchmarks that both have.

    Directories are paired by position, one per training seed. Without a candidate the baseline
    stands alone.

    Raises:
        ValueError: unequal numbers of directories, a name twice, no common benchmark, or results
            that are not comparable.
    """
    _check_arms([baseline, *candidates])
    first, *others = [read_arm(arm) for arm in (baseline, *candidates)]
    for results in others:
        if not first.by_benchmark.keys() & results.by_benchmark.keys():
            raise ValueError(
                f"no benchmark has a result in every directory of {first.arm!r} and "
                f"{results.arm!r}; score both with eval/run.py."
            )
    sections: list[Section] = []
    for name in first.by_benchmark:
        arms = {r.arm: r.by_benchmark[name] for r in (first, *others) if name in r.by_benchmark}
        if len(arms) > 1 or not others:
            sections.append(compare(arms, allow_different_data))
    if not sections:
        raise ValueError(f"no benchmark has a result in every directory of {first.arm!r}.")
    left_out = _left_out(first, others)
    return Study(first.arm, tuple(r.arm for r in others), _corrected(sections), left_out)


def _check_arms(arms: Sequence[Arm]) -> None:
    doubled = [name for name, times in Counter(arm.name for arm in arms).items() if times > 1]
    if doubled:
        raise ValueError(f"{len(arms)} arms, but {doubled[0]!r} is the name of several.")
    for arm in arms:
        if len(arm.directories) != len(arms[0].directories):
            raise ValueError(
                f"{len(arms[0].directories)} baseline and {len(arm.directories)} candidate "
                f"directories ({arm.name}): seeds are paired by position, give as many of each."
            )


def _left_out(first: Results, others: Sequence[Results]) -> tuple[str, ...]:
    told = [
        f"{results.arm}: {BENCHMARKS[name].title} has no result in some of the seeds"
        for results in (first, *others)
        for name in results.partial
    ]
    for results in others:
        for one, other in ((first, results), (results, first)):
            names = [n for n in one.by_benchmark if n not in {*other.by_benchmark, *other.partial}]
            told += [f"{other.arm}: {one.arm} has {BENCHMARKS[n].title}, it has not" for n in names]
    return tuple(told)


def compare(arms: Mapping[str, Sequence[Result]], allow_different_data: bool = False) -> Section:
    """Compare one benchmark's results, one per seed of each arm; the first arm is the baseline."""
    aligned, mismatch = align(arms, allow_different_data)
    first = next(iter(aligned.values()))
    benchmark, units = BENCHMARKS[first[0].benchmark], first[0].units
    clusters = [unit.cluster for unit in units]
    measured = measure(benchmark, aligned, clusters)
    return Section(
        benchmark=benchmark,
        of_tower=isinstance(benchmark, TowerBenchmark),
        units=len(units),
        clusters=len(set(clusters)),
        seeds=len(first),
        standings=tuple(
            Standing(arm.name, scores(benchmark, arm), tuple(r.provenance for r in arm.results))
            for arm in measured
        ),
        comparisons=tuple(
            comparison(benchmark, measured[0], arm, clusters) for arm in measured[1:]
        ),
        categories=categories(measured),
        mismatch=mismatch,
        data_root=Path(first[0].data_root),
    )


def _corrected(sections: Sequence[Section]) -> tuple[Section, ...]:
    """The sections with Holm's correction over all their tests: one family."""
    found = [d.test for s in sections for c in s.comparisons for d in c.differences]
    tests = [test for test in found if test is not None]
    corrected = iter(holm([test.p for test in tests]))

    def correct(difference: Difference) -> Difference:
        if difference.test is None:
            return difference
        test = replace(difference.test, corrected=next(corrected), family=len(tests))
        return replace(difference, test=test)

    return tuple(
        replace(
            section,
            comparisons=tuple(
                replace(c, differences=tuple(correct(d) for d in c.differences))
                for c in section.comparisons
            ),
        )
        for section in sections
    )
