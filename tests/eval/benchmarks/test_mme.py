"""MME: both readings and the scores by hand, another implementation, and the published scores."""

from __future__ import annotations

import json
import math
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pytest

from eval import run
from eval.answers import join_answers
from eval.benchmark import Question
from eval.benchmarks.mme import Mme, official_verdict
from eval.benchmarks.mme_files import COGNITION, PERCEPTION, TASKS
from eval.benchmarks.pope import careful_verdict
from eval.result import point_metrics

MME = Mme()


@pytest.mark.parametrize(
    ("answer", "official", "careful"),
    [
        ("Yes", "yes", "yes"),
        ("no.", "no", "no"),
        (" Yes", "yes", "yes"),
        ("NO\n", "no", "no"),
        # The official rule's known quirks.
        ("  yes", "other", "yes"),
        ("Now I see", "no", None),
        ("know", "no", None),
        ("not there", "no", None),
        ("The answer is yes", "other", "yes"),
        ("yes or no", "yes", None),
        ("eyes", "yes", None),
        ("", "other", None),
        ("是", "other", None),
        ("Oui", "other", None),
        ("yes" * 350_000, "yes", None),
    ],
)
def test_readings(answer: str, official: str, careful: str | None) -> None:
    assert official_verdict(answer) == official
    assert careful_verdict(answer) == careful


def test_both_kinds_of_folders(mme_root: Path) -> None:
    questions = MME.load(mme_root)
    assert [question.id for question in questions] == [
        "existence/a.jpg#1", "existence/a.jpg#2", "existence/b.jpg#1", "existence/b.jpg#2",
        "landmark/c.png#1", "landmark/c.png#2",
    ]  # fmt: skip
    assert questions[1].prompt == (
        "Is there a dog?\nAnswer the question using a single word or phrase."
    )
    assert [question.label for question in questions] == ["yes", "no"] * 3
    for question in questions:
        assert (mme_root / str(question.image)).is_file()


def test_metrics_by_hand(mme_root: Path) -> None:
    questions = MME.load(mme_root)
    texts = ["Yes", "No", "Yes", "Yes", "The answer: yes", "nothing"]
    units = MME.score(mme_root, questions, dict(zip([q.id for q in questions], texts, strict=True)))
    metrics = point_metrics(MME, units)
    assert metrics["existence/accuracy"] == 0.75
    assert metrics["existence/accuracy_plus"] == 0.5
    assert metrics["existence/score"] == 125
    assert metrics["existence/careful_score"] == 125
    # "The a" says nothing to the official rule, "noth" says no; a careful reader sees yes and none.
    assert metrics["landmark/score"] == 50
    assert metrics["landmark/other"] == 0.5
    assert metrics["landmark/careful_score"] == 50
    assert metrics["unreadable"] == pytest.approx(1 / 6)
    assert metrics["yes_ratio"] == 0.5
    assert metrics["questions"] == 6
    # Two tasks of ten are no perception.
    assert math.isnan(metrics["perception"])
    assert math.isnan(metrics["hallucination"])
    assert {unit.cluster for unit in units} == {
        "existence/a.jpg",
        "existence/b.jpg",
        "landmark/c.png",
    }


def calculation(rows: Sequence[tuple[str, str, str, str]]) -> dict[str, float]:
    """Scores as calculation.py gets them, written anew: (task, picture, right answer, answer)."""
    scores: dict[str, float] = {}
    for task in dict.fromkeys(row[0] for row in rows):
        hits = defaultdict[str, list[bool]](list)
        for _, picture, label, answer in (row for row in rows if row[0] == task):
            text = answer.lower()
            if text not in ("yes", "no"):
                text = next((word for word in ("yes", "no") if word in text[:4]), "other")
            hits[picture].append(text == label)
        flat = [hit for both in hits.values() for hit in both]
        both = [all(pair) for pair in hits.values()]
        scores[task] = 100 * sum(flat) / len(flat) + 100 * sum(both) / len(both)
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_against_another_implementation(mme_root: Path, seed: int) -> None:
    generator = random.Random(seed)
    questions = [
        Question(f"{task}/{picture}.jpg#{k}", "?", None, generator.choice(["yes", "no"]), task)
        for task in TASKS for picture in range(generator.randint(1, 9)) for k in (1, 2)
    ]  # fmt: skip
    kinds = ["Yes", "no", "No, it is not", "I know", "perhaps", "", " yes", "Not at all", "YES\n"]
    answers = {question.id: generator.choice(kinds) for question in questions}
    expected = calculation(
        [(q.category, q.id.split("#")[0], q.label, answers[q.id]) for q in questions]
    )
    metrics = point_metrics(MME, MME.score(mme_root, questions, answers))
    for task, score in expected.items():
        assert metrics[f"{task}/score"] == pytest.approx(score, abs=1e-9)
    assert metrics["perception"] == pytest.approx(sum(expected[t] for t in PERCEPTION), abs=1e-9)
    assert metrics["cognition"] == pytest.approx(sum(expected[t] for t in COGNITION), abs=1e-9)


