"""Numbers and verdicts in words; every form of the report says them alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from eval.bootstrap import RESAMPLES
from eval.comparison import (
    Comparison,
    Difference,
    Quantity,
    Score,
    Section,
    SignificanceTest,
    Study,
    headlines,
)

MINUS = "\N{MINUS SIGN}"
OUTCOMES = {
    "gain": ("clear gain", "clear gains"),
    "loss": ("clear loss", "clear losses"),
    "difference": ("clear difference", "clear differences"),
    "uncorrected": ("no longer clear after correction",) * 2,
    "unclear": ("not clear of zero",) * 2,
}


def value(number: float, share: bool, signed: bool = False) -> str:
    """A share in percent with one decimal; anything else with one, below ten with two; "n/a"."""
    if math.isnan(number):
        return "n/a"
    scaled = 100 * number if share else number
    decimals = 1 if share or abs(scaled) >= 10 else 2
    # Rounded first, and zero added: there is no "-0.0".
    rounded = round(scaled, decimals) + 0.0
    sign = "+" if signed and rounded != 0 else ""
    return f"{rounded:{sign}.{decimals}f}".replace("-", MINUS)


def interval(measured: Difference | Score) -> str:
    """The 95 % interval, of a difference as "+0.4 … +5.1"; "n/a" where there is none."""
    if math.isnan(measured.low):
        return "n/a"
    signed = isinstance(measured, Difference)
    low, high = (value(end, measured.share, signed) for end in (measured.low, measured.high))
    return f"{low} … {high}"


def digits(p: float) -> str:
    """p with as many digits as are of use."""
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def probability(p: float) -> str:
    """As "p = 0.0120"."""
    return f"p {digits(p)}" if p < 0.0001 else f"p = {digits(p)}"


def printed(number: float) -> str:
    """A published number as printed: with one decimal, more where it has more."""
    return f"{number:.1f}" if round(number, 1) == number else f"{number:g}"


def titled(quantity: Quantity) -> str:
    """The metric's title, and that lower is better where it is."""
    return quantity.title + (" (lower is better)" if quantity.better == "lower" else "")


def outcome(difference: Difference) -> str:
    """The verdict once the correction is made; a key of OUTCOMES."""
    return difference.verdict if difference.holds else "uncorrected"


def tested(test: SignificanceTest | None) -> str:
    """Both p-values, raw and corrected, as "McNemar p = 0.0120, Holm 0.0840"."""
    if test is None:
        return ""
    raw = f"{test.name} {probability(test.p)}"
    return raw if test.family == 1 else f"{raw}, Holm {digits(test.corrected)}"


def sentence(section: Section, comparison: Comparison) -> str:
    """What happened to the first headline, whether it is clear of zero, and stays so."""
    quoted = headlines(section.benchmark, comparison.differences)
    if not quoted:
        return f"{section.benchmark.title}: these answers give none of its headline metrics."
    first = quoted[0]
    before, after = value(first.baseline, first.share), value(first.candidate, first.share)
    change = value(first.difference, first.share, signed=True)
    seeds = f"; seeds {spread(first)}" if spread(first) else ""
    start = (
        f"{section.benchmark.title} {first.title} went from {before} to {after}, {change} points "
        f"(95 % interval {interval(first)}{seeds})"
    )
    if math.isnan(first.difference):
        return f"{start}: undefined on these answers."
    if math.isnan(first.low):
        return f"{start}: one picture or pair says nothing of others."
    note = " (lower is better)" if first.better == "lower" else ""
    # A tower's headlines ask for different things: one need not follow the other.
    doubt = "" if section.of_tower else reservation(quoted)
    return f"{start}{note}: {ending(first)}{doubt}"


