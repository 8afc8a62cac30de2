"""Files of answers: whose answer a row is, in every tool's form, and joining them to questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.answers import ANSWER_TOO, AnswerRow, answer_rows, join_answers, misfit
from eval.benchmarks.chair import Chair
from eval.benchmarks.pope import Pope

POPE = Pope()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"text": "Yes"}, "row 1: none of the fields question_id; it has text"),
        ({"question_id": 1}, "row 1: none of the fields text, prediction, "),
        ({"question_id": True, "text": "Yes"}, "id True is no whole number"),
        ({"question_id": 1.5, "text": "Yes"}, "id 1.5 is no whole number"),
        ({"question_id": None, "text": "Yes"}, "id None is no whole number"),
        ({"question_id": 1, "text": None}, "answer None is no string"),
        ({"question_id": 1, "text": ["Yes"]}, "is no string"),
    ],
)
def test_bad_rows(tmp_path: Path, row: dict[str, object], message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        POPE.read_answers(path, ())


IDS = ["10000001", "10000002", "20000001", "20000002", "1", "2"]


def test_join_ignores_order(pope_root: Path) -> None:
    questions = POPE.load(pope_root)
    pairs = [(identity, f"answer {identity}") for identity in reversed(IDS)]
    answered, answers = join_answers(POPE, questions, pairs, Path("a.jsonl"))
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
    questions = POPE.load(pope_root)
    with pytest.raises(ValueError, match=message):
        join_answers(POPE, questions, [(i, "Yes") for i in ids], Path("a.jsonl"))


def test_captions_may_choose_their_pictures(chair_root: Path, tmp_path: Path) -> None:
    chair = Chair()
    path = tmp_path / "captions.json"
    # POPE's caption files number their rows and name the picture in image_id, which counts.
    path.write_text(json.dumps([{"question_id": 0, "image_id": 8, "caption": "A dog."}]))
    answered, answers = join_answers(
        chair, chair.load(chair_root), chair.read_answers(path, ()), path
    )
    assert [question.id for question in answered] == ["8"]
    assert answers == {"8": "A dog."}
    with pytest.raises(ValueError, match="2 of 2 questions of chair have no answer"):
        join_answers(chair, chair.load(chair_root), [], path)


def test_a_split_may_be_left_out_but_not_torn(pope_root: Path) -> None:
    questions = POPE.load(pope_root)
    answered, _ = join_answers(POPE, questions, [("1", "Yes"), ("2", "No")], Path("a.jsonl"))
    assert [question.category for question in answered] == ["adversarial"] * 2
    with pytest.raises(ValueError, match=r"1 of 2 questions of pope have no answer: 2;"):
        join_answers(POPE, questions, [("1", "Yes")], Path("a.jsonl"))


def test_vlmevalkits_answer_is_the_prediction(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text("index\tanswer\tprediction\n7\tYes\tNo.\n")
    assert [(row.fields["index"], row.text) for row in answer_rows(path)] == [("7", "No.")]


@pytest.mark.parametrize("mark", [{"index": 7}, {"category": "random"}])
def test_a_tables_answer_is_the_right_one(tmp_path: Path, mark: dict[str, object]) -> None:
    path = tmp_path / "a.jsonl"
    row = {"question": "Is there a dog in the image?", "answer": "yes"}
    path.write_text(json.dumps(row))
    assert [row.text for row in answer_rows(path, ANSWER_TOO)] == ["yes"]
    with pytest.raises(ValueError, match=r"row 1: none of the fields text, prediction, .*caption;"):
        answer_rows(path)
    path.write_text(json.dumps(row | mark))
    with pytest.raises(ValueError, match=r"row 1: answer stands beside .*; add a column"):
        answer_rows(path, ANSWER_TOO)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, None),
        ({"prompt": ""}, None),
        ({"prompt": 7}, None),
        ({"prompt": "Is it a cat?"}, None),
        ({"query": " Is it\n a  cat? Answer."}, None),
        ({"Question": "USER: Is it a cat? ASSISTANT:"}, None),
        ({"question": "Is it a"}, None),
        ({"prompt": "Is it a cat?", "question": "Is it a dog?"}, "asks 'Is it a dog?', the quest"),
        ({"prompt": "Is it a car?"}, "asks 'Is it a car?', the question is 'Is it a cat?'"),
    ],
)
def test_what_a_row_asks(fields: dict[str, object], found: str | None) -> None:
    misfit_found = misfit(AnswerRow("a", fields, "Yes"), "Is it a  cat?")
    assert (misfit_found or "").startswith(found or "")
    assert (misfit_found is None) == (found is None)


def test_lmms_evals_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    sample = {"doc_id": 0, "doc": {"question_id": 3}, "target": "yes", "resps": [["No "]]}
    path.write_text(json.dumps(sample | {"filtered_resps": ["No"]}))
    assert [(row.identity("question_id"), row.text) for row in answer_rows(path)] == [("3", "No")]
    path.write_text(json.dumps(sample | {"filtered_resps": ["No", "Yes"]}))
    with pytest.raises(ValueError, match=r"row 1: answer \['No', 'Yes'\] is no string"):
        answer_rows(path)


def test_questions_handed_in_as_answers_are_refused(pope_root: Path) -> None:
    questions = POPE.load(pope_root)
    pairs = [(q.id, q.prompt.split("\n")[0]) for q in questions]
    with pytest.raises(ValueError, match=r"a\.jsonl: repeats the questions"):
        join_answers(POPE, questions, pairs, Path("a.jsonl"))
    join_answers(POPE, questions, [*pairs[:-1], (pairs[-1][0], "Yes")], Path("a.jsonl"))


@pytest.mark.parametrize(
    ("stored", "identity"),
    [(7, "7"), (7.0, "7"), ("7.0", "7"), (1e16, "1" + 16 * "0"), ("7", "7"), ("v1.0", "v1.0")],
)
def test_whole_numbers_are_ids_however_a_table_wrote_them(stored: object, identity: str) -> None:
    assert AnswerRow("a, row 1", {"question_id": stored}, "Yes").identity("question_id") == identity
