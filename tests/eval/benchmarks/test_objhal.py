"""Object HalBench: lists and names by hand, the official counts anew, and files that are wrong."""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path

import pytest
from PIL import Image

from eval.benchmarks.object_names import Phrase
from eval.benchmarks.objhal import ObjHal, careful_list, official_list
from eval.pictures import open_picture
from tests.eval.judged import metrics, scored

OBJHAL = ObjHal()
LONG = "There are several things in it."
ASKED = ((7, "Describe."), (8, "Describe."), (9, "What is there?"))
ANSWERS = tuple({"image_id": n, "question": text, "answer": LONG} for n, text in ASKED)
VERDICTS = tuple({"question_id": str(number), "text": '["dog"]'} for number in (7, 8, 9))


@pytest.mark.parametrize(
    ("reply", "official", "careful"),
    [
        ('["car", "dog"]', ["car", "dog"], ["car", "dog"]),
        ("[]", [], []),
        ('The objects:\n["car"]', ["car"], ["car"]),
        # The original asks again after each of these.
        ('```json\n["car"]\n```', None, ["car"]),
        ('Sure: ["car"] and so on', None, ["car"]),
        ('["car"]\n["dog"]\n', ["dog"], ["dog"]),
        ("()", None, []),
        ("no objects: ( )", None, []),
        ('["car",\n "dog"]', ["car", "dog"], ["car", "dog"]),
        ('["car", 3]', None, None),
        ('{"objects": ["car"]}', None, ["car"]),
        ("['car']", None, None),
        ('["car"', None, None),
        ("car, dog", None, None),
        ("", None, None),
        ("3", None, None),
        ('["汽车"]', ["汽车"], ["汽车"]),
        pytest.param("[" * 1_000_000, None, None, id="long and deep"),
        pytest.param('["x' + " x" * 500_000 + '"]', ["x" + " x" * 500_000], None, id="long"),
    ],
)
def test_readings(reply: str, official: list[str] | None, careful: list[str] | None) -> None:
    assert official_list(reply) == official
    if careful is not None:
        assert careful_list(reply) == careful


def test_another_reader_of_names(objhal_root: Path) -> None:
    def last_word(name: str) -> Phrase:
        return [(name.split()[-1], True)]

    verdicts = (*VERDICTS[:2], {"image_id": 9, "text": '["the taxi of the dog"]'})
    found = metrics(ObjHal(tagger=last_word), objhal_root, ANSWERS, verdicts)
    assert found["object_hall"] == pytest.approx(2 / 3)


def test_questions_and_what_the_judge_is_asked(objhal_root: Path) -> None:
    questions = OBJHAL.load(objhal_root)
    assert [(q.id, q.label) for q in questions] == [("7", "car, person"), ("8", "dog"), ("9", "")]
    assert open_picture(objhal_root, questions[2].image or "").size == (16, 16)
    answers = {"7": "A car and {question}.", "8": "It is yes", "9": ""}
    asked = OBJHAL.judge_questions(objhal_root, questions, answers)
    # Answers of three words name no objects.
    assert [(question.id, question.image) for question in asked] == [("7", None)]
    assert asked[0].prompt == (
        "Which objects?\nQuestion: Describe.\nAnswer: A car and {question}.\n"
        'Present the results in a JSON list format: ["object_1", ..., "object_n"].\n'
    )


def test_metrics_by_hand(objhal_root: Path) -> None:
    verdicts = (
        {"image_id": 7, "text": '["men", "taxi", "dog", "dogs", "car", "cloud"]'},
        {"image_id": 8, "text": "```\n[]\n```"},
    )
    answers = (*ANSWERS[:2], {"image_id": 9, "answer": "Just grass."})
    found = metrics(OBJHAL, objhal_root, answers, verdicts)
    # man, taxi, dog, car: the dog is invented. The others name nothing.
    assert found["object_hall"] == 1 / 4
    assert found["response_hall"] == 1
    assert found["all_response_hall"] == pytest.approx(1 / 3)
    assert found["naming"] == pytest.approx(1 / 3)
    assert found["object_recall"] == pytest.approx(2 / 3)  # of car, person and dog
    assert found["mean_length"] == pytest.approx((6 + 6 + 2) / 3)
    assert (found["mended"], found["unreadable"]) == (pytest.approx(1 / 3), 0)


