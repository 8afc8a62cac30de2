"""HallusionBench's questions, the groups they stand in, and what a verdict on each counts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.benchmark import Counts, Unit, ratio
from eval.benchmarks.pope import careful_verdict
from eval.rows import read_json_rows

WRONG, RIGHT, UNCLEAR = 0, 1, 2  # the official verdicts
WORDS = ("incorrect", "correct", "unclear")
CATEGORIES = ("VD", "VS")  # the picture is needed; it supplements what one may know
PICTURES = "hallusion_bench"  # the folder that the official zip holds

_ALLOWED = {"category": CATEGORIES, "visual_input": ("0", "1", "2"), "gt_answer": ("0", "1")}
KEYS = ("category", "subcategory", "set_id", "figure_id", "question_id")
"""What names a question in every official file."""
_TEXTS = (*KEYS, "visual_input", "question", "gt_answer_details", "gt_answer")


@dataclass(frozen=True)
class Row:
    """One question. `edited`: its picture was changed to mislead ("hard")."""

    kind: str
    set_id: str
    figure_id: str
    question_id: str
    edited: bool
    question: str
    reference: str
    label: str
    image: str | None

    @property
    def id(self) -> str:
        return f"{self.cluster}_{self.figure_id}_{self.question_id}"

    @property
    def cluster(self) -> str:
        """A set of figures and questions; no group crosses it."""
        return f"{self.kind}_{self.set_id}"

    @property
    def without_figure(self) -> bool:
        """Asked without a picture, where admitting ignorance is right."""
        return self.kind.startswith("VS_") and self.figure_id == "0"


def read_questions(path: Path) -> list[Row]:
    """Read HallusionBench.json.

    Raises:
        ValueError: a field is missing or none of its values; a question stands twice.
    """
    rows: dict[str, Row] = {}
    for number, fields in enumerate(read_json_rows(path), start=1):
        row = _row(f"{path}, row {number}", fields)
        if row.id in rows:
            raise ValueError(
                f"{path}, row {number}: {row.id} stands twice; the official script stops there "
                "too. Take the newest official file."
            )
        rows[row.id] = row
    if not rows:
        raise ValueError(f"{path}: holds no question; take the official file.")
    return list(rows.values())


def _row(where: str, fields: Mapping[str, object]) -> Row:
    texts = {key: str(fields[key]).strip() for key in _TEXTS if key in fields}
    missing = [key for key in _TEXTS if not texts.get(key)]
    if missing:
        raise ValueError(f"{where}: has no {', '.join(missing)}; take the official file.")
    for key, allowed in _ALLOWED.items():
        if texts[key] not in allowed:
            raise ValueError(f"{where}: {key} {texts[key]!r} is none of {', '.join(allowed)}.")
    filename = fields.get("filename")
    if (filename is None) != (texts["visual_input"] == "0"):
        raise ValueError(
            f"{where}: visual_input {texts['visual_input']}, but filename {filename!r}; only 0 has "
            "no picture. Take the official file."
        )
    return Row(
        kind=f"{texts['category']}_{texts['subcategory']}",
        set_id=texts["set_id"],
        figure_id=texts["figure_id"],
        question_id=texts["question_id"],
        edited=texts["visual_input"] == "2",
        question=texts["question"],
        reference=texts["gt_answer_details"],
        label="yes" if texts["gt_answer"] == "1" else "no",
        image=None if filename is None else f"{PICTURES}/{str(filename).removeprefix('./')}",
    )


def _pair(row: Row) -> str:
    return f"{row.cluster}_{row.question_id}"


# name of the group -> its key, and which rows belong to one. Pairs are one question about all
# figures of a set; easy and hard "questions" of the leaderboard are pairs as well.
GROUPS: dict[str, tuple[Callable[[Row], str], Callable[[Row], bool]]] = {
    "pair": (_pair, lambda row: True),
    "figure": (lambda r: f"{r.cluster}_{r.figure_id}", lambda row: not row.without_figure),
    "easy": (_pair, lambda row: not row.edited),
    "hard": (_pair, lambda row: row.edited),
}


def make_units(
    rows: Iterable[Row], answers: Mapping[str, str], verdicts: Mapping[str, int], judged: bool
) -> list[Unit]:
    """One unit per row that has a verdict; a group counts on the first of its rows.

    The careful reading is of the answer's words, whoever gave the verdict. Where nobody `judged`,
    an answer that it cannot read is counted.
    """
    rows = [row for row in rows if row.id in verdicts]
    careful = {row.id: _careful(row, answers[row.id]) for row in rows}
    right = {row.id: _is_right(row, verdicts[row.id]) for row in rows}
    careful_right = {row.id: _is_right(row, careful[row.id]) for row in rows}
    counts = {row.id: _counts(row, right[row.id], verdicts[row.id]) for row in rows}
    for row in rows:
        counts[row.id]["careful_right"] = careful_right[row.id]
        if not judged:
            counts[row.id]["unreadable"] = careful[row.id] == UNCLEAR
    for name, (key, belongs) in GROUPS.items():
        groups: defaultdict[str, list[str]] = defaultdict(list)
        for row in rows:
            if belongs(row):
                groups[key(row)].append(row.id)
        for members in groups.values():
            counts[members[0]][name] = 1
            counts[members[0]][f"{name}_right"] = all(right[i] for i in members)
            counts[members[0]][f"careful_{name}_right"] = all(careful_right[i] for i in members)
    return [_unit(row, answers[row.id], verdicts[row.id], counts[row.id]) for row in rows]


def _careful(row: Row, answer: str) -> int:
    said = careful_verdict(answer)
    return UNCLEAR if said is None else int(said == row.label)


def _unit(row: Row, answer: str, verdict: int, counts: Mapping[str, float]) -> Unit:
    unseen = verdict != UNCLEAR and counts.get("unreadable", 0)
    return Unit(
        id=row.id,
        cluster=row.cluster,
        counts={f"{row.kind}/{name}": float(n) for name, n in counts.items()},
        right=_is_right(row, verdict),
        category=row.kind,
        question=row.question,
        answer=answer,
        reading=WORDS[verdict] + (" (unreadable)" if unseen else ""),
        label=row.label,
        images=() if row.image is None else (row.image,),
        joint=True,
    )


def _is_right(row: Row, verdict: int) -> bool:
    return verdict == RIGHT or (verdict == UNCLEAR and row.without_figure)


def _counts(row: Row, right: bool, verdict: int) -> dict[str, float]:
    yes = row.label == "yes"
    return {
        "questions": 1,
        "right": right,
        "unclear": verdict == UNCLEAR,
        "label_yes": yes,
        # As the official yes_ratio_stats infers it from label and correctness: an unclear answer
        # to a no-question that counts as wrong passes for a yes.
        "said_yes": right == yes,
        "wrong_yes": not right and not yes,
    }


@dataclass(frozen=True)
class Sums:
    """Sums of the units' counts over some subcategories (`kinds`)."""

    sums: Counts
    kinds: Sequence[str]

    def count(self, name: str) -> np.ndarray:
        zero = np.zeros_like(next(iter(self.sums.values())))
        return sum((self.sums.get(f"{kind}/{name}", zero) for kind in self.kinds), start=zero)

    def share(self, part: str, whole: str) -> np.ndarray:
        return ratio(self.count(part), self.count(whole))

    def accuracies(self, reading: str = "") -> dict[str, np.ndarray]:
        """By the rule, or by the `reading` that its counts begin with."""
        return {
            f"{reading}pair_accuracy": self.share(f"{reading}pair_right", "pair"),
            f"{reading}figure_accuracy": self.share(f"{reading}figure_right", "figure"),
            f"{reading}accuracy": self.share(f"{reading}right", "questions"),
        }
