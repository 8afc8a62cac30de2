"""Intervals and tests against scipy and against loops of one's own."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from eval.benchmark import Metrics
from eval.benchmarks.pope import Pope
from eval.bootstrap import (
    Interval,
    bootstrap_p,
    cluster_sums,
    holm,
    percentile_interval,
    resampled_metrics,
    resampled_sums,
    sign_test,
)
from eval.tower.edits import Edits


def paired_intervals(
    benchmark: Metrics,
    names: list[str],
    before_SKC: np.ndarray,
    after_SKC: np.ndarray,
    resamples: int = 10_000,
    seed: int = 1,
) -> dict[str, Interval]:
    both = np.stack([before_SKC, after_SKC])
    before, after = resampled_metrics(benchmark, names, both, resamples, seed)
    return {name: percentile_interval(after[name] - before[name]) for name in before}


def test_cluster_sums_by_hand() -> None:
    counts = np.array([[1.0, 0], [0, 1], [2, 2]])
    assert cluster_sums(counts, ["b", "a", "b"]).tolist() == [[0, 1], [3, 2]]


@pytest.mark.parametrize("rows", [1, 7, 3000])
def test_every_resample_has_as_many_rows(rows: int) -> None:
    counts = np.hstack([np.ones((rows, 1)), np.arange(rows)[:, None]])
    sums = resampled_sums(counts[None], 2500, seed=3)
    assert sums.shape == (2500, 2)
    assert (sums[:, 0] == rows).all()
    # The mean of a resample is the sample's, give or take its standard error.
    spread = np.arange(rows).std() / math.sqrt(rows * 2500) + 1e-9
    assert abs(sums[:, 1].mean() / rows - (rows - 1) / 2) < 5 * spread


def test_one_cluster_has_no_interval() -> None:
    names = [f"{split}/n" for split in ("random", "popular", "adversarial")]
    counts = np.ones((1, 2, 1, len(names)))  # two seeds do not make two pictures of one
    [metrics] = resampled_metrics(Pope(), names, counts, resamples=50)
    assert all(np.isnan(values).all() for values in metrics.values())
    [metrics] = resampled_metrics(Pope(), names, counts.repeat(2, axis=2), resamples=50)
    assert not np.isnan(metrics["mean_accuracy"]).any()


def test_equal_clusters_are_drawn_as_if_one_by_one() -> None:
    """Sums over 40 clusters of two kinds are binomial, as if each had been drawn by itself."""
    counts = np.repeat([[1.0, 0.0], [1.0, 1.0]], [30, 10], axis=0)
    sums = resampled_sums(counts[None], 40_000, seed=2)
    assert (sums[:, 0] == 40).all()
    for k in (5, 10, 15):
        expected = math.comb(40, k) * 0.25**k * 0.75 ** (40 - k)
        assert (sums[:, 1] == k).mean() == pytest.approx(expected, abs=0.006)


def test_same_seed_same_resamples() -> None:
    counts = np.random.default_rng(0).random((50, 3))
    assert (resampled_sums(counts[None], 100, 1) == resampled_sums(counts[None], 100, 1)).all()
    assert (resampled_sums(counts[None], 100, 1) != resampled_sums(counts[None], 100, 2)).any()


NAMES = ["pairs", "all_four", "image_to_text", "text_to_image"]
NAMES += ["image_to_text_both", "text_to_image_both"]


def edit_counts(right: np.ndarray) -> np.ndarray:
    return np.stack([np.ones_like(right), *([right] * 5)], axis=1).astype(float)


def test_interval_of_a_share_agrees_with_scipy() -> None:
    generator = np.random.default_rng(5)
    before = (generator.random(400) < 0.4).astype(float)
    after = np.where(generator.random(400) < 0.8, before, 1 - before)
    found = paired_intervals(Edits(), NAMES, edit_counts(before)[None], edit_counts(after)[None])[
        "all_four"
    ]
    expected = bootstrap(
        (after - before,), np.mean, method="percentile", n_resamples=10_000, rng=9
    ).confidence_interval
    assert found.low == pytest.approx(expected.low, abs=0.004)
    assert found.high == pytest.approx(expected.high, abs=0.004)


def test_interval_of_f1_agrees_with_a_loop() -> None:
    generator = np.random.default_rng(6)
    names = [f"random/{name}" for name in ("TP", "FP", "FN", "TN", "n", "label_yes")]

    def arm(skill: float) -> np.ndarray:
        label = np.arange(200) % 2 == 0
        says = np.where(generator.random(200) < skill, label, ~label)
        outcomes = [says & label, says & ~label, ~says & label, ~says & ~label]
        return np.stack([*outcomes, np.ones(200), label], axis=1).astype(float)

    def f1(counts: np.ndarray) -> float:
        tp, fp, fn = counts[:, :3].sum(axis=0)
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        return 2 * precision * recall / (precision + recall)

    before, after = arm(0.6), arm(0.75)
    found = paired_intervals(Pope(), names, before[None], after[None])["random/f1"]
    draws = [generator.integers(0, 200, 200) for _ in range(4000)]
    low, high = np.percentile([f1(after[d]) - f1(before[d]) for d in draws], [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.01)
    assert found.high == pytest.approx(high, abs=0.01)


def test_equal_seeds_are_one_seed() -> None:
    """Drawing seeds adds nothing where all say the same."""
    generator = np.random.default_rng(4)
    before, after = (edit_counts(generator.random(100) < share) for share in (0.4, 0.6))
    one = paired_intervals(Edits(), NAMES, before[None], after[None], resamples=500)
    three = paired_intervals(
        Edits(), NAMES, np.stack([before] * 3), np.stack([after] * 3), resamples=500
    )
    assert one == three


def test_interval_over_seeds_agrees_with_a_loop() -> None:
    generator = np.random.default_rng(7)
    shares = (0.35, 0.6, 0.75)  # training seeds that differ by far more than questions do
    before = np.stack([edit_counts(generator.random(300) < 0.5) for _ in shares])
    after = np.stack([edit_counts(generator.random(300) < share) for share in shares])
    found = paired_intervals(Edits(), NAMES, before, after)["all_four"]
    draws = []
    for _ in range(4000):
        questions = generator.integers(0, 300, 300)
        seeds = generator.integers(0, 3, 3)
        change_SK = after[:, :, 1] - before[:, :, 1]
        draws.append(np.mean([change_SK[s][questions].mean() for s in seeds]))
    low, high = np.percentile(draws, [2.5, 97.5])
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)
    assert found.low < -0.05 < 0.15 < found.high


def test_equal_arms_have_an_interval_of_zero_width() -> None:
    counts = edit_counts(np.random.default_rng(0).random(100) < 0.5)
    interval = paired_intervals(Edits(), NAMES, counts[None], counts[None], resamples=200)[
        "all_four"
    ]
    assert (interval.low, interval.high) == (0, 0)


def test_intervals_cover_the_truth() -> None:
    """Of 200 experiments with a true difference of 10 points about 95 % cover it."""
    generator = np.random.default_rng(8)
    covered = 0
    for seed in range(200):
        before = (generator.random(150) < 0.5).astype(float)
        after = (generator.random(150) < 0.6).astype(float)
        interval = paired_intervals(
            Edits(),
            NAMES,
            edit_counts(before)[None],
            edit_counts(after)[None],
            resamples=400,
            seed=seed,
        )["all_four"]
        covered += interval.low <= 0.1 <= interval.high
    assert 178 <= covered <= 199


def test_undefined_metric_has_no_interval() -> None:
    names = ["random/n", "random/TN", "random/label_yes"]  # no yes anywhere: no precision
    counts = np.ones((10, 3)) * [1, 1, 0]
    interval = paired_intervals(Pope(), names, counts[None], counts[None], resamples=50)[
        "random/precision"
    ]
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_mcnemar_is_the_binomial_sum(pairs: list[tuple[bool, bool]]) -> None:
    before, after = (np.array(column, dtype=float) for column in zip(*pairs, strict=True))
    found = sign_test(before, after)
    better = sum(not b and a for b, a in pairs)
    worse = sum(b and not a for b, a in pairs)
    changed = better + worse
    # Two-sided exact p: twice the smaller tail of Binomial(changed, 1/2), at most 1.
    tail = sum(math.comb(changed, k) for k in range(min(better, worse) + 1)) / 2**changed
    assert (found.better, found.worse) == (better, worse)
    assert found.p == pytest.approx(min(1, 2 * tail))


def test_bootstrap_p_by_hand() -> None:
    # 3 of 99 resamples are not above zero, one of them is zero: 2 * (3 + 1) / (99 + 1).
    draws = np.array([-1.0, -2.0, 0.0] + [1.0] * 96)
    assert bootstrap_p(draws) == pytest.approx(0.08)
    assert bootstrap_p(-draws) == pytest.approx(0.08)
    assert bootstrap_p(np.zeros(99)) == 1
    assert bootstrap_p(np.append(draws, math.nan)) == pytest.approx(0.08)
    assert bootstrap_p(np.ones(99)) == pytest.approx(0.02)
    assert math.isnan(bootstrap_p(np.array([math.nan])))


def test_bootstrap_p_is_the_normal_test_s_for_a_mean() -> None:
    generator = np.random.default_rng(3)
    change = generator.normal(0.13, 1, 400)
    change += 0.1 - change.mean()  # z = 0.1 / (s / 20), whose p is about 0.05
    z = 0.1 / (change.std() / 20)
    expected = math.erfc(z / 2**0.5)
    draws = change[generator.integers(0, 400, (20_000, 400))].mean(axis=1)
    assert bootstrap_p(draws) == pytest.approx(expected, abs=0.008)


def test_bootstrap_p_rejects_as_often_as_it_says() -> None:
    """Where nothing differs about one experiment in twenty has p < 0.05."""
    generator = np.random.default_rng(12)
    found = 0
    for seed in range(300):
        before, after = ((generator.random(200) < 0.5).astype(float) for _ in range(2))
        both = np.stack([edit_counts(before)[None], edit_counts(after)[None]])
        one, other = resampled_metrics(Edits(), NAMES, both, 400, seed)
        found += bootstrap_p(other["all_four"] - one["all_four"]) < 0.05
    assert 4 <= found <= 28


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        # p.adjust(c(0.01, 0.04, 0.03, 0.005), "holm") of R by hand: 0.005*4, 0.01*3, 0.03*2, 0.04.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.02], [0.02]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.01, 0.01, 0.5], [0.03, 0.03, 0.5]),
        ([], []),
    ],
)
def test_holm_by_hand(raw: list[float], expected: list[float]) -> None:
    assert holm(raw) == pytest.approx(expected)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_as_the_step_down_procedure(p_values: list[float]) -> None:
    """Holm 1979: go up the sorted p-values, stop at the first above level / (tests left)."""
    level, rejected = 0.05, set()
    for step, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[i] * (len(p_values) - step) >= level:
            break
        rejected.add(i)
    assert {i for i, p in enumerate(holm(p_values)) if p < level} == rejected