@pytest.mark.parametrize("folder", ["mme", "mme/eval_tool", "mme/eval_tool/Your_Results"])
def test_released_answers_give_the_published_scores(
    shared: Path, folder: str, caplog: pytest.LogCaptureFixture
) -> None:
    expected = json.loads((shared / "PARITY.json").read_text())["mme_LaVIN"]
    root, path = shared / folder, shared / "mme/eval_tool/LaVIN"
    questions = MME.load(root)
    assert len(questions) == 2374
    assert "questions, where" not in caplog.text
    answered, answers = join_answers(MME, questions, MME.read_answers(path, questions), path)
    units = MME.score(root, answered, answers)
    metrics = point_metrics(MME, units)
    for task, known in expected["tasks"].items():
        names = {"questions": "questions", "right": "correct", "pictures": "images",
                 "both": "both", "other": "other"}  # fmt: skip
        for count, official in names.items():
            assert sum(u.counts.get(f"{task}/{count}", 0) for u in units) == known[official]
        assert metrics[f"{task}/score"] == pytest.approx(known["score"], abs=1e-9)
    assert metrics["perception"] == pytest.approx(expected["perception"], abs=1e-9)
    assert metrics["cognition"] == pytest.approx(expected["cognition"], abs=1e-9)
    assert metrics["hallucination"] == pytest.approx(411.66666666666663, abs=1e-9)


def test_answers_on_a_later_download_lack_a_few_pictures(shared: Path, tmp_path: Path) -> None:
    """LLaVA's folder has 398 questions of landmark; calculation.py divides by what there is."""
    root, released = shared / "mme", shared / "mme/eval_tool/LaVIN"
    path = Path(shutil.copytree(released, tmp_path / "answers"))
    lines = (path / "landmark.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    questions = MME.load(root)
    (path / "landmark.txt").write_text("".join(lines[2:]), encoding="utf-8")
    answered, answers = join_answers(MME, questions, MME.read_answers(path, questions), path)
    metrics = point_metrics(MME, MME.score(root, answered, answers))
    rows = [line.rstrip("\n").split("\t") for line in lines[2:]]
    expected = calculation([("landmark", r[0], r[2].lower(), r[3]) for r in rows])["landmark"]
    assert metrics["landmark/questions"] == 398
    assert metrics["landmark/score"] == pytest.approx(expected, abs=1e-9)
    assert not math.isnan(metrics["perception"])
    # One of two questions, or three pictures, are no later download.
    (path / "landmark.txt").write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(ValueError, match="1 of 2374 questions of mme have no answer"):
        join_answers(MME, questions, MME.read_answers(path, questions), path)
    (path / "landmark.txt").write_text("".join(lines[6:]), encoding="utf-8")
    with pytest.raises(ValueError, match="3 pictures of landmark have no answer: landmark/"):
        MME.read_answers(path, questions)


def test_from_the_command_line(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tool = shared / "mme/eval_tool"
    arguments = ["--benchmark", "mme", "--data-root", tool, "--answers", tool / "LaVIN"]
    assert run.main([str(argument) for argument in arguments]) == 0
    printed = capsys.readouterr().out
    assert "963.61" in printed
    assert "249.64" in printed
    assert "2374 of 2374 questions" in printed