def test_unreadable_verdicts_are_left_out_and_counted(objhal_root: Path) -> None:
    verdicts = ({"image_id": 7, "text": "a car"}, *VERDICTS[1:])
    result = scored(OBJHAL, objhal_root, ANSWERS, verdicts)
    assert (result.units[0].reading, result.units[0].right) == ("unreadable verdict", False)
    found = metrics(OBJHAL, objhal_root, ANSWERS, verdicts)
    assert found["unreadable"] == pytest.approx(1 / 3)
    assert (found["object_hall"], found["all_response_hall"]) == (0.5, 0.5)
    assert found["object_recall"] == 1


def counts_of_the_authors(
    truth: dict[str, set[str]], named: dict[str, list[tuple[str, str]]]
) -> tuple[float, float, float]:
    """compute_chair's counts, written anew: CHAIRs_refine, CHAIRi, recall."""
    invented = {i: [word for word, node in named[i] if node not in truth[i]] for i in truth}
    speaking = [i for i in truth if named[i]]
    hits = sum(len({node for _, node in named[i]} & truth[i]) for i in truth)
    words = sum(len(named[i]) for i in truth)
    return (
        sum(bool(invented[i]) for i in truth) / len(speaking),
        sum(map(len, invented.values())) / words,
        hits / sum(map(len, truth.values())),
    )


def test_against_the_authors_counts(objhal_root: Path) -> None:
    table = {"man": "person", "people": "person", "car": "car", "taxi": "car", "dog": "dog",
             "orange": "orange", "bus": "bus", "dining table": "dining table"}  # fmt: skip
    truth = {"7": {"car", "person"}, "8": {"dog"}, "9": set()}
    draw = random.Random(2)
    for _ in range(20):
        lists = {i: [draw.choice([*table, "cloud"]) for _ in range(4)] for i in truth}
        # "people" is a person to the lexicon's rules for plurals.
        named = {
            i: list(dict.fromkeys(
                ("person" if w == "people" else w, table[w]) for w in words if w in table))
            for i, words in lists.items()
        }  # fmt: skip
        verdicts = tuple({"image_id": i, "text": json.dumps(words)} for i, words in lists.items())
        found = metrics(OBJHAL, objhal_root, ANSWERS, verdicts)
        expected = counts_of_the_authors(truth, named)
        assert (
            found["response_hall"],
            found["object_hall"],
            found["object_recall"],
        ) == pytest.approx(expected)


