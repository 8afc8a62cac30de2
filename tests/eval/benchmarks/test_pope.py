"""POPE: both readings by hand, the confusion counts, and the released LLaVA-1.5 answers."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from eval.answers import join_answers
from eval.benchmarks.pope import Pope, careful_verdict, official_verdict
from eval.result import point_metrics

POPE = Pope()


@pytest.mark.parametrize(
    ("answer", "official", "careful"),
    [
        ("Yes", "yes", "yes"),
        ("No", "no", "no"),
        ("no, there is none", "no", "no"),
        ("No.", "no", "no"),
        ("There are not any", "no", None),
        # The official rule's known quirks.
        ("", "yes", None),
        ("NO", "yes", "no"),
        ("No\nthere is none", "yes", "no"),
        ("None", "yes", None),
        ("it isn't there", "yes", None),
        ("I cannot see one", "yes", None),
        ("Well. No", "yes", "no"),
        ("Yes and no", "no", None),
        ("YES!", "yes", "yes"),
        ("Nein", "yes", None),
        ("是", "yes", None),
        ("Yes" * 100_000, "yes", None),
    ],
)
def test_readings(answer: str, official: str, careful: str | None) -> None:
    assert official_verdict(answer) == official
    assert careful_verdict(answer) == careful


def test_question_ids_and_prompts_are_llavas(pope_root: Path) -> None:
    questions = POPE.load(pope_root)
    assert [question.id for question in questions] == [
        "10000001", "10000002", "20000001", "20000002", "1", "2",
    ]  # fmt: skip
    assert questions[0].prompt == (
        "Is there a random1 in the image?\nAnswer the question using a single word or phrase."
    )
    assert questions[0].image == "images/a.jpg"


def test_metrics_by_hand(pope_root: Path) -> None:
    questions = POPE.load(pope_root)
    answers = {
        "10000001": "Yes", "10000002": "No",  # random: TP, TN
        "20000001": "No", "20000002": "Yes",  # popular: FN, FP
        "1": "certainly", "2": "maybe",  # adversarial: TP, FP by the official rule, unreadable
    }  # fmt: skip
    metrics = point_metrics(POPE, POPE.score(pope_root, questions, answers))
    assert metrics["random/f1"] == 1
    assert metrics["popular/f1"] == 0
    assert metrics["popular/precision"] == 0
    assert metrics["adversarial/f1"] == pytest.approx(2 / 3)
    assert metrics["adversarial/precision"] == 0.5
    assert metrics["adversarial/recall"] == 1
    assert metrics["adversarial/yes_ratio"] == 1
    assert metrics["adversarial/unreadable"] == 1
    assert metrics["adversarial/careful_accuracy"] == 0
    assert metrics["adversarial/careful_f1"] == 0
    assert metrics["random/careful_f1"] == 1
    assert metrics["mean_f1"] == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert metrics["mean_accuracy"] == pytest.approx((1 + 0 + 0.5) / 3)


def test_no_yes_at_all_is_no_crash(pope_root: Path) -> None:
    questions = POPE.load(pope_root)
    metrics = point_metrics(POPE, POPE.score(pope_root, questions, {q.id: "No" for q in questions}))
    assert metrics["mean_f1"] == 0
    assert metrics["random/precision"] != metrics["random/precision"]  # undefined: NaN


def test_array_and_lines_are_the_same_file(pope_root: Path) -> None:
    before = POPE.load(pope_root)
    for path in POPE.files(pope_root):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("\ufeff" + json.dumps(rows, indent=2), encoding="utf-8")
    assert POPE.load(pope_root) == before


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question_id": 1, "image": "a.jpg", "text": "?", "label": "Yes"}, "row 1: label 'Yes'"),
        ({"question_id": "x", "image": "a.jpg", "text": "?", "label": "no"}, "row 1: needs"),
        ({"image": "a.jpg", "text": "?", "label": "no"}, "row 1: needs"),
    ],
)
def test_bad_question_rows(pope_root: Path, row: dict[str, object], message: str) -> None:
    (pope_root / "coco_pope_random.json").write_text(json.dumps(row))
    with pytest.raises(ValueError, match=message):
        POPE.load(pope_root)


def test_doubled_question_id(pope_root: Path) -> None:
    path = pope_root / "coco_pope_popular.json"
    path.write_text(path.read_text() + path.read_text())
    with pytest.raises(ValueError, match="question_id 1 stands twice in the popular file"):
        POPE.load(pope_root)


def test_missing_split(pope_root: Path) -> None:
    (pope_root / "coco_pope_popular.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"coco_pope_popular\.json: no such POPE file"):
        POPE.load(pope_root)


def test_a_picture_is_one_cluster(shared: Path) -> None:
    """POPE asks about 500 pictures, six times in each split."""
    root = shared / "pope"
    questions = POPE.load(root)
    units = POPE.score(root, questions, {question.id: "Yes" for question in questions})
    assert set(Counter(unit.cluster for unit in units).values()) == {18}
    assert len({unit.cluster for unit in units}) == 500


def test_released_llava_answers_give_the_published_counts(shared: Path) -> None:
    expected = json.loads((shared / "PARITY.json").read_text())["pope_llava-v1.5-13b"]
    root = shared / "pope" / "llava15_version"
    answers_file = root / "answers_llava-v1.5-13b.jsonl"
    questions = POPE.load(root)
    asked = {str(row["question_id"]): row for row in map(
        json.loads, (root / "llava_pope_test.jsonl").read_text().splitlines())}  # fmt: skip
    for question in questions:
        assert asked[question.id]["text"] == question.prompt
        assert f"images/{asked[question.id]['image']}" == question.image
        assert asked[question.id]["category"] == question.category
    answered, answers = join_answers(
        POPE, questions, POPE.read_answers(answers_file, questions), answers_file
    )
    units = POPE.score(root, answered, answers)
    metrics = point_metrics(POPE, units)
    for split in ("random", "popular", "adversarial"):
        counts = Counter(name for unit in units if unit.category == split for name in unit.counts)
        for outcome in ("TP", "FP", "TN", "FN"):
            assert counts[f"{split}/{outcome}"] == expected[split][outcome]
        assert metrics[f"{split}/f1"] == pytest.approx(expected[split]["F1"], abs=1e-15)
        assert metrics[f"{split}/accuracy"] == pytest.approx(expected[split]["acc"], abs=1e-15)
        assert round(100 * metrics[f"{split}/f1"], 1) == pytest.approx(
            expected["published"][split], abs=0.1
        )
    assert metrics["mean_f1"] == pytest.approx(expected["mean_F1"], abs=1e-15)


def test_the_repaired_version_loads_too(shared: Path) -> None:
    assert len(POPE.load(shared / "pope")) == 9000
    gqa = Pope(prefix="gqa_pope_seem")
    assert len(gqa.load(shared / "pope")) == 9000
