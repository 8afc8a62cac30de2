"""Statistics of two arms that answered the same questions: paired bootstrap and exact sign test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from eval.benchmark import Metrics

RESAMPLES = 10_000
SEED = 20_231  # fixed: the same results give the same report
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


def _times_drawn(generator: np.random.Generator, draws: int, rows: int) -> np.ndarray:
    """How often each of `rows` comes in each of `draws` samples with replacement: [draws, rows]."""
    picks = generator.integers(0, rows, size=(draws, rows))
    picks += rows * np.arange(draws)[:, None]
    return np.bincount(picks.ravel(), minlength=draws * rows).reshape(draws, rows).astype(float)


def resampled_sums(counts_SKC: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Sums over draws with replacement of S training seeds and of K clusters: -> [R, C].

    Every draw takes the same clusters of each seed, for all seeds answered the same questions
    (crossed random effects; Owen 2007, "The pigeonhole bootstrap").
    """
    seeds, rows, columns = counts_SKC.shape
    of_clusters, of_seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    chunk = max(1, _CELLS_PER_CHUNK // rows)
    sums_RC = np.zeros((resamples, columns))
    for start in range(0, resamples, chunk):
        some = slice(start, min(start + chunk, resamples))
        times_RK = _times_drawn(of_clusters, some.stop - start, rows)
        times_RS = _times_drawn(of_seeds, some.stop - start, seeds)
        for times_R, counts_KC in zip(times_RS.T, counts_SKC, strict=True):
            sums_RC[some] += times_R[:, None] * (times_RK @ counts_KC)
    return sums_RC


def metrics_of(benchmark: Metrics, names: list[str], sums_RC: np.ndarray) -> dict[str, np.ndarray]:
    """The benchmark's metrics on every row of sums; each [R]."""
    return benchmark.metrics({name: sums_RC[:, c] for c, name in enumerate(names)})


def paired_intervals(
    benchmark: Metrics,
    names: list[str],
    baseline_SKC: np.ndarray,
    candidate_SKC: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> dict[str, Interval]:
    """Interval of candidate minus baseline for every metric.

    Both arms are drawn with the same seeds and clusters, so what a question contributes to both
    cancels.
    """
    columns = len(names)
    both_RC = resampled_sums(np.dstack([baseline_SKC, candidate_SKC]), resamples, seed)
    before = metrics_of(benchmark, names, both_RC[:, :columns])
    after = metrics_of(benchmark, names, both_RC[:, columns:])
    return {name: _percentiles(after[name] - before[name]) for name in before}


def _percentiles(values_R: np.ndarray) -> Interval:
    known = values_R[~np.isnan(values_R)]
    if known.size == 0:
        return Interval(float("nan"), float("nan"))
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(low), float(high))


def sign_test(baseline_K: np.ndarray, candidate_K: np.ndarray) -> SignTest:
    """Compare the number of right answers per cluster; clusters with equal numbers say nothing."""
    better, worse = int((candidate_K > baseline_K).sum()), int((candidate_K < baseline_K).sum())
    p = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    return SignTest(better, worse, p)
