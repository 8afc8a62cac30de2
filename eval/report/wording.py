"""Numbers and verdicts in words; every form of the report says them alike."""

from __future__ import annotations

import math

from eval.bootstrap import SignTest
from eval.comparison import Comparison, Difference

MINUS = "\N{MINUS SIGN}"
VERDICTS = {
    "gain": "clear gain",
    "loss": "clear loss",
    "difference": "clear difference",
    "unclear": "not clear of zero",
}


def value(number: float, share: bool, signed: bool = False) -> str:
    """A share in percent with one decimal, anything else as it is; "n/a" where undefined."""
    if math.isnan(number):
        return "n/a"
    scaled = 100 * number if share else number
    text = f"{scaled:+.1f}" if signed else f"{scaled:.1f}"
    # A true minus sign, and no "-0.0".
    return text.replace("-0.0", "0.0").replace("+0.0", "0.0").replace("-", MINUS)


def interval(difference: Difference) -> str:
    """The 95 % interval, as "+0.4 … +5.1"."""
    low = value(difference.low, difference.share, signed=True)
    return f"{low} … {value(difference.high, difference.share, signed=True)}"


def probability(test: SignTest) -> str:
    """p with as many digits as are of use."""
    return "p < 0.0001" if test.p < 0.0001 else f"p = {test.p:.4f}"


def sentence(comparison: Comparison) -> str:
    """What happened to the first headline, and whether it is clear of zero."""
    first = comparison.headlines[0]
    unit = "points" if first.share else "units"
    before, after = value(first.baseline, first.share), value(first.candidate, first.share)
    change = value(first.difference, first.share, signed=True)
    start = (
        f"{comparison.benchmark.title} {first.title} went from {before} to {after}, {change} "
        f"{unit} (95 % interval {interval(first)}"
        + (f"; seeds {spread(first)}" if spread(first) else "")
        + ")"
    )
    if math.isnan(first.low):
        return f"{start}: undefined on these answers."
    endings = {
        "gain": "the interval is clear of zero, a gain.",
        "loss": "the interval is clear of zero, a loss.",
        "difference": "the interval is clear of zero.",
        "unclear": "the interval holds zero, so these data show no clear difference.",
    }
    note = " (lower is better)" if first.better == "lower" else ""
    # A tower's headlines ask for different things: one need not follow the other.
    doubt = "" if comparison.of_tower else reservation(comparison.headlines)
    return f"{start}{note}: {endings[first.verdict]}{doubt}"


def reservation(headlines: list[Difference]) -> str:
    """What to say of a first headline's gain that the benchmark's other headlines do not share.

    F1 at chance accuracy rises with the share of answers "yes" alone: that is no gain.
    """
    first, *others = headlines
    silent = [d for d in others if d.verdict != "gain"]
    if first.verdict != "gain" or not silent:
        return ""
    told = " and ".join(
        f"{d.title} ({value(d.difference, d.share, signed=True)}, {interval(d)})" for d in silent
    )
    return f" Not so {told}: read the whole table before calling it one."


def flips(comparison: Comparison) -> str:
    """How many units flipped each way, and the exact test."""
    if comparison.signs is None:
        return ""
    noun = "units" if comparison.clusters == comparison.units else "distinct units"
    several = comparison.seeds > 1
    seeds = f" over {comparison.seeds} seeds" if several else ""
    # Over seeds a unit is compared by how many of its answers are right: a sign test.
    name = "sign test" if several else "McNemar"
    test = comparison.signs
    return (
        f"{len(comparison.gained)} wrong answers became right, {len(comparison.lost)} right ones "
        f"wrong{seeds}. Of {comparison.clusters} {noun}, {test.better} got better and {test.worse} "
        f"worse (exact {name} {probability(test)})."
    )


def spread(difference: Difference) -> str:
    """The seeds' own differences, as "+2.1, +3.0, +1.8"; empty for one seed."""
    if len(difference.per_seed) < 2:
        return ""
    return ", ".join(value(d, difference.share, signed=True) for d in difference.per_seed)
