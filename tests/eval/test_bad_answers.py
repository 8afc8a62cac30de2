"""Every benchmark against every way in which a file of answers can be bad.

Each case is an error that says what and where, or scores as the good file does, or moves a count;
none changes a score in silence. Forms that only one benchmark has are tested beside it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from eval.answers import join_answers
from eval.benchmark import JudgedBenchmark, LanguageBenchmark, Question
from eval.registry import LANGUAGE
from eval.result import point_metrics

Row = dict[str, object]


@dataclass(frozen=True)
class Asked:
    """A benchmark on its small data, and a place for answers."""

    benchmark: LanguageBenchmark
    root: Path
    questions: Sequence[Question]
    path: Path

    def rows(self, answer: str | None = None) -> list[Row]:
        """A row for each question as eval/run.py writes them; by default the right answers."""
        return [
            {
                "question_id": q.id,
                "prompt": q.prompt,
                "text": answer if answer is not None else q.label,
            }
            for q in self.questions
        ]

    def write(self, rows: Sequence[Row]) -> None:
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        self.path.write_text("".join(lines), encoding="utf-8")

    def metrics(self) -> dict[str, float]:
        """What the file scores, with one verdict for all where there must be a judge."""
        pairs = self.benchmark.read_answers(self.path, self.questions)
        answered, answers = join_answers(self.benchmark, self.questions, pairs, self.path)
        if isinstance(self.benchmark, JudgedBenchmark) and self.benchmark.judge_required:
            asked = self.benchmark.judge_questions(self.root, answered, answers)
            verdicts = {question.id: "Rating: 3" for question in asked}
            units = self.benchmark.score_verdicts(self.root, answered, answers, verdicts)
        else:
            units = self.benchmark.score(self.root, answered, answers)
        return point_metrics(self.benchmark, units)


# Variants read the same files: the first benchmark of each folder stands for all.
BENCHMARKS = {benchmark.folder: benchmark for benchmark in reversed(LANGUAGE)}.values()


@pytest.fixture(params=BENCHMARKS, ids=lambda benchmark: benchmark.name)
def asked(request: pytest.FixtureRequest, tmp_path: Path) -> Asked:
    benchmark: LanguageBenchmark = request.param
    root = request.getfixturevalue(f"{benchmark.folder}_root")
    return Asked(benchmark, root, benchmark.load(root), tmp_path / "answers.jsonl")


def same(one: dict[str, float], other: dict[str, float]) -> None:
    assert one.keys() == other.keys()
    np.testing.assert_array_equal(list(one.values()), list(other.values()))


HARMLESS: dict[str, Callable[[list[str]], str]] = {
    "reordered": lambda lines: "".join(reversed(lines)),
    "BOM": lambda lines: "\ufeff" + "".join(lines),
    "CRLF": lambda lines: "".join(line.replace("\n", "\r\n") for line in lines),
    "blank lines": lambda lines: "\n\n".join(lines),
    "one array": lambda lines: json.dumps([json.loads(line) for line in lines], indent=2),
    "no line end": lambda lines: "".join(lines).rstrip("\n"),
}


@pytest.mark.parametrize("change", HARMLESS.values(), ids=HARMLESS)
def test_what_changes_nothing(asked: Asked, change: Callable[[list[str]], str]) -> None:
    asked.write(asked.rows())
    good = asked.metrics()
    lines = asked.path.read_text(encoding="utf-8").splitlines(keepends=True)
    asked.path.write_text(change(lines), encoding="utf-8")
    same(asked.metrics(), good)


def doubled(rows: list[Row]) -> list[Row]:
    return [*rows, rows[0]]


def contradicted(rows: list[Row]) -> list[Row]:
    return [*rows, {**rows[-1], "text": "something else"}]


def unknown(rows: list[Row]) -> list[Row]:
    return [*rows, {**rows[0], "question_id": "no_such_question"}]


def renamed(rows: list[Row]) -> list[Row]:
    return [{**row, "question_id": f"x{row['question_id']}"} for row in rows]


def without(key: str) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [{k: v for k, v in row.items() if k != key} for row in rows]


def holding(key: str, value: object) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [*rows[:-1], {**rows[-1], key: value}]


REFUSED: dict[str, Callable[[list[Row]], list[Row]]] = {
    "doubled": doubled,
    "contradicted": contradicted,
    "unknown id": unknown,
    "all ids wrong": renamed,
    "no answer at all": lambda rows: [],
    "no text": without("text"),
    "null": holding("text", None),
    "a number": holding("text", 1),
    "a list": holding("text", ["Yes", "No"]),
    "id null": holding("question_id", None),
    "id a list": holding("question_id", [1]),
}


@pytest.mark.parametrize("spoil", REFUSED.values(), ids=REFUSED)
def test_what_is_refused(asked: Asked, spoil: Callable[[list[Row]], list[Row]]) -> None:
    asked.write(spoil(asked.rows()))
    with pytest.raises(ValueError, match=r"answers\.jsonl"):
        asked.metrics()


OTHER = "Are the butterfly's wings open or closed?"


def asking(key: str) -> Callable[[list[Row]], list[Row]]:
    drop = without("prompt")
    return lambda rows: [row | {key: OTHER} for row in drop(rows)]


def shifted(rows: list[Row]) -> list[Row]:
    """Each row's id is its neighbour's, as where somebody counts from 0 and another from 1."""
    ids = [row["question_id"] for row in rows]
    moved = zip(rows, [*ids[1:], ids[0]], strict=True)
    return [row | {"question_id": identity} for row, identity in moved]


MISFITS: dict[str, Callable[[list[Row]], list[Row]]] = {
    "another benchmark's prompts": asking("prompt"),
    "another benchmark's questions": asking("question"),
    "another benchmark's queries": asking("query"),
    "shifted by one": shifted,
}


@pytest.mark.parametrize("change", MISFITS.values(), ids=MISFITS)
def test_answers_to_other_questions(asked: Asked, change: Callable[[list[Row]], list[Row]]) -> None:
    asked.write(change(asked.rows()))
    if asked.benchmark.name == "chair":  # captions to any prompt are captions
        asked.metrics()
        return
    with pytest.raises(ValueError, match=r"answers\.jsonl.*another|answers\.jsonl.*prompt"):
        asked.metrics()


def test_words_around_the_question_do_not_matter(asked: Asked) -> None:
    """Tools put a system's turn before it, lines in other places and requests of their own last."""
    asked.write(asked.rows())
    good = asked.metrics()
    asked.write([row | {"prompt": f"{row['prompt']}".replace(" ", "\n ")} for row in asked.rows()])
    same(asked.metrics(), good)
    if asked.benchmark.name == "mme":  # what was asked names the question
        return
    asked.write([row | {"prompt": f"USER: {row['prompt']} Be brief."} for row in asked.rows()])
    same(asked.metrics(), good)
    asked.write([row | {"prompt": ""} for row in asked.rows()])
    same(asked.metrics(), good)


