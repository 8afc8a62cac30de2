"""MMHal-Bench: readings by hand, the official script anew, its files, and files that are wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from eval.benchmarks.mmhal import MmHal, careful_rating, official_rating
from tests.eval.judged import metrics, scored
from tests.eval.judged_roots import MMHAL_SCRIPT

MMHAL = MmHal()
IDS = [f"h{number}" for number in range(8)]
ANSWERS = tuple({"question_id": identity, "text": "A cat."} for identity in IDS)
VERDICTS = tuple({"question_id": identity, "text": "Rating: 4"} for identity in IDS)


@pytest.mark.parametrize(
    ("reply", "official", "careful"),
    [
        ("Fine.\nRating: 6, very informative", 6, 6),
        ("RATING: 0", 0, 0),
        ("Rating: 5. I repeat: rating: 5", 5, 5),
        # Both see two ratings, one out of range, or none.
        ("Rating: 5 or Rating: 2", None, None),
        ("Rating: 7", None, None),
        ("Rating: -1", None, None),
        ("", None, None),
        ("4", None, None),
        ("评分 4", None, None),
        ("Bewertung: 4", None, None),
        # The official rule's quirks.
        ("Rating: 10", 1, None),
        ("Rating: 3.5", 3, None),
        ("Rating: 2 (not Rating: 7)", 2, None),
        ("Rating:5", None, 5),
        ("**Rating**: 4", None, 4),
        ("**Rating:** 4", None, 4),
        ("Rating : 4", None, 4),
        pytest.param("rating: " * 130_000, None, None, id="long and empty"),
        pytest.param("x" * 1_000_000 + "Rating: 3", 3, 3, id="long"),
    ],
)
def test_readings(reply: str, official: int | None, careful: int | None) -> None:
    assert official_rating(reply) == official
    assert careful_rating(reply) == careful


def test_questions_and_what_the_judge_is_asked(mmhal_root: Path) -> None:
    questions = MMHAL.load(mmhal_root)
    assert [question.id for question in questions] == IDS
    assert (questions[3].prompt, questions[3].category) == ("What of counting?", "counting")
    assert questions[3].image == "images/3_o.jpg"
    answers = {question.id: "A {} cat." for question in questions}
    asked = MMHAL.judge_questions(mmhal_root, questions, answers)
    assert [question.id for question in asked] == IDS
    assert asked[3].image is None
    assert asked[3].prompt == (
        "Rate it.\n- Rating: 6, good\n### Image Contents\nCat, Tree\n### Question\n"
        "What of counting?\n### Standard Human-Generated Answer\nIt is 3.\n"
        "### LMM Response to Evaluate\nA {} cat.\n"
    )


def test_metrics_by_hand(mmhal_root: Path) -> None:
    replies = ("Rating: 6", "Rating: 3", "Rating: 2", "Rating: 0",
               "Rating: 5", "Rating:5", "none", "Rating: 4 Rating: 3")  # fmt: skip
    verdicts = tuple(
        {"question_id": identity, "text": reply}
        for identity, reply in zip(IDS, replies, strict=True)
    )
    answers = ({"question_id": "h0", "text": " "}, *ANSWERS[1:])
    found = metrics(MMHAL, mmhal_root, answers, verdicts)
    # Ratings 6, 3, 2, 0, 5 and three times 0: 16 / 8; below 3 are five.
    assert found["mean_rating"] == 2
    assert found["hallucination_rate"] == 5 / 8
    # 3 + 0 + 2 + 0 + 2, of three points each.
    assert found["informativeness"] == pytest.approx(7 / 24)
    assert found["unreadable"] == 3 / 8
    # With care "Rating:5" is read too: 6, 3, 2, 0, 5, 5.
    assert found["careful_mean_rating"] == 21 / 6
    assert found["careful_hallucination_rate"] == pytest.approx(2 / 6)
    assert found["careful_unreadable"] == 2 / 8
    assert found["empty"] == 1 / 8
    assert (found["attribute/mean_rating"], found["environment/mean_rating"]) == (6, 0)


def script_of_the_authors(responses: list[dict]) -> tuple[float, float, list[float], float]:
    """eval_gpt4.py's and RLHF-V's last steps, written anew: mean, rate, by type, informative."""
    ratings = []
    for response in responses:
        text = response["choices"][0]["message"]["content"].lower()
        found = [digit for digit in "0123456" if "rating: " + digit in text]
        ratings.append(int(found[0]) if len(found) == 1 else 0)
    array = np.array(ratings)
    by_type = [float(array[kind::8].mean()) for kind in range(8)]
    informative = np.where(array > 2, array - 3, array).mean() / 3
    return float(array.mean()), float((array < 3).mean()), by_type, float(informative)


def test_official_template_and_responses_against_the_authors_steps(
    shared: Path, tmp_path: Path
) -> None:
    items = json.loads((shared / "mmhal/mmhal-bench_answer_template.json").read_text())
    assert len(items) == 96
    root = tmp_path / "mmhal"
    root.mkdir()
    (root / "response_template.json").write_text(json.dumps(items))
    (root / "eval_gpt4.py").write_text(MMHAL_SCRIPT)
    draw = random.Random(3)
    replies = [f"It is so.\nRating: {number}, so" for number in range(8)] + ["no idea", "Rating:5"]
    responses = [
        {"model": "gpt-4", "choices": [{"message": {"content": draw.choice(replies)}}]}
        for _ in items
    ]
    answered = [item | {"model_answer": "I see."} for item in items]
    found = metrics(MMHAL, root, answered, responses)
    mean, rate, by_type, informative = script_of_the_authors(responses)
    assert found["mean_rating"] == pytest.approx(mean)
    assert found["hallucination_rate"] == pytest.approx(rate)
    assert found["informativeness"] == pytest.approx(informative)
    names = [item["question_type"] for item in items[:8]]
    assert [found[f"{name}/mean_rating"] for name in names] == pytest.approx(by_type)


def test_answers_in_every_form(mmhal_root: Path) -> None:
    questions = MMHAL.load(mmhal_root)
    items = json.loads((mmhal_root / "response_template.json").read_text())
    expected = [(identity, f"A {identity}.") for identity in IDS]
    forms = {
        "filled.json": [row | {"model_answer": f"A {row['image_id']}."} for row in items],
        "named.json": [{"question_id": i, "prompt": "?", "text": text} for i, text in expected],
        "placed.json": [{"question_id": n, "text": t} for n, (_, t) in enumerate(expected)],
        "vlmevalkit.json": [{"image_id": i, "prediction": text} for i, text in expected],
    }
    for name, rows in forms.items():
        (mmhal_root / name).write_text(json.dumps(rows), encoding="utf-8-sig")
        assert list(MMHAL.read_answers(mmhal_root / name, questions)) == expected


def test_verdicts_beside_the_answers(mmhal_root: Path) -> None:
    """RLHF-V's merge_mmhal_review_with_predict.py puts them there."""
    items = json.loads((mmhal_root / "response_template.json").read_text())
    merged = [row | {"model_answer": "A.", "gpt4_review": "Rating: 5"} for row in items]
    assert metrics(MMHAL, mmhal_root, merged, merged)["mean_rating"] == 5


