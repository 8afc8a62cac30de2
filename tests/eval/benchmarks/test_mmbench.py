"""MMBench: both readings, prompts and CircularEval by hand, and another implementation."""

from __future__ import annotations

import random
import string
from pathlib import Path

import pytest

from eval import run
from eval.benchmarks.mmbench import MMBENCH_CN, MmBench, careful_choice, official_choice
from eval.pictures import open_picture
from eval.result import point_metrics

MMBENCH = MmBench()
COLOURS = ("red", "green", "blue")


@pytest.mark.parametrize(
    ("answer", "official", "careful"),
    [
        ("A", "A", "A"),
        ("(B)", "B", "B"),
        ("C.", "C", "C"),
        ("B. green", "B", "B"),
        ("The answer is C", "C", "C"),
        ("blue", "C", "C"),
        ("It is Green.", "B", "B"),
        # The official rule's known quirks: an article, part of a word, a letter far from the end.
        ("A bird, red", "A", "A"),
        ("A tired man", "A", None),
        ("It is bored", "A", None),
        ("B is what I would say to that", None, "B"),
        ("b", None, "B"),
        ("A or B", None, None),
        ("A is right", "A", "A"),
        ("red or green", None, None),
        ("D", None, None),
        ("E", None, None),
        ("", None, None),
        ("Z", "Z", None),
        ("Cannot determine the answer", "Z", None),
        ("Nichts davon", None, None),
        ("blue" * 250_000, None, None),
    ],
)
def test_readings(answer: str, official: str | None, careful: str | None) -> None:
    assert official_choice(answer, COLOURS) == official
    assert careful_choice(answer, COLOURS) == careful


@pytest.mark.parametrize(
    ("answer", "official", "careful"),
    [
        ("B", "B", "B"),
        ("\uff22", None, "B"),
        ("答案是B。", None, "B"),
        ("\uff08A\uff09红色", "A", "A"),
        ("是蓝色", "C", "C"),
        ("红色和绿色", None, None),
        ("不知道", None, None),
    ],
)
def test_readings_of_chinese(answer: str, official: str | None, careful: str | None) -> None:
    options = ("红色", "绿色", "蓝色")
    assert official_choice(answer, options) == official
    assert careful_choice(answer, options) == careful


def test_prompts_are_llavas(mmbench_en_root: Path, mmbench_cn_root: Path) -> None:
    questions = MMBENCH.load(mmbench_en_root)
    assert [question.id for question in questions] == [
        "1", "1000001", "2", "1000002", "2000002",
    ]  # fmt: skip
    assert questions[1].prompt == (
        'Look.\nThen answer.\nIs it a "cat"?\nA. a dog\nB. a cat\n'
        "Answer with the option's letter from the given choices directly."
    )
    assert [question.label for question in questions] == ["A", "B", "C", "B", "A"]
    assert MMBENCH_CN.load(mmbench_cn_root)[2].prompt == (
        "什么颜色?\nA. 红色\nB. 绿色\nC. 蓝色\n请直接回答选项字母。"
    )
    for question in questions:
        assert open_picture(mmbench_en_root, str(question.image)).size == (16, 16)
    # Equal pictures share a name, so a batch opens each once.
    assert len({question.image for question in questions}) == 1


def test_metrics_by_hand(mmbench_en_root: Path) -> None:
    questions = MMBENCH.load(mmbench_en_root)
    # Question 1 right under both rotations; question 2 as first asked, then unreadable, declined.
    texts = ["A", "a cat", "blue", "B is what I would say to that", "Z"]
    answers = {question.id: text for question, text in zip(questions, texts, strict=True)}
    units = MMBENCH.score(mmbench_en_root, questions, answers)
    assert [unit.right for unit in units] == [True, False]
    assert [unit.reading for unit in units] == ["A | B", "C | unreadable | Z"]
    metrics = point_metrics(MMBENCH, units)
    assert metrics["circular_accuracy"] == 0.5
    assert metrics["vanilla_accuracy"] == 1
    assert metrics["rotation_accuracy"] == 0.6
    assert metrics["unreadable"] == 0.2
    assert metrics["declined"] == 0.2
    assert metrics["careful_unreadable"] == 0.2
    assert metrics["odd/circular_accuracy"] == 1
    assert metrics["even/circular_accuracy"] == 0
    assert metrics["even/vanilla_accuracy"] == 1


def can_infer(answer: str, choices: dict[str, str]) -> str | bool:
    """VLMEvalKit's rule, written anew from its description in matching_util.py."""
    replies = [
        "Sorry, I can't help with images of people yet.",
        "I can't process this file.",
        "I'm sorry, but without the image provided",
        "Cannot determine the answer",
    ]
    if any(reply in answer for reply in replies):
        return "Z"
    tokens = "".join(" " if char in ".()[],:;!*#{}" else char for char in answer).split()
    there = [letter for letter in choices if letter in tokens]
    if len(there) == 1:
        if tokens.index(there[0]) > len(tokens) - 5:
            return there[0]
    elif not there and "Z" in tokens:
        return "Z"
    if len(answer) > 2 * sum(map(len, choices.values())):
        return False
    there = [letter for letter, text in choices.items() if text.lower() in answer.lower()]
    return there[0] if len(there) == 1 else False


@pytest.mark.parametrize("seed", range(20))
def test_the_rule_against_another_implementation(seed: int) -> None:
    generator = random.Random(seed)
    words = ["A", "B.", "(C)", "D", "Z", "red", "Green", "blue", "a", "is", "the", "", "not", "E",
             "Cannot determine the answer", "[A]", "B,C", "bluebird"]  # fmt: skip
    for _ in range(500):
        options = generator.sample(["red", "green", "blue", "the sky"], generator.randint(2, 4))
        answer = " ".join(generator.choices(words, k=generator.randint(0, 7)))
        expected = can_infer(answer, dict(zip(string.ascii_uppercase, options, strict=False)))
        assert official_choice(answer, options) == (expected or None), (answer, options)


@pytest.mark.parametrize("seed", range(4))
def test_circular_eval_against_another_implementation(mmbench_en_root: Path, seed: int) -> None:
    generator = random.Random(seed)
    questions = MMBENCH.load(mmbench_en_root)
    answers = {
        question.id: generator.choice([question.label] * 3 + ["B"]) for question in questions
    }
    hits = {int(question.id): answers[question.id] == question.label for question in questions}
    bases = sorted({index % 1_000_000 for index in hits})
    circular = [all(hit for index, hit in hits.items() if index % 1_000_000 == b) for b in bases]
    metrics = point_metrics(MMBENCH, MMBENCH.score(mmbench_en_root, questions, answers))
    assert metrics["circular_accuracy"] == pytest.approx(sum(circular) / len(bases))
    assert metrics["vanilla_accuracy"] == pytest.approx(sum(hits[b] for b in bases) / len(bases))
    assert metrics["rotation_accuracy"] == pytest.approx(sum(hits.values()) / len(hits))


def test_from_the_command_line(
    mmbench_cn_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "answers.tsv"
    path.write_text("index\tprediction\n1\tA\n1000001\tB\n2\tC\n1000002\tB\n2000002\tB\n")
    arguments = ["--benchmark", "mmbench_cn", "--data-root", str(mmbench_cn_root.parent)]
    assert run.main([*arguments, "--answers", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "MMBench-CN · 5 of 5 questions" in printed
    assert "50.00 %" in printed
