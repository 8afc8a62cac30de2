"""LLaVA-Bench: readings by hand, the official summary anew, reviews, and files that are wrong."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from eval.benchmarks.llava_bench import LlavaBench
from eval.benchmarks.llava_review import careful_scores, official_scores
from eval.result import Result, point_metrics
from tests.eval.judged import metrics, scored

BENCH = LlavaBench()
ANSWERS = tuple({"question_id": number, "text": f"Mine {number}."} for number in range(4))
VERDICTS = tuple({"question_id": number, "text": "8 6\nGood."} for number in range(4))
CATEGORIES = ("conv", "conv", "detail", "complex")


@pytest.mark.parametrize(
    ("reply", "official", "careful"),
    [
        ("8 7\nThe first is better.", (8, 7), (8, 7)),
        ("8.5 7", (8.5, 7), (8.5, 7)),
        ("8,7", (8, 7), (8, 7)),
        ("8 7\r\nWell.", (8, 7), (8, 7)),
        # The official rule splits at every blank and reads the first line alone.
        ("8, 7", (-1, -1), (8, 7)),
        ("8  7", (-1, -1), (8, 7)),
        (" 8 7", (-1, -1), (8, 7)),
        ("8 7 ", (-1, -1), (8, 7)),
        ("\n8 7", (-1, -1), (8, 7)),
        # It takes scores that no scale has.
        ("85 90", (85, 90), None),
        ("0 0", (0, 0), None),
        ("-1 -1", (-1, -1), None),
        # Nobody reads these.
        ("nan nan", (-1, -1), None),
        ("inf 3", (-1, -1), None),
        ("8 7 6", (-1, -1), None),
        ("8", (-1, -1), None),
        ("8/10 7/10", (-1, -1), None),
        ("Assistant 1: 8\nAssistant 2: 7", (-1, -1), None),
        ("", (-1, -1), None),
        ("八 七", (-1, -1), None),
        pytest.param("8 " * 500_000, (-1, -1), None, id="long"),
        pytest.param("8 7\n" + "x" * 1_000_000, (8, 7), (8, 7), id="long explanation"),
    ],
)
def test_readings(
    reply: str, official: tuple[float, float], careful: tuple[float, float] | None
) -> None:
    assert official_scores(reply) == official
    assert careful_scores(reply) == careful


def test_questions_and_what_the_judge_is_asked(llava_bench_root: Path) -> None:
    questions = BENCH.load(llava_bench_root)
    assert [question.id for question in questions] == ["0", "1", "2", "3"]
    assert (questions[2].prompt, questions[2].image) == ("What 2?", "images/001.jpg")
    answers = {question.id: f"Mine {question.id}." for question in questions}
    asked = BENCH.judge_questions(llava_bench_root, questions, answers)
    assert all(question.image is None for question in asked)
    assert asked[2].prompt == (
        "[Context]\nRamen.\nTwo eggs.\n\n[Question]\nWhat 2?\n\n"
        "[Assistant 1]\nGold 2.\n\n[End of Assistant 1]\n\n"
        "[Assistant 2]\nMine 2.\n\n[End of Assistant 2]\n\n[System]\nJudge as detail.\n\n"
    )
    # A caption that is one text is not taken apart into letters.
    assert asked[3].prompt.startswith("[Context]\nA painting.\n\n")


def test_metrics_by_hand(llava_bench_root: Path) -> None:
    replies = ("10 5", "8, 4", "8 6", "10 10")
    verdicts = tuple({"question_id": n, "text": reply} for n, reply in enumerate(replies))
    result = scored(BENCH, llava_bench_root, ANSWERS, verdicts)
    found = point_metrics(BENCH, result.units)
    # GPT-4: 10, -1, 8, 10; the model: 5, -1, 6, 10.
    assert found["score"] == pytest.approx(20 / 27)
    assert (found["mean_score"], found["reference_mean_score"]) == (5, 6.75)
    assert found["conv/score"] == pytest.approx(4 / 9)
    assert (found["detail/score"], found["complex/score"]) == (0.75, 1)
    assert found["unreadable"] == 0.25
    # With care 8 and 4 are read.
    assert found["careful_score"] == pytest.approx(25 / 36)
    assert (found["careful_unreadable"], found["empty"]) == (0, 0)
    assert [unit.right for unit in result.units] == [None] * 4
    assert [unit.reading for unit in result.units][:2] == ["5, GPT-4 10", "unreadable"]
    # Questions about one picture are resampled together.
    assert len({unit.cluster for unit in result.units}) == 2


def test_a_judge_that_nobody_understands_gives_no_score(llava_bench_root: Path) -> None:
    """The official means would be -1 and -1: a score of 100."""
    verdicts = tuple({"question_id": number, "text": "Hm."} for number in range(4))
    found = metrics(BENCH, llava_bench_root, ANSWERS, verdicts)
    assert np.isnan(found["score"])
    assert np.isnan(found["careful_score"])
    assert found["unreadable"] == found["careful_unreadable"] == 1


def summary_of_the_authors(reviews: list[dict]) -> dict[str, float]:
    """summarize_gpt_review.py, written anew: percents with one decimal, by category and in all."""
    categories = {review["category"] for review in reviews}
    found = {}
    for name in [*categories, "all"]:
        pairs = [r["tuple"] for r in reviews if name in (r["category"], "all")]
        means = [round(column, 3) for column in np.mean(np.array(pairs), axis=0).tolist()]
        found[name] = round(means[1] / means[0] * 100, 1)
    return found


def test_reviews_against_the_authors_summary(llava_bench_root: Path) -> None:
    draw = random.Random(5)
    texts = ["9 7", "8 8.5", "10 4", "9 9", "7,5", "no scores"]
    for _ in range(20):
        reviews = []
        for number, category in enumerate(CATEGORIES):
            text = draw.choice(texts[: 5 if number else 6])
            words = text.replace(",", " ").split()
            numbers = [-1, -1] if text == "no scores" else [float(word) for word in words]
            reviews.append(
                {"id": number + 1, "question_id": number, "answer1_id": "a", "answer2_id": "b",
                 "category": f"llava_bench_{category}", "content": text, "tuple": numbers}
            )  # fmt: skip
        found = metrics(BENCH, llava_bench_root, ANSWERS, tuple(reviews))
        for name, expected in summary_of_the_authors(reviews).items():
            key = "score" if name == "all" else f"{name.removeprefix('llava_bench_')}/score"
            # They round the means to three decimals before they divide.
            assert 100 * found[key] == pytest.approx(expected, abs=0.11)


REVIEW = {"question_id": 0, "content": "8 6\nGood.", "tuple": [8, 6]}


@pytest.mark.parametrize(
    ("answers", "verdicts", "message"),
    [
        (ANSWERS, None, "LLaVA-Bench in the Wild has no score without a judge"),
        (ANSWERS[1:], VERDICTS, "1 of 4 questions of llava_bench have no answer: 0"),
        ((*ANSWERS, ANSWERS[0]), VERDICTS, "answered more than once: 0"),
        ((*ANSWERS, {"question_id": 60, "text": "A"}), VERDICTS, "does not have: 60"),
        ((*ANSWERS[1:], {"id": 0, "text": "A"}), VERDICTS, "row 4: none of the fields question_id"),
        ((*ANSWERS[1:], {"question_id": 0, "text": None}), VERDICTS, "answer None is no string"),
        ([], VERDICTS, "4 of 4 questions of llava_bench have no answer"),
        ("[1, 2]", VERDICTS, "line 1: expected an object"),
        ('{"question_id": 0, "text"', VERDICTS, "line 1: broken json"),
        (b"\xff\xfe\x00", VERDICTS, "not UTF-8 text"),
        (ANSWERS, VERDICTS[1:], "1 of 4 answers have no verdict: 0"),
        (ANSWERS, (*VERDICTS, VERDICTS[0]), "judged more than once: 0"),
        (ANSWERS, (*VERDICTS, {"question_id": 7, "text": "8 6"}), "does not have: 7"),
        (ANSWERS, [], "holds no verdicts on LLaVA-Bench"),
        (ANSWERS, "", "holds no verdicts on LLaVA-Bench"),
        (ANSWERS, "{", "line 1: broken json"),
        (ANSWERS, (REVIEW | {"tuple": [6, 8]}, *VERDICTS[1:]), r"row 1: tuple \[6, 8\] is not"),
        (ANSWERS, (REVIEW | {"tuple": [-1, -1]}, *VERDICTS[1:]), "row 1: tuple .* is not"),
        (ANSWERS, (*VERDICTS[1:], {"question_id": 0, "tuple": 8}), "row 4: none of"),
        (ANSWERS, (*VERDICTS[1:], REVIEW | {"content": 8}), "answer 8 is no string"),
    ],
)  # fmt: skip
def test_wrong_files(
    llava_bench_root: Path, answers: object, verdicts: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        scored(BENCH, llava_bench_root, answers, verdicts)


def test_a_byte_order_mark_and_other_orders_change_nothing(llava_bench_root: Path) -> None:
    def counts(result: Result) -> list[dict[str, float]]:
        return [unit.counts for unit in result.units]

    plain = scored(BENCH, llava_bench_root, ANSWERS, VERDICTS)
    marked = ("\ufeff" + json.dumps([*VERDICTS[1:], REVIEW])).encode()
    assert counts(scored(BENCH, llava_bench_root, ANSWERS[::-1], marked)) == counts(plain)


def test_an_empty_answer_is_judged_and_counted(llava_bench_root: Path) -> None:
    answers = ({"question_id": 0, "text": "\n"}, *ANSWERS[1:])
    found = metrics(BENCH, llava_bench_root, answers, VERDICTS)
    assert (found["score"], found["empty"]) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("questions.jsonl", "", r"questions\.jsonl: no rows"),
        ("questions.jsonl", '{"question_id": 0, "image": "001.jpg", "text": "?"}', "category None"),
        ("questions.jsonl", '{"question_id": "x"}', r"row 1: needs question_id \(number\)"),
        ("answers_gpt4.jsonl", '{"question_id": 0, "text": "A"}', "row 2: .* has no answer to 1"),
    ],
)
def test_wrong_data(llava_bench_root: Path, name: str, content: str, message: str) -> None:
    (llava_bench_root / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        scored(BENCH, llava_bench_root, ANSWERS, VERDICTS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("context.jsonl", '{"image": "001.jpg", "caption": "A"}', "no context for questions 3"),
        ("context.jsonl", '{"image": "001.jpg", "caption": []}', "caption of 001.jpg is no text"),
        ("context.jsonl", '{"image": "001.jpg", "caption": [1]}', "caption of 001.jpg is no text"),
        ("rule.json", '{"conv": {"role": "A", "prompt": "B"}}', "no rule llava_bench_conv"),
        ("rule.json", "[]", "no rule llava_bench_conv"),
    ],
)
def test_wrong_prompts_of_the_judge(
    llava_bench_root: Path, name: str, content: str, message: str
) -> None:
    (llava_bench_root / name).write_text(content)
    questions = BENCH.load(llava_bench_root)
    with pytest.raises(ValueError, match=message):
        BENCH.judge_questions(llava_bench_root, questions, {q.id: "Mine." for q in questions})


def test_reviews_of_a_file_need_no_prompt_of_the_judge(llava_bench_root: Path) -> None:
    """And may hold scores alone, which are what the official script averages."""
    whole = metrics(BENCH, llava_bench_root, ANSWERS, VERDICTS)
    for name in ("context.jsonl", "rule.json"):
        (llava_bench_root / name).unlink()
        with pytest.raises(FileNotFoundError, match="no such file, and the judge is asked with"):
            BENCH.judge_questions(llava_bench_root, [], {})
    scores = tuple({"question_id": n, "tuple": [8.0, 6]} for n in range(4))
    for verdicts in (VERDICTS, scores):
        found = metrics(BENCH, llava_bench_root, ANSWERS, verdicts)
        assert found == pytest.approx(whole, nan_ok=True)


def test_a_question_twice(llava_bench_root: Path) -> None:
    path = llava_bench_root / "questions.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0])
    with pytest.raises(ValueError, match="question_id 0 stands twice"):
        BENCH.load(llava_bench_root)


@pytest.mark.parametrize("name", ["questions.jsonl", "answers_gpt4.jsonl"])
def test_missing_files(llava_bench_root: Path, name: str) -> None:
    (llava_bench_root / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file; take it from the data"):
        BENCH.load(llava_bench_root)