def ending(difference: Difference) -> str:
    """What the interval and the corrected test say together."""
    test = difference.test
    if difference.verdict == "unclear":
        return "the interval holds zero, so these data show no clear difference."
    noun = "" if difference.verdict == "difference" else f", a {difference.verdict}"
    if test is None or test.family == 1:
        told = f" ({tested(test)})" if test else ""
        return f"the interval is clear of zero{noun}{told}."
    if difference.holds:
        return (
            f"the interval is clear of zero{noun}, and its test stays clear after correction for "
            f"{test.family} tests ({tested(test)})."
        )
    return (
        f"the interval is clear of zero, but no longer clear after correction for {test.family} "
        f"tests ({tested(test)}): do not call it a {difference.verdict}."
    )


def reservation(quoted: Sequence[Difference]) -> str:
    """What to say of a first headline's gain that the benchmark's other headlines do not share.

    F1 at chance accuracy rises with the share of answers "yes" alone: that is no gain.
    """
    first, *others = quoted
    silent = [d for d in others if d.verdict != "gain"]
    if first.verdict != "gain" or not silent:
        return ""
    told = " and ".join(
        f"{d.title} ({value(d.difference, d.share, signed=True)}, {interval(d)})" for d in silent
    )
    return f" Not so {told}: read the whole table before calling it one."


def flips(section: Section, comparison: Comparison) -> str:
    """How many units flipped each way, and the exact test."""
    test = comparison.signs
    if test is None:
        return ""
    seeds = f" over {section.seeds} seeds" if section.seeds > 1 else ""
    # Over seeds, and in a group, units are compared by how many are right: a sign test.
    name = "McNemar" if section.seeds == 1 and section.clusters == section.units else "sign test"
    return (
        f"{len(comparison.gained)} wrong answers became right, {len(comparison.lost)} right ones "
        f"wrong{seeds}. Of {groups(section)}, {test.better} got better and {test.worse} worse "
        f"(exact {name} {probability(test.p)}, by itself)."
    )


def groups(section: Section) -> str:
    """What is drawn for an interval: units, or all units about one picture (pair, set)."""
    if section.clusters == section.units:
        return f"{section.units:,} units"
    return f"{section.clusters:,} groups of units about the same pictures"


def spread(difference: Difference) -> str:
    """The seeds' own differences, as "+2.1, +3.0, +1.8"; empty for one seed."""
    if len(difference.per_seed) < 2:
        return ""
    return ", ".join(value(d, difference.share, signed=True) for d in difference.per_seed)


def tally(study: Study, candidate: str) -> list[tuple[str, int, str]]:
    """How many headline differences of a candidate came out which way: key, number, words."""
    counted = Counter(
        outcome(d)
        for section in study.sections
        for comparison in section.comparisons
        if comparison.candidate == candidate
        for d in headlines(section.benchmark, comparison.differences)
    )
    return [
        (key, counted[key], one if counted[key] == 1 else several)
        for key, (one, several) in OUTCOMES.items()
        if counted[key]
    ]


def method(study: Study) -> str:
    """How intervals and p-values were got."""
    told = (
        f"Intervals are percentiles of {RESAMPLES:,} bootstrap resamples of pictures, each with "
        "all that is asked about it; pictures that belong together (pairs, sets of figures) are "
        "drawn together. All arms are drawn alike, so differences are paired."
    )
    if study.seeds > 1:
        told += (
            " Training seeds are drawn with replacement too, the same pictures for each, so an "
            "interval covers both the choice of pictures and what training varies, as far as "
            f"{study.seeds} seeds show it. The sign test is over pictures only."
        )
    if not study.family:
        return told
    return (
        f"{told} Tested is every headline metric of every benchmark and candidate, {study.family} "
        "tests: by the exact McNemar test where the metric is the share of right units, each arm "
        "has one seed and each picture one unit (the sign test where each has as many units, all "
        "right or all wrong), else by the bootstrap (twice the smaller share of resamples on one "
        f"side of zero; it cannot tell less than {2 / (RESAMPLES + 1):.4f}). Holm's correction "
        "over all of them bounds the chance of even one false finding at 5 %. Metrics by part are "
        "neither tested nor corrected: read them as description."
    )
