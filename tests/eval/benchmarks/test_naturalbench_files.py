"""NaturalBench's files: parquet and json alike, every form of answers, and what broken ones say."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from eval.answers import join_answers
from eval.benchmarks.naturalbench import NaturalBench
from eval.benchmarks.naturalbench_files import options_of

NATURALBENCH = NaturalBench()
WriteLines = Callable[[Path, Sequence[dict[str, object]]], None]


def save_json(root: Path, rows: object) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "test_set.json").write_text(json.dumps(rows))


def json_rows(root: Path) -> list[list[str]]:
    """The parquet fixture as the authors' json has it."""
    forms = {"yes_no": "yes_no", "multiple_choice": "mcq"}
    return [
        [q.prompt, f"{n // 4}_{n % 2}.jpg", q.label.capitalize(), forms[q.category]]
        for n, q in enumerate(NATURALBENCH.load(root))
    ]


def test_json_and_parquet_are_the_same_questions(naturalbench_root: Path, tmp_path: Path) -> None:
    save_json(tmp_path / "json", json_rows(naturalbench_root))
    parquet, plain = NATURALBENCH.load(naturalbench_root), NATURALBENCH.load(tmp_path / "json")
    assert [(q.id, q.prompt, q.label) for q in plain] == [
        (q.id, q.prompt, q.label) for q in parquet
    ]
    assert plain[5].image == "images/1_1.jpg"


def test_the_types_column_has_had_two_names(naturalbench_root: Path) -> None:
    before = NATURALBENCH.load(naturalbench_root)
    (path,) = (naturalbench_root / "data").iterdir()
    table = pyarrow.parquet.read_table(path)
    names = [name.replace("Question_Type", "Question Type") for name in table.column_names]
    pyarrow.parquet.write_table(table.rename_columns(names), path)
    assert NATURALBENCH.load(naturalbench_root) == before
    # Directly in the data root the file is found too.
    path.rename(naturalbench_root / path.name)
    assert [q.id for q in NATURALBENCH.load(naturalbench_root)] == [q.id for q in before]


def answers_of(root: Path, path: Path) -> dict[str, str]:
    questions = NATURALBENCH.load(root)
    return join_answers(NATURALBENCH, questions, NATURALBENCH.read_answers(path, questions), path)[
        1
    ]


def test_every_form_of_answers(
    naturalbench_root: Path, tmp_path: Path, write_lines: WriteLines
) -> None:
    questions = NATURALBENCH.load(naturalbench_root)
    expected = {question.id: f"answer {question.id}" for question in questions}
    bare = [question.prompt.partition("Please")[0] for question in questions]
    ours = [{"question_id": q.id, "prompt": q.prompt, "text": expected[q.id]} for q in questions]
    lmms = [
        {"doc_id": n, "doc": {"Index": str(n), "Question": text, "Question_Type": "yes_no"},
         "filtered_resps": [expected[str(n)]]}
        for n, text in enumerate(bare)
    ]  # fmt: skip
    kit = [
        {"index": n, "question": text, "answer": "Yes", "prediction": expected[str(n)]}
        for n, text in enumerate(bare)
    ]
    for number, rows in enumerate((ours, ours[::-1], lmms, kit)):
        write_lines(tmp_path / f"{number}.jsonl", rows)
        assert answers_of(naturalbench_root, tmp_path / f"{number}.jsonl") == expected
    listed = tmp_path / "listed.json"
    listed.write_text("\ufeff" + json.dumps(list(expected.values())), encoding="utf-8")
    assert answers_of(naturalbench_root, listed) == expected


