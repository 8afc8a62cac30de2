"""MMVP: pairs of pictures CLIP confuses, one question with two options each (Tong et al. 2024)

`Questions.csv` and `MMVP Images/{row}.jpg` are the official files; rows 2k-1 and 2k are a pair,
which counts only when both are right. Answers are read without a judge, by the letter rule of
Cambrian's mmvp_test.py.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.answers import ANSWER_TOO, AnswerRow, answer_rows, answers_to
from eval.benchmark import Answers, Counts, Kind, Question, Unit, ratio

HEADER = ["Question", "Options", "Correct Answer"]
# evaluate_mllm.py asks question, blank, options; the last line is Cambrian's (mmvp_eval.py).
SUFFIX = "\nAnswer with the option's letter from the given choices directly."
# The rows whose labels are swapped in the released file (tsb0601/MMVP issue 30).
SWAPPED_ROWS = (99, 100, 279, 280)
# sha256 over "question|options|answer" of the 300 rows as released, line ends not counted.
RELEASED_ROWS = "97c9c01326b5308c583861247a1189c8fa5da1fea4544c11d08bf6b2d0dd6487"

KINDS = {
    "pair_accuracy": Kind("pair accuracy"),
    "question_accuracy": Kind("question accuracy"),
    "unreadable": Kind("unreadable", "lower"),
    "careful_pair_accuracy": Kind("pair accuracy, careful reading"),
    "careful_question_accuracy": Kind("question accuracy, careful reading"),
    "first_option_share": Kind("share of answers (a), careful reading", "neither"),
}


@dataclass(frozen=True)
class Row:
    """One row of Questions.csv: `options` are the two texts, `label` is "a" or "b"."""

    number: int
    question: str
    options_text: str
    options: tuple[str, str]
    label: str


def cambrian_text(answer: str) -> str:
    """What Cambrian's extract_mcq_answer leaves of an answer."""
    text = answer.lower().strip()
    for keyword in ("answer is", "answer is:", "answer:"):
        if keyword in text:
            text = text.split(keyword)[-1]
    return text.strip().rstrip(".:,").lstrip("(").rstrip(")")


def letter_choice(answer: str, options: tuple[str, str]) -> str | None:
    """Cambrian's rule: what is left equals the letter or the option's text; None if neither."""
    text = cambrian_text(answer)
    if text in ("a", "b"):
        return text
    texts = [option.lower() for option in options]
    return "ab"[texts.index(text)] if text in texts else None


def careful_choice(answer: str, options: tuple[str, str]) -> str | None:
    """The letter rule; else a leading letter as in "(a) open"; else the only option named."""
    strict = letter_choice(answer, options)
    if strict is not None:
        return strict
    leading = re.match(r"\s*(?:\(([ab])\)|([ab])[.):])", answer, flags=re.IGNORECASE)
    if leading:
        return (leading[1] or leading[2]).lower()
    named = [
        letter
        for letter, option in zip("ab", options, strict=True)
        if re.search(rf"(?<!\w){re.escape(option)}(?!\w)", answer, flags=re.IGNORECASE)
    ]
    return named[0] if len(named) == 1 else None


@dataclass(frozen=True)
class Mmvp:
    """MMVP with the letter rule. `corrected` swaps four labels of the released file."""

    name: str = "mmvp"
    title: str = "MMVP"
    corrected: bool = False
    folder: str = "mmvp"
    max_new_tokens: int = 1024  # evaluate_mllm.py
    headlines: tuple[str, ...] = ("pair_accuracy", "question_accuracy")

    @property
    def parser(self) -> str:
        return f"mmvp-letter-1, {'corrected' if self.corrected else 'original'} labels"

    @property
    def kinds(self) -> Mapping[str, Kind]:
        return KINDS

    def files(self, root: Path) -> list[Path]:
        path = root / "Questions.csv"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; --data-root must hold MMVP's csv.")
        return [path]

    def load(self, root: Path) -> list[Question]:
        """One question per row; ids are row numbers from 1, which also name the pictures."""
        return [
            Question(
                id=str(row.number),
                prompt=f"{row.question} {row.options_text}{SUFFIX}",
                image=f"MMVP Images/{row.number}.jpg",
                label=row.label,
                category="",
            )
            for row in self._rows(root)
        ]

    def part(self, question: Question) -> str:
        return ""

    def read_answers(self, path: Path, questions: Sequence[Question]) -> Answers:
        """By row number: LLaVA's and our json lines, Cambrian's, tables with an index."""
        words = {question.id: question.prompt.partition(" (a)")[0] for question in questions}
        return answers_to(words, _numbered(answer_rows(path, ANSWER_TOO)))

    def score(
        self, root: Path, questions: Sequence[Question], answers: Mapping[str, str]
    ) -> list[Unit]:
        """One unit per pair."""
        rows = self._rows(root)
        return [
            _pair((first, second), (answers[str(first.number)], answers[str(second.number)]))
            for first, second in zip(rows[::2], rows[1::2], strict=True)
        ]

    def metrics(self, sums: Counts) -> dict[str, np.ndarray]:
        return {
            "pair_accuracy": ratio(sums["pair_right"], sums["pairs"]),
            "question_accuracy": ratio(sums["right"], sums["questions"]),
            "unreadable": ratio(sums["unreadable"], sums["questions"]),
            "careful_pair_accuracy": ratio(sums["careful_pair_right"], sums["pairs"]),
            "careful_question_accuracy": ratio(sums["careful_right"], sums["questions"]),
            "first_option_share": ratio(
                sums["careful_a"], sums["questions"] - sums["careful_unreadable"]
            ),
        }

    def _rows(self, root: Path) -> list[Row]:
        path = self.files(root)[0]
        rows = read_questions(path)
        if not self.corrected:
            return rows
        if rows_digest(rows) != RELEASED_ROWS:
            raise ValueError(
                f"{path}: corrected labels are known for MMVP's released file only, and this is "
                "another one; use --benchmark mmvp."
            )
        return [
            Row(r.number, r.question, r.options_text, r.options, "ba"["ab".index(r.label)])
            if r.number in SWAPPED_ROWS
            else r
            for r in rows
        ]