def test_the_file_of_the_official_script(objhal_root: Path) -> None:
    sentences = [
        {"image_id": 7, "caption": LONG, "words": ["car", "red brick"], "metrics": {}},
        {"image_id": 8, "caption": LONG, "words": ["bus"]},
        {"image_id": 9, "caption": LONG, "words": []},
    ]
    review = {"sentences": sentences, "overall_metrics": {"CHAIRi": 0.5}}
    found = metrics(OBJHAL, objhal_root, ANSWERS, review)
    assert (found["object_hall"], found["response_hall"]) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("answers", "verdicts", "message"),
    [
        (ANSWERS, None, "Object HalBench, without spaCy has no score without a judge"),
        (ANSWERS[1:], VERDICTS, "1 of 3 questions of objhal have no answer: 7"),
        ((*ANSWERS, ANSWERS[0]), VERDICTS, "answered more than once: 7"),
        ((*ANSWERS, {"image_id": "007", "answer": "A"}), VERDICTS, "answered more than once: 7"),
        ((*ANSWERS, {"image_id": 99, "answer": "A"}), VERDICTS, "does not have: 99"),
        ((*ANSWERS, {"image_id": "7.jpg", "answer": "A"}), VERDICTS, "does not have: 7.jpg"),
        ((*ANSWERS[1:], {"answer": "A"}), VERDICTS, "row 3: none of the fields image_id"),
        ((*ANSWERS[1:], {"image_id": 7}), VERDICTS, "row 3: none of the fields text"),
        ((*ANSWERS[1:], {"image_id": 7, "answer": ["A"]}), VERDICTS, "is no string"),
        ([], VERDICTS, "3 of 3 questions of objhal have no answer"),
        ('{"image_id": 7, ', VERDICTS, "line 1: broken json"),
        (b"\xff\xfe\x00", VERDICTS, "not UTF-8 text"),
        (ANSWERS, VERDICTS[1:], "1 of 3 answers have no verdict: 7"),
        (ANSWERS, (*VERDICTS, VERDICTS[0]), "judged more than once: 7"),
        (ANSWERS, (*VERDICTS, {"image_id": 99, "text": "[]"}), "does not have: 99"),
        (ANSWERS, [], "holds no verdicts on Object HalBench"),
        (ANSWERS, (*VERDICTS[1:], {"image_id": 7, "text": ["car"]}), "is no string"),
        (ANSWERS, {"sentences": []}, "holds no verdicts on Object HalBench"),
        (ANSWERS, {"sentences": [{"image_id": 7}]}, "sentence 1: needs image_id and a list words"),
        (ANSWERS, "not json", "line 1: broken json"),
    ],
)
def test_wrong_files(objhal_root: Path, answers: object, verdicts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scored(OBJHAL, objhal_root, answers, verdicts)


@pytest.mark.parametrize(
    "answer", ["Assistant: " + LONG, LONG + "\n", "Vier Dinge sind da.", "\u2028".join("abcd")]
)
def test_answers_as_they_come(objhal_root: Path, answer: str) -> None:
    rows = ({"image_id": "000000000007", "text": answer}, *ANSWERS[1:])
    marked = ("\ufeff" + json.dumps(rows)).encode()
    unit = scored(OBJHAL, objhal_root, marked, VERDICTS).units[0]
    assert (unit.id, unit.reading) == ("7", "invented: dog")
    assert "Assistant:" not in unit.answer


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"image_id": 99, "question": "?"}, "row 1: COCO's annotations have no picture 99"),
        ({"image_id": 8, "question": "?"}, "image_id 8 stands twice"),
        ({"image_id": 7, "question": ""}, "row 1: needs image_id, question"),
        ({"image_id": None, "question": "?"}, "row 1: needs image_id, question"),
    ],
)
def test_wrong_questions(objhal_root: Path, row: dict, message: str) -> None:
    path = objhal_root / "obj_halbench_300_with_image.jsonl"
    path.write_text("\n".join([json.dumps(row), *path.read_text().splitlines()[1:]]))
    with pytest.raises(ValueError, match=message):
        OBJHAL.load(objhal_root)


@pytest.mark.parametrize(
    "name",
    ["obj_halbench_300_with_image.jsonl", "synonyms_refine.txt",
     "annotations/captions_val2014.json"],
)  # fmt: skip
def test_missing_files(objhal_root: Path, name: str) -> None:
    (objhal_root / name).unlink()
    with pytest.raises(FileNotFoundError, match="the others are RLHF-V's"):
        OBJHAL.load(objhal_root)


def test_verdicts_of_a_file_need_no_prompt_of_the_judge(objhal_root: Path) -> None:
    whole = metrics(OBJHAL, objhal_root, ANSWERS, VERDICTS)
    (objhal_root / "eval_gpt_obj_halbench.py").unlink()
    assert metrics(OBJHAL, objhal_root, ANSWERS, VERDICTS) == pytest.approx(whole, nan_ok=True)
    with pytest.raises(FileNotFoundError, match="no such file, and the judge's prompt"):
        OBJHAL.judge_questions(objhal_root, [], {})


def test_the_picture_is_the_rows_own(objhal_root: Path) -> None:
    path = objhal_root / "obj_halbench_300_with_image.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4), (0, 0, 255)).save(buffer, "PNG")
    rows[1]["image"] = base64.b64encode(buffer.getvalue()).decode()
    path.write_text("\n".join(map(json.dumps, rows)))
    pictures = [open_picture(objhal_root, q.image or "") for q in OBJHAL.load(objhal_root)]
    assert [picture.size for picture in pictures] == [(16, 16), (4, 4), (16, 16)]