def test_right_answers_of_a_data_table_are_no_predictions(asked: Asked) -> None:
    """VLMEvalKit's tables before a model has seen them."""
    table = [
        {
            **{"index": number, "question_id": q.id, "image_path": q.image},
            **{"question": q.prompt, "answer": q.label, "category": q.category},
        }
        for number, q in enumerate(asked.questions)
    ]
    asked.write(table)
    with pytest.raises(ValueError, match=r"answers\.jsonl, row 1: .*prediction"):
        asked.metrics()


def test_a_folder_is_no_file(asked: Asked) -> None:
    asked.path.mkdir()
    with pytest.raises(ValueError, match=r"answers\.jsonl: (a folder|the eval tool's answers)"):
        asked.metrics()


def test_a_broken_line_is_named(asked: Asked) -> None:
    asked.write(asked.rows())
    whole = asked.path.read_text(encoding="utf-8")
    asked.path.write_text(whole[: len(whole) - 4], encoding="utf-8")
    with pytest.raises(ValueError, match=rf"line {len(asked.questions)}: broken json"):
        asked.metrics()


def test_a_file_that_is_not_there(asked: Asked) -> None:
    with pytest.raises(FileNotFoundError, match=r"answers\.jsonl: no such"):
        asked.metrics()


def test_a_missing_answer_is_refused_or_its_part_is_left_out(asked: Asked) -> None:
    """What may be left out is left out whole, and counted: nothing passes for all of it."""
    asked.write(asked.rows()[1:])
    first, part = asked.questions[0], asked.benchmark.part(asked.questions[0])
    if any(asked.benchmark.part(q) == part for q in asked.questions[1:]):
        with pytest.raises(ValueError, match=f"have no answer: {first.id}"):
            asked.metrics()
        return
    pairs = asked.benchmark.read_answers(asked.path, asked.questions)
    answered, _ = join_answers(asked.benchmark, asked.questions, pairs, asked.path)
    assert [q.id for q in answered] == [q.id for q in asked.questions[1:]]


@pytest.mark.parametrize(
    "text", ["", "   ", "\n", "是的没有", "Да, конечно", "🙂", "\u2028", "\x00"]
)
def test_what_says_nothing_is_never_better_than_right(asked: Asked, text: str) -> None:
    asked.write(asked.rows())
    right = asked.metrics()
    asked.write(asked.rows(text))
    found = asked.metrics()
    for name in asked.benchmark.headlines:
        sign = -1 if asked.benchmark.kinds[name.rsplit("/", 1)[-1]].better == "lower" else 1
        assert np.isnan(found[name]) or sign * found[name] <= sign * right[name]


def test_answers_of_a_megabyte(asked: Asked) -> None:
    asked.write(asked.rows("A dog is not there. " * 50_000))
    start = time.monotonic()
    asked.metrics()
    assert time.monotonic() - start < 30


def test_questions_are_no_answers(asked: Asked) -> None:
    """The benchmark's own data file, given by mistake."""
    file = asked.benchmark.files(asked.root)[0]
    with pytest.raises(ValueError, match=file.name):
        replace(asked, path=file).metrics()