ROWS = [{"question_id": n, "text": "Yes"} for n in range(8)]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", json.dumps(["Yes"] * 7), "7 texts to 8 questions"),
        ("a.json", json.dumps(["Yes"] * 9), "9 texts to 8 questions"),
        ("a.json", json.dumps([*["Yes"] * 7, None]), "line 1: expected an object"),
        ("a.json", "[]", "8 of 8 questions of naturalbench have no answer"),
        ("a.json", '["Yes", "No"', "line 1: broken json"),
        ("a.jsonl", "", "8 of 8 questions of naturalbench have no answer"),
        ("a.jsonl", json.dumps(ROWS[:-1]), "1 of 8 questions of naturalbench have no answer: 7"),
        ("a.jsonl", json.dumps([*ROWS, ROWS[3]]), "answered more than once: 3"),
        ("a.jsonl", json.dumps([*ROWS[:-1], {"question_id": 8, "text": ""}]), "does not have: 8"),
        ("a.jsonl", json.dumps([{"text": "Yes"}]), "none of the fields question_id, index, Index"),
        ("a.jsonl", json.dumps([{"index": 0, "answer": "Yes"}]), "none of the fields text"),
        ("a.jsonl", json.dumps([{"question_id": 0, "text": 1}]), "answer 1 is no string"),
        ("a.jsonl", json.dumps([{"question_id": 0.5, "text": ""}]), "is no whole number or string"),
        ("a.jsonl", '{"question_id": 0, "text": "Yes"\n', "line 2: broken json"),
        (
            "a.jsonl",
            json.dumps([ROWS[0] | {"question": "Is it a dog?"}]),
            "row 1: has the id 0 and asks 'Is it a dog.', the question is 'Is it a cat",
        ),
        ("a.csv", "index,prediction\n0,Yes,no\n", "line 2: 3 fields where the header has 2"),
        ("a.xlsx", "no sheet", "no readable xlsx"),
    ],
)
def test_bad_answers(
    naturalbench_root: Path, tmp_path: Path, name: str, text: str, message: str
) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        answers_of(naturalbench_root, path)


def test_no_file_of_answers(naturalbench_root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.json: no such file"):
        answers_of(naturalbench_root, tmp_path / "a.json")


GROUP = [
    ["Q0?Please answer Yes or No.", "0.jpg", "Yes", "yes_no"],
    ["Q0?Please answer Yes or No.", "1.jpg", "No", "yes_no"],
    ["Q1?Please answer Yes or No.", "0.jpg", "No", "yes_no"],
    ["Q1?Please answer Yes or No.", "1.jpg", "Yes", "yes_no"],
]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": 1}, "needs a list of rows"),
        ([], "needs a list of rows"),
        (GROUP[:3], "four for each group"),
        ([*GROUP[:3], ["Q1?", "1.jpg", "Yes"]], r"row 1: rows read \[question"),
        ([*GROUP[:3], {"question": "Q1?"}], r"row 1: rows read \[question"),
        (GROUP[::-1][:1] + GROUP[1:], "row 1: these four rows are not two questions"),
        ([[*row[:3], "open"] for row in GROUP], "row 1: question type 'open' is none of"),
    ],
)
def test_bad_json(tmp_path: Path, rows: object, message: str) -> None:
    save_json(tmp_path, rows)
    with pytest.raises(ValueError, match=message):
        NATURALBENCH.load(tmp_path)


def test_other_right_answers_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The official scorer takes Yes, No, No, Yes whatever the file says, and so do we, aloud."""
    save_json(tmp_path, [*GROUP, *([*row[:2], "No", row[3]] for row in GROUP)])
    with caplog.at_level(logging.WARNING):
        labels = [question.label for question in NATURALBENCH.load(tmp_path)]
    assert labels == ["yes", "no", "no", "yes"] * 2
    assert "1 groups (from 0: 1) have other answers in the file" in caplog.text


def test_missing_and_broken_parquet(naturalbench_root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no NaturalBench here"):
        NATURALBENCH.load(tmp_path / "nowhere")
    (path,) = (naturalbench_root / "data").iterdir()
    lonely = path.rename(path.with_name("train-00001-of-00003.parquet"))
    with pytest.raises(FileNotFoundError, match="1 of 3 parquet files"):
        NATURALBENCH.load(naturalbench_root)
    whole = lonely.rename(path)
    table = pyarrow.parquet.read_table(whole)
    pyarrow.parquet.write_table(table.drop_columns(["Image_1_Question_0", "Question_Type"]), whole)
    with pytest.raises(ValueError, match="no column Image_1_Question_0, Question_Type"):
        NATURALBENCH.load(naturalbench_root)
    whole.write_bytes(b"<html>not found</html>")
    with pytest.raises(ValueError, match="no readable parquet"):
        NATURALBENCH.load(naturalbench_root)
    (tmp_path / "test_set.json").write_text("[[")
    with pytest.raises(ValueError, match="broken json"):
        NATURALBENCH.load(tmp_path)


def test_options() -> None:
    assert options_of("Which?\nOption: A:Knit cap; B:Helmet;") == ("Knit cap", "Helmet")
    assert options_of("Which?\nOption:  A: The stairs. B: The lift.") == ("The stairs", "The lift")
    assert options_of("Which of them?") == ("option A", "option B")
