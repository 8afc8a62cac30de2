"""What a reader must know before believing a difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.comparison import Mismatch, Section, judge_unknown


def warnings(section: Section) -> list[str]:
    """What a reader must know before believing a difference."""
    told = [] if section.mismatch is None else [different_data(section.mismatch)]
    parts = [f"{s.arm}: {n}" for s in section.standings for n in _in_part(s.provenance)]
    if parts:
        told.append(
            f"Not everything was answered ({'; '.join(parts)}): scores are over these alone, and "
            "published rows are over all."
        )
    unknown = [s.arm for s in section.standings if any(map(judge_unknown, s.provenance))]
    if unknown:
        told.append(
            f"The verdicts came in files that do not say who gave them: the judges of these "
            f"verdicts are not known ({', '.join(unknown)}). Scores by different judges do not "
            "compare."
        )
    return told


def _in_part(provenance: Sequence[Mapping[str, object]]) -> list[str]:
    """What results say of how much they answer, where it is not all: "269 of 1129 questions"."""
    told = dict.fromkeys(str(one["answered"]) for one in provenance if "answered" in one)
    return [extent for extent in told if extent.split()[0] != extent.split()[2]]


def different_data(mismatch: Mismatch) -> str:
    """What was compared although the data differ."""
    told = (
        f"Compared on request although the results differ in their {', '.join(mismatch.differ)}: "
        f"{mismatch.kept} common units were paired by id"
    )
    if mismatch.relabelled:
        told += f", of which {mismatch.relabelled} have another truth in another arm"
    lost = [f"{number} of {arm}" for arm, number in mismatch.dropped.items() if number]
    if lost:
        told += f"; dropped were {', '.join(lost)} that another arm lacks"
    if mismatch.changed:
        told += f"; dropped were {mismatch.changed} whose id stands for another question elsewhere"
    if mismatch.torn:
        told += f"; dropped were {mismatch.torn} counted in a group that not all arms have whole"
    if lost or mismatch.changed or mismatch.torn:
        return f"{told}. No score here is one of the whole benchmark."
    return f"{told}; none was dropped."