def response(content: object) -> dict:
    return {"choices": [{"message": {"content": content}}]}


@pytest.mark.parametrize(
    ("answers", "verdicts", "message"),
    [
        (ANSWERS, None, "MMHal-Bench has no score without a judge"),
        (ANSWERS[1:], VERDICTS, "1 of 8 questions of mmhal have no answer: h0"),
        ((*ANSWERS, ANSWERS[0]), VERDICTS, "answered more than once: h0"),
        ((*ANSWERS, {"question_id": "h9", "text": "A"}), VERDICTS, "does not have: h9"),
        ((*ANSWERS, {"question_id": 8, "text": "A"}), VERDICTS, "does not have: 8"),
        ((*ANSWERS[1:], {"text": "A"}), VERDICTS, "row 8: none of the fields image_id"),
        ((*ANSWERS[1:], {"question_id": "h0", "text": 5}), VERDICTS, "answer 5 is no string"),
        ([], VERDICTS, "8 of 8 questions of mmhal have no answer"),
        ('{"question_id": "h0", "te', VERDICTS, "line 1: broken json"),
        ([{"image_id": "h0", "model_answer": ""}], VERDICTS, "every model_answer is empty"),
        ([{"image_id": "h0", "question": "Else?", "model_answer": "A"}], VERDICTS,
         "row 1: has the id h0 and asks 'Else.', the question is 'What of attribute"),
        (b"\xff\xfe\x00", VERDICTS, "not UTF-8 text"),
        (ANSWERS, VERDICTS[1:], "1 of 8 answers have no verdict: h0"),
        (ANSWERS, (*VERDICTS, VERDICTS[0]), "judged more than once: h0"),
        (ANSWERS, (*VERDICTS, {"question_id": "h9", "text": "Rating: 6"}), "does not have: h9"),
        (ANSWERS, [], "holds no verdicts on MMHal-Bench"),
        (ANSWERS, '{"question_id": "h0"}{', "line 1: broken json"),
        (ANSWERS, [response("Rating: 6")] * 7, "7 responses to 8 questions"),
        (ANSWERS, [*[response("Rating: 6")] * 7, response(None)], "row 8: no text in choices"),
        (ANSWERS, [*[response("Rating: 6")] * 7, {"error": "x"}], "row 8: no text in choices"),
        (ANSWERS, [{"image_id": "h0", "gpt4_review": "Rating: 6"}, {"image_id": "h1", "text": "x"}],
         "row 2: none of the fields gpt4_review"),
    ],
)  # fmt: skip
def test_wrong_files(mmhal_root: Path, answers: object, verdicts: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scored(MMHAL, mmhal_root, answers, verdicts)


@pytest.mark.parametrize(
    "answer", ["", "猫", "Кошка.", "x" * 1_000_000, 'a "quoted"\n\nanswer\t{}']
)
def test_every_answer_is_judged_and_kept(mmhal_root: Path, answer: str) -> None:
    rows = ({"question_id": "h0", "text": answer}, *ANSWERS[1:])
    unit = scored(MMHAL, mmhal_root, rows, VERDICTS).units[0]
    assert (unit.answer, unit.reading, unit.right) == (answer, "rating 4", True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question_type": "colour"}, "row 1: question_type 'colour'"),
        ({"image_id": ""}, "row 1: needs the texts question_type, image_id"),
        ({"image_id": "h1"}, "image_id h1 stands twice"),
        ({"gt_answer": None}, "row 1: needs the texts"),
    ],
)
def test_wrong_template(mmhal_root: Path, change: dict, message: str) -> None:
    path = mmhal_root / "response_template.json"
    items = json.loads(path.read_text())
    path.write_text(json.dumps([items[0] | change, *items[1:]]))
    with pytest.raises(ValueError, match=message):
        MMHAL.load(mmhal_root)


