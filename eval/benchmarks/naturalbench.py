"""NaturalBench: two questions on two pictures, whose answers cross (Li et al. 2024)

Each question is right on one picture and wrong on the other, and so each picture: a model that
does not look gets no group. Answers are read by the official rule (naturalbench_vqa.py), the
first "yes" or "no" ("A" or "B") that stands there as a word, and carefully.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.answers import answer_rows, answers_to
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.mmvp import careful_choice
from eval.benchmarks.naturalbench_files import (
    SUFFIXES,
    Form,
    Group,
    data_files,
    listed_answers,
    options_of,
    read_groups,
)
from eval.benchmarks.pope import careful_verdict

logger = logging.getLogger(__name__)

WORDS: dict[Form, tuple[str, str]] = {"yes_no": ("yes", "no"), "multiple_choice": ("a", "b")}
# Right are the first word on q0 i0 and q1 i1, the second elsewhere: the official scorer takes it
# so, whatever the file's answers are.
RIGHT = (0, 1, 1, 0)
OF_QUESTIONS, OF_IMAGES = ((0, 1), (2, 3)), ((0, 2), (1, 3))

KINDS = {
    "group_accuracy": Kind("group accuracy"),
    "question_accuracy": Kind("question accuracy"),
    "image_accuracy": Kind("image accuracy"),
    "accuracy": Kind("accuracy"),
    "unreadable": Kind("unreadable", "lower"),
    "first_share": Kind('share of answers "yes" or "A"', "neither"),
    "careful_group_accuracy": Kind("group accuracy, careful reading"),
    "careful_question_accuracy": Kind("question accuracy, careful reading"),
    "careful_image_accuracy": Kind("image accuracy, careful reading"),
    "careful_accuracy": Kind("accuracy, careful reading"),
    "careful_unreadable": Kind("unreadable, careful reading", "lower"),
}


def official_choice(answer: str, form: Form) -> int | None:
    """extract_answer of naturalbench_vqa.py: 0 for yes or A, 1 for no or B; None if neither.

    The first that stands there as a word counts, in any case: the article "a" is option A.
    """
    found = [re.search(rf"\b{word}\b", answer, flags=re.IGNORECASE) for word in WORDS[form]]
    starts = [(match.start(), index) for index, match in enumerate(found) if match]
    return min(starts)[1] if starts else None


def careful_reading(answer: str, form: Form, question: str) -> int | None:
    """yes xor no; of two options MMVP's careful reading: a letter alone, or the only one named."""
    if form == "yes_no":
        read = careful_verdict(answer)
    else:
        read = careful_choice(answer, options_of(question))
    return None if read is None else WORDS[form].index(read)


