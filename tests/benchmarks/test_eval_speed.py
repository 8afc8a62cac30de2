"""The benchmark of eval/'s runner on a model of a few thousand parameters; lmms-eval's turns where
it is."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

import pytest

from benchmarks import eval_speed
from benchmarks.eval_turns import CONTENDERS, Turn, write_pope
from eval.benchmarks.pope import SUFFIX, Pope

LMMS = "LMMS_PYTHON" in os.environ or importlib.util.find_spec("lmms_eval") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("bench")
    eval_speed.write_model(root, eval_speed.parser().parse_args(["--size", "test", "--side", "28"]))
    write_pope(root / "pope", 4)
    return root


def test_questions_are_as_said(folder: Path) -> None:
    questions = Pope().load(folder / "pope")
    asked = {(question.image, question.prompt) for question in questions}
    assert len(asked) == len(questions) == 24
    assert all(question.prompt.endswith(SUFFIX) for question in questions)


def test_our_turns_answer_alike(folder: Path) -> None:
    turns = {
        name: CONTENDERS[name](folder / "mllm", folder / "pope", 8, 12)
        for name in ("fovea", "fovea, nothing shared")
    }
    answers, plain = (turn["answers"] for turn in turns.values())
    assert answers == plain
    assert len(answers) == 24
    assert len(set(answers.values())) > 3, "nothing is told apart"
    assert all(turn["seconds"] > 0 for turn in turns.values())


def test_a_summary_compares_turns_side_by_side_and_answers_row_by_row() -> None:
    def turn(seconds: float, *answers: str) -> Turn:
        return {"seconds": seconds, "answers": dict(enumerate(answers)), "versions": {}}

    turns = {
        "lmms-eval": [turn(4, "a", "b"), turn(8, "a", "b")],
        "fovea": [turn(2, "a", "b"), turn(1, "a", "c")],
    }
    assert eval_speed.summary(turns, "fovea") == {
        "questions_per_second": {"median": 1.5, "min": 1, "max": 2},
        "speedup": {"median": 5, "min": 2, "max": 8},
        "answers_equal": "1 of 2",
        "distinct_answers": 2,
        "versions": {},
    }


@pytest.mark.slow
@pytest.mark.skipif(not LMMS, reason="no lmms-eval: LMMS_PYTHON names a Python that has it")
def test_all_answer_alike(tmp_path: Path) -> None:
    output = tmp_path / "result.json"
    eval_speed.main(
        [
            *("--size", "test", "--side", "28", "--pictures", "2", "--repeats", "1"),
            *("--max_new_tokens", "4", "--output", str(output)),
        ]
    )
    result = json.loads(output.read_text())
    assert {"command", "commit", "machine", "versions", "settings"} < result.keys()
    for told in result["turns"].values():
        assert told["answers_equal"] == "12 of 12"
        assert told["distinct_answers"] > 1
