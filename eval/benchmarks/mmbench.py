"""MMBench, dev split: multiple choice, the options in every rotation (Liu et al. 2023)

CircularEval: a question is right if it is under every rotation of its options (circular accuracy;
vanilla is the first order alone). Answers are read by the rules that VLMEvalKit tries first
(can_infer). What they cannot read, VLMEvalKit asks a language model, and draws an option where
that fails too; here it is wrong, and counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.answers import answer_rows, answers_to
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio
from eval.benchmarks.mmbench_files import (
    CN_TABLES,
    EN_TABLES,
    LETTERS,
    Row,
    read_table,
    rotations,
    table_file,
)

EN_SUFFIX = "Answer with the option's letter from the given choices directly."
CN_SUFFIX = "请直接回答选项字母。"
DECLINED = "Z"
# Replies that VLMEvalKit takes for a refusal.
REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)

KINDS = {
    "circular_accuracy": Kind("circular accuracy"),
    "vanilla_accuracy": Kind("vanilla accuracy"),
    "rotation_accuracy": Kind("accuracy over all rotations"),
    "unreadable": Kind("unreadable without a judge", "lower"),
    "declined": Kind("declined", "lower"),
    "careful_circular_accuracy": Kind("circular accuracy, careful reading"),
    "careful_vanilla_accuracy": Kind("vanilla accuracy, careful reading"),
    "careful_unreadable": Kind("unreadable, careful reading", "lower"),
}


def official_choice(answer: str, options: Sequence[str]) -> str | None:
    """VLMEvalKit's can_infer: a letter, "Z" for a refusal, or None where it would ask a judge.

    The only letter that stands alone, if among the last four words; else the only option whose
    text is in an answer that is not more than twice as long as all options. An article "A" is a
    letter too.
    """
    if any(refusal in answer for refusal in REFUSALS):
        return DECLINED
    words = re.sub(r"[.()\[\],:;!*#{}]", " ", answer).split()
    letters = [letter for letter in LETTERS[: len(options)] if letter in words]
    if len(letters) == 1 and words.index(letters[0]) > len(words) - 5:
        return letters[0]
    if not letters and DECLINED in words:
        return DECLINED
    if len(answer) > 2 * sum(len(option) for option in options):
        return None
    text = answer.lower()
    named = [x for x, option in zip(LETTERS, options, strict=False) if option.lower() in text]
    return named[0] if len(named) == 1 else None


def careful_choice(answer: str, options: Sequence[str]) -> str | None:
    """A letter that begins the answer; else the only capital one; else the only option named.

    An "A" before another small word than is, or, and is an article. None where there is none of
    these, or more than one.
    """
    letters = LETTERS[: len(options)]
    answer = unicodedata.normalize("NFKC", answer)  # full-width letters and brackets
    leading = re.match(r"\s*\(?([A-Da-d])\s*(?:[.):,、。]|$)", answer)
    if leading and leading[1].upper() in letters:
        return leading[1].upper()
    alone = re.findall(
        r"(?<![A-Za-z0-9'])(?!A (?!(?:is|or|and)\b)[a-z])([A-D])(?![A-Za-z0-9'])", answer
    )
    if len(set(alone)) == 1 and alone[0] in letters:
        return alone[0]
    if alone:
        return None
    named = [
        letter
        for letter, option in zip(letters, options, strict=True)
        if re.search(_alone(unicodedata.normalize("NFKC", option)), answer, re.IGNORECASE)
    ]
    return named[0] if len(named) == 1 else None


def _alone(text: str) -> str:
    """A pattern for the text where no Latin letter or digit goes on; Chinese has no blanks."""
    return rf"(?<![A-Za-z0-9]){re.escape(text)}(?![A-Za-z0-9])"


@dataclass(frozen=True)
class MmBench:
    """MMBench dev with LLaVA's prompt. A unit is a question with all its rotations."""

    name: str = "mmbench_en"
    title: str = "MMBench"
    folder: str = "mmbench_en"
    tables: tuple[str, ...] = EN_TABLES
    suffix: str = EN_SUFFIX
    parser: str = "mmbench-can_infer-1"
    max_new_tokens: int = 1024  # LLaVA's model_vqa_mmbench.py
    headlines: tuple[str, ...] = ("circular_accuracy", "vanilla_accuracy")

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        return [table_file(root, self.tables)]

    def load(self, root: Path) -> list[Question]:
        """One question per row of the table; ids are its indices."""
        return [
            Question(
                id=str(row.index),
                prompt=f"{_asked(row)}\n{self.suffix}",
                image=row.image,
                label=row.label,
                category=row.category,
            )
            for row in read_table(root, self.files(root)[0])
        ]

    def part(self, question: Question) -> str:
        return ""

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """LLaVA's and our json lines, LLaVA's upload or VLMEvalKit's table, lmms-eval."""
        words = {question.id: question.prompt.removesuffix(self.suffix) for question in questions}
        rows = answer_rows(path)
        return answers_to(words, ((row.identity("question_id", "index"), row) for row in rows))

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per question."""
        groups = rotations(read_table(root, self.files(root)[0]))
        return [_unit(rows, [answers[str(r.index)] for r in rows]) for rows in groups.values()]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        found = {
            "circular_accuracy": ratio(sums["circular"], sums["questions"]),
            "vanilla_accuracy": ratio(sums["vanilla"], sums["questions"]),
            "rotation_accuracy": ratio(sums["right"], sums["rotations"]),
            "unreadable": ratio(sums["unreadable"], sums["rotations"]),
            "declined": ratio(sums["declined"], sums["rotations"]),
            "careful_circular_accuracy": ratio(sums["careful_circular"], sums["questions"]),
            "careful_vanilla_accuracy": ratio(sums["careful_vanilla"], sums["questions"]),
            "careful_unreadable": ratio(sums["careful_unreadable"], sums["rotations"]),
        }
        for name in sums:
            category, _, count = name.rpartition("/")
            if category and count == "questions":
                for rule in ("circular", "vanilla"):
                    right = sums[f"{category}/{rule}"]
                    found[f"{category}/{rule}_accuracy"] = ratio(right, sums[name])
        return found


MMBENCH_CN = MmBench(
    name="mmbench_cn",
    title="MMBench-CN",
    folder="mmbench_cn",
    tables=CN_TABLES,
    suffix=CN_SUFFIX,
)


def _asked(row: Row) -> str:
    """What LLaVA's model_vqa_mmbench.py asks: hint, question, options, a line each."""
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, row.options, strict=False)]
    return "\n".join([*([row.hint] if row.hint else []), row.question, *options])


def _unit(rows: Sequence[Row], answers: Sequence[str]) -> Unit:
    official = [official_choice(a, row.options) for a, row in zip(answers, rows, strict=True)]
    careful = [careful_choice(a, row.options) for a, row in zip(answers, rows, strict=True)]
    labels = [row.label for row in rows]
    of_question = {
        "questions": 1,
        "circular": official == labels,
        "vanilla": official[0] == labels[0],
    }
    counts = of_question | {
        "rotations": len(rows),
        "right": sum(one == label for one, label in zip(official, labels, strict=True)),
        "unreadable": official.count(None),
        "declined": official.count(DECLINED),
        "careful_circular": careful == labels,
        "careful_vanilla": careful[0] == labels[0],
        "careful_unreadable": careful.count(None),
    }
    first = rows[0]
    counts |= {f"{first.category}/{name}": value for name, value in of_question.items()}
    return Unit(
        id=str(first.index),
        cluster=first.image,  # several questions may be about one picture
        counts={name: float(value) for name, value in counts.items()},
        right=official == labels,
        category=first.category,
        question=_asked(first),
        answer=" | ".join(answers),
        reading=" | ".join(choice or "unreadable" for choice in official),
        label=" | ".join(labels),
        images=(first.image,),
    )