@dataclass(frozen=True)
class NaturalBench:
    """NaturalBench. A unit is a group of two questions on two pictures.

    The two pictures are the cluster, by name: two groups of test_set.json share theirs. In the
    parquet files a picture is named by its row, so there every group is a cluster of its own.
    """

    name: str = "naturalbench"
    title: str = "NaturalBench"
    folder: str = "naturalbench"
    parser: str = "naturalbench-official-1"
    max_new_tokens: int = 16  # lmms-eval's naturalbench.yaml; the official script names none
    headlines: tuple[str, ...] = ("group_accuracy", "question_accuracy", "image_accuracy")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        return data_files(root)

    def load(self, root: Path) -> list[Question]:
        """Four questions a group, in the official order; ids number them from 0."""
        groups = read_groups(root)
        odd = [n for n, g in enumerate(groups) if tuple(x.lower() for x in g.labels) != _right(g)]
        if odd:
            logger.warning(
                "NaturalBench: %d groups (from 0: %s) have other answers in the file than the "
                "official scorer takes for right; the scorer is followed",
                len(odd), ", ".join(map(str, odd[:5])),
            )  # fmt: skip
        return [
            Question(
                id=str(4 * number + place),
                # No blank between question and suffix: the official script has none.
                prompt=group.questions[place // 2] + SUFFIXES[group.form],
                image=group.images[place % 2],
                label=_right(group)[place],
                category=group.form,
            )
            for number, group in enumerate(groups)
            for place in range(4)
        ]

    def part(self, question: Question) -> str:
        return ""

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """A list of texts as the official script takes it, json lines, lmms-eval or VLMEvalKit."""
        listed = listed_answers(path)
        if listed is not None:
            if len(listed) != len(questions):
                raise ValueError(
                    f"{path}: {len(listed)} texts to {len(questions)} questions; a list of texts "
                    "must answer all of them, in order."
                )
            return [(question.id, text) for question, text in zip(questions, listed, strict=True)]
        yes_no, choice = SUFFIXES["yes_no"], SUFFIXES["multiple_choice"]
        words = {q.id: q.prompt.removesuffix(yes_no).removesuffix(choice) for q in questions}
        rows = answer_rows(path)
        named = ((row.identity("question_id", "index", "Index"), row) for row in rows)
        return answers_to(words, named)

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per group."""
        return [
            _unit(number, group, [answers[str(4 * number + place)] for place in range(4)])
            for number, group in enumerate(read_groups(root))
        ]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        forms = [form for form in WORDS if f"{form}/groups" in sums]
        names = {name.partition("/")[2] for name in sums}
        total = {
            name: np.sum([sums[f"{f}/{name}"] for f in forms], axis=0) for name in sorted(names)
        }
        found = _metrics(total)
        for form in forms:
            of_form = _metrics({name: sums[f"{form}/{name}"] for name in names})
            found |= {f"{form}/{name}": value for name, value in of_form.items()}
        return found


def _right(group: Group) -> tuple[str, ...]:
    return tuple(WORDS[group.form][index] for index in RIGHT)


def _rights(choices: Sequence[int | None], prefix: str) -> dict[str, int]:
    """What get_scores of naturalbench_vqa.py adds up for one group."""
    hits = [choice == index for choice, index in zip(choices, RIGHT, strict=True)]
    return {
        f"{prefix}right": sum(hits),
        f"{prefix}questions_right": sum(all(hits[i] for i in pair) for pair in OF_QUESTIONS),
        f"{prefix}images_right": sum(all(hits[i] for i in pair) for pair in OF_IMAGES),
        f"{prefix}group_right": int(all(hits)),
        f"{prefix}unreadable": choices.count(None),
    }


def _unit(number: int, group: Group, answers: Sequence[str]) -> Unit:
    asked = [group.questions[place // 2] for place in range(4)]
    official = [official_choice(answer, group.form) for answer in answers]
    careful = [
        careful_reading(answer, group.form, question)
        for answer, question in zip(answers, asked, strict=True)
    ]
    counts = {"groups": 1, "first": official.count(0)}
    counts |= _rights(official, "") | _rights(careful, "careful_")
    words = WORDS[group.form]
    return Unit(
        id=str(number),
        cluster=" ".join(group.images),
        counts={f"{group.form}/{name}": float(value) for name, value in counts.items()},
        right=bool(counts["group_right"]),
        category=group.form,
        question=" | ".join(group.questions),
        answer=" | ".join(answers),
        reading=" | ".join("unreadable" if c is None else words[c] for c in official),
        label=" | ".join(_right(group)),
        images=group.images,
    )


def _metrics(sums: Counts) -> dict[str, np.ndarray]:
    groups = sums["groups"]
    answers = 4 * groups
    found: dict[str, np.ndarray] = {}
    for prefix in ("", "careful_"):
        found |= {
            f"{prefix}group_accuracy": ratio(sums[f"{prefix}group_right"], groups),
            f"{prefix}question_accuracy": ratio(sums[f"{prefix}questions_right"], 2 * groups),
            f"{prefix}image_accuracy": ratio(sums[f"{prefix}images_right"], 2 * groups),
            f"{prefix}accuracy": ratio(sums[f"{prefix}right"], answers),
            f"{prefix}unreadable": ratio(sums[f"{prefix}unreadable"], answers),
        }
    return found | {"first_share": ratio(sums["first"], answers - sums["unreadable"])}
