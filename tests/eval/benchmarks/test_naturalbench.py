"""NaturalBench: both readings and the four accuracies by hand, and another implementation."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from eval import run
from eval.benchmarks.naturalbench import NaturalBench, careful_reading, official_choice
from eval.benchmarks.naturalbench_files import Form
from eval.pictures import open_picture
from eval.result import point_metrics

NATURALBENCH = NaturalBench()
QUESTION = "Which hat?\nOption: A:Knit cap; B:Helmet;"


@pytest.mark.parametrize(
    ("form", "answer", "official", "careful"),
    [
        ("yes_no", "Yes", 0, 0),
        ("yes_no", "NO.", 1, 1),
        ("yes_no", "I think yes", 0, 0),
        ("yes_no", "No, yes", 1, None),
        ("yes_no", "Nothing", None, None),
        ("yes_no", "", None, None),
        ("yes_no", "A", None, None),
        ("yes_no", "是的", None, None),
        ("yes_no", "yes" * 350_000, None, None),
        ("multiple_choice", "A", 0, 0),
        ("multiple_choice", "(b)", 1, 1),
        ("multiple_choice", "B: Helmet", 1, 1),
        # The article is option A to the official rule; the option's own words are nothing to it.
        ("multiple_choice", "B, not a cap", 1, None),
        ("multiple_choice", "It is a helmet", 0, 1),
        ("multiple_choice", "Helmet", None, 1),
        ("multiple_choice", "Yes", None, None),
        ("multiple_choice", "C", None, None),
    ],
)
def test_readings(form: Form, answer: str, official: int | None, careful: int | None) -> None:
    assert official_choice(answer, form) == official
    assert careful_reading(answer, form, QUESTION) == careful


def test_questions_and_pictures(naturalbench_root: Path) -> None:
    questions = NATURALBENCH.load(naturalbench_root)
    assert [question.id for question in questions] == [str(n) for n in range(8)]
    assert questions[1].prompt == "Is it a cat?Please answer Yes or No."
    assert questions[4].prompt == (
        f"{QUESTION}Please output the letter corresponding to the correct option."
    )
    assert [question.label for question in questions] == [
        "yes", "no", "no", "yes", "a", "b", "b", "a",
    ]  # fmt: skip
    assert questions[3].image == "data/train-00000-of-00001.parquet#0:Image_1"
    assert open_picture(naturalbench_root, str(questions[7].image)).size == (16, 16)


def test_metrics_by_hand(naturalbench_root: Path) -> None:
    questions = NATURALBENCH.load(naturalbench_root)
    # Group 0: question 0 right on both, picture 0 on both. Group 1: all but the last.
    texts = ["Yes", "No", "No", "No", "A", "B", "b", "It is one"]
    answers = {question.id: text for question, text in zip(questions, texts, strict=True)}
    units = NATURALBENCH.score(naturalbench_root, questions, answers)
    metrics = point_metrics(NATURALBENCH, units)
    assert metrics["group_accuracy"] == 0
    assert metrics["question_accuracy"] == 0.5
    assert metrics["image_accuracy"] == 0.5
    assert metrics["accuracy"] == 0.75
    assert metrics["unreadable"] == 0.125
    assert metrics["first_share"] == pytest.approx(2 / 7)
    assert metrics["yes_no/accuracy"] == 0.75
    assert metrics["careful_group_accuracy"] == 0.5
    assert metrics["multiple_choice/careful_group_accuracy"] == 1
    assert metrics["yes_no/careful_unreadable"] == 0


def extract(text: str, form: str) -> int:
    """The official script's reading, written anew: 1, 0, or -1 for nothing found."""
    words = ["yes", "no"] if form == "yes_no" else ["a", "b"]
    for token in re.findall(r"\w+", text.lower()):
        if token in words:
            return 1 - words.index(token)
    return -1


@pytest.mark.parametrize("seed", range(4))
def test_against_another_implementation(shared: Path, seed: int) -> None:
    rows = json.loads((shared / "naturalbench/test_set.json").read_text())
    generator = random.Random(seed)
    noise = ["Yes", "no", "A", "b.", "a boat, so B", "No or yes", "", "perhaps", "naïve", "B_"]
    texts = [
        generator.choice([*noise, *[label] * 30]) for _, _, label, _ in rows
    ]  # mostly right, so that groups are
    hits = [
        extract(text, form) == (1 if label in ("Yes", "A") else 0)
        for text, (_, _, label, form) in zip(texts, rows, strict=True)
    ]
    groups = [hits[i : i + 4] for i in range(0, len(hits), 4)]
    expected = {
        "group_accuracy": sum(all(g) for g in groups) / len(groups),
        "question_accuracy": sum((g[0] and g[1]) + (g[2] and g[3]) for g in groups)
        / (2 * len(groups)),
        "image_accuracy": sum((g[0] and g[2]) + (g[1] and g[3]) for g in groups)
        / (2 * len(groups)),
        "accuracy": sum(hits) / len(hits),
    }
    assert 0.1 < expected["group_accuracy"] < 0.9
    root = shared / "naturalbench"
    questions = NATURALBENCH.load(root)
    answers = {question.id: text for question, text in zip(questions, texts, strict=True)}
    metrics = point_metrics(NATURALBENCH, NATURALBENCH.score(root, questions, answers))
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-12)


def test_right_answers_of_the_official_file_are_the_scorers(
    shared: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    root = shared / "naturalbench"
    rows = json.loads((root / "test_set.json").read_text())
    questions = NATURALBENCH.load(root)
    assert not caplog.text
    assert [question.label for question in questions] == [row[2].lower() for row in rows]
    assert [question.prompt for question in questions] == [row[0] for row in rows]
    path = tmp_path / "answers.json"
    path.write_text(json.dumps([row[2] for row in rows]))
    arguments = ["--benchmark", "naturalbench", "--data-root", str(root), "--answers", str(path)]
    assert run.main(arguments) == 0
    assert "3800 of 3800 questions" in capsys.readouterr().out