def read_questions(path: Path) -> list[Row]:
    """Read Questions.csv; the first column is `lndex` in the released file, so it is not checked.

    Raises:
        ValueError: another header, a row that does not parse, or an odd number of rows.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    if header[1:] != HEADER:
        raise ValueError(f"{path}: header {header}; MMVP's is lndex,{','.join(HEADER)}.")
    rows = [_row(path, number, line) for number, line in enumerate(lines, start=1) if line]
    if not rows or len(rows) % 2:
        raise ValueError(f"{path}: {len(rows)} rows do not make pairs; take the whole file.")
    return rows


def _row(path: Path, number: int, line: list[str]) -> Row:
    where = f"{path}, row {number}"
    if len(line) != 4 or line[0].strip() != str(number):
        raise ValueError(f"{where}: expected index {number} and 4 fields, found {line}.")
    options = re.fullmatch(r"\s*\(a\)(.*?)\(b\)(.*)", line[2], flags=re.DOTALL)
    label = line[3].strip()
    if options is None or label not in ("(a)", "(b)"):
        raise ValueError(f'{where}: options must read "(a) X (b) Y", the answer "(a)" or "(b)".')
    texts = (options[1].strip(), options[2].strip())
    return Row(number, line[1].strip(), line[2].strip(), texts, label[1])


def rows_digest(rows: Sequence[Row]) -> str:
    """sha256 of questions, options and labels."""
    text = "\n".join(f"{row.question}|{row.options_text}|{row.label}" for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _numbered(rows: Sequence[AnswerRow]) -> list[tuple[str, AnswerRow]]:
    """Rows by their number from 1.

    LLaVA's question_id, and ours, is that number. Cambrian's mmvp_eval.py, which writes
    `text_options`, counts from 0; an index of VLMEvalKit's or lmms-eval's tables from 0 or from 1,
    which the smallest one tells.
    """
    named = [(row.identity("question_id", "Index", "index"), row) for row in rows]
    numbers = [int(identity) for identity, _ in named if identity.isdecimal()]
    tables = all("question_id" not in row.fields for row in rows)
    if len(numbers) < len(rows) or not (tables or all("text_options" in r.fields for r in rows)):
        return named
    shift = 1 if not tables or min(numbers, default=1) == 0 else 0
    return [(str(n + shift), row) for n, row in zip(numbers, rows, strict=True)]


def _pair(rows: tuple[Row, Row], answers: tuple[str, str]) -> Unit:
    strict = [letter_choice(a, row.options) for row, a in zip(rows, answers, strict=True)]
    careful = [careful_choice(a, row.options) for row, a in zip(rows, answers, strict=True)]
    strict_right = [choice == row.label for row, choice in zip(rows, strict, strict=True)]
    careful_right = [choice == row.label for row, choice in zip(rows, careful, strict=True)]
    counts = {
        "pairs": 1,
        "pair_right": all(strict_right),
        "careful_pair_right": all(careful_right),
        "questions": 2,
        "right": sum(strict_right),
        "careful_right": sum(careful_right),
        "unreadable": strict.count(None),
        "careful_unreadable": careful.count(None),
        "careful_a": careful.count("a"),
    }
    identity = f"{rows[0].number}-{rows[1].number}"
    return Unit(
        id=identity,
        cluster=identity,
        counts={name: float(value) for name, value in counts.items()},
        right=all(strict_right),
        category="",
        question=f"{rows[0].question} {rows[0].options_text}",
        answer=" | ".join(answers),
        reading=" | ".join("unreadable" if choice is None else f"({choice})" for choice in strict),
        label=" | ".join(f"({row.label})" for row in rows),
        images=tuple(f"MMVP Images/{row.number}.jpg" for row in rows),
    )
