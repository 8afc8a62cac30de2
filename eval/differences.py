"""What arms measured on one benchmark, the differences between them, and how sure those are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from eval.benchmark import Metrics, kind_of
from eval.bootstrap import (
    SignTest,
    bootstrap_p,
    cluster_sums,
    metrics_of,
    percentile_interval,
    resampled_metrics,
    sign_test,
)
from eval.comparison import (
    Category,
    Comparison,
    Difference,
    Flip,
    Quantity,
    Score,
    SignificanceTest,
)
from eval.result import Result, count_matrix, count_names


@dataclass(frozen=True)
class Measured:
    """One arm on one benchmark. Each metric pooled over the seeds (row 0) and by seed: [1 + S];
    each metric on every resample: [R]; the number of seeds that have each unit right: [U]."""

    name: str
    results: Sequence[Result]
    pooled: dict[str, np.ndarray]
    drawn: dict[str, np.ndarray]
    seeds_right: np.ndarray


def measure(
    benchmark: Metrics, arms: Mapping[str, Sequence[Result]], clusters: list[str]
) -> list[Measured]:
    """Seeds are pooled by adding counts up; resamples are over seeds and clusters alike."""
    names = count_names([u for results in arms.values() for r in results for u in r.units])
    counts_ASKC = np.array(
        [
            [cluster_sums(count_matrix(r.units, names), clusters) for r in results]
            for results in arms.values()
        ]
    )
    drawn = resampled_metrics(benchmark, names, counts_ASKC)
    measured: list[Measured] = []
    for (arm, results), sums_SC, draws in zip(
        arms.items(), counts_ASKC.sum(axis=2), drawn, strict=True
    ):
        pooled = metrics_of(benchmark, names, np.vstack([sums_SC.sum(axis=0), sums_SC]))
        right_SU = np.array([[bool(unit.right) for unit in r.units] for r in results])
        measured.append(Measured(arm, results, pooled, draws, right_SU.sum(axis=0)))
    return measured


def _quantity(benchmark: Metrics, name: str) -> Quantity:
    kind, part = kind_of(benchmark, name), name.rpartition("/")[0]
    return Quantity(
        metric=name,
        title=f"{part}: {kind.title}" if part else kind.title,
        better=kind.better,
        share=kind.share,
        headline=name in benchmark.headlines,
    )


def scores(benchmark: Metrics, arm: Measured) -> tuple[Score, ...]:
    found: list[Score] = []
    for name, values in arm.pooled.items():
        interval = percentile_interval(arm.drawn[name])
        quantity = asdict(_quantity(benchmark, name))
        found.append(
            Score(**quantity, value=float(values[0]), low=interval.low, high=interval.high)
        )
    return tuple(found)


def comparison(
    benchmark: Metrics, before: Measured, after: Measured, clusters: list[str]
) -> Comparison:
    flips = [
        Flip(seed, one, other)
        for seed, (left, right) in enumerate(zip(before.results, after.results, strict=True))
        for one, other in zip(left.units, right.units, strict=True)
        if one.right != other.right
    ]
    signs = _signs(before, after, clusters)
    return Comparison(
        candidate=after.name,
        differences=tuple(
            _difference(benchmark, n, before, after, signs, clusters) for n in before.pooled
        ),
        signs=signs,
        gained=tuple(flip for flip in flips if flip.after.right),
        lost=tuple(flip for flip in flips if flip.before.right),
    )


def _difference(
    benchmark: Metrics,
    name: str,
    before: Measured,
    after: Measured,
    signs: SignTest | None,
    clusters: list[str],
) -> Difference:
    changes = after.pooled[name] - before.pooled[name]
    drawn_R = after.drawn[name] - before.drawn[name]
    interval = percentile_interval(drawn_R)
    quantity = _quantity(benchmark, name)
    test = _test(name, before, after, drawn_R, signs, clusters) if quantity.headline else None
    return Difference(
        **asdict(quantity),
        baseline=float(before.pooled[name][0]),
        candidate=float(after.pooled[name][0]),
        difference=float(changes[0]),
        low=interval.low,
        high=interval.high,
        per_seed=tuple(float(change) for change in changes[1:]),
        test=test,
    )


def _test(
    name: str,
    before: Measured,
    after: Measured,
    drawn_R: np.ndarray,
    signs: SignTest | None,
    clusters: list[str],
) -> SignificanceTest | None:
    """McNemar's for a share of right (or of wrong) units, else the bootstrap; None if undefined.

    Several seeds are for the bootstrap, because McNemar's would take what training varies for a
    finding. So are clusters of units of which some may be right and others wrong, or of which one
    has more than another: more clusters that got better than worse are no higher share.
    """
    arms = (before, after)
    if signs is not None and len(before.results) == 1 and _together(arms, clusters):
        shares = [arm.seeds_right.mean() for arm in arms]
        values = [arm.pooled[name][0] for arm in arms]
        if np.allclose(values, shares) or np.allclose(values, [1 - share for share in shares]):
            exact = "McNemar" if len(set(clusters)) == len(clusters) else "sign test"
            return SignificanceTest(exact, signs.p, math.nan, 0)
    p = bootstrap_p(drawn_R)
    return None if math.isnan(p) else SignificanceTest("bootstrap", p, math.nan, 0)


def _together(arms: Sequence[Measured], clusters: list[str]) -> bool:
    """Whether clusters, all of one size, are right as a whole or wrong as a whole in each arm."""
    return len(set(Counter(clusters).values())) == 1 and all(
        len(set(zip(clusters, arm.seeds_right, strict=True))) == len(set(clusters)) for arm in arms
    )


def _signs(before: Measured, after: Measured, clusters: list[str]) -> SignTest | None:
    if any(unit.right is None for unit in before.results[0].units):
        return None
    before_K, after_K = (
        cluster_sums(arm.seeds_right[:, None], clusters)[:, 0] for arm in (before, after)
    )
    return sign_test(before_K, after_K)


def categories(arms: Sequence[Measured]) -> tuple[Category, ...]:
    units, seeds = arms[0].results[0].units, len(arms[0].results)
    names = list(dict.fromkeys(unit.category for unit in units if unit.right is not None))
    if len(names) < 2:
        return ()
    found: list[Category] = []
    for name in names:
        chosen_U = np.array([unit.category == name for unit in units])
        shares = tuple(float(arm.seeds_right[chosen_U].mean() / seeds) for arm in arms)
        found.append(Category(name, int(chosen_U.sum()), shares))
    return tuple(found)
