"""Comparing two arms on the same benchmarks: what changed, how sure it is, which flipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from eval.benchmark import Metrics, TowerBenchmark, kind_of
from eval.bootstrap import SignTest, cluster_sums, metrics_of, paired_intervals, sign_test
from eval.comparison import CategoryShare, Comparison, Difference, Flip
from eval.registry import BENCHMARKS
from eval.result import Result, count_matrix, count_names, read_result

MUST_AGREE = ("data", "parser", "pictures", "decoding", "prompt")


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


def compare_directories(baseline: Sequence[Path], candidate: Sequence[Path]) -> list[Comparison]:
    """Compare the benchmarks that every directory has; directories are paired by position.

    Raises:
        ValueError: unequal numbers of directories, no common benchmark, or results that are not
            comparable.
    """
    if len(baseline) != len(candidate):
        raise ValueError(
            f"{len(baseline)} baseline and {len(candidate)} candidate directories: seeds are "
            "paired by position, give as many of each."
        )
    before, after = [read_results(d) for d in baseline], [read_results(d) for d in candidate]
    common = [name for name in BENCHMARKS if all(name in found for found in [*before, *after])]
    if not common:
        raise ValueError(
            f"no benchmark has a result in every one of {_names(baseline, candidate)}."
        )
    return [
        compare([found[name] for found in before], [found[name] for found in after])
        for name in common
    ]


def _names(baseline: Sequence[Path], candidate: Sequence[Path]) -> str:
    return ", ".join(str(path) for path in [*baseline, *candidate])


def _check_comparable(results: Sequence[Result]) -> None:
    first = results[0]
    for result in results[1:]:
        for key in MUST_AGREE:
            one, other = first.provenance.get(key), result.provenance.get(key)
            if one is not None and other is not None and one != other:
                raise ValueError(
                    f"{first.benchmark}: the results differ in their {key} ({one!r:.120} and "
                    f"{other!r:.120}), so a difference would say nothing; score both alike."
                )
        if [unit.id for unit in first.units] != [unit.id for unit in result.units]:
            raise ValueError(
                f"{first.benchmark}: the results do not answer the same questions "
                f"({len(first.units)} and {len(result.units)} units); score both alike."
            )


def compare(baseline: Sequence[Result], candidate: Sequence[Result]) -> Comparison:
    """Compare one benchmark's results, one per seed and arm, paired by position."""
    _check_comparable([*baseline, *candidate])
    benchmark, units = BENCHMARKS[baseline[0].benchmark], baseline[0].units
    names = count_names([unit for result in [*baseline, *candidate] for unit in result.units])
    before_SUC = np.stack([count_matrix(result.units, names) for result in baseline])
    after_SUC = np.stack([count_matrix(result.units, names) for result in candidate])
    clusters = [unit.cluster for unit in units]
    flips = [
        Flip(seed, one, other)
        for seed, (left, right) in enumerate(zip(baseline, candidate, strict=True))
        for one, other in zip(left.units, right.units, strict=True)
        if one.right != other.right
    ]
    return Comparison(
        benchmark=benchmark,
        of_tower=isinstance(benchmark, TowerBenchmark),
        units=len(units),
        clusters=len(set(clusters)),
        seeds=len(baseline),
        differences=_differences(benchmark, names, before_SUC, after_SUC, clusters),
        signs=_signs(baseline, candidate, clusters),
        gained=tuple(flip for flip in flips if flip.after.right),
        lost=tuple(flip for flip in flips if flip.before.right),
        categories=_categories(baseline, candidate),
        data_root=Path(baseline[0].data_root),
    )


def _differences(
    benchmark: Metrics,
    names: list[str],
    before_SUC: np.ndarray,
    after_SUC: np.ndarray,
    clusters: list[str],
) -> tuple[Difference, ...]:
    """Seeds are pooled by adding counts up; intervals are over seeds and clusters alike."""
    before_SKC, after_SKC = (
        np.stack([cluster_sums(counts_UC, clusters) for counts_UC in counts_SUC])
        for counts_SUC in (before_SUC, after_SUC)
    )
    intervals = paired_intervals(benchmark, names, before_SKC, after_SKC)
    # Row 0 is the pool, the rows below are the seeds.
    pooled_before = metrics_of(benchmark, names, _with_total(before_SUC.sum(axis=1)))
    pooled_after = metrics_of(benchmark, names, _with_total(after_SUC.sum(axis=1)))
    found: list[Difference] = []
    for name, values in pooled_before.items():
        kind, changes = kind_of(benchmark, name), pooled_after[name] - values
        part = name.rpartition("/")[0]
        found.append(
            Difference(
                metric=name,
                title=f"{part}: {kind.title}" if part else kind.title,
                better=kind.better,
                share=kind.share,
                headline=name in benchmark.headlines,
                baseline=float(values[0]),
                candidate=float(pooled_after[name][0]),
                difference=float(changes[0]),
                low=intervals[name].low,
                high=intervals[name].high,
                per_seed=tuple(float(change) for change in changes[1:]),
            )
        )
    return tuple(found)


def _with_total(sums_SC: np.ndarray) -> np.ndarray:
    return np.vstack([sums_SC.sum(axis=0), sums_SC])


def _right_U(results: Sequence[Result]) -> np.ndarray:
    """Number of seeds that have each unit right: [U]."""
    return np.array([[bool(unit.right) for unit in r.units] for r in results]).sum(axis=0)


def _signs(
    baseline: Sequence[Result], candidate: Sequence[Result], clusters: list[str]
) -> SignTest | None:
    if any(unit.right is None for unit in baseline[0].units):
        return None
    before_K = cluster_sums(_right_U(baseline)[:, None], clusters)[:, 0]
    after_K = cluster_sums(_right_U(candidate)[:, None], clusters)[:, 0]
    return sign_test(before_K, after_K)


def _categories(
    baseline: Sequence[Result], candidate: Sequence[Result]
) -> tuple[CategoryShare, ...]:
    units, seeds = baseline[0].units, len(baseline)
    names = list(dict.fromkeys(unit.category for unit in units if unit.right is not None))
    if len(names) < 2:
        return ()
    before_U, after_U = _right_U(baseline) / seeds, _right_U(candidate) / seeds
    shares: list[CategoryShare] = []
    for name in names:
        chosen = np.array([unit.category == name for unit in units])
        before, after = float(before_U[chosen].mean()), float(after_U[chosen].mean())
        shares.append(CategoryShare(name, int(chosen.sum()), before, after))
    return tuple(shares)
