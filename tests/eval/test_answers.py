"""Answers files: every form the field ships, and every way in which one can be bad."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from eval.answers import join_answers, read_answers, read_json_rows
from eval.benchmarks.chair import Chair
from eval.benchmarks.pope import Pope

ROWS = [{"question_id": 1, "text": "Yes"}, {"question_id": 2, "text": "No\nreally"}]


@pytest.mark.parametrize(
    "text",
    [
        "".join(json.dumps(row) + "\n" for row in ROWS),
        "\n\n".join(json.dumps(row) for row in ROWS),
        "".join(json.dumps(row, indent=4) + "\n" for row in ROWS),
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2) + "\n\n",
        "\ufeff" + json.dumps(ROWS),
        "".join(json.dumps(row) + "\r\n" for row in ROWS),
    ],
    ids=["lines", "gaps", "concatenated", "array", "pretty array", "BOM", "CRLF"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_forms(tmp_path: Path, text: str, packed: bool) -> None:
    path = tmp_path / ("a.json.gz" if packed else "a.json")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_json_rows(path) == ROWS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"question_id": 1, "text": "Yes"}\n{"question_id": 2, "te', r"line 2: broken json"),
        (b'{"question_id": 1}\n\n[1, 2]', "line 3: expected an object"),
        (b'"yes"', "line 1: expected an object"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_broken_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json_rows(path)


def test_truncated_gzip_and_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(ValueError, match="not UTF-8 json"):
        read_json_rows(path)
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_json_rows(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "Yes"}, "row 1: none of the fields question_id; it has text"),
        ({"question_id": 1}, "row 1: none of the fields text, answer, caption"),
        ({"question_id": True, "text": "Yes"}, "id True is no number"),
        ({"question_id": 1.5, "text": "Yes"}, "id 1.5 is no number"),
        ({"question_id": None, "text": "Yes"}, "id None is no number"),
        ({"question_id": 1, "text": None}, "answer None is no string"),
        ({"question_id": 1, "text": ["Yes"]}, "is no string"),
    ],
)
def test_bad_rows(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        read_answers(path, Pope())


IDS = ["10000001", "10000002", "20000001", "20000002", "1", "2"]


def test_join_ignores_order(pope_root: Path) -> None:
    questions = Pope().load(pope_root)
    pairs = [(identity, f"answer {identity}") for identity in reversed(IDS)]
    answered, answers = join_answers(Pope(), questions, pairs, Path("a.jsonl"))
    assert [question.id for question in answered] == IDS
    assert answers["1"] == "answer 1"


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([*IDS, "1", "2"], r"answered more than once: 1, 2"),
        ([*IDS[:-1], "3"], r"1 answers to questions that pope does not have: 3"),
        (IDS[:-1], r"1 of 6 questions of pope have no answer: 2;"),
        ([], r"6 of 6 questions of pope have no answer: .* and 1 more"),
    ],
)
def test_join_refuses(pope_root: Path, ids: list[str], message: str) -> None:
    questions = Pope().load(pope_root)
    with pytest.raises(ValueError, match=message):
        join_answers(Pope(), questions, [(i, "Yes") for i in ids], Path("a.jsonl"))


def test_captions_may_choose_their_pictures(chair_root: Path, tmp_path: Path) -> None:
    chair = Chair()
    path = tmp_path / "captions.json"
    # POPE's caption files number their rows and name the picture in image_id, which counts.
    path.write_text(json.dumps([{"question_id": 0, "image_id": 8, "caption": "A dog."}]))
    answered, answers = join_answers(chair, chair.load(chair_root), read_answers(path, chair), path)
    assert [question.id for question in answered] == ["8"]
    assert answers == {"8": "A dog."}
    with pytest.raises(ValueError, match="2 of 2 questions of chair have no answer"):
        join_answers(chair, chair.load(chair_root), [], path)