def test_contents_that_are_no_list(mmhal_root: Path) -> None:
    path = mmhal_root / "response_template.json"
    items = json.loads(path.read_text())
    path.write_text(json.dumps([items[0] | {"image_content": "Cat"}, *items[1:]]))
    questions = MMHAL.load(mmhal_root)
    with pytest.raises(ValueError, match="image_content of h0 is no list"):
        MMHAL.judge_questions(mmhal_root, questions, {q.id: "A cat." for q in questions})


def test_missing_files(mmhal_root: Path) -> None:
    (mmhal_root / "response_template.json").unlink()
    with pytest.raises(FileNotFoundError, match="Shengcao1006/MMHal-Bench"):
        MMHAL.load(mmhal_root)


def test_verdicts_of_a_file_need_no_prompt_of_the_judge(mmhal_root: Path) -> None:
    """RLHF-V's folder: the template by another name, and no script beside it."""
    whole = metrics(MMHAL, mmhal_root, ANSWERS, VERDICTS)
    (mmhal_root / "eval_gpt4.py").unlink()
    template = mmhal_root / "response_template.json"
    template.rename(mmhal_root / "mmhal-bench_answer_template.json")
    assert metrics(MMHAL, mmhal_root, ANSWERS, VERDICTS) == pytest.approx(whole, nan_ok=True)
    with pytest.raises(FileNotFoundError, match=r"eval_gpt4\.py: no such file, and the judge's"):
        MMHAL.judge_questions(mmhal_root, [], {})
