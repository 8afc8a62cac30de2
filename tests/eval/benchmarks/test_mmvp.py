"""MMVP: the letter rule by hand, pairs, both label sets, and the official csv."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from eval.benchmarks.mmvp import Mmvp, careful_choice, letter_choice, read_questions
from eval.result import point_metrics

MMVP = Mmvp()
WriteLines = Callable[[Path, Sequence[dict[str, object]]], None]
WriteCsv = Callable[[Path, Sequence[Sequence[str]]], None]


@pytest.mark.parametrize(
    ("answer", "letter", "careful"),
    [
        ("a", "a", "a"),
        ("(b)", "b", "b"),
        ("B.", "b", "b"),
        ("The answer is (A)", "a", "a"),
        ("Answer: b", "b", "b"),
        ("open", "a", "a"),
        ("Closed.", "b", "b"),
        # Cambrian's rule reads none of these; a careful reader does.
        ("(a) Open", None, "a"),
        ("b) closed", None, "b"),
        ("They are open", None, "a"),
        ("A butterfly", None, None),
        ("open or closed", None, None),
        ("", None, None),
        ("c", None, None),
        ("opened", None, None),
    ],
)
def test_letter_rule(answer: str, letter: str | None, careful: str | None) -> None:
    assert letter_choice(answer, ("Open", "Closed")) == letter
    assert careful_choice(answer, ("Open", "Closed")) == careful


def test_pairs_by_hand(mmvp_root: Path) -> None:
    questions = MMVP.load(mmvp_root)
    assert questions[2].prompt == (
        "Left or right? (a) Left (b) Right\n"
        "Answer with the option's letter from the given choices directly."
    )
    assert questions[2].image == "MMVP Images/3.jpg"
    # Pair 1: both right. Pair 2 (labels b, a): the first right, the second readable with care.
    answers = {"1": "(a)", "2": "Closed", "3": "b", "4": "(a) Left"}
    units = MMVP.score(mmvp_root, questions, answers)
    assert [unit.right for unit in units] == [True, False]
    metrics = point_metrics(MMVP, units)
    assert metrics["pair_accuracy"] == 0.5
    assert metrics["question_accuracy"] == 0.75
    assert metrics["unreadable"] == 0.25
    assert metrics["careful_pair_accuracy"] == 1
    assert metrics["careful_question_accuracy"] == 1
    assert metrics["first_option_share"] == 0.5


def test_always_the_same_letter_gets_no_pair(mmvp_root: Path) -> None:
    questions = MMVP.load(mmvp_root)
    units = MMVP.score(mmvp_root, questions, {question.id: "A" for question in questions})
    metrics = point_metrics(MMVP, units)
    assert metrics["pair_accuracy"] == 0
    assert metrics["question_accuracy"] == 0.5
    assert metrics["first_option_share"] == 1


def test_official_file_and_its_two_label_sets(shared: Path) -> None:
    root = shared / "mmvp"
    original = Mmvp().load(root)
    corrected = Mmvp(corrected=True).load(root)
    assert len(original) == 300
    assert [q.label for q in original] == ["a", "b"] * 150
    changed = [q.id for q, c in zip(original, corrected, strict=True) if q.label != c.label]
    assert changed == ["99", "100", "279", "280"]
    answers = {question.id: question.label for question in original}
    score = point_metrics(MMVP, Mmvp(corrected=True).score(root, corrected, answers))
    assert score["pair_accuracy"] == pytest.approx(148 / 150)
    assert Mmvp().parser != Mmvp(corrected=True).parser


def test_cambrians_answers_are_numbered_from_0(mmvp_root: Path, tmp_path: Path) -> None:
    """As its mmvp_eval.py writes them: the prompt with other marks of the options, `gt_answer`."""
    questions = MMVP.load(mmvp_root)
    rows: list[dict[str, object]] = [
        {
            "question_id": number,
            "prompt": f"USER: <image>\n{text} Options:\nA. {one}\nB. {other}\nAnswer. ASSISTANT:",
            "answer": "AB"[number % 2],
            "gt_answer": "(a)",
            "model_id": "m",
            "text_options": [one, other],
        }
        for number, (text, one, other) in enumerate(
            2 * [("Open or closed?", "Open", "Closed")] + 2 * [("Left or right?", "Left", "Right")]
        )
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = [("1", "A"), ("2", "B"), ("3", "A"), ("4", "B")]
    assert MMVP.read_answers(path, questions) == expected


@pytest.mark.parametrize(
    ("key", "first"), [("Index", 1), ("index", 0), ("index", 1), ("index", 1.0)]
)
def test_tables_with_an_index(
    mmvp_root: Path, tmp_path: Path, key: str, first: float, write_lines: WriteLines
) -> None:
    """lmms-eval's data count from 1 (its utils.py); of other tables the smallest index tells."""
    questions = MMVP.load(mmvp_root)
    asked = [question.prompt.partition(" (a)")[0] for question in questions]
    rows: list[dict[str, object]] = [
        {
            "doc": {key: number + first, "Question": text, "Options": "(a) x (b) y"},
            "filtered_resps": ["AB"[number % 2]],
        }
        for number, text in enumerate(asked)
    ]
    path = tmp_path / "a.jsonl"
    write_lines(path, rows[::-1])
    assert sorted(MMVP.read_answers(path, questions)) == [
        *(("1", "A"), ("2", "B"), ("3", "A"), ("4", "B"))
    ]


def test_corrected_labels_need_the_official_file(mmvp_root: Path) -> None:
    with pytest.raises(ValueError, match="corrected labels are known for MMVP's released file"):
        Mmvp(corrected=True).load(mmvp_root)


HEADER = ["lndex", "Question", "Options", "Correct Answer"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["id", "q", "o", "a"]], "header"),
        ([HEADER], "0 rows do not make pairs"),
        ([HEADER, ["1", "?", "(a) X (b) Y", "(a)"]], "1 rows do not make pairs"),
        ([HEADER, ["2", "?", "(a) X (b) Y", "(a)"]], "row 1: expected index 1"),
        ([HEADER, ["1", "?", "A. X B. Y", "(a)"]], 'row 1: options must read "'),
        ([HEADER, ["1", "?", "(a) X (b) Y", "a"]], "row 1: options must read"),
        ([HEADER, ["1", "?", "(a) X (b) Y"]], "row 1: expected index 1 and 4 fields"),
    ],
)
def test_bad_csv(tmp_path: Path, write_csv: WriteCsv, rows: list[list[str]], message: str) -> None:
    write_csv(tmp_path / "Questions.csv", rows)
    with pytest.raises(ValueError, match=message):
        read_questions(tmp_path / "Questions.csv")
