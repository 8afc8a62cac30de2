"""The task for lmms-eval asks what eval/ asks, and its llava_hf answers what eval/ answers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from datasets import Dataset

from eval import run
from eval.benchmarks.pope import Pope, official_verdict
from eval.pictures import open_picture
from tests.tiny_llava import picture, write_llava

REPOSITORY = Path(__file__).resolve().parents[2]
TASK = REPOSITORY / "scripts/lmms_eval"
SPLITS = ("random", "popular", "adversarial")
# lmms-eval wants versions of its own, so that it mostly lives in an environment of its own.
LMMS_PYTHON = os.environ.get("LMMS_PYTHON")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "pope"
    (folder / "images").mkdir(parents=True)
    for split in SPLITS:
        rows = [
            {"question_id": 2 * image + n, "image": f"{image}.png", "label": ("yes", "no")[n],
             "text": f"Is there a {split}{' red' * n} circle in the image?"}
            for image in range(3) for n in range(2)
        ]  # fmt: skip
        (folder / f"coco_pope_{split}.json").write_text("\n".join(map(json.dumps, rows)))
    for image in range(3):
        picture(image, 40, 24).save(folder / f"images/{image}.png")
    return folder


@pytest.fixture
def task() -> ModuleType:
    """As lmms-eval loads it: by its path."""
    spec = importlib.util.spec_from_file_location("fovea_pope", TASK / "fovea_pope.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_asks_what_eval_asks(
    task: ModuleType, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    number = {
        "random": task.number_random,
        "popular": task.number_popular,
        "adversarial": task.number_adversarial,
    }
    asked = {}
    for split in SPLITS:
        lines = Path(f"coco_pope_{split}.json").read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        for doc in number[split](Dataset.from_list(rows)):
            [image] = task.visuals(doc)
            asked[str(doc["question_id"])] = (task.prompt(doc), image.tobytes(), doc["label"])
    assert asked == {
        question.id: (
            question.prompt, open_picture(root, question.image or "").tobytes(), question.label
        )
        for question in Pope().load(root)
    }  # fmt: skip


@pytest.mark.parametrize(
    "answer", ["no", "Yes, it is not.", "", "NO", "Yes. no", "maybe,not", "x no"]
)
def test_it_reads_as_pope_does(task: ModuleType, answer: str) -> None:
    for label in ("yes", "no"):
        told = task.correct({"label": label, "question_id": 7}, [answer])
        right = official_verdict(answer.strip()) == label
        assert told == {"accuracy": float(right), "question_id": 7}


@pytest.mark.slow
@pytest.mark.skipif(
    LMMS_PYTHON is None and importlib.util.find_spec("lmms_eval") is None,
    reason="no lmms-eval: LMMS_PYTHON names a Python that has it",
)
def test_llava_hf_answers_as_eval_does(root: Path, tmp_path: Path) -> None:
    model = write_llava(tmp_path)
    arguments = ["--model", model, "--benchmark", "pope", "--data-root", root]
    assert run.main([*map(str, arguments), "--output", str(tmp_path / "ours")]) == 0
    done = subprocess.run(
        [
            *(LMMS_PYTHON or sys.executable, "-m", "lmms_eval"),
            *("--model", "llava_hf", "--batch_size", "1"),
            *("--model_args", f"pretrained={model},device_map=cpu", "--device", "cpu"),
            *("--include_path", TASK, "--tasks", "fovea_pope", "--log_samples"),
            *("--output_path", tmp_path / "logs"),
        ],
        cwd=root, capture_output=True, text=True, check=False,
        env={
            **os.environ, "PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "hf"), "CUDA_VISIBLE_DEVICES": "",
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    logs = sorted((tmp_path / "logs").rglob("*samples*.jsonl"))
    assert len(logs) == 3
    theirs = tmp_path / "theirs.jsonl"
    theirs.write_bytes(b"".join(log.read_bytes() for log in logs))
    questions = Pope().load(root)
    answers = [
        dict(Pope().read_answers(path, questions))
        for path in (theirs, tmp_path / "ours/pope.answers.jsonl")
    ]
    assert {name: text.strip() for name, text in answers[0].items()} == answers[1]
    assert len(set(answers[1].values())) > 10, "nothing is told apart"
