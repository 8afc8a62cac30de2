"""Statistics of arms that answered the same questions: bootstrap, exact sign test, correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from eval.benchmark import Metrics

RESAMPLES = 10_000
SEED = 20_231  # fixed: the same results give the same report
LEVEL = 0.05  # of an interval of 95 %, and of a corrected p
_CELLS_PER_CHUNK = 4_000_000


@dataclass(frozen=True)
class Interval:
    """A 95 % percentile interval; NaN where the metric is undefined on every resample."""

    low: float
    high: float


@dataclass(frozen=True)
class SignTest:
    """Exact two-sided test that a changed unit is as likely to have got better as worse.

    With one answer per question this is the exact McNemar test.
    """

    better: int
    worse: int
    p: float


def cluster_sums(counts_UC: np.ndarray, clusters: list[str]) -> np.ndarray:
    """Counts of units that are resampled together, added up: [U, C] -> [K, C]."""
    _, index_U = np.unique(clusters, return_inverse=True)
    sums_KC = np.zeros((index_U.max() + 1, counts_UC.shape[1]))
    np.add.at(sums_KC, index_U, counts_UC)
    return sums_KC


def resampled_sums(counts_SKC: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums over draws with replacement of S training seeds and of K clusters: -> [R, C].

    Every draw takes the same clusters of each seed, for all seeds answered the same questions
    (crossed random effects; Owen 2007, "The pigeonhole bootstrap"). Clusters with equal counts
    are one kind, and how often a kind is drawn is multinomial: the same distribution as drawing
    cluster by cluster, and the time goes with the kinds, of which right and wrong make few.
    """
    seeds, rows, columns = counts_SKC.shape
    by_cluster_KX = counts_SKC.transpose(1, 0, 2).reshape(rows, seeds * columns)
    kinds_NX, times_N = np.unique(by_cluster_KX, axis=0, return_counts=True)
    kinds_NSC = kinds_NX.reshape(-1, seeds, columns)
    of_clusters, of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    chunk = max(1, _CELLS_PER_CHUNK // len(times_N))
    sums_RC = np.zeros((resamples, columns))
    for start in range(0, resamples, chunk):
        some = slice(start, min(start + chunk, resamples))
        size = some.stop - start
        drawn_RN = of_clusters.multinomial(rows, times_N / rows, size).astype(float)
        drawn_RS = of_seeds.multinomial(seeds, np.full(seeds, 1 / seeds), size)
        for s in range(seeds):
            sums_RC[some] += drawn_RS[:, s, None] * (drawn_RN @ kinds_NSC[:, s])
    return sums_RC


def metrics_of(benchmark: Metrics, names: list[str], sums_RC: np.ndarray) -> dict[str, np.ndarray]:
    """The benchmark's metrics on every row of sums; each [R]."""
    return benchmark.metrics({name: sums_RC[:, c] for c, name in enumerate(names)})


def resampled_metrics(
    benchmark: Metrics,
    names: list[str],
    counts_ASKC: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[dict[str, np.ndarray]]:
    """Every metric on every resample, each [R], for each of A arms.

    All arms are drawn with the same seeds and clusters, so what a question contributes to two of
    them cancels in their difference. NaN where there is one cluster: drawn again it is the same,
    and an interval of no width would call sure what one picture said.
    """
    arms, clusters = len(counts_ASKC), counts_ASKC.shape[2]
    sums_RX = resampled_sums(np.concatenate(counts_ASKC, axis=-1), resamples, seed)
    resampled = [metrics_of(benchmark, names, sums) for sums in np.split(sums_RX, arms, axis=1)]
    if clusters > 1:
        return resampled
    return [{name: np.full(resamples, np.nan) for name in metrics} for metrics in resampled]


def percentile_interval(values_R: np.ndarray) -> Interval:
    """The middle 95 % of what the resamples gave."""
    known = values_R[~np.isnan(values_R)]
    if known.size == 0:
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(known, [100 * LEVEL / 2, 100 * (1 - LEVEL / 2)])
    return Interval(float(low), float(high))


def bootstrap_p(differences_R: np.ndarray) -> float:
    """Two-sided p of "no difference": twice the smaller share of resamples on a side of zero.

    It is the level at which the percentile interval would touch zero (Efron and Tibshirani 1993,
    section 15.4 turned round). Zeros count on both sides, and one is added to both counts, so
    that R resamples cannot tell less than 2/(R + 1). NaN where no resample is defined.
    """
    known = differences_R[~np.isnan(differences_R)]
    if known.size == 0:
        return float("nan")
    smaller = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (smaller + 1) / (known.size + 1))


def sign_test(baseline_K: np.ndarray, candidate_K: np.ndarray) -> SignTest:
    """Compare the number of right answers per cluster; clusters with equal numbers say nothing."""
    better, worse = int((candidate_K > baseline_K).sum()), int((candidate_K < baseline_K).sum())
    p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return SignTest(better, worse, p)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values (1979), in the order given.

    They bound the chance of even one false finding in the family, whatever the tests' dependence.
    """
    p_N = np.asarray(p_values, dtype=float)
    order = np.argsort(p_N, kind="stable")
    steps = p_N[order] * np.arange(len(p_N), 0, -1)
    adjusted_N = np.empty_like(p_N)
    adjusted_N[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return adjusted_N.tolist()
